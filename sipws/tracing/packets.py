"""From an event's payload to HEP packets: which chunks the packets of a connection carry. Pure."""

import json
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import accumulate
from typing import Final, Literal

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


SipFormat = Literal["raw", "json"]
"""How SIP messages are written: as they are, or in JSON as OpenSIPS does with ``homer5_on=0``."""

EXTRA_CORRELATION: Final = 0x65
"""Chunk of OpenSIPS: which other packets a SIP message belongs to."""

_ESCAPED: Final = b'"\\\b\f\n\r\t'
"""The bytes that take two in JSON."""
_CONTROL: Final = bytes(set(range(32)) - set(_ESCAPED))
"""Those that take six."""
_SIZES: Final = [6 if each in _CONTROL else 2 if each in _ESCAPED else 1 for each in range(256)]


@dataclass(frozen=True, slots=True)
class PacketSettings:
    """The values that all packets to a destination share."""

    version: int = 3
    """HEP version: 1, 2 or 3."""

    capture_id: int = 1
    """Capture agent id (HEP chunk 0x000c): 0 to 4294967295."""
    ip_protocol: int = IP_PROTOCOL_TCP
    """HEP chunk 0x0002."""
    auth_key: bytes | None = None
    """Password of the collector (HEP chunk 0x000e)."""
    sip_format: SipFormat = "raw"
    """How SIP messages are written. Versions 1 and 2 have them as they are."""

    def room(self) -> int:
        """Return the bytes of the longest payload that fits a packet and a datagram.

        Raises:
            HepEncodeError: a value does not fit its chunk.
        """
        empty = _encoder(Address("::", 0), Address("::", 0), SIP, self)
        return LONGEST - len(empty(0, 0, b"", bytes(LONGEST_ID)))

    @property
    def wraps_sip(self) -> bool:
        """Whether SIP messages are written in JSON."""
        return self.sip_format == "json" and self.version == 3

    def quick_room_for_sip(self) -> int:
        """Return the bytes that a SIP message may have for sure; see `room_for_sip`."""
        room = self.room()
        return (room - _WRAPPING) // max(_SIZES) if self.wraps_sip else room

    def room_for_sip(self, message: bytes) -> int:
        """Return how many of a SIP message's first bytes fit a packet and a datagram.

        Args:
            message: of any length; the work grows linearly with it.
        """
        room = self.room()
        if not self.wraps_sip:
            return room
        room -= _WRAPPING
        controls = len(message) - len(message.translate(None, _CONTROL))
        escaped = len(message) - len(message.translate(None, _ESCAPED))
        if len(message) + escaped + 5 * controls <= room:
            return len(message)
        return bisect_right(list(accumulate(_SIZES[each] for each in message)), room)


def report(settings: PacketSettings, destination: Address, time: float, payload: bytes) -> bytes:
    """Encode a packet about the trace itself, from this capture agent to a collector.

    Args:
        settings: the values that all packets share.
        destination: address of the collector.
        time: in seconds since the epoch.
        payload: of the network event.
    """
    nowhere = Address("::" if ":" in destination.ip else "0.0.0.0", 0)
    encode = _encoder(nowhere, destination, NETWORK, settings)
    correlation_id = f"sipws-{settings.capture_id}".encode()
    return encode(*divmod(round(time * 1_000_000), 1_000_000), payload, correlation_id)


class ConnectionPackets:
    """Encodes the packets of one connection.

    Their timestamps increase strictly, because displays sort by them: two events within one
    microsecond, or before and after a clock was set back, would change places. After a step back
    the timestamps continue in steps of a microsecond until the clock has caught up.

    Args:
        connection: the connection.
        settings: the values that all packets share.
    """

    __slots__ = (
        "_connection", "_events", "_incoming", "_last", "_outgoing", "_settings", "broken", "calls",
        "correlation_id", "latest_call",
    )  # fmt: skip

    def __init__(self, connection: Connection, settings: PacketSettings) -> None:
        self._connection = connection
        self._settings = settings
        self.correlation_id = str(connection.id).encode()
        """That of the packets about the connection."""
        self._events: _Encode | None = None
        self._incoming: _Encode | None = None
        self._outgoing: _Encode | None = None
        self._last = 0
        self.calls: dict[bytes, None] = {}
        """The Call-IDs of the latest messages, the latest at the end."""
        self.latest_call: bytes | None = None
        """The last of `calls`."""
        self.broken = 0
        """Messages that collectors drop or misfile."""

    def renew(self, settings: PacketSettings) -> None:
        """Use other values from the next packet on."""
        self._settings = settings
        self._events = self._incoming = self._outgoing = None

    def network_event(self, time: float, payload: bytes, correlation_id: bytes | None) -> bytes:
        """Encode a packet about the connection.

        Args:
            time: in seconds since the epoch.
            payload: of the network event.
            correlation_id: by default the connection's id.
        """
        encode = self._events
        if encode is None:
            encode = self._events = self._event_encoder(NETWORK)
        return encode(*self._tick(time), payload, correlation_id or self.correlation_id)

    def log_line(self, time: float, payload: bytes, correlation_id: bytes) -> bytes:
        """Encode a packet with a line about the connection, for a call that used it.

        Args:
            time: in seconds since the epoch.
            payload: the line.
            correlation_id: the Call-ID.
        """
        return self._event_encoder(LOG)(*self._tick(time), payload, correlation_id)

    def message(
        self, incoming: bool, time: float, payload: bytes, correlation_id: bytes | None
    ) -> bytes:
        """Encode a packet with a SIP message.

        Args:
            incoming: whether the peer sent it.
            time: in seconds since the epoch.
            payload: the message.
            correlation_id: the id of its call; None if it has none.
        """
        encode = self._incoming if incoming else self._outgoing
        if encode is None:
            encode = self._prepare(incoming)
        # `_tick`, inlined: a call costs as much again, and round three times as much as int.
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
            self._incoming = self._sip_encoder(source, destination)
            return self._incoming
        self._outgoing = self._sip_encoder(destination, source)
        return self._outgoing

    def _sip_encoder(self, source: Address, destination: Address) -> "_Encode":
        if not self._settings.wraps_sip:
            return _encoder(source, destination, SIP, self._settings)
        named = hep.Chunk(0, EXTRA_CORRELATION, _NET % self.correlation_id)
        families = ":" in source.ip, ":" in destination.ip
        prepared = _prepared(families, SIP, self._settings).between(*source, *destination)
        encode = prepared.with_extra((named,))
        return lambda seconds, microseconds, payload, correlation_id: encode(
            seconds, microseconds, wrapped(payload), correlation_id
        )

    def _event_encoder(self, protocol_type: int) -> "_Encode":
        connection = self._connection
        source, destination = connection.peer, connection.local
        if connection.opened_by is Side.LOCAL:
            # The source of a network event is the side that connected. OpenSIPS always puts the
            # peer there, and Homer draws the arrow of its own connects the wrong way round.
            source, destination = destination, source
        return _encoder(source, destination, protocol_type, self._settings)

    def _tick(self, time: float) -> tuple[int, int]:
        """Convert a time to seconds and microseconds since the epoch, later than the last ones."""
        now = int(time * 1_000_000 + 0.5)
        if now <= self._last:
            now = self._last + 1
        self._last = now
        return divmod(now, 1_000_000)


_quote: Final = json.JSONEncoder(ensure_ascii=False).encode
"""Writes a text as JSON. `json.dumps` makes an encoder with each call."""


def wrapped(message: bytes) -> bytes:
    """Write a SIP message as OpenSIPS does with ``homer5_on=0``, in cJSON's layout.

    Args:
        message: bytes that are not UTF-8 stay as they are, as in OpenSIPS.
    """
    # As Latin-1, each byte is a character, and comes back as the same byte.
    quoted = _quote(message.decode("latin-1"))
    return b'{\n\t"payload":\t' + quoted.encode("latin-1") + b"\n}"


_NET: Final = b'{\n\t"net":\t"%b"\n}'
"""The value of `EXTRA_CORRELATION`: the id of the connection."""

_LONGEST_NET: Final = _NET % (b"9" * 20)
_WRAPPING: Final = len(wrapped(b"")) + len(_LONGEST_NET) + 6
"""Bytes that JSON and the chunk around it take at most. An id is a number of 64 bits."""

_Encode = Callable[[int, int, bytes, bytes | None], bytes]
"""Encodes a packet from seconds, microseconds, a payload and a correlation id."""


def _encoder(
    source: Address, destination: Address, protocol_type: int, settings: PacketSettings
) -> _Encode:
    """Return the encoder of the packets between two addresses."""
    if settings.version != 3:
        # Versions 1 and 2 are for old collectors: a prepared encoder is not worth its code.
        return partial(_encode, _flow(source, destination, protocol_type, settings))
    families = ":" in source.ip, ":" in destination.ip
    prepared = _prepared(families, protocol_type, settings)
    return prepared.between(*source, *destination).encode


@lru_cache
def _prepared(
    families: tuple[bool, bool], protocol_type: int, settings: PacketSettings
) -> hep.PreparedEncoder:
    """Prepare the parts that the packets of all connections share."""
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
