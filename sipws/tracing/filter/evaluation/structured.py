"""The transformations ``{uri.*}``, ``{csv.*}`` and ``{param.*}`` of OpenSIPS 3.6.

They behave as in ``transformations.c`` of OpenSIPS.
"""

import re
from typing import Final

from sipws.tracing.filter.evaluation.values import FAILED, Change, Value, Worded, number_of, text_of

_URI: Final = re.compile(
    r"""(?P<schema>sips?|tels?):
        (?:(?P<user>[^@:]*)(?::(?P<passwd>[^@]*))?@)?
        (?P<host>\[[^\]]*\]|[^:;?@]*)(?::(?P<port>[0-9]{1,5}))?
        (?:;(?P<params>[^?]*))?(?:\?(?P<headers>.*))?""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


def _csv(text: str) -> list[str]:
    """The fields of comma-separated values, with their quotes."""
    return [field.strip() for field in re.findall(r'\s*("(?:[^"]|"")*"|[^,]*)\s*(?:,|$)', text)][
        : text.count(",") + 1
    ]


def _csv_value(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{csv.value,INDEX}``: a field; a negative index counts from the end."""
    fields, index = _csv(text), number_of(arguments[0])
    if index is None or not -len(fields) <= index < len(fields):
        return FAILED
    return fields[index]


def _pairs(text: str) -> list[tuple[str, str]]:
    """Names and values of ``name=value;name=value``."""
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return [(name.strip(), value.strip().strip('"')) for name, _, value in pairs]


def _param_value(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{param.value,NAME}``: the value of a parameter; NULL if it is missing."""
    name = (text_of(arguments[0]) or "").lower()
    return next((value for key, value in _pairs(text) if key.lower() == name), None)


def _param_exist(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{param.exist,NAME}``: 1 if a parameter is present, otherwise 0."""
    name = (text_of(arguments[0]) or "").lower()
    return int(any(key.lower() == name for key, _ in _pairs(text)))


def _param_at(part: int) -> Change:
    """``{param.name,INDEX}``, ``{param.valueat,INDEX}``: name or value of a parameter."""

    def change(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
        pairs, index = _pairs(text), number_of(arguments[0])
        if index is None:
            return FAILED
        return pairs[index][part] if -len(pairs) <= index < len(pairs) else None

    return change


def _uri_part(part: str) -> Change:
    """``{uri.user}``, ``{uri.host}``, ``{uri.port}`` and the others: a part of a SIP URI."""

    def change(text: str, *_: object) -> Value:
        found = _URI.fullmatch(text)
        if not found:
            return FAILED
        return (
            Worded(int(found[part]), found[part])
            if part == "port" and found[part]
            else (found[part] or None)
        )

    return change


def _uri_param(name: str | None) -> Change:
    """``{uri.param,NAME}``, ``{uri.transport}`` and the others: a parameter of a SIP URI."""

    def change(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
        found = _URI.fullmatch(text)
        if not found:
            return FAILED
        wanted = (text_of(arguments[0]) or "") if name is None else name
        return next(
            (
                value
                for key, value in _pairs(found["params"] or "")
                if key.lower() == wanted.lower()
            ),
            None,
        )

    return change


STRUCTURED: Final[dict[str, tuple[str, Change]]] = {
    **{
        f"uri.{part}": ("", _uri_part(part))
        for part in ("schema", "user", "passwd", "host", "port", "params", "headers")
    },
    "uri.domain": ("", _uri_part("host")),
    "uri.param": ("s", _uri_param(None)),
    **{
        f"uri.{name}": ("", _uri_param(parameter))
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
    "csv.count": ("", lambda text, *_: len(_csv(text))),
    "csv.value": ("n", _csv_value),
    "param.count": ("", lambda text, *_: len(_pairs(text))),
    "param.value": ("s", _param_value),
    "param.exist": ("s", _param_exist),
    "param.valueat": ("n", _param_at(1)),
    "param.name": ("n", _param_at(0)),
}
"""The transformations by OpenSIPS name, with their arguments as in `transformations.CHANGES`."""
