"""From an event's payload to HEP packets: which chunks the packets of a connection carry. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final

import hep
from hep.codec.correlation import LONGEST_ID
from hep.sending.fitting import LONGEST
from sipws.address import Address
from sipws.events import Connection, Side

IP_PROTOCOL_TCP: Final = 6
"""What Homer shows as TCP; OpenSIPS' 50 is shown as UDP there (see docs/decisions.md)."""

SIP: Final = 0x01
"""HEP protocol type of SIP messages."""

NETWORK: Final = 0x59
"""HEP protocol type of network events, an addition of OpenSIPS."""

LOG: Final = 0x64
"""HEP protocol type of log lines, which Homer 7 shows in the call whose Call-ID they have."""


@dataclass(frozen=True, slots=True)
class PacketSettings:
    """What all packets to a destination have in common."""

    version: int = 3
    """HEP version: 1, 2 or 3."""

    capture_id: int = 1
    ip_protocol: int = IP_PROTOCOL_TCP
    auth_key: bytes | None = None

    def room(self) -> int:
        """Bytes that a payload may have: any payload of so many fits a packet and a datagram.

        Raises:
            HepEncodeError: a value does not fit its chunk.
        """
        empty = _encoder(Address("::", 0), Address("::", 0), SIP, self)
        return LONGEST - len(empty(0, 0, b"", bytes(LONGEST_ID)))


def report(settings: PacketSettings, destination: Address, time: float, payload: bytes) -> bytes:
    """A packet about the trace itself, from this capture agent to a collector."""
    nowhere = Address("::" if ":" in destination.ip else "0.0.0.0", 0)
    encode = _encoder(nowhere, destination, NETWORK, settings)
    correlation_id = f"sipws-{settings.capture_id}".encode()
    return encode(*divmod(round(time * 1_000_000), 1_000_000), payload, correlation_id)


class ConnectionPackets:
    """The packets of one connection.

    Their timestamps increase strictly: displays sort by them, and what happened within one
    microsecond, or before a clock was set back, would change places. So after a step back they go
    on in steps of a microsecond until the clock has caught up.
    """

    __slots__ = (
        "_connection", "_correlation_id", "_events", "_incoming", "_last", "_outgoing", "_settings",
        "broken", "calls", "latest_call",
    )  # fmt: skip

    def __init__(self, connection: Connection, settings: PacketSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._correlation_id = str(connection.id).encode()
        self._events: _Encode | None = None
        self._incoming: _Encode | None = None
        self._outgoing: _Encode | None = None
        self._last = 0
        self.calls: dict[bytes, None] = {}
        """The Call-IDs that used the connection last, the latest at the end."""
        self.latest_call: bytes | None = None
        self.broken = 0
        """Messages that collectors lose."""

    def network_event(self, time: float, payload: bytes, correlation_id: bytes | None) -> bytes:
        """A packet about the connection; found by the connection's id unless told."""
        encode = self._events
        if encode is None:
            encode = self._events = self._event_encoder(NETWORK)
        return encode(*self._tick(time), payload, correlation_id or self._correlation_id)

    def log_line(self, time: float, payload: bytes, correlation_id: bytes) -> bytes:
        """A packet with a line about the connection for a call that used it."""
        return self._event_encoder(LOG)(*self._tick(time), payload, correlation_id)

    def message(
        self, incoming: bool, time: float, payload: bytes, correlation_id: bytes | None
    ) -> bytes:
        """A packet with a SIP message, from the peer or to it."""
        encode = self._incoming if incoming else self._outgoing
        if encode is None:
            encode = self._prepare(incoming)
        # As `_tick` says; to call it costs as much again, and round three times as much as int.
        now = int(time * 1_000_000 + 0.5)
        if now <= self._last:
            now = self._last + 1
        self._last = now
        # divmod costs twice as much.
        seconds = now // 1_000_000
        return encode(seconds, now - seconds * 1_000_000, payload, correlation_id)

    def _prepare(self, incoming: bool) -> "_Encode":
        source, destination = self._connection.peer, self._connection.local
        if incoming:
            self._incoming = _encoder(source, destination, SIP, self._settings)
            return self._incoming
        self._outgoing = _encoder(destination, source, SIP, self._settings)
        return self._outgoing

    def _event_encoder(self, protocol_type: int) -> "_Encode":
        connection = self._connection
        source, destination = connection.peer, connection.local
        if connection.opened_by is Side.LOCAL:
            # Source of a network event is who connected. OpenSIPS puts the peer there even when it
            # was OpenSIPS that connected, which draws the arrow the wrong way round in Homer.
            source, destination = destination, source
        return _encoder(source, destination, protocol_type, self._settings)

    def _tick(self, time: float) -> tuple[int, int]:
        """A time in seconds and microseconds since the epoch, later than the one before."""
        now = int(time * 1_000_000 + 0.5)
        if now <= self._last:
            now = self._last + 1
        self._last = now
        return divmod(now, 1_000_000)


_Encode = Callable[[int, int, bytes, bytes | None], bytes]
"""Makes a packet of seconds, microseconds, a payload and a correlation id."""


def _encoder(
    source: Address, destination: Address, protocol_type: int, settings: PacketSettings
) -> _Encode:
    """What writes the packets between two addresses."""
    if settings.version != 3:
        # Versions 1 and 2 are for collectors of another age: no flow of them is worth preparing.
        return partial(_encode, _flow(source, destination, protocol_type, settings))
    families = ":" in source.ip, ":" in destination.ip
    prepared = _prepared(families, protocol_type, settings)
    return prepared.between(*source, *destination).encode


@lru_cache
def _prepared(
    families: tuple[bool, bool], protocol_type: int, settings: PacketSettings
) -> hep.PreparedEncoder:
    """What the packets of all connections have in common."""
    source, destination = (Address("::" if is_6 else "0.0.0.0", 0) for is_6 in families)
    return hep.PreparedEncoder(_flow(source, destination, protocol_type, settings))


def _flow(
    source: Address, destination: Address, protocol_type: int, settings: PacketSettings
) -> hep.Packet:
    return hep.Packet(
        version=settings.version,
        src_ip=source.ip,
        src_port=source.port,
        dst_ip=destination.ip,
        dst_port=destination.port,
        ip_protocol=settings.ip_protocol,
        protocol_type=protocol_type,
        capture_id=settings.capture_id,
        auth_key=settings.auth_key,
    )


def _encode(
    flow: hep.Packet, seconds: int, microseconds: int, payload: bytes, correlation_id: bytes | None
) -> bytes:
    return hep.encode(
        replace(
            flow,
            seconds=seconds,
            microseconds=microseconds,
            payload=payload,
            correlation_id=correlation_id,
        )
    )
