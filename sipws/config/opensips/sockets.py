"""The sockets of an ``opensips.cfg``, as its grammar reads them (``socket=``, or ``listen=``).

::

    PROTO:HOST[:PORTS] [word …]
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sipws.address import PROTOCOLS, parse_port
from sipws.config.opensips.interfaces import addresses_of
from sipws.config.opensips.report import Line, Report
from sipws.errors import AddressError
from sipws.tracing.filter.syntax.lexer import Token, unquote

MOST_PORTS: Final = 1000
"""Ports of one socket. Each is a listener with a file descriptor per worker."""

Interfaces = Callable[[str], Sequence[str]]
"""Returns the addresses of a network interface; none if there is no such interface."""

_FLAGS: Final = {
    "anycast": "sipws binds the address as any other",
    "frag": "it is about UDP",
    "reuse_port": "sipws shares a port among its own workers",
    "accept_subdomain": "it is about the host of SIP URIs, which sipws does not route by",
}
"""Words without a value, and why they have no effect here."""

_NUMBERS: Final = {
    "use_workers": "set transport.workers for several processes",
    "tos": "sipws leaves the type of service as it is; the system can set it",
}
"""Words with a number."""

_PROFILE: Final = "use_auto_scaling_profile"


class Socket(NamedTuple):
    """One listener of a ``socket`` line."""

    definition: str
    """``PROTO:HOST[:PORT] [tag NAME] [as ADVERTISED_IP[:PORT]]``, as `Listener.parse` takes it."""

    proto: str
    host: str
    port: int | None
    line: Line


class _WrongError(Exception):
    """A definition that OpenSIPS refuses."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(problem)
        self.at = at
        self.problem = problem


def read_socket(
    tokens: Sequence[Token], report: Report, interfaces: Interfaces = addresses_of
) -> list[Socket]:
    """Read a ``socket`` or ``listen`` statement.

    Args:
        tokens: from the word on, up to the next statement.
        report: gets the line, or the error.
        interfaces: finds the addresses of a network interface.

    Returns:
        its listeners: one for each address and port. None for other protocols.
    """
    line = report.line(tokens)
    proto = tokens[2] if len(tokens) > 2 else None
    if proto is not None and proto.kind == "NAME" and proto.text.lower() not in PROTOCOLS:
        line.drop(f"{proto.text} is not WebSocket", is_usual=True)
        return []
    reader = _Reader(tokens)
    try:
        return reader.read(line, interfaces)
    except _WrongError as exc:
        report.refuse(exc.at, exc.problem)
        return []


class _Reader:
    """Reads the tokens of one statement, from left to right."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        # The word and the sign.
        self._index = 2

    def read(self, line: Line, interfaces: Interfaces) -> list[Socket]:
        """Read the definition.

        Raises:
            _WrongError: it is not one.
        """
        proto = self._take("NAME", "a protocol: socket=ws:HOST:PORT, without quotes")
        name = proto.text.lower()
        if name not in PROTOCOLS:
            raise _WrongError(proto.at, f"{proto.text!r} is not a protocol")
        self._take("_COLON", "':' and a host")
        host = "*" if self._skip("TIMES", "*") else self._host()
        ports: list[int | None] = [*self._ports()] if self._skip("_COLON") else [None]
        words = self._words(line)
        hosts: Sequence[str] = [host]
        if host != "*" and (own := interfaces(host)):
            line.change(f"{host} has the addresses {', '.join(own)} on this machine")
            hosts = own
        sockets = []
        for each in hosts:
            bracketed = f"[{each}]" if ":" in each else each
            for port in ports:
                where = bracketed if port is None else f"{bracketed}:{port}"
                sockets.append(Socket(f"{name}:{where}{words}", name, each, port, line))
        return sockets

    def _words(self, line: Line) -> str:
        """Read what follows host and port; returns ``tag`` and ``as``."""
        tag = advertised = ""
        passed_over: dict[str, str] = {}
        while (token := self._peek()) is not None:
            word = token.text if token.text.isupper() else token.text.lower()
            known = word.lower()
            if token.kind != "NAME" or token.text not in (known, known.upper()):
                raise _WrongError(token.at, _misplaced(token))
            self._index += 1
            if known in _FLAGS:
                passed_over[known] = _FLAGS[known]
            elif known in _NUMBERS:
                number = self._take("NUMBER", f"a number after {known}")
                passed_over[f"{known} {number.text}"] = _NUMBERS[known]
            elif known == _PROFILE:
                profile = self._take("NAME", f"the name of a profile after {known}")
                passed_over[f"{known} {profile.text}"] = "the number of workers is fixed"
            elif known == "as":
                host = self._host()
                port = f":{self._ports()[0]}" if self._skip("_COLON") else ""
                advertised = f" as {f'[{host}]' if ':' in host else host}{port}"
            elif token.text == "tag":
                tag = f" tag {self._take('NAME', 'a name without quotes after tag').text}"
            else:
                raise _WrongError(token.at, _misplaced(token))
        if passed_over:
            line.change(
                "without " + ", ".join(f"{word} ({why})" for word, why in passed_over.items())
            )
        return tag + advertised

    def _host(self) -> str:
        token = self._peek()
        if token is None:
            raise self._missing("a host")
        self._index += 1
        if token.kind == "STRING":
            return unquote(token.text)
        if token.kind == "ADDRESS":
            return token.text
        if token.kind == "_LSQB":
            address = self._take("ADDRESS", "an IPv6 address after '['")
            self._take("_RSQB", "']' after the address")
            return address.text
        if token.kind != "NAME":
            raise _WrongError(
                token.at, f"{token.text!r} is not a host; a host name may be in quotes"
            )
        name = token.text
        while (sign := self._peek()) is not None and sign.kind in ("DOT", "MINUS"):
            self._index += 1
            part = self._take("NAME", "a name; put a host name with digits or keywords in quotes")
            name += sign.text + part.text
        return name

    def _ports(self) -> list[int]:
        """Read ports: numbers and ranges, with commas between them."""
        ports: list[int] = []
        while True:
            first = self._take("NUMBER", "a port number")
            low = high = self._port(first)
            if self._skip("MINUS"):
                high = self._port(self._take("NUMBER", "the last port of the range"))
            if low > high:
                raise _WrongError(first.at, f"invalid port range ({low} > {high})")
            ports += range(low, min(high, low + MOST_PORTS) + 1)
            if len(ports) > MOST_PORTS:
                raise _WrongError(first.at, f"these are more than {MOST_PORTS} ports")
            if not self._skip("_COMMA"):
                return ports

    def _port(self, token: Token) -> int:
        try:
            return int(token.text, 16) if token.text[:2] == "0x" else parse_port(token.text)
        except (AddressError, ValueError) as exc:
            raise _WrongError(token.at, str(exc)) from exc

    def _peek(self) -> Token | None:
        return self._tokens[self._index] if self._index < len(self._tokens) else None

    def _skip(self, kind: str, text: str | None = None) -> bool:
        token = self._peek()
        if token is None or token.kind != kind or text not in (None, token.text):
            return False
        self._index += 1
        return True

    def _take(self, kind: str, expected: str) -> Token:
        token = self._peek()
        if token is None:
            raise self._missing(expected)
        if token.kind != kind or (kind == "NUMBER" and not token.text[0].isdigit()):
            raise _WrongError(token.at, f"{token.text!r} instead of {expected}")
        self._index += 1
        return token

    def _missing(self, expected: str) -> _WrongError:
        last = self._tokens[-1]
        return _WrongError(last.at + len(last.text), f"the socket ends here instead of {expected}")


def _misplaced(token: Token) -> str:
    if token.text == ";":
        return "no ';' ends a socket; remove it"
    words = ", ".join((*_FLAGS, *_NUMBERS, _PROFILE, "as", "tag"))
    return f"{token.text!r} cannot stand after a socket; known words: {words}"
