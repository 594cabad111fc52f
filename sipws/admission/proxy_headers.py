"""The client's address behind proxies: PROXY protocol and forwarding headers. Pure.

- A load balancer sends a PROXY header before the first byte (versions 1 and 2, HAProxy's
  ``doc/proxy-protocol.txt``).
- A reverse proxy adds a header to the upgrade request: ``X-Forwarded-For``, ``X-Real-IP``,
  ``CF-Connecting-IP`` or another, or ``Forwarded`` (RFC 7239).

Any client can forge both, so that they count only from a trusted address (`Networks`).
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from sipws.address import Address, unmapped
from sipws.errors import AddressError

SIGNATURE_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first bytes of a version 2 header."""

LONGEST_V1: Final = 107
"""Bytes of the longest version 1 line, its CRLF included (the specification's own figure)."""

LONGEST_V2: Final = 4096
"""Maximum bytes of a version 2 header. Addresses need 52; TLVs (TLS details, names, endpoint ids
of a cloud) stay below 1 KiB in practice."""

LONGEST_CHAIN: Final = 32
"""Hops of a forwarding header that are read, from the right. Real chains have two or three."""

_HEAD_V2: Final = 16
_CRC32C: Final = 0x03


class Networks:
    """A list of networks and addresses that are trusted; those of an empty list are none.

    Args:
        networks: each an address or a network, such as ``10.0.0.0/8`` or ``2001:db8::1``.

    Raises:
        AddressError: one of them is neither.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(map(parse_network, networks))

    def __contains__(self, ip: str) -> bool:
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read a network, or an address as the network of that one address.

    Raises:
        AddressError: it is neither, or has bits set behind its prefix.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise AddressError(
            f"{text!r} is not a network: {exc}; write it as '10.0.0.0/8', '2001:db8::/32' or as one"
            " address"
        ) from None


# The PROXY protocol.


class ProxyHeader(NamedTuple):
    """A PROXY header that has been read."""

    source: Address | None
    """Who really connected; None where the proxy speaks for itself (LOCAL, as in health checks) or
    does not know (UNKNOWN): the socket's own peer then counts."""

    destination: Address | None
    """The address that was connected to, at the proxy."""

    length: int
    """Bytes of the header; what follows is the connection's own."""

    version: int
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """Version 2: type and value of each further field, in order."""


class NeedMore(NamedTuple):
    """The header goes on."""

    at_least: int
    """Bytes that belong to it for sure. Reading no more than these never reads past its end."""


class ProxyError(NamedTuple):
    """What was read is not a PROXY header."""

    reason: str
    """For a person to read."""


def read_proxy_header(received: bytes | bytearray) -> ProxyHeader | NeedMore | ProxyError:
    """Read the PROXY header at the start of what a connection has sent so far."""
    start = bytes(received[: len(SIGNATURE_V2)])
    if start == SIGNATURE_V2:
        return _read_v2(bytes(received[:LONGEST_V2]))
    if start.startswith(b"PROXY "):
        return _read_v1(bytes(received[:LONGEST_V1]))
    if SIGNATURE_V2.startswith(start):
        return NeedMore(len(SIGNATURE_V2) - len(start))
    if b"PROXY ".startswith(start):
        return NeedMore(len(b"PROXY ") - len(start))
    return ProxyError("the connection does not start with a PROXY header")


def _read_v1(received: bytes) -> ProxyHeader | NeedMore | ProxyError:
    line, end, _ = received.partition(b"\r\n")
    if not end:
        if len(received) >= LONGEST_V1:
            return ProxyError(f"a PROXY line of more than {LONGEST_V1} bytes")
        return NeedMore(1 if received.endswith(b"\r") else 2)
    length = len(line) + len(end)
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        # The specification says to ignore the rest of the line.
        return ProxyHeader(None, None, length, 1)
    version = {"TCP4": 4, "TCP6": 6}.get(words[1])
    if version is None or len(words) != 6:
        return ProxyError(f"{line!r} is not a PROXY line")
    source = _address_v1(version, words[2], words[4])
    destination = _address_v1(version, words[3], words[5])
    if source is None or destination is None:
        return ProxyError(f"{line!r} has an invalid address or port")
    return ProxyHeader(source, destination, length, 1)


def _address_v1(version: int, ip: str, port: str) -> Address | None:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    # The specification has neither zones nor leading zeros nor signs.
    if address.version != version or "%" in ip or not re.fullmatch(r"0|[1-9][0-9]{0,4}", port):
        return None
    return Address(str(unmapped(address)), int(port)) if int(port) <= 0xFFFF else None


def _read_v2(received: bytes) -> ProxyHeader | NeedMore | ProxyError:
    if len(received) < _HEAD_V2:
        return NeedMore(_HEAD_V2 - len(received))
    version, command = received[12] >> 4, received[12] & 0xF
    family, transport = received[13] >> 4, received[13] & 0xF
    length = _HEAD_V2 + int.from_bytes(received[14:16], "big")
    if version != 2 or command > 1:
        return ProxyError(f"a PROXY header of version {version} with command {command}")
    if command and (family > 3 or transport > 2):
        # The specification has such a header rejected, not ignored.
        return ProxyError(f"a PROXY header of family {family} with transport {transport}")
    if length > LONGEST_V2:
        return ProxyError(f"a PROXY header of {length} bytes, more than {LONGEST_V2}")
    if len(received) < length:
        return NeedMore(length - len(received))
    body = received[_HEAD_V2:length]
    size = {1: 4, 2: 16}.get(family)
    if command == 0 or size is None:
        # LOCAL; or an address that is neither IPv4 nor IPv6: nothing in it is of use here.
        return ProxyHeader(None, None, length, 2)
    if len(body) < 2 * size + 4:
        return ProxyError(f"a PROXY header with {len(body)} bytes of addresses")
    tlvs = _tlvs(body[2 * size + 4 :])
    if tlvs is None:
        return ProxyError("a PROXY header whose further fields do not fit its length")
    for kind, value in tlvs:
        if kind == _CRC32C and not _sum_is_right(received[:length], value):
            return ProxyError("a PROXY header whose checksum is wrong")
    ports = body[2 * size : 2 * size + 4]
    return ProxyHeader(
        Address(str(_packed(body[:size])), int.from_bytes(ports[:2], "big")),
        Address(str(_packed(body[size : 2 * size])), int.from_bytes(ports[2:], "big")),
        length,
        2,
        tlvs,
    )


def _tlvs(data: bytes) -> tuple[tuple[int, bytes], ...] | None:
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + 3 > len(data):
            return None
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if end > len(data):
            return None
        found.append((data[at], data[at + 3 : end]))
        at = end
    return tuple(found)


def _sum_is_right(header: bytes, value: bytes) -> bool:
    """Whether the CRC32c over the header, with the sum itself as zeros, is the one it carries."""
    if len(value) != 4:
        return False
    # The field's value is found by its whole TLV: type, length 4, and the sum.
    at = header.find(bytes((_CRC32C, 0, 4)) + value, _HEAD_V2)
    crc = 0xFFFFFFFF
    for byte in header[: at + 3] + bytes(4) + header[at + 7 :]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "big") == value


# Forwarding headers.


def real_peer(header: str, lines: Sequence[str], trusted: Networks) -> Address | None:
    """Find the nearest address that is not a trusted proxy in a forwarding header.

    Each proxy appends the address that it got the request from. Addresses are therefore read from
    the right, past trusted ones; entries left of the first untrusted address can be forged. Empty
    elements of the list do not count (RFC 9110 section 5.6.1).

    Args:
        header: its name, ``forwarded`` or another, which holds a list of addresses.
        lines: its values in order, one for each time that it occurs.
        trusted: the trusted proxies.

    Returns:
        the address, with port 0 if there is none; the leftmost one if all are trusted; None if
        the first element from the right is not an address.
    """
    text = ",".join(lines)
    hops: Iterator[str | None]
    hops = _forwarded_hops(text) if header.lower() == "forwarded" else reversed(text.split(","))
    found: Address | None = None
    for hop in islice(hops, LONGEST_CHAIN):
        if hop is None or not hop.strip(" \t"):
            continue
        address = parse_node(hop)
        if address is None:
            # "unknown" and obfuscated names hide the client. The proxy that wrote this is then the
            # last known address.
            break
        found = address
        if address.ip not in trusted:
            break
    return found


_NODE: Final = re.compile(
    r"\[(?P<six>[0-9A-Fa-f:.]+)\](?::(?P<port6>[0-9]{1,5}))?"
    r"|(?P<four>[0-9.]+)(?::(?P<port4>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)"
)


def parse_node(text: str) -> Address | None:
    """Read an address of a forwarding header: quoted or not, with or without a port.

    Returns:
        the address, with port 0 if the port is missing or obfuscated; None for ``unknown``, an
        obfuscated name (RFC 7239 section 6.3) or any other text.
    """
    text = text.strip(" \t")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    # An obfuscated port (RFC 7239 section 6.3) does not make the address before it invalid.
    text = re.sub(r":_[A-Za-z0-9._-]+$", "", text)
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    address = _ip(match["six"] or match["four"] or match["bare"])
    port = int(match["port6"] or match["port4"] or 0)
    if address is None or port > 0xFFFF or (match["six"] and address.version != 6):
        return None
    return Address(str(address), port)


_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = rf"({_WORD})=({_WORD}|\"(?:[^\"\\]|\\.)*\")"
_PAIRS: Final = re.compile(_PAIR)
# Possessive: blanks between semicolons could otherwise match in 2^n ways.
_ELEMENT: Final = re.compile(rf"[ \t]*+(?:{_PAIR})?+(?:[ \t]*+;[ \t]*+(?:{_PAIR})?+)*+[ \t]*+")


_NAMELESS: Final = "unknown"
"""The node of an element without ``for`` (RFC 7239 section 6.2)."""


def _forwarded_hops(text: str) -> Iterator[str | None]:
    """Yield the ``for`` of each element of a ``Forwarded`` header from the right; None if empty.

    An element begins at the nearest comma after which it follows the grammar. A quote that a client
    left open therefore cannot hide the elements that proxies append.
    """
    tail: str | None = None
    for part in reversed(text.rsplit(",", 2 * LONGEST_CHAIN)):
        tail = part if tail is None else f"{part},{tail}"
        if _ELEMENT.fullmatch(tail):
            pairs = {name.lower(): node for name, node in _PAIRS.findall(tail)}
            yield pairs.get("for") or _NAMELESS if tail.strip(" \t") else None
            tail = None


def _packed(data: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return unmapped(ipaddress.ip_address(data))


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return unmapped(ipaddress.ip_address(text))
    except ValueError:
        return None
