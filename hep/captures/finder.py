"""Finds SIP and HEP in captured frames, and counts what it does not find. Pure."""

from collections import Counter
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple

from hep.captures import links, wire
from hep.captures.capture_file import Frame
from hep.captures.reassembly import Fragments, Piece, Stream
from hep.captures.sctp import Association
from hep.captures.sip_stream import may_begin
from hep.captures.streams import Connection, StreamReader
from hep.codec.any_version import decode
from hep.codec.packet import value
from hep.codec.v3 import MAGICS
from hep.errors import HepDecodeError
from hep.hep_id import PORT
from hep.sip import is_sip

MOST_STREAMS: Final = 20_000
"""Maximum number of TCP streams and SCTP associations (one direction each) that are followed, at
about 3 KiB each. Beyond it, the stream idle for longest is ended."""

LONGEST_DELAY: Final = 5
"""Seconds for which segments wait for a missing one. A retransmission takes less. A live capture
that lacks a segment shows the messages behind it after this time."""

MOST_BUFFERED: Final = 64 * 1024 * 1024
"""Maximum number of bytes of incomplete messages in all streams. Beyond it, the stream idle for
longest is ended."""

SIP_PORTS: Final = (5060, 5061)
"""Ports of SIP. A truncated message is recognized by them if none of its bytes is there."""

CUT: Final = "cut"
"""Counter: messages that the length of the capture (option ``-s`` of tcpdump) truncated."""
GAPS: Final = "gaps"
"""Counter: places in TCP streams with SIP or HEP where bytes are missing."""
INCOMPLETE: Final = "incomplete"
"""Counter: messages whose end the capture does not have."""
NOT_SIP: Final = "not sip"
"""Counter: datagrams, segments and other messages that are neither SIP nor HEP."""
ENCRYPTED_BY_TLS: Final = "encrypted by TLS"
"""Kind of streams that are not read."""


@value
class Message:
    """A SIP message or a HEP packet found in a capture."""

    frame: int
    """Number of the frame that completed it, from 1 and over all files, as in Wireshark."""
    seconds: int
    """Capture time of the frame in whole seconds since the epoch."""
    microseconds: int
    """Microseconds of the capture time, 0 to 999999."""
    transport: str
    """``udp``, ``tcp``, ``sctp``, or ``ws`` for a message of a WebSocket connection."""
    src_ip: str
    """Source address as text."""
    src_port: int
    """Source port, 0 to 65535."""
    dst_ip: str
    """Destination address as text."""
    dst_port: int
    """Destination port, 0 to 65535."""
    data: bytes
    """The message."""
    is_hep: bool
    """Whether it is taken for HEP: it starts as HEP, or is on port 9060 and is not SIP."""


class _Content(NamedTuple):
    """A message and the datagram or segment that completed it."""

    segment: wire.Segment
    transport: str
    data: bytes
    is_hep: bool
    stamp: "_Stamp | None" = None
    """That of the segment, None for the frame that was added last."""


_Stamp = tuple[int, int, int]
"""Number of a frame, and its time in seconds and microseconds."""

_Key = tuple[bytes, bytes, int, int, int]


class Finder:
    """Finds messages in frames. One finder reads the files of a capture that was split.

    `add` takes a frame, `finish` returns what is left at the end.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        """Counters so far; see `hep.captures.pcap.Capture.counters`."""
        self.unread: Counter[str] = Counter()
        """Frames, packets, streams and messages that are not read, by kind."""
        self._number = 0
        self._frame = Frame(0, 0, 0, b"")
        self._fragments = Fragments(self.counters, _may_matter)
        self._streams: dict[_Key, _Followed | _Associated] = {}
        self._late: dict[_Key, int] = {}
        """Streams in which segments wait for a missing one, and since which second."""
        self._buffered = 0

    def add(self, frame: Frame) -> list[Message]:
        """Take a frame.

        Returns:
            the messages that it completes.
        """
        self._number += 1
        self._frame = frame
        self.counters["frames"] += 1
        if self._late:
            return self._give_up_waiting() + self._add(frame)
        return self._add(frame)

    def _add(self, frame: Frame) -> list[Message]:
        packet = links.ip(frame.link_type, frame.data, self.unread)
        for _ in range(links.MOST_HEADERS):
            if packet is not None and packet.fragment is not None:
                packet = self._fragments.add(packet)
                if packet is None:
                    return []
            if packet is None or not links.is_tunnel(packet):
                break
            inner = links.inner(packet, self.unread)
            if inner is None:
                break
            packet = inner
        else:
            self.unread[links.TOO_DEEP] += 1
            return []
        segment = wire.segment(packet) if packet is not None else None
        if segment is None:
            self._skip(packet)
            return []
        found = self._datagram(segment) if segment.protocol == wire.UDP else self._stream(segment)
        return [self._message(each) for each in found] if found else []

    def finish(self) -> list[Message]:
        """End all streams, and count what is incomplete.

        Returns:
            the messages after gaps for which bytes could have come.
        """
        self._fragments.finish()
        found = [each for key in list(self._streams) for each in self._end(key)]
        return [self._message(each) for each in found]

    def _skip(self, packet: wire.Ip | None) -> None:
        """Count a frame without datagram or segment."""
        if packet is not None and packet.missing and packet.protocol in wire.TRANSPORTS:
            self.counters[CUT] += 1
        else:
            self.counters[NOT_SIP] += 1

    def _datagram(self, segment: wire.Segment) -> list[_Content]:
        payload = segment.payload
        # The first byte of RTP, RTCP and most other binary protocols is none of SIP or HEP.
        if payload and payload[0] < 0x80:
            is_hep = _is_hep(segment)
            if is_hep or is_sip(payload):
                if not segment.missing:
                    return [_Content(segment, "udp", payload, is_hep)]
                self.counters[CUT] += 1
                return []
        if segment.missing and _may_be_message(segment, payload):
            self.counters[CUT] += 1
        else:
            self.counters[NOT_SIP] += 1
        return []

    def _stream(self, segment: wire.Segment) -> list[_Content]:
        src, dst, src_port, dst_port = segment.src, segment.dst, segment.src_port, segment.dst_port
        key = src, dst, src_port, dst_port, segment.protocol
        # Removing and adding the stream again moves it to the end: the first one is idle longest.
        followed = self._streams.pop(key, None)
        if followed is None:
            followed = self._follow(segment, (dst, src, dst_port, src_port, segment.protocol))
        self._streams[key] = followed
        before = followed.size
        stamp = self._number, self._frame.seconds, self._frame.microseconds
        found = followed.feed(segment, stamp)
        self._buffered += followed.size - before
        if followed.is_waiting:
            self._late.setdefault(key, self._frame.seconds)
        elif self._late:
            self._late.pop(key, None)
        if segment.flags & wire.RST:
            found += self._end(key)
        while len(self._streams) > MOST_STREAMS or (
            self._buffered > MOST_BUFFERED and len(self._streams) > 1
        ):
            found += self._end(next(iter(self._streams)))
        return found

    def _give_up_waiting(self) -> list[Message]:
        """Go on in streams that have waited for a segment for too long."""
        found: list[_Content] = []
        while self._late:
            # Oldest first. Most frames look at one stream, however many wait.
            key, since = next(iter(self._late.items()))
            if abs(self._frame.seconds - since) < LONGEST_DELAY:
                break
            del self._late[key]
            followed = self._streams[key]
            before = followed.size
            found += followed.skip_gaps()
            self._buffered += followed.size - before
        return [self._message(each) for each in found]

    def _follow(self, segment: wire.Segment, opposite: _Key) -> "_Followed | _Associated":
        if segment.protocol == wire.SCTP:
            return _Associated(self.counters)
        other = self._streams.get(opposite)
        connection = other.connection if isinstance(other, _Followed) else Connection()
        return _Followed(connection, self.counters, self.unread)

    def _end(self, key: _Key) -> list[_Content]:
        followed = self._streams.pop(key)
        self._late.pop(key, None)
        before = followed.size
        found = followed.finish()
        self._buffered -= before
        return found

    def _message(self, found: _Content) -> Message:
        segment, transport, data, is_hep, stamp = found
        self.counters["hep" if is_hep else "sip"] += 1
        return Message(
            *(stamp or (self._number, self._frame.seconds, self._frame.microseconds)),
            transport,
            _text(segment.src),
            segment.src_port,
            _text(segment.dst),
            segment.dst_port,
            data,
            is_hep,
        )


class _Associated:
    """One direction of an SCTP association."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._association = Association()

    @property
    def size(self) -> int:
        return self._association.size

    is_waiting: Final = False

    def skip_gaps(self) -> list[_Content]:
        return []

    def feed(self, segment: wire.Segment, _: _Stamp) -> list[_Content]:
        found = []
        for data, missing in self._association.feed(segment.payload):
            if missing and _may_be_message(segment, data):
                self._counters[CUT] += 1
            elif missing or not is_sip(data):
                self._counters[NOT_SIP] += 1
            else:
                found.append(_Content(segment, "sctp", data, False))
        return found

    def finish(self) -> list[_Content]:
        if self._association.is_within_sip:
            self._counters[INCOMPLETE] += 1
        return []


class _Followed:
    """One direction of a TCP connection, reassembled and split into messages."""

    def __init__(
        self, connection: Connection, counters: Counter[str], unread: Counter[str]
    ) -> None:
        self.connection = connection
        self._counters = counters
        self._unread = unread
        self._stream = Stream()
        self._reader = StreamReader(connection, unread)
        self._last: wire.Segment | None = None
        self._segments = 0
        self._gaps: Counter[str] = Counter()
        """Gaps before the first message. They count when there is one."""

    @property
    def size(self) -> int:
        return self._stream.size + self._reader.size

    @property
    def is_waiting(self) -> bool:
        return self._stream.is_waiting

    def skip_gaps(self) -> list[_Content]:
        """Return what waits for a missing segment, as at the end."""
        return self._read(self._stream.finish(), self._last) if self._last is not None else []

    def feed(self, segment: wire.Segment, stamp: _Stamp) -> list[_Content]:
        found: list[_Content] = []
        if segment.flags & wire.SYN and self._last is not None:
            found = self.finish()
            # The two directions of the new connection share what is known of it.
            self.connection.is_websocket = False
            self._reader = StreamReader(self.connection, self._unread)
        self._last = segment
        if segment.payload or segment.missing:
            self._segments += 1
        return found + self._read(self._stream.feed(segment, stamp), segment)

    def finish(self) -> list[_Content]:
        if self._last is None:
            return []
        found = self._read(self._stream.finish(), self._last)
        is_gap, is_cut = self._stream.gap
        if is_gap:
            self._lose(is_cut)
        elif self._reader.holds_part:
            self._counters[INCOMPLETE] += 1
        if self._reader.is_tls:
            self._unread[ENCRYPTED_BY_TLS] += 1
        elif not self._reader.messages:
            self._counters[NOT_SIP] += self._segments
        self._segments = 0
        self._reader.lose()
        return found

    def _read(self, pieces: list[Piece], segment: wire.Segment) -> list[_Content]:
        found = []
        for data, after_gap, is_cut, stamp in pieces:
            if after_gap:
                self._lose(is_cut)
            for protocol, message in self._reader.feed(data):
                if protocol == "ws" and not is_sip(message):
                    self._counters[NOT_SIP] += 1
                    continue
                transport = "ws" if protocol == "ws" else "tcp"
                found.append(_Content(segment, transport, message, protocol == "hep", stamp))
        if found and self._gaps:
            self._counters.update(self._gaps)
            self._gaps.clear()
        return found

    def _lose(self, is_cut: bool) -> None:
        """Go on after missing bytes, and count them if a message may be among them."""
        reader, last = self._reader, self._last
        is_known = reader.messages or reader.holds_part
        if not is_known and last is not None and not reader.is_tls:
            is_known = last.src_port in SIP_PORTS or last.dst_port in SIP_PORTS
        (self._counters if is_known else self._gaps)[CUT if is_cut else GAPS] += 1
        reader.lose()


def _is_hep_port(segment: wire.Segment) -> bool:
    return PORT in (segment.src_port, segment.dst_port)


def _is_hep(segment: wire.Segment) -> bool:
    """Whether to take a datagram for HEP."""
    data = segment.payload
    if data[:4] in MAGICS:
        return True
    if is_sip(data):
        return False
    if _is_hep_port(segment):
        return True
    if data[0] not in (1, 2):
        return False
    # Versions 1 and 2 have no magic number. They carry SIP only.
    try:
        return is_sip(decode(data).payload)
    except HepDecodeError:
        return False


def _may_be_message(segment: wire.Segment, data: bytes) -> bool:
    """Whether truncated data may be SIP or HEP."""
    if data:
        return may_begin(data) or data[:4] in MAGICS
    ports = (segment.src_port, segment.dst_port)
    return _is_hep_port(segment) or any(port in SIP_PORTS for port in ports)


def _may_matter(first: wire.Ip | None) -> bool:
    """Whether an incomplete IP packet may hold SIP or HEP, by its first fragment."""
    segment = wire.segment(first) if first is not None else None
    if segment is None or segment.protocol != wire.UDP or not segment.payload:
        return True
    return may_begin(segment.payload) or segment.payload[:4] in MAGICS or _is_hep_port(segment)


def _text(address: bytes) -> str:
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
