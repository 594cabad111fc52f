"""The transformations ``{nameaddr.*}``, ``{via.*}`` and ``{sdp.*}`` of OpenSIPS 3.6.

They work on any text, such as a value that the script made. They behave as in ``transformations.c``
of OpenSIPS and the parsers that it calls.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sipws.tracing.filter.evaluation.uris import Parameter
from sipws.tracing.filter.evaluation.values import (
    Change,
    Value,
    Worded,
    lower,
    number_of,
    text_of,
)

_LINE_END: Final = "\r\n"
"""OpenSIPS parses the text as a header field, which it ends."""


@dataclass(frozen=True, slots=True)
class _Address:
    """One address of a ``To`` or ``Contact`` header field."""

    display: str
    uri: str
    length: int
    """Characters up to the parameters, as OpenSIPS counts them: the last address without
    parameters counts the end of the line, and an earlier one counts 0."""
    params: tuple[Parameter, ...]
    params_text: str


_ADDRESS: Final = re.compile(
    r"""[ \t]*+(?P<body>
      (?P<quoted>"(?:[^"\\]|\\.)*+")[ \t]*+<[ \t]*+(?P<uri1>[^\s<>"\\]++)[ \t]*+>
    | <[ \t]*+(?P<uri2>[^\s<>"\\]++)[ \t]*+>
    | (?P<token>[^\s<>"\\,;][^<>"\\,\r\n]*+)<[ \t]*+(?P<uri3>[^\s<>"\\]++)[ \t]*+>
    | (?P<bare>[^\s<>"\\,;]++)
    )[ \t]*+""",
    re.VERBOSE | re.DOTALL,
)
_PARAM: Final = re.compile(
    r""";[ \t]*+(?P<name>[^\s;,="\\]++)[ \t]*+
    (?P<sign>=[ \t]*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<value>[^\s;,="\\]++)?))?[ \t]*+""",
    re.VERBOSE | re.DOTALL,
)


def _addresses(text: str) -> list[_Address] | None:
    """Parse the addresses of a header field; None if it is malformed."""
    found: list[_Address] = []
    at = 0
    while True:
        address = _ADDRESS.match(text, at)
        if not address:
            return None
        display = address["quoted"] or (address["token"] or "").rstrip(" \t")
        uri = address["uri1"] or address["uri2"] or address["uri3"] or address["bare"] or ""
        begin, at = address.start("body"), address.end()
        length, first, last_end = at - begin, at, at
        params: list[Parameter] = []
        while text[at : at + 1] == ";":
            param = _PARAM.match(text, at)
            if not param:
                return None
            name, quoted, value = param["name"], param["quoted"], param["value"]
            at = param.end()
            ends = at >= len(text)
            if not params:
                first = param.start("name")
            if quoted is None and not value:
                if lower(name) == "tag" or (
                    lower(name) in ("t", "ta") and param["sign"] is None and not ends
                ):
                    return None
                last_end = param.end("name") if ends else at
            else:
                last_end = param.end("value") if quoted is None else param.end("quoted") + 1
            params.append(Parameter(name, quoted if quoted is not None else value or ""))
        is_last = at >= len(text)
        if not is_last and text[at] != ",":
            return None
        if not params:
            # OpenSIPS takes the length at the first parameter or at the end of the header field.
            length = len(text) - begin + len(_LINE_END) if is_last else 0
        found.append(_Address(display, uri, length, tuple(params), text[first:last_end]))
        if is_last:
            return found
        at += 1


def _nameaddr(read: Callable[[_Address, tuple[Value, ...]], Value]) -> Change:
    """A part of an address. The first argument is its index; NULL is the first address."""

    def change(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
        addresses = _addresses(text)
        if addresses is None:
            return None
        index, *others = arguments
        number = number_of(index)
        if number is None or not -len(addresses) <= number < len(addresses):
            return None
        return read(addresses[number], tuple(others))

    return change


def _nameaddr_param(address: _Address, arguments: tuple[Value, ...]) -> Value:
    """``{nameaddr.param,NAME}``: a parameter, in the same case; NULL if it is missing or empty."""
    wanted = arguments[0]
    return next((value or None for name, value in address.params if name == wanted), None)


_VIA: Final = re.compile(
    r"""[ \t]*+(?P<name>sip)[ \t]*+/[ \t]*+(?P<version>2\.0)[ \t]*+/[ \t]*+
    (?P<transport>[^\s/;,:]++)[ \t]++
    (?P<host>\[[0-9A-Fa-f:]++\]|[0-9A-Za-z.-]++)[ \t]*+
    (?::[ \t]*+(?P<port>[0-9]++)[ \t]*+)?""",
    re.VERBOSE | re.IGNORECASE,
)
_VIA_PARAM: Final = re.compile(
    r""";[ \t]*+(?P<name>[^\s;,=]++)[ \t]*+
    (?P<sign>=[ \t]*+(?:"(?P<quoted>[^"]*+)"|(?P<value>[^\s;,="]*+)))?(?P<blanks>[ \t]*+)""",
    re.VERBOSE,
)
_COMMENT: Final = re.compile(r"\((?P<comment>(?:[^()]++|\([^()]*+\))*+)\)[ \t]*+")
_NEED_A_VALUE: Final = frozenset({"branch", "ttl", "maddr", "received", "i"})


@dataclass(frozen=True, slots=True)
class _Via:
    """The first value of a ``Via`` header field."""

    name: str
    version: str
    transport: str
    host: str
    port: str
    params: str
    comment: str
    param_list: tuple[Parameter, ...]

    def param(self, wanted: str) -> str | None:
        """A parameter; None if it is missing."""
        wanted = lower(wanted)
        return next((value for name, value in self.param_list if lower(name) == wanted), None)


def _via(text: str) -> _Via | None:
    """Parse a ``Via`` header field; None if it is malformed."""
    head = _VIA.match(text)
    if not head:
        return None
    at = end = head.end()
    params: list[Parameter] = []
    while text[at : at + 1] == ";":
        param = _VIA_PARAM.match(text, at)
        if not param:
            return None
        name, quoted, value = param["name"], param["quoted"], param["value"]
        if param["sign"] is None and lower(name) in _NEED_A_VALUE:
            return None
        at, end = param.end(), param.start("blanks")
        params.append(Parameter(name, quoted if quoted is not None else value or ""))
    comment = _COMMENT.match(text, at)
    if comment:
        at = comment.end()
    if at < len(text) and text[at] != ",":
        return None
    shown = text[head.end() + 1 : end] if params else ""
    return _Via(
        head["name"],
        head["version"],
        head["transport"],
        head["host"],
        head["port"] or "",
        shown,
        comment["comment"] if comment else "",
        tuple(params),
    )


def _of_via(read: Callable[[_Via], str | None]) -> Change:
    """A part of a ``Via`` header field; NULL if it is empty."""

    def change(text: str, *_: object) -> Value:
        via = _via(text) if len(text) > 2 else None
        return None if via is None else (read(via) or None)

    return change


def _via_port(text: str, *_: object) -> Value:
    """``{via.port}``: the port; NULL if there is none."""
    via = _via(text) if len(text) > 2 else None
    if via is None or not via.port or int(via.port[:10]) > 0xFFFF:
        return None
    return Worded(int(via.port), via.port)


def _via_param(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{via.param,NAME}``: a parameter; NULL if it is missing."""
    via, wanted = _via(text) if len(text) > 2 else None, text_of(arguments[0])
    return None if via is None or not wanted else via.param(wanted)


def _lines_of(text: str, letter: str) -> list[int]:
    """The offsets of the SDP lines that begin with ``LETTER=``."""
    return [found.start() for found in re.finditer(rf"(?<![^\r\n]){re.escape(letter)}=", text)]


def _sdp_line(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{sdp.line,LETTER[,INDEX]}``: a line of a session description; NULL if it is missing."""
    letter = text_of(arguments[0])
    index = number_of(arguments[1]) if len(arguments) > 1 else 0
    if not letter or index is None or index < 0:
        return None
    lines = _lines_of(text, letter[0])
    if index >= len(lines):
        return None
    end = text.find("\r", lines[index])
    return None if end < 0 else text[lines[index] : end]


_MEDIA: Final = re.compile(r"m=([^\s]+)[ \t]+[^\s]+[ \t]+[^\s]+")
_ADDRESS_LINE: Final = re.compile(r"[oc]=[^\r\n]*?IN[ \t]+IP[46][ \t]+[^\s]+")


def _streams(text: str) -> list[tuple[str, int, int]] | None:
    """Media, begin and end of each stream of a session description; None if it is malformed."""
    if not text.startswith("v="):
        return None
    origins = _lines_of(text, "o")
    if not origins or not _ADDRESS_LINE.match(text, origins[0]):
        return None
    begins = [at for at in _lines_of(text, "m") if at > origins[0]]
    if not begins:
        return None
    connections = [at for at in _lines_of(text, "c") if at > origins[0]]
    if not all(_ADDRESS_LINE.match(text, at) for at in connections):
        return None
    is_common = bool(connections) and connections[0] < begins[0]
    found = []
    for begin, end in zip(begins, [*begins[1:], len(text)], strict=True):
        media = _MEDIA.match(text, begin)
        has_own = bisect_left(connections, end) > bisect_left(connections, begin)
        if not media or not (is_common or has_own):
            return None
        found.append((media[1], begin, end))
    return found


def _chosen(text: str, wanted: Value) -> list[tuple[int, int]]:
    """The streams that an index or the name of a medium chooses."""
    streams = _streams(text)
    if streams is None or wanted is None:
        return []
    number = number_of(wanted)
    name = text_of(wanted) or ""
    if number is None and re.fullmatch("[+-]?[0-9]{1,9}", name):
        number = int(name)
    if number is None:
        return [(begin, end) for media, begin, end in streams if lower(media) == lower(name)]
    if not -len(streams) <= number < len(streams):
        return []
    return [streams[number][1:]]


def _sdp_stream(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{sdp.stream,INDEX|MEDIA}``: the first such stream; NULL if there is none."""
    return next((text[begin:end] for begin, end in _chosen(text, arguments[0])), None)


def _sdp_stream_delete(text: str, _: Value, arguments: tuple[Value, ...]) -> Value:
    """``{sdp.stream-delete,INDEX|MEDIA}``: the description without these streams."""
    chosen = _chosen(text, arguments[0])
    if not chosen:
        return None
    parts, at = [], 0
    for begin, end in chosen:
        parts.append(text[at:begin])
        at = end
    return "".join([*parts, text[at:]])


HEADERS: Final[dict[str, tuple[str, Change]]] = {
    # `i` is the index before the name, as in {nameaddr.1.uri}.
    "nameaddr.uri": ("i", _nameaddr(lambda address, _: address.uri or None)),
    "nameaddr.len": ("i", _nameaddr(lambda address, _: address.length)),
    "nameaddr.name": ("i", _nameaddr(lambda address, _: address.display or None)),
    "nameaddr.param": ("is", _nameaddr(_nameaddr_param)),
    "nameaddr.params": ("i", _nameaddr(lambda address, _: address.params_text or None)),
    "via.name": ("", _of_via(lambda via: via.name)),
    "via.version": ("", _of_via(lambda via: via.version)),
    "via.transport": ("", _of_via(lambda via: via.transport)),
    "via.host": ("", _of_via(lambda via: via.host)),
    "via.domain": ("", _of_via(lambda via: via.host)),
    "via.port": ("", _via_port),
    "via.params": ("", _of_via(lambda via: via.params)),
    "via.comment": ("", _of_via(lambda via: via.comment)),
    "via.param": ("s", _via_param),
    "via.branch": ("", _of_via(lambda via: via.param("branch"))),
    "via.received": ("", _of_via(lambda via: via.param("received"))),
    "via.rport": ("", _of_via(lambda via: via.param("rport"))),
    "sdp.line": ("s?n", _sdp_line),
    "sdp.stream": ("s", _sdp_stream),
    "sdp.stream-delete": ("s", _sdp_stream_delete),
}
"""The transformations by OpenSIPS name, with their arguments as in `transformations.CHANGES`."""
