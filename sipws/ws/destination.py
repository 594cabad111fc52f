"""Where a client connects to: ``ws:`` and ``wss:`` URLs, and SIP URIs with a WebSocket transport.

Pure: nothing here resolves a name or opens a socket.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from sipws.address import WS_PORT, WSS_PORT, Address, Proto, split_host_port
from sipws.errors import AddressError
from sipws.masking.handshakes import USUAL

_FORMS: Final = "ws://HOST[:PORT][/PATH], wss://… or sip:HOST[:PORT];transport=ws"
_RESOURCE: Final = re.compile(r"/[!-~]*")
_BLANK: Final = re.compile(r"[\x00-\x20\x7f]")
_SCHEME: Final = re.compile(r"([a-z]+):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of WebSocket connections; equal destinations share a connection."""

    proto: Proto
    """``ws`` or ``wss``."""

    host: str
    """IP address without brackets, or host name in lower case and ASCII."""

    port: int

    resource: str = "/"
    """Path and query of the upgrade request."""

    @classmethod
    def parse(cls, text: str) -> "Destination":
        """Parse a destination.

        A SIP URI names a WebSocket transport with ``transport=ws`` (RFC 7118 section 5.2) or with
        the common spelling ``transport=wss``. ``sips:`` implies TLS. User, headers and other
        parameters are ignored.

        Args:
            text: a ``ws:`` or ``wss:`` URL, or a ``sip:`` or ``sips:`` URI.

        Raises:
            AddressError: the text is none of these; the message names the problem.
        """
        if _BLANK.search(text):
            raise _refused(text, "it holds a space or a control character")
        match = _SCHEME.match(text)
        scheme = match[1].lower() if match else ""
        if scheme in ("ws", "wss"):
            return _of_url(text)
        if scheme in ("sip", "sips"):
            return _of_sip_uri(text, scheme)
        raise _refused(text, "it does not start with 'ws:', 'wss:', 'sip:' or 'sips:'")

    @property
    def is_dialled(self) -> bool:
        """Whether a connection to the host is possible; False for names under ``.invalid``.

        Clients that accept no connections write such names (RFC 7118 section 5). They must not be
        resolved (RFC 6761 section 6.4).
        """
        return self.host.rstrip(".").rpartition(".")[2] != "invalid"

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, which needs no DNS query."""
        return _is_address(self.host)

    @property
    def shown(self) -> str:
        """The URL for events, traces, logs and errors: without its query, which may hold tokens."""
        return USUAL.text(str(self).partition("?")[0])

    def __str__(self) -> str:
        """The URL; its port is left out if it is the scheme's default."""
        where = str(Address(self.host, self.port))
        if self.port == _default_port(self.proto):
            where = where.rpartition(":")[0]
        return f"{self.proto}://{where}{self.resource}"


@lru_cache(64)
def _is_address(host: str) -> bool:
    # There are few destinations, and each connection asks several times.
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _of_url(text: str) -> Destination:
    try:
        url = urlsplit(text)
    except ValueError as exc:
        raise _refused(text, str(exc)) from None
    if "#" in text:
        raise _refused(text, "a WebSocket URL has no fragment (RFC 6455 section 3)")
    if not url.netloc:
        raise _refused(text, f"no host follows '{url.scheme}://'")
    if "@" in url.netloc:
        raise _refused(text, "it holds a user; credentials go into a header of the client")
    resource = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not _RESOURCE.fullmatch(resource):
        raise _refused(text, f"write {resource!r} percent-encoded")
    proto: Proto = "ws" if url.scheme == "ws" else "wss"
    return _destination(text, proto, url.netloc, resource)


def _of_sip_uri(text: str, scheme: str) -> Destination:
    rest = text.partition(":")[2].partition("?")[0]
    # A user part may contain semicolons (RFC 3261 section 25.1), so it is removed first.
    host_port, *parameters = rest.rpartition("@")[2].split(";")
    transport = ""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "transport":
            transport = value.strip().lower()
    if transport not in ("ws", "wss"):
        named = f"its transport is {transport!r}" if transport else "it names no transport"
        raise _refused(text, f"{named}; only ';transport=ws' is spoken here")
    proto: Proto = "wss" if scheme == "sips" or transport == "wss" else "ws"
    return _destination(text, proto, host_port, "/")


def _destination(text: str, proto: Proto, host_port: str, resource: str) -> Destination:
    try:
        host, port = split_host_port(host_port)
    except AddressError as exc:
        raise _refused(text, str(exc)) from None
    if host == "*" or port == 0:
        raise _refused(text, f"{host_port!r} is nowhere to connect to")
    try:
        host = host.encode("idna").decode().lower()
    except UnicodeError as exc:
        raise _refused(text, f"{host!r} is not a host name ({exc})") from None
    if not re.fullmatch(r"[a-z0-9._:-]+", host):
        raise _refused(text, f"{host!r} is not a host name")
    return Destination(proto, host, _default_port(proto) if port is None else port, resource)


def _default_port(proto: Proto) -> int:
    return WS_PORT if proto == "ws" else WSS_PORT


def _refused(text: str, problem: str) -> AddressError:
    # The text may contain a password or a token, and the error may be logged.
    shown, problem = USUAL.text(text), USUAL.text(problem)
    return AddressError(f"destination {shown!r}: {problem}; a destination is written {_FORMS}")
