"""From an event's payload to HEP packets: which chunks the packets of a connection carry. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import hep
from sipws.address import Address
from sipws.events import Connection, Side
from sipws.sip import call_id

IP_PROTOCOL_TCP: Final = 6
"""What Homer shows as TCP; OpenSIPS' 50 is shown as UDP there (see docs/decisions.md)."""

SIP: Final = 0x01
"""HEP protocol type of SIP messages."""

NETWORK: Final = 0x59
"""HEP protocol type of network events, an addition of OpenSIPS."""


@dataclass(frozen=True, slots=True)
class PacketSettings:
    """What all packets to a destination have in common."""

    version: int = 3
    """HEP version: 1, 2 or 3."""

    capture_id: int = 1
    ip_protocol: int = IP_PROTOCOL_TCP
    auth_key: bytes | None = None


class ConnectionPackets:
    """The packets of one connection, with all that is the same in them worked out beforehand."""

    __slots__ = ("_correlation_id", "_incoming", "_network", "_outgoing")

    def __init__(self, connection: Connection, settings: PacketSettings) -> None:
        peer, local = connection.peer, connection.local
        # Source of a network event is who connected. OpenSIPS puts the peer there even when it
        # was OpenSIPS that connected, which draws the arrow the wrong way round in Homer.
        ours = connection.opened_by is Side.LOCAL
        source, destination = (local, peer) if ours else (peer, local)
        self._network = _encoder(source, destination, NETWORK, settings)
        self._incoming = _encoder(peer, local, SIP, settings)
        self._outgoing = _encoder(local, peer, SIP, settings)
        self._correlation_id = str(connection.id).encode()

    def network_event(self, time: float, payload: bytes) -> bytes:
        """A packet about the connection; its correlation id is the connection's id."""
        return self._network(time, payload, self._correlation_id)

    def message_received(self, time: float, payload: bytes) -> bytes:
        """A packet with a SIP message from the peer; its correlation id is the Call-ID."""
        return self._incoming(time, payload, call_id(payload))

    def message_sent(self, time: float, payload: bytes) -> bytes:
        """A packet with a SIP message to the peer; its correlation id is the Call-ID."""
        return self._outgoing(time, payload, call_id(payload))


_Encode = Callable[[float, bytes, bytes | None], bytes]


def _encoder(
    source: Address, destination: Address, protocol_type: int, settings: PacketSettings
) -> _Encode:
    """A function from time, payload and correlation id to a packet."""
    flow = hep.Packet(
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
    if settings.version == 3:
        prepared = hep.PreparedEncoder(flow)

        def encode(time: float, payload: bytes, correlation_id: bytes | None) -> bytes:
            return prepared.encode(*_split(time), payload, correlation_id)

    else:
        # Versions 1 and 2 are for collectors of another age: no flow of them is worth preparing.
        def encode(time: float, payload: bytes, correlation_id: bytes | None) -> bytes:
            seconds, microseconds = _split(time)
            packet = replace(flow, seconds=seconds, microseconds=microseconds, payload=payload)
            return hep.encode(packet)

    return encode


def _split(time: float) -> tuple[int, int]:
    """Seconds and microseconds of a time since the epoch."""
    return divmod(round(time * 1_000_000), 1_000_000)
