"""A HEP packet as a value, for all versions."""

from dataclasses import dataclass
from typing import Final, TypeVar, dataclass_transform

from hep.codec.chunks import Chunk, ProtocolType

T = TypeVar("T")

LONGEST_DATAGRAM: Final = 65_507
"""Payload bytes of the longest UDP datagram over IPv4; over IPv6 there is room for 20 more."""

INET: Final = 2
"""Address family of IPv4 (chunk 0x0001)."""

INET6: Final = 10
"""Address family of IPv6. HEP uses the number of Linux on every system."""


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make a slotted dataclass that only the type checker treats as immutable.

    ``frozen=True`` also checks at run time. That multiplies the cost of creating a packet.
    """
    return dataclass(slots=True)(cls)


@value
class Packet:
    """A HEP packet; `hep.encode` writes it and `hep.decode` reads it.

    Create it with keyword arguments. To change a packet, use `dataclasses.replace`. A received
    packet keeps the order of its chunks: a changed attribute is written in its place, an attribute
    that becomes None is left out, and one that the packet did not have is added in the order of
    OpenSIPS.
    """

    src_ip: str | None = None
    """Source address as text (chunk 0x0003 or 0x0005); None if a received packet has none."""

    dst_ip: str | None = None
    """Destination address as text (chunk 0x0004 or 0x0006); None if a received packet has none."""

    src_port: int = 0
    """Source port, 0 to 65535 (chunk 0x0007)."""

    dst_port: int = 0
    """Destination port, 0 to 65535 (chunk 0x0008)."""

    payload: bytes = b""
    """The captured message (chunk 0x000f), inflated if it was compressed."""

    protocol_type: int = ProtocolType.SIP
    """Protocol of the payload, 0 to 255 (chunk 0x000b); see `hep.ProtocolType`."""

    ip_protocol: int = 6
    """IP protocol number, 0 to 255 (chunk 0x0002): 6 TCP, 17 UDP. OpenSIPS sends 50 for
    WebSocket."""

    seconds: int | None = None
    """Capture time in whole seconds since the epoch (chunk 0x0009); None if the packet has none."""

    microseconds: int | None = None
    """Microseconds of the capture time, 0 to 999999 (chunk 0x000a)."""

    capture_id: int = 0
    """Capture agent id (chunk 0x000c), 0 to 2³²-1 (version 2: 0 to 2¹⁶-1)."""

    correlation_id: bytes | None = None
    """Correlation id, such as a Call-ID (chunk 0x0011, version 3 only). Homer shows packets with
    the same one together."""

    auth_key: bytes | None = None
    """Authenticate key (chunk 0x000e, version 3 only)."""

    ip_family: int = 0
    """Address family (chunk 0x0001, version 3 only): 2 for IPv4, 10 for IPv6, 0 for that of the
    addresses.

    `hep.encode` writes the family of the addresses if neither has this one. A received packet of
    version 3 keeps the family that it states, even a wrong one, until an address is replaced by one
    of the other family.
    """

    version: int = 3
    """HEP version: 1, 2 or 3."""

    compressed: bytes | None = None
    """The compressed payload (chunk 0x0010), which replaces chunk 0x000f (version 3 only).

    If it does not inflate to ``payload``, `hep.encode` compresses ``payload`` again. See
    `hep.compress`."""

    extra: tuple[Chunk, ...] = ()
    """Chunks that have no attribute here, that come a second time, or whose value has a size that
    its type does not have, such as a capture id of 2 bytes (version 3 only)."""

    layout: tuple[tuple[int, int], ...] = ()
    """Vendor and type of each chunk in the order of the wire (version 3 only).

    `hep.decode` sets it, so that the packet encodes to the same bytes again. It is an order, not a
    selection: `hep.encode` adds attributes that it does not name, and leaves out those that are
    None. If it is empty, `hep.encode` writes the chunks in the order of OpenSIPS."""

    magic: bytes = b"HEP3"
    """First four bytes of a version 3 packet: ``HEP3``, or ``EEP1`` from older senders."""

    node_name: bytes | None = None
    """Name of the capture agent (chunk 0x0013, version 3 only)."""

    @property
    def timestamp(self) -> float | None:
        """Capture time in seconds since the epoch; None if the packet has none."""
        if self.seconds is None:
            return None
        return self.seconds + (self.microseconds or 0) / 1_000_000

    @property
    def family(self) -> int:
        """Address family: ``ip_family``, or the family of the source address if that is 0.

        Without a source address it is the family of the destination, without both IPv4.
        """
        return self.ip_family or family_of(self.src_ip if self.src_ip is not None else self.dst_ip)


def family_of(ip: str | None) -> int:
    """Address family of an address as text; that of IPv4 without one."""
    return INET6 if ip is not None and ":" in ip else INET
