"""How heplify-server reads the bytes of a packet. Pure.

It differs from `hep.codec` in three points: it reads a chunk by its type, whatever the vendor; it
checks the size of few chunks; it reads version 2 big-endian, and two bytes of the capture id as
the correlation id.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

from hep.codec.chunks import GENERIC, GENERIC_VENDOR
from hep.homer.reasons import Reason, shown

LONGEST: Final = 65_507
"""Bytes of the longest packet that heplify-server reads."""

_HEADER: Final = 6
_CHUNK: Final = Struct("!HHH")
_V1_HEADER: Final = 8
_INET6: Final = 10

FAMILY, IP_PROTOCOL, SECONDS, MICROSECONDS, PROTOCOL_TYPE = 0x01, 0x02, 0x09, 0x0A, 0x0B
CAPTURE_ID, AUTH_KEY, PAYLOAD, CORRELATION_ID, NODE_NAME = 0x0C, 0x0E, 0x0F, 0x11, 0x13
SRC_IP, DST_IP, SRC_IP6, DST_IP6, SRC_PORT, DST_PORT, VLAN = (
    0x03,
    0x04,
    0x05,
    0x06,
    0x07,
    0x08,
    0x12,
)

_SIZES: Final = {
    **dict.fromkeys((FAMILY, IP_PROTOCOL, PROTOCOL_TYPE), 1),
    **dict.fromkeys((SRC_PORT, DST_PORT, VLAN), 2),
    **dict.fromkeys((SRC_IP, DST_IP, SECONDS, MICROSECONDS, CAPTURE_ID), 4),
    **dict.fromkeys((SRC_IP6, DST_IP6), 16),
}
"""Bytes of each chunk whose size is checked. Others that are too short are stored as they are."""

_READ: Final = frozenset({*_SIZES, AUTH_KEY, PAYLOAD, CORRELATION_ID, NODE_NAME})
"""The chunk types that heplify-server reads; it ignores all others."""


@dataclass(slots=True)
class Decoded:
    """The values that heplify-server reads from a packet."""

    version: int
    """HEP version: 1, 2 or 3."""
    family: int = 0
    """Address family (chunk 0x0001); the version of HEP for versions 1 and 2."""
    ip_protocol: int = 0
    """IP protocol (chunk 0x0002)."""
    src_ip: str = ""
    """Source address as text; empty if there is none."""
    dst_ip: str = ""
    """Destination address as text; empty if there is none."""
    src_port: int = 0
    """Source port."""
    dst_port: int = 0
    """Destination port."""
    seconds: int = 0
    """Time in seconds since the epoch; 0 if there is none."""
    microseconds: int = 0
    """Microseconds of the time."""
    protocol_type: int = 0
    """Protocol of the payload (chunk 0x000b); 0 if there is none."""
    capture_id: int = 0
    """Capture agent id; 0 for versions 1 and 2."""
    auth_key: bytes = b""
    """Authenticate key."""
    payload: bytes = b""
    """Payload as sent."""
    correlation_id: bytes = b""
    """Correlation id."""
    node_name: bytes = b""
    """Capture agent name."""
    vendors: dict[int, int] = field(default_factory=dict)
    """Chunk types that were read from a vendor's chunk, with the vendor."""
    repeated: set[int] = field(default_factory=set)
    """Chunk types that came more than once; the last one counts."""
    types: set[int] = field(default_factory=set)
    """All chunk types of the packet."""


def decode(data: bytes, transport: str) -> Decoded | Reason:
    """Read a packet as heplify-server does.

    Args:
        data: a datagram, or the bytes of one packet of a stream.
        transport: ``udp``, ``tcp`` or ``tls``.

    Returns:
        its values, or why it is not read.
    """
    if len(data) > LONGEST:
        return _too_long(data, transport)
    if data[:4] == b"HEP3":
        return _version_3(data)
    if data[:1] in (b"\x01", b"\x02"):
        return _version_1_or_2(data, transport)
    if data[:4] == b"EEP1":
        what = "a packet that starts with EEP1 is not read; heplify-server reads HEP3 only"
        return Reason("eep1", what, "send HEP3")
    what = f"this is not a HEP packet: it starts with {shown(data, 8)}"
    return Reason("not-hep", what, "correct the sender: no collector can read this")


def packets_of(data: bytes, transport: str) -> list[bytes]:
    """Split bytes that were sent together as heplify-server does.

    A datagram is one packet. A stream is cut by the lengths that its packets state; what follows
    a length that heplify-server refuses, or that is not complete, is returned in one piece.

    Args:
        data: a datagram, or the bytes of a stream from the start of a packet.
        transport: ``udp``, ``tcp`` or ``tls``.
    """
    if transport == "udp":
        return [data]
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + _HEADER])
        end = at + size if _HEADER <= size <= LONGEST else len(data)
        found.append(data[at:end])
        at = end
    return found


def _too_long(data: bytes, transport: str) -> Reason:
    consequence = "no datagram carries it" if transport == "udp" else "the connection is closed"
    what = f"a packet of {len(data)} bytes exceeds {LONGEST}: {consequence}"
    return Reason("too-long", what, "truncate the payload in the sender")


def _version_3(data: bytes) -> Decoded | Reason:
    stated = int.from_bytes(data[4:_HEADER])
    if stated < len(data):
        return Reason(
            "bytes-behind",
            f"the datagram has {len(data)} bytes, but the packet in it has {stated}",
            "send one packet per datagram, with the correct total length",
        )
    if stated > len(data):
        return Reason(
            "packet-cut",
            f"the packet states {stated} bytes, but has {len(data)}",
            "send the whole packet, with the correct total length",
        )
    found = Decoded(3)
    at = _HEADER
    while at < stated:
        if at + _CHUNK.size > stated:
            return _bad_chunk(at, f"{stated - at} bytes are too few for a chunk")
        vendor, kind, length = _CHUNK.unpack_from(data, at)
        if length < _CHUNK.size or at + length > stated:
            return _bad_chunk(at, f"chunk 0x{kind:04x} states a length of {length}")
        value = data[at + _CHUNK.size : at + length]
        if len(value) != _SIZES.get(kind, len(value)):
            return _wrong_size(vendor, kind, len(value))
        if kind in _READ:
            _read_chunk(found, vendor, kind, value)
        found.types.add(kind)
        at += length
    return found


def _bad_chunk(at: int, what: str) -> Reason:
    return Reason(
        "chunk-cut", f"at byte {at}: {what}", "correct the lengths of the chunks in the sender"
    )


def _wrong_size(vendor: int, kind: int, size: int) -> Reason:
    whose = f" of vendor {vendor}" if vendor != GENERIC_VENDOR else ""
    remedy = f"send {_SIZES[kind]} bytes"
    if vendor != GENERIC_VENDOR:
        remedy = "use chunk types from 0x0100 for vendor chunks"
    return Reason(
        "chunk-size",
        f"chunk 0x{kind:04x}{whose} ({GENERIC[kind].name}) has {size} bytes, not {_SIZES[kind]}",
        remedy,
    )


_NUMBERS: Final = {
    FAMILY: "family",
    IP_PROTOCOL: "ip_protocol",
    SRC_PORT: "src_port",
    DST_PORT: "dst_port",
    SECONDS: "seconds",
    MICROSECONDS: "microseconds",
    PROTOCOL_TYPE: "protocol_type",
    CAPTURE_ID: "capture_id",
}
_ADDRESSES: Final = {SRC_IP: "src_ip", SRC_IP6: "src_ip", DST_IP: "dst_ip", DST_IP6: "dst_ip"}
_BYTES: Final = {
    AUTH_KEY: "auth_key",
    PAYLOAD: "payload",
    CORRELATION_ID: "correlation_id",
    NODE_NAME: "node_name",
}


def _read_chunk(found: Decoded, vendor: int, kind: int, value: bytes) -> None:
    if kind in found.types:
        found.repeated.add(kind)
    if vendor != GENERIC_VENDOR:
        found.vendors[kind] = vendor
    else:
        found.vendors.pop(kind, None)
    if kind in _NUMBERS:
        setattr(found, _NUMBERS[kind], int.from_bytes(value))
    elif kind in _ADDRESSES:
        setattr(found, _ADDRESSES[kind], _address(value))
    elif kind in _BYTES:
        setattr(found, _BYTES[kind], value)


def _address(value: bytes) -> str:
    if len(value) == 4:
        return str(IPv4Address(value))
    address = IPv6Address(value)
    return str(address.ipv4_mapped or address)


def _version_1_or_2(data: bytes, transport: str) -> Decoded | Reason:
    version = data[0]
    if transport != "udp":
        return Reason(
            "v1v2-stream",
            f"version {version} over {transport.upper()}: its bytes 5 and 6, the source port, are"
            " read as a length",
            "send version 3, or use UDP",
        )
    wide = data[2:3] == bytes([_INET6])
    start = _V1_HEADER + (32 if wide else 8)
    end = start + (10 if version == 2 else 0)
    if len(data) < max(end, _V1_HEADER):
        return Reason(
            "packet-cut",
            f"the header of version {version} has {end} bytes, but the datagram has {len(data)}",
            "send the whole packet",
        )
    size = 16 if wide else 4
    found = Decoded(
        version,
        family=version,
        ip_protocol=data[3],
        src_ip=_address(data[8 : 8 + size]),
        dst_ip=_address(data[8 + size : start]),
        src_port=int.from_bytes(data[4:6]),
        dst_port=int.from_bytes(data[6:8]),
        protocol_type=1,
        payload=data[end:],
    )
    if version == 2:
        found.seconds = int.from_bytes(data[start : start + 4])
        found.microseconds = int.from_bytes(data[start + 4 : start + 8])
        found.correlation_id = data[start + 8 : start + 10]
    return found
