"""A HEP packet as a value, whatever its version."""

from dataclasses import dataclass
from typing import Final, TypeVar, dataclass_transform

from hep.codec.chunks import Chunk, ProtocolType

T = TypeVar("T")

INET: Final = 2
"""Address family of IPv4 (chunk 0x0001)."""

INET6: Final = 10
"""Address family of IPv6: Linux' number, on every system."""


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make a slotted dataclass that is immutable to the type checker, at the price of none.

    ``frozen=True`` would enforce it at run time too, for several times the cost of a packet.
    """
    return dataclass(slots=True)(cls)


@value
class Packet:
    """One packet; `hep.encode` and `hep.decode` are its two directions.

    Build one by keyword. To change one, use `dataclasses.replace`.
    """

    src_ip: str | None = None
    """Source address as text; None where a received packet has none."""

    dst_ip: str | None = None
    src_port: int = 0
    dst_port: int = 0
    payload: bytes = b""

    protocol_type: int = ProtocolType.SIP
    """What the payload is; see `hep.ProtocolType`."""

    ip_protocol: int = 6
    """6 TCP, 17 UDP; OpenSIPS sends 50 for WebSocket."""

    seconds: int | None = None
    """When it was captured, in whole seconds since the epoch; None where it does not say."""

    microseconds: int | None = None
    """The rest of that time, 0 to 999999."""

    capture_id: int = 0
    """Capture agent id, 0 to 2³²-1 (version 2: 2¹⁶-1)."""

    correlation_id: bytes | None = None
    """What belongs together in Homer, such as a Call-ID (version 3 only)."""

    auth_key: bytes | None = None
    """Authenticate key (version 3 only)."""

    ip_family: int = 0
    """2 or 10; 0 stands for that of ``src_ip``."""

    version: int = 3
    """1, 2 or 3."""

    compressed: bytes | None = None
    """The payload as chunk 0x0010 has it, which then stands in place of 0x000f (version 3 only).

    What no longer inflates to ``payload`` is written anew; see `hep.compress`."""

    extra: tuple[Chunk, ...] = ()
    """Chunks without an attribute of their own (version 3 only)."""

    layout: tuple[tuple[int, int], ...] = ()
    """The chunks in the order of the wire, each as vendor and type (version 3 only).

    A decoded packet has it, so that it encodes to the same bytes again. Without it, chunks are
    written in OpenSIPS' order."""

    magic: bytes = b"HEP3"
    """How a version 3 packet starts: ``HEP3``, or ``EEP1`` from older senders."""

    @property
    def timestamp(self) -> float | None:
        """When it was captured, in seconds since the epoch."""
        if self.seconds is None:
            return None
        return self.seconds + (self.microseconds or 0) / 1_000_000

    @property
    def family(self) -> int:
        """The address family: as stated, or else that of ``src_ip``."""
        if self.ip_family:
            return self.ip_family
        return INET6 if self.src_ip is not None and ":" in self.src_ip else INET
