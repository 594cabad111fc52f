"""The transformations ``{uri.*}``, ``{csv.*}`` and ``{param.*}`` of OpenSIPS 3.6.

They behave as in ``transformations.c`` of OpenSIPS.
"""

import re
from collections.abc import Callable
from typing import Final

from sipws.tracing.filter.evaluation.uris import Parameter, Uri, parse_params, parse_uri
from sipws.tracing.filter.evaluation.values import Change, Value, Worded, lower, number_of, text_of

_PRINTABLE: Final = re.compile("[\x20-\x7e]*")
_QUOTED: Final = re.compile('"((?:[^"]++|"")*+)"')


def _csv(text: str) -> list[str] | None:
    """The fields of comma-separated values (RFC 4180) without quotes; None if they are malformed.

    Source: ``_parse_csv_record`` of OpenSIPS. Blanks belong to a field. An unquoted field takes
    printable characters only. A comma that ends the text after a quoted field adds no field.
    """
    text = text.removesuffix("\r\n")
    fields: list[str] = []
    at, size = 0, len(text)
    while True:
        quoted = _QUOTED.match(text, at)
        if quoted:
            fields.append(quoted[1].replace('""', '"'))
            at = quoted.end()
            if at < size and text[at] != ",":
                return None
            if at >= size - 1:
                return fields
            at += 1
            continue
        if text.startswith('"', at):
            return None
        end = text.find(",", at)
        field = text[at : end if end >= 0 else size]
        if not _PRINTABLE.fullmatch(field):
            return None
        fields.append(field)
        if end < 0:
            return fields
        at = end + 1


def _csv_count(text: str, *_: object) -> Value:
    """``{csv.count}``: the number of fields."""
    fields = _csv(text)
    return None if fields is None else len(fields)


def _csv_value(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{csv.value,INDEX}``: a field; a negative index counts from the end."""
    return _at(_csv(text) or [], arguments[0])


def _at(items: list[str], index: Value) -> Value:
    """An item of a list; NULL beyond its ends."""
    number = number_of(index)
    return items[number] if number is not None and -len(items) <= number < len(items) else None


def _param_value(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{param.value,NAME}``: the value of a parameter; NULL if it is missing."""
    return _named(parse_params(text), arguments[0])


def _named(found: list[Parameter] | None, name: Value) -> Value:
    wanted = text_of(name)
    if found is None or wanted is None:
        return None
    wanted = lower(wanted)
    return next((value for key, value in found if lower(key) == wanted), None)


def _param_exist(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{param.exist,NAME}``: 1 if a parameter is present, otherwise 0."""
    found, wanted = parse_params(text), text_of(arguments[0])
    if found is None or not wanted:
        return None
    return int(any(lower(key) == lower(wanted) for key, _ in found))


def _param_at(part: int) -> Change:
    """``{param.name,INDEX}``, ``{param.valueat,INDEX}``: name or value of a parameter."""
    return lambda text, _, arguments: _at(
        [pair[part] for pair in parse_params(text) or ()], arguments[0]
    )


def _param_count(text: str, *_: object) -> Value:
    """``{param.count}``: the number of parameters."""
    found = parse_params(text)
    return None if found is None else len(found)


def _uri(read: Callable[[Uri], Value]) -> Change:
    """A part of a URI; NULL if it is empty or the text is no URI."""

    def change(text: str, *_: object) -> Value:
        uri = parse_uri(text)
        return None if uri is None else (read(uri) or None)

    return change


def _uri_port(text: str, *_: object) -> Value:
    """``{uri.port}``: the port of a URI as written; NULL if it has none."""
    uri = parse_uri(text)
    return Worded(int(uri.port), uri.port) if uri is not None and uri.port else None


def _uri_param(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{uri.param,NAME}``: a parameter of a URI."""
    uri = parse_uri(text)
    if uri is None or not uri.params:
        return None
    return _named(parse_params(uri.params), arguments[0])


def _uri_known(name: str) -> Change:
    """``{uri.transport}`` and others: the value of a parameter that OpenSIPS knows."""
    return _uri(lambda uri: uri.value(name))


STRUCTURED: Final[dict[str, tuple[str, Change]]] = {
    "uri.user": ("", _uri(lambda uri: uri.user)),
    "uri.passwd": ("", _uri(lambda uri: uri.password)),
    "uri.host": ("", _uri(lambda uri: uri.host)),
    "uri.domain": ("", _uri(lambda uri: uri.host)),
    "uri.port": ("", _uri_port),
    "uri.params": ("", _uri(lambda uri: uri.params)),
    "uri.headers": ("", _uri(lambda uri: uri.headers)),
    "uri.schema": ("", _uri(lambda uri: uri.scheme.partition(":")[0])),
    "uri.param": ("s", _uri_param),
    **{
        f"uri.{name}": ("", _uri_known(parameter))
        for name, parameter in (
            ("transport", "transport"),
            ("ttl", "ttl"),
            ("uparam", "user"),
            ("maddr", "maddr"),
            ("method", "method"),
            ("lr", "lr"),
            ("r2", "r2"),
        )
    },
    "csv.count": ("", _csv_count),
    "csv.value": ("n", _csv_value),
    "param.count": ("", _param_count),
    "param.value": ("s", _param_value),
    "param.exist": ("s", _param_exist),
    "param.exists": ("s", _param_exist),
    "param.valueat": ("n", _param_at(1)),
    "param.name": ("n", _param_at(0)),
}
"""The transformations by OpenSIPS name, with their arguments as in `transformations.CHANGES`."""
