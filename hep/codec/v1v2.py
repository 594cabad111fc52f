"""HEP versions 1 and 2: a fixed header, then the payload. Pure.

Version 2 adds the time and a 16-bit capture id in the byte order of the sender's machine. No field
states that byte order. The decoder takes the byte order in which the time is plausible. If both or
neither are plausible, it takes little-endian, because nearly every sender is an x86.

OpenSIPS counts its address union twice and appends that many zero bytes (8 for IPv4, 32 for IPv6).
They are not part of the payload: these versions carry SIP only, which does not end in zero bytes.
"""

import struct
from ipaddress import ip_address
from typing import Final, NamedTuple

from hep.codec.chunks import IPV4, IPV6
from hep.codec.packet import INET, INET6, Packet
from hep.errors import HepDecodeError, HepEncodeError

HEADER: Final = struct.Struct("!BBBBHH")
_TIME_LITTLE: Final = struct.Struct("<IIHxx")
_TIME_BIG: Final = struct.Struct(">IIHxx")
_PADDING: Final = 2
_ADDRESS_SIZE: Final = {INET: 4, INET6: 16}

_EARLIEST: Final = 1_000_000_000
"""Earliest plausible time in seconds since the epoch (2001): no HEP packet is older."""
_LATEST: Final = 4_000_000_000
"""Latest plausible time in seconds since the epoch (2096)."""


class _Time(NamedTuple):
    seconds: int
    microseconds: int
    capture_id: int

    @property
    def plausible(self) -> bool:
        return _EARLIEST <= self.seconds <= _LATEST and self.microseconds < 1_000_000


def decode(data: bytes) -> Packet:
    """Decode a packet of version 1 or 2.

    The decoder ignores the header length field. Most senders write 16 or 40, FreeSWITCH includes
    the time, and sngrep writes a meaningless value. The address family determines the length.

    Returns:
        the packet, without the zero bytes that OpenSIPS appends.

    Raises:
        HepDecodeError: the bytes are no complete version 1 or 2 packet.
    """
    if len(data) < HEADER.size:
        raise HepDecodeError(f"{len(data)} bytes are too few for a header", 0)
    version, _, family, ip_protocol, src_port, dst_port = HEADER.unpack_from(data)
    if version not in (1, 2):
        raise HepDecodeError(f"no HEP: it starts with 0x{version:02x}", 0)
    size = _ADDRESS_SIZE.get(family)
    if size is None:
        raise HepDecodeError(f"unknown address family {family}", 2)
    offset = HEADER.size + 2 * size
    end = offset + (_TIME_LITTLE.size if version == 2 else 0)
    if len(data) < end:
        raise HepDecodeError(f"{len(data)} bytes, and the headers have {end}", len(data))
    time = None
    if version == 2:
        time, end = _read_time(data, offset)
    # The same text as version 3 has for it.
    address = (IPV4 if family == INET else IPV6).unpack
    surplus = bytes(2 * size)
    payload_end = len(data) - len(surplus) if data.endswith(surplus, end) else len(data)
    return Packet(
        version=version,
        ip_family=family,
        ip_protocol=ip_protocol,
        src_ip=address(data[HEADER.size : HEADER.size + size]),
        dst_ip=address(data[HEADER.size + size : offset]),
        src_port=src_port,
        dst_port=dst_port,
        seconds=time.seconds if time else None,
        microseconds=time.microseconds if time else None,
        capture_id=time.capture_id if time else 0,
        payload=data[end:payload_end],
    )


def _read_time(data: bytes, offset: int) -> tuple[_Time, int]:
    """Decode the time; returns it and the offset of the payload after it."""
    little = _Time(*_TIME_LITTLE.unpack_from(data, offset))
    big = _Time(*_TIME_BIG.unpack_from(data, offset))
    end = offset + _TIME_LITTLE.size
    if little.plausible or not big.plausible:
        return little, end
    # A C compiler adds padding. Senders that write network byte order may omit it.
    padded = data[end - _PADDING : end] == bytes(_PADDING)
    return big, end if padded else end - _PADDING


def encode(packet: Packet) -> bytes:
    """Encode a packet of version 1 or 2.

    The time of version 2 is little-endian, as Kamailio writes it on every machine.

    Returns:
        the bytes of the packet. Attributes that only version 3 has are not written.

    Raises:
        HepEncodeError: a value does not fit its field, or an address is missing or invalid.
    """
    try:
        source = ip_address(packet.src_ip or "").packed
        destination = ip_address(packet.dst_ip or "").packed
        if len(source) != len(destination):
            raise ValueError("source and destination are of different address families")
        parts = [
            HEADER.pack(
                packet.version,
                HEADER.size + 2 * len(source),
                INET if len(source) == _ADDRESS_SIZE[INET] else INET6,
                packet.ip_protocol,
                packet.src_port,
                packet.dst_port,
            ),
            source,
            destination,
        ]
        if packet.version == 2:
            time = packet.seconds or 0, packet.microseconds or 0
            parts.append(_TIME_LITTLE.pack(*time, packet.capture_id))
    except (ValueError, struct.error) as exc:
        raise HepEncodeError(f"HEP version {packet.version}: {exc}") from exc
    parts.append(packet.payload)
    surplus = bytes(2 * len(source))
    if packet.payload.endswith(surplus):
        # A decoder takes these zero bytes for those that OpenSIPS appends, and removes them.
        parts.append(surplus)
    return b"".join(parts)
