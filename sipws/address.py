"""Addresses and listener definitions, as operators write them.

A listener is written as OpenSIPS writes it after ``socket=``::

    PROTO:HOST[:PORT] [tag NAME] [as ADVERTISED_IP[:PORT]]

Pure: nothing here resolves a name or opens a socket.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

from sipws.errors import AddressError

Proto = Literal["ws", "wss"]

PROTOCOLS: Final[frozenset[Proto]] = frozenset(get_args(Proto))

WS_PORT: Final = 80
"""Port of a ``ws`` listener without one (OpenSIPS ``ws_port``)."""

WSS_PORT: Final = 443
"""Port of a ``wss`` listener without one (OpenSIPS ``wss_port``)."""

_AUTHORITY: Final = re.compile(
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
)
"""RFC 3986 section 3.2, without user information, which a Host never has (RFC 9110 section 7.2)."""

_FORM: Final = "PROTO:HOST[:PORT] [tag NAME] [as ADVERTISED_IP[:PORT]]"


class Address(NamedTuple):
    """One end of a socket."""

    ip: str
    """IPv4 or IPv6 address as text, without brackets."""

    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener: protocol, host, port, and the address that it advertises."""

    proto: Proto
    """``ws`` or ``wss``."""

    host: str
    """The address or name as written, without brackets; ``*`` stands for every address."""

    port: int
    """0 asks the system for a free port."""

    tag: str | None = None
    """OpenSIPS' ``tag``: a name for the listener (``$socket_in(tag)``)."""

    advertised_ip: str | None = None
    """OpenSIPS' ``as``: the address that peers see in front of a NAT or a load balancer."""

    advertised_port: int | None = None

    @classmethod
    def parse(
        cls, definition: str, *, ws_port: int = WS_PORT, wss_port: int = WSS_PORT
    ) -> "Listener":
        """Read a listener definition.

        Args:
            definition: as the head of this module shows it; IPv6 in brackets.
            ws_port: port of a ``ws`` listener that names none (OpenSIPS ``ws_port``).
            wss_port: port of a ``wss`` listener that names none (OpenSIPS ``wss_port``).

        Raises:
            AddressError: the definition does not have that form; the message says what is wrong.
        """
        words = definition.split()
        if not words:
            raise _refused(definition, "it is empty")
        proto, colon, where = words[0].partition(":")
        proto = proto.lower()
        if proto not in ("ws", "wss") or not colon:
            raise _refused(definition, "it does not start with 'ws:' or 'wss:'" + _hint(words[0]))
        if where.startswith("//"):
            raise _refused(definition, f"it is a URL{_hint(where, proto)}")
        host, port = split_host_port(where)
        try:
            host.encode("idna")
        except UnicodeError:
            raise _refused(definition, f"{host!r} is not a host name") from None
        tag = advertised_ip = None
        advertised_port: int | None = None
        rest = iter(words[1:])
        for word in rest:
            value = next(rest, None)
            match word.lower():
                case "tag" if value is not None and tag is None:
                    tag = value
                case "as" if value is not None and advertised_ip is None:
                    advertised_ip, advertised_port = split_host_port(value)
                case "tag" | "as":
                    problem = "has no value" if value is None else "is given twice"
                    raise _refused(definition, f"{word!r} {problem}")
                case _:
                    raise _refused(definition, f"{word!r} is neither 'tag' nor 'as'")
        default = ws_port if proto == "ws" else wss_port
        return cls(
            proto="ws" if proto == "ws" else "wss",
            host=host,
            port=default if port is None else port,
            tag=tag,
            advertised_ip=advertised_ip,
            advertised_port=advertised_port,
        )

    @property
    def address(self) -> Address:
        """Host and port as an address (the host may be a name or ``*``)."""
        return Address(self.host, self.port)

    def __str__(self) -> str:
        text = f"{self.proto}:{self.address}"
        if self.tag is not None:
            text += f" tag {self.tag}"
        if self.advertised_ip is not None:
            port = self.advertised_port
            text += f" as {_bracketed(self.advertised_ip)}" + ("" if port is None else f":{port}")
        return text


def split_host_port(text: str) -> tuple[str, int | None]:
    """Split ``HOST[:PORT]``, with an IPv6 host in brackets.

    Returns:
        the host without brackets, and the port or None.

    Raises:
        AddressError: no host, a bare IPv6 address, or a port that is not a number from 0 to 65535.
    """
    if match := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text):
        host, port = match.groups()
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise AddressError(f"{text!r}: {host!r} in brackets is not an IPv6 address") from None
    elif text.count(":") > 1:
        raise AddressError(f"{text!r}: write an IPv6 address in brackets, as in '[::1]:8080'")
    else:
        host, colon, port = text.partition(":")
        port = port if colon else None
    if not host:
        raise AddressError(f"{text!r} names no host; '*' stands for every address")
    return host, None if port is None else parse_port(port)


def parse_port(text: str) -> int:
    """Read a port number.

    Raises:
        AddressError: it is not a number from 0 to 65535.
    """
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= 0xFFFF:
        return int(text)
    raise AddressError(f"{text!r} is not a port: a port is a number from 0 to 65535")


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_authority(text: str) -> bool:
    """Whether it is a host with a port or without one, as a ``Host`` header is to have it."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or int(match[2] or 0) > 0xFFFF:
        return False
    if match[1] is None:
        return True
    try:
        ipaddress.IPv6Address(match[1])
    except ValueError:
        return False
    return True


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _hint(text: str, proto: str = "ws") -> str:
    """How to write the host and the port of a definition that is not written as a listener."""
    where = re.sub(r"\A(?:[a-z]+:)?//", "", text, flags=re.IGNORECASE)
    where = re.split("[/?#]", where, maxsplit=1)[0]
    try:
        host, port = split_host_port(where)
    except AddressError:
        return ""
    # A user and a password have no place in a listener, nor in an error.
    if "@" in host or (port is None and "//" not in text):
        return ""
    if text.lower().startswith(("https:", "wss:")):
        proto = "wss"
    return f"; write '{proto}:{where}'"


def _refused(definition: str, problem: str) -> AddressError:
    return AddressError(f"listener {definition!r}: {problem}; a listener is written {_FORM}")


def address_of_socket(socket_name: Any) -> Address:
    """The address of an end of a socket; IPv4 addresses are never mapped.

    Args:
        socket_name: what ``getsockname`` or ``getpeername`` returned. It is empty for a peer that
            had left already: the address is 0.0.0.0 then, with port 0.
    """
    if not socket_name:
        return Address("0.0.0.0", 0)
    ip, port = socket_name[:2]
    ip = ip.partition("%")[0]
    # Only mapped addresses have both separators: all others need not be parsed.
    if "." in ip and ":" in ip:
        ip = str(unmapped(ipaddress.ip_address(ip)))
    return Address(ip, port)


def unmapped(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address of a mapped one (RFC 4291 section 2.5.5.2); any other address as it is.

    A dual-stack socket shows IPv4 peers as ``::ffff:192.0.2.1``. Operators write filters and access
    rules for 192.0.2.1.
    """
    return getattr(ip, "ipv4_mapped", None) or ip
