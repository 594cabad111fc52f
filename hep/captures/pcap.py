"""Reads SIP and HEP from capture files. `hep.captures.pcap_writer` writes such files."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple, Self

from hep.captures import wire
from hep.captures.capture_file import CaptureFile, Frame
from hep.captures.reassembly import Fragments, Piece, Stream
from hep.captures.sip_stream import SipSplitter
from hep.codec.any_version import decode
from hep.codec.correlation import call_of
from hep.codec.framing import Splitter
from hep.codec.packet import Packet, value
from hep.codec.v3 import MAGICS
from hep.errors import HepDecodeError, HepError
from hep.hep_id import PORT
from hep.sip import is_sip

MOST_STREAMS: Final = 1024
"""Maximum number of TCP streams (one direction of a connection each) that are followed. Beyond it,
the stream idle for longest is ended."""


@value
class Message:
    """A SIP message or a HEP packet found in a capture."""

    frame: int
    """Number of the frame that completed it, from 1, as in Wireshark."""
    seconds: int
    """Capture time of the frame in whole seconds since the epoch."""
    microseconds: int
    """Microseconds of the capture time, 0 to 999999."""
    transport: str
    """``udp`` or ``tcp``."""
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


class RawHep(NamedTuple):
    """The bytes of a HEP packet, not decoded. They may be no valid packet."""

    frame: int
    """As in `Message`."""
    transport: str
    """``udp`` or ``tcp``."""
    data: bytes
    """The packet."""


class Captured(NamedTuple):
    """A packet of a capture."""

    timestamp: float
    """Capture time of the frame in seconds since the epoch."""
    packet: Packet
    """The packet, with its own time if it is HEP."""


class _Content(NamedTuple):
    """A message and the datagram or segment that completed it."""

    segment: wire.Segment
    data: bytes
    is_hep: bool


BAD: Final = "bad"
"""Counter: data taken for HEP that cannot be decoded."""


class Capture:
    """A capture file, plain or compressed with gzip, that is read once from the start.

    Example::

        with Capture("calls.pcap") as capture:
            for timestamp, packet in capture.packets():
                print(timestamp, packet.payload)

    Link types: Ethernet with or without VLAN tags, raw IP, Linux cooked capture, BSD loopback. IP
    fragments and TCP streams are reassembled. Encrypted streams and WebSocket connections are
    skipped.

    Args:
        path: the file.

    Raises:
        HepError: the file cannot be read or is not a capture.
    """

    def __init__(self, path: str | Path) -> None:
        self.counters: Counter[str] = Counter()
        """Counters so far.

        - ``frames``: frames read.
        - ``sip``, ``hep``: messages found.
        - ``bad``: HEP that cannot be decoded.
        - ``cut``: datagrams truncated by the capture.
        - ``gaps``: places in TCP streams where bytes are missing.
        - ``fragments lost``: IP packets with a missing fragment.
        """
        self._file = CaptureFile(path)
        self._fragments = Fragments(self.counters)
        self._streams: dict[tuple[bytes, bytes, int, int], _Followed] = {}

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._file.size

    @property
    def position(self) -> int:
        """Number of bytes read so far, 0 to ``size``."""
        return min(self._file.position, self.size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def packets(self, capture_id: int = 0) -> Iterator[Captured]:
        """Read all SIP and HEP as packets.

        SIP becomes a packet with the addresses of the frame and the Call-ID as correlation id. HEP
        is decoded. HEP that cannot be decoded is counted as `BAD`.

        Args:
            capture_id: capture agent id of packets made from SIP, 0 to 2³²-1.

        Raises:
            HepError: the file is damaged. The packets before the damage have been yielded.
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
        """Read all HEP without decoding it.

        Raises:
            HepError: as `packets`.
        """
        for each in self.messages():
            if each.is_hep:
                yield RawHep(each.frame, each.transport, each.data)

    def messages(self) -> Iterator[Message]:
        """Read all SIP and HEP, in the order in which the messages are complete.

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
        # Removing and adding the stream again moves it to the end: the first one is idle longest.
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
    """One direction of a TCP connection, reassembled and split into messages."""

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
                hep = data[:4] in MAGICS or (_is_hep_port(segment) and not is_sip(data))
                self._splitter = Splitter() if hep else SipSplitter()
            is_hep = isinstance(self._splitter, Splitter)
            found += [_Content(segment, each, is_hep) for each in self._splitter.feed(data)]
        return found


def _is_hep_port(segment: wire.Segment) -> bool:
    return PORT in (segment.src_port, segment.dst_port)


def _is_hep(segment: wire.Segment) -> bool:
    """Whether to take a datagram for HEP."""
    data = segment.payload
    if data[:4] in MAGICS:
        return True
    if not data or is_sip(data):
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
        correlation_id=call_of(message.data),
    )
