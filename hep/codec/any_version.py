"""Encoding and decoding of packets of HEP versions 1, 2 and 3. Pure."""

from hep.codec import v1v2, v3
from hep.codec.packet import Packet
from hep.errors import HepEncodeError


def decode(data: bytes) -> Packet:
    """Decode a packet of version 1, 2 or 3.

    The first four bytes show the version: ``HEP3`` or ``EEP1`` starts a version 3 packet.

    Args:
        data: one packet, such as a datagram. Bytes after a version 3 packet are ignored.

    Returns:
        the packet. `encode` writes the same bytes again if it has version 3. Of versions 1 and 2 it
        does not keep a wrong header length, big-endian times and appended zero bytes.

    Raises:
        HepDecodeError: the bytes are no complete HEP packet. No other exception is raised.
    """
    return v3.decode(data) if data[:4] in v3.MAGICS else v1v2.decode(data)


def encode(packet: Packet) -> bytes:
    """Encode a packet in the version that ``packet.version`` names.

    Returns:
        the bytes of the packet. The payload is never truncated.

    Raises:
        HepEncodeError: the version is unknown, a value does not fit its field, or the packet is
            longer than 65535 bytes.
    """
    if packet.version == 3:
        return v3.encode(packet)
    if packet.version in (1, 2):
        return v1v2.encode(packet)
    raise HepEncodeError(f"version = {packet.version!r}: HEP has versions 1, 2 and 3")
