"""SIP URIs as OpenSIPS parses and rewrites them (``parse_uri``, ``rewrite_ruri``). Pure."""

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

LONGEST_URI: Final = 1024
"""Characters of a URI that a function or an assignment to a part rewrites (``MAX_URI_SIZE``)."""

PORTS: Final = {"udp": 5060, "tcp": 5060, "tls": 5061, "sctp": 5060, "ws": 80, "wss": 443}
"""The transports with their default ports, in the order of OpenSIPS' numbers from 1."""

_OTHER: Final = 10
"""Number of a transport that OpenSIPS does not know (``PROTO_OTHER``)."""

_SCHEME: Final = re.compile("sip:|sips:|tel:|urn:service:|urn:nena:service:", re.IGNORECASE)
_AFTER_HOST: Final = re.compile(
    r"(?::(?P<port>[0-9]*))?(?:;(?P<params>[^?]*))?(?:\?(?P<headers>.*))?", re.DOTALL
)


class Parameter(NamedTuple):
    """A parameter ``name=value``; the value is empty if there is none."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Uri:
    """The parts of a SIP, SIPS or TEL URI. None: the part and its separator are absent."""

    scheme: str
    """With its colon, as written."""
    user: str = ""
    password: str | None = None
    host: str = ""
    port: str | None = None
    params: str | None = None
    headers: str | None = None

    @property
    def port_number(self) -> int:
        """The port, or the default port of the transport."""
        if self.port is not None and int(self.port or 0):
            return int(self.port)
        return PORTS.get(self.transport, 0)

    @property
    def transport(self) -> str:
        """The transport: as given, or the default of the scheme."""
        return self.value("transport") or ("tls" if self.scheme.lower() == "sips:" else "udp")

    @property
    def transport_number(self) -> int:
        """OpenSIPS' number of the transport."""
        names = list(PORTS)
        name = self.transport.lower()
        return names.index(name) + 1 if name in names else _OTHER

    def value(self, name: str) -> str | None:
        """The value of a parameter that OpenSIPS knows; None if it has none."""
        found = None
        for part in (self.params or "").split(";"):
            key, sign, value = part.partition("=")
            if sign and value and key.lower() == name:
                found = value
        return found


def parse_uri(text: str) -> Uri | None:
    """Parse a URI; None if it is not one.

    Source: ``parse_uri`` of OpenSIPS. An ``@`` may follow what looks like parameters or headers.
    Everything before it is the user then.
    """
    found = _SCHEME.match(text)
    if not found or len(text) < 5:
        return None
    scheme, rest = found[0], text[found.end() :]
    user, at, behind = rest.partition("@")
    parts = _with_user(user, behind) if at else _without_user(rest)
    if parts is None:
        return None
    name, password, host, tail = parts
    rest_found = _AFTER_HOST.fullmatch(tail)
    if not rest_found:
        return None
    port, params, headers = rest_found["port"], rest_found["params"], rest_found["headers"]
    if (headers is not None and ";" in headers) or (port and int(port[:10]) > 0xFFFF):
        return None
    if scheme.lower() == "tel:":
        name, host = host, ""
    elif scheme.lower() == "urn:nena:service:":
        name = ""
    return Uri(scheme, name, password, host, port, params, headers)


_Parts = tuple[str, str | None, str, str]
"""User, password, host, and what follows."""


def _with_user(before: str, behind: str) -> _Parts | None:
    """The parts of a URI with an ``@``."""
    if "@" in behind or not before or before[0] in "[]:":
        return None
    head = re.match(r".[^:;?\[\]]*", before, re.DOTALL)
    user, rest = (head[0], before[head.end() :]) if head else (before, "")
    password: str | None = None
    if rest[:1] == ":":
        password = rest[1:]
        if re.search(r"[\[\]:;?]", password):
            return None
    elif rest[:1] in (";", "?"):
        user, colon, after = before.partition(":")
        if colon:
            password = after
            if re.search("[:;?]", after):
                return None
    elif rest:
        return None
    host = re.match(r"\[[^\]\[&@;?]*\]|[^:;?&@\[][^:;?&@]*", behind)
    return (user, password, host[0], behind[host.end() :]) if host else None


def _without_user(rest: str) -> _Parts | None:
    """The parts of a URI without an ``@``."""
    host = re.match(r"\[[^\]\[&@;?]*\]|[^:\[\]][^:;?\[\]]*", rest, re.DOTALL)
    return ("", None, host[0], rest[host.end() :]) if host else None


def printed_uri(uri: Uri) -> str | None:
    """Print a URI; None if it is longer than `LONGEST_URI`."""
    parts = [uri.scheme, uri.user]
    if uri.password is not None:
        parts += [":", uri.password]
    if uri.user or uri.password is not None:
        parts.append("@")
    parts.append(uri.host)
    for sign, part in ((":", uri.port or None), (";", uri.params), ("?", uri.headers)):
        if part is not None:
            parts += [sign, part]
    text = "".join(parts)
    return text if len(text) <= LONGEST_URI else None


Change = Literal["user", "userpass", "host", "hostport", "port", "prefix", "strip", "strip_tail"]
"""What `rewritten` replaces."""


def rewritten(text: str, part: Change, value: str = "", count: int = 0) -> str | None:
    """Replace a part of a URI.

    Args:
        text: the URI.
        part: what is replaced.
        value: its new text, or the prefix of the user.
        count: characters to remove from the user (``strip``, ``strip_tail``).

    Returns:
        the new URI; None if the text is not a URI or the new one is too long.
    """
    uri = parse_uri(text)
    if uri is None:
        return None
    user, password, host, port, params = uri.user, uri.password, uri.host, uri.port, uri.params
    match part:
        case "user":
            user = value
        case "userpass":
            user, password = value, None
        case "host":
            host, params = value, _without_maddr(params)
        case "hostport":
            host, port, params = value, None, _without_maddr(params)
        case "port":
            port = value
        case "prefix":
            user = value + user
        case "strip":
            user = user[max(count, 0) :]
        case "strip_tail":
            user = user[: max(len(user) - max(count, 0), 0)]
    return printed_uri(Uri(uri.scheme, user, password, host, port, params, uri.headers))


def _without_maddr(params: str | None) -> str | None:
    """Parameters without ``maddr``, which would override a new host."""
    if params is None or "maddr" not in params.lower():
        return params
    kept = [part for part in params.split(";") if not part.lower().startswith("maddr=")]
    return ";".join(kept) if kept else None


_NAME_ENDS: Final = re.compile(r"[ \t\r\n;,=]")
_TOKEN_ENDS: Final = re.compile(r"[ \t\r\n,;]")
_BLANKS: Final = " \t\r\n"


def parse_params(text: str) -> list[Parameter] | None:
    """Parse ``name=value;name="value"``; None if the text is not a list of parameters.

    Source: ``parse_params`` of OpenSIPS. The list ends at a comma or a ``>`` after a parameter.
    """
    found: list[Parameter] = []
    at, size = 0, len(text)
    while True:
        end = _end(_NAME_ENDS, text, at)
        name, at = text[at:end], _skipped(text, end)
        value = ""
        if text[at : at + 1] == "=":
            at = _skipped(text, at + 1)
            if text[at : at + 1] == '"':
                end = text.find('"', at + 1)
                if end < 0:
                    return None
                value, at = text[at + 1 : end], end + 1
            else:
                end = _end(_TOKEN_ENDS, text, at)
                if end == at:
                    return None
                value, at = text[at:end], end
            at = _skipped(text, at)
        found.append(Parameter(name, value))
        if at >= size or text[at] in ",>":
            return found
        if text[at] != ";":
            return None
        at = _skipped(text, at + 1)
        if at >= size:
            return None


def _end(ends: re.Pattern[str], text: str, at: int) -> int:
    found = ends.search(text, at)
    return found.start() if found else len(text)


_NOT_BLANK: Final = re.compile(f"[^{_BLANKS}]")


def _skipped(text: str, at: int) -> int:
    return _end(_NOT_BLANK, text, at)
