"""SIP and HEP out of capture files. `hep.captures.pcap_writer` writes such files."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple, Self

from hep.captures import wire
from hep.captures.capture_file import CaptureFile, Frame
from hep.captures.reassembly import Fragments, Piece, Stream
from hep.captures.sip_stream import SipSplitter, call_id, is_sip
from hep.codec.any_version import decode
from hep.codec.framing import Splitter
from hep.codec.packet import Packet, value
from hep.codec.v3 import MAGICS
from hep.errors import HepDecodeError, HepError
from hep.hep_id import PORT

MOST_STREAMS: Final = 1024
"""Directions of TCP connections followed at a time; the one silent for longest is given up."""


@value
class Message:
    """A SIP message, or a HEP packet, found in a capture."""

    frame: int
    """The number of the frame that completed it, from 1, as Wireshark counts."""
    seconds: int
    microseconds: int
    transport: str
    """``udp`` or ``tcp``."""
    src_ip: str
    src_port: int
    dst_ip: str
    dst_port: int
    data: bytes
    is_hep: bool
    """Whether it is HEP, or should be: everything on port 9060 that is no SIP."""


class RawHep(NamedTuple):
    """The bytes of what is, or should be, a HEP packet."""

    frame: int
    """As in `Message`."""
    transport: str
    """``udp`` or ``tcp``."""
    data: bytes


class Captured(NamedTuple):
    """A packet of a capture."""

    timestamp: float
    """When the frame was captured, in seconds since the epoch."""
    packet: Packet


class _Content(NamedTuple):
    """A message and the datagram, or the segment, that completed it."""

    segment: wire.Segment
    data: bytes
    is_hep: bool


BAD: Final = "bad"
"""Counter: what should be HEP and cannot be decoded."""


class Capture:
    """A capture file to read once, from its beginning; also one compressed with gzip.

    Example::

        with Capture("calls.pcap") as capture:
            for timestamp, packet in capture.packets():
                print(timestamp, packet.payload)

    Frames may be Ethernet (with VLAN tags), raw IP, Linux' cooked ones or of a loopback interface.
    IP fragments are put together, and TCP streams in order. Encrypted streams and WebSocket
    connections are passed over.

    Raises:
        HepError: the file cannot be read, or is no capture.
    """

    def __init__(self, path: str | Path) -> None:
        self.counters: Counter[str] = Counter()
        """``frames``; ``sip`` and ``hep`` found; ``bad`` HEP; ``cut`` datagrams, not all of which
        were captured; ``gaps`` in TCP streams; ``fragments lost``."""
        self._file = CaptureFile(path)
        self._fragments = Fragments(self.counters)
        self._streams: dict[tuple[bytes, bytes, int, int], _Followed] = {}

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def position(self) -> int:
        """Bytes of it that have been read."""
        return min(self._file.position, self.size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def packets(self, capture_id: int = 0) -> Iterator[Captured]:
        """SIP as packets, with its Call-ID as correlation id; HEP as what it decodes to.

        What should be HEP and is not is counted as `BAD`.

        Args:
            capture_id: capture agent id of what is found as SIP.

        Raises:
            HepError: the file is damaged; what came before the damage has been yielded.
        """
        for message in self.messages():
            timestamp = message.seconds + message.microseconds / 1_000_000
            if not message.is_hep:
                yield Captured(timestamp, _sip_packet(message, capture_id))
                continue
            try:
                packet = decode(message.data)
            except HepDecodeError:
                self.counters[BAD] += 1
                continue
            yield Captured(timestamp, packet)

    def raw_hep(self) -> Iterator[RawHep]:
        """What is, or should be, HEP, undecoded.

        Raises:
            HepError: as `packets`.
        """
        for each in self.messages():
            if each.is_hep:
                yield RawHep(each.frame, each.transport, each.data)

    def messages(self) -> Iterator[Message]:
        """All SIP and HEP, in the order in which it was complete.

        Raises:
            HepError: as `packets`.
        """
        number, frame = 0, Frame(0, 0, 0, b"")
        damage: HepError | None = None
        frames = enumerate(self._file.frames(), 1)
        while True:
            try:
                number, frame = next(frames)
            except StopIteration:
                break
            except HepError as exc:
                damage = exc
                break
            self.counters["frames"] += 1
            for found in self._contents(frame):
                yield self._message(number, frame, found)
        self._fragments.finish()
        for followed in self._streams.values():
            for found in followed.finish():
                yield self._message(number, frame, found)
        self._streams.clear()
        if damage is not None:
            raise damage

    def _contents(self, frame: Frame) -> list[_Content]:
        """The messages that a frame completes."""
        packet = wire.ip(frame.link_type, frame.data)
        if packet is not None:
            packet = self._fragments.add(packet)
        segment = wire.segment(packet) if packet is not None else None
        if segment is None:
            return []
        if segment.protocol == wire.TCP:
            return self._of_stream(segment)
        is_hep = _is_hep(segment)
        if not is_hep and not is_sip(segment.payload):
            return []
        if segment.missing:
            self.counters["cut"] += 1
            return []
        return [_Content(segment, segment.payload, is_hep)]

    def _of_stream(self, segment: wire.Segment) -> list[_Content]:
        key = segment.src, segment.dst, segment.src_port, segment.dst_port
        # Taken out and put back in, it is the last one: the first has been silent for longest.
        followed = self._streams.pop(key, None) or _Followed(self.counters)
        found = followed.feed(segment)
        if segment.flags & wire.RST:
            return found + followed.finish()
        self._streams[key] = followed
        if len(self._streams) > MOST_STREAMS:
            found += self._streams.pop(next(iter(self._streams))).finish()
        return found

    def _message(self, number: int, frame: Frame, found: _Content) -> Message:
        segment, data, is_hep = found
        self.counters["hep" if is_hep else "sip"] += 1
        return Message(
            number,
            frame.seconds,
            frame.microseconds,
            "tcp" if segment.protocol == wire.TCP else "udp",
            _text(segment.src),
            segment.src_port,
            _text(segment.dst),
            segment.dst_port,
            data,
            is_hep,
        )


class _Followed:
    """One direction of a TCP connection and what is read from it."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._stream = Stream()
        self._splitter: Splitter | SipSplitter | None = None
        self._last: wire.Segment | None = None

    def feed(self, segment: wire.Segment) -> list[_Content]:
        self._last = segment
        if segment.flags & wire.SYN:
            self._splitter = None
        return self._read(self._stream.feed(segment), segment)

    def finish(self) -> list[_Content]:
        return self._read(self._stream.finish(), self._last) if self._last is not None else []

    def _read(self, pieces: list[Piece], segment: wire.Segment) -> list[_Content]:
        found = []
        for data, after_gap in pieces:
            if after_gap:
                self._counters["gaps"] += 1
                self._splitter = None
            if self._splitter is None:
                hep = data[:4] in MAGICS or (_is_heps_port(segment) and not is_sip(data))
                self._splitter = Splitter() if hep else SipSplitter()
            is_hep = isinstance(self._splitter, Splitter)
            found += [_Content(segment, each, is_hep) for each in self._splitter.feed(data)]
        return found


def _is_heps_port(segment: wire.Segment) -> bool:
    return PORT in (segment.src_port, segment.dst_port)


def _is_hep(segment: wire.Segment) -> bool:
    """Whether a datagram is HEP, or should be."""
    data = segment.payload
    if data[:4] in MAGICS:
        return True
    if not data or is_sip(data):
        return False
    if _is_heps_port(segment):
        return True
    if data[0] not in (1, 2):
        return False
    # Versions 1 and 2 have no magic number; what they carry is SIP.
    try:
        return is_sip(decode(data).payload)
    except HepDecodeError:
        return False


def _text(address: bytes) -> str:
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def _sip_packet(message: Message, capture_id: int) -> Packet:
    return Packet(
        src_ip=message.src_ip,
        src_port=message.src_port,
        dst_ip=message.dst_ip,
        dst_port=message.dst_port,
        ip_protocol=wire.TCP if message.transport == "tcp" else wire.UDP,
        seconds=message.seconds,
        microseconds=message.microseconds,
        capture_id=capture_id,
        payload=message.data,
        correlation_id=call_id(message.data),
    )
