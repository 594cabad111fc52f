"""Packets to bytes and back, whatever the version. Pure."""

from hep.codec import v1v2, v3
from hep.codec.packet import Packet
from hep.errors import HepEncodeError


def decode(data: bytes) -> Packet:
    """Read a packet of version 1, 2 or 3; which one shows in its first bytes.

    Raises:
        HepDecodeError: it is none; nothing else is ever raised.
    """
    return v3.decode(data) if data[:4] in v3.MAGICS else v1v2.decode(data)


def encode(packet: Packet) -> bytes:
    """Write a packet in its version.

    Raises:
        HepEncodeError: a value does not fit, or the packet is too long; it is never cut.
    """
    if packet.version == 3:
        return v3.encode(packet)
    if packet.version in (1, 2):
        return v1v2.encode(packet)
    raise HepEncodeError(f"version = {packet.version!r}: HEP has versions 1, 2 and 3")
