"""Reads SIP and HEP from capture files. `hep.captures.pcap_writer` writes such files."""

from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

from hep.captures import finder, links, wire
from hep.captures.capture_file import CaptureFile
from hep.captures.finder import Finder, Message
from hep.captures.reassembly import FRAGMENTS_LOST
from hep.captures.source import Source
from hep.codec.any_version import decode
from hep.codec.correlation import call_of
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepError
from hep.sip import LINE_ENDS

BAD: Final = "bad"
"""Counter: data taken for HEP that cannot be decoded."""

_IP_PROTOCOLS: Final = {"udp": wire.UDP, "sctp": wire.SCTP}

__all__ = ["BAD", "Capture", "Captured", "Message", "RawHep", "losses", "packet_of", "skipped"]


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


class Capture:
    """A capture, plain or compressed with gzip, that is read once from the start.

    Example::

        with Capture("calls.pcap") as capture:
            for timestamp, packet in capture.packets():
                print(timestamp, packet.payload)

    `docs/interop.md` has the link types and tunnels that are read. IP fragments, TCP streams and
    SCTP messages are reassembled, and WebSocket messages are unmasked. Encrypted streams and
    compressed WebSocket messages are counted.

    Args:
        path: the file, ``-`` for the standard input, or an opened source.
        more: further files, which continue the first one. Streams go on from file to file.

    Raises:
        HepError: a file cannot be read or is not a capture.
    """

    def __init__(self, path: str | Path | Source, *more: str | Path | Source) -> None:
        self._finder = Finder()
        self.counters: Counter[str] = self._finder.counters
        """Counters so far.

        - ``frames``: frames read.
        - ``sip``, ``hep``: messages found.
        - ``bad``: HEP that cannot be decoded.
        - ``cut``: messages truncated by the capture.
        - ``gaps``: places in TCP streams where bytes are missing.
        - ``fragments lost``: IP packets with a missing fragment.
        - ``incomplete``: messages whose end the capture does not have.
        - ``not sip``: datagrams, segments and other messages that are neither SIP nor HEP.
        """
        self.unread: Counter[str] = self._finder.unread
        """What is not read, by kind, such as ``of link type 127 (802.11 with radiotap)``."""
        self.is_live = False
        """Whether one of the files is a pipe, which may stay open without data."""
        self._size = self._position = 0
        self._is_stopped = False
        self._current: CaptureFile | None = None
        self._files: deque[CaptureFile | str | Path] = deque()
        try:
            for each in (path, *more):
                file = CaptureFile(each, self.unread)
                self.is_live |= file.source.is_live
                self._size += file.source.size
                self._files.append(file)
                if more and not file.source.is_live and not isinstance(each, Source):
                    # Is opened again when it is read: there may be many.
                    file.close()
                    self._files[-1] = each
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Size of the files in bytes; 0 if one is a pipe."""
        return 0 if self.is_live else self._size

    @property
    def position(self) -> int:
        """Number of bytes read so far, 0 to ``size``."""
        current = self._current
        read = self._position + (current.source.position if current is not None else 0)
        return read if self.is_live else min(read, self._size)

    def stop(self) -> None:
        """End the reading, from any thread: what follows is as the end of the capture."""
        self._is_stopped = True
        if (current := self._current) is not None:
            current.source.stop()

    def close(self) -> None:
        """Close the files. No other thread may read at the time."""
        for file in (self._current, *self._files):
            if isinstance(file, CaptureFile):
                file.close()

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
            HepError: a file is damaged. The packets before the damage, and those of the other
                files, have been yielded.
        """
        for message in self.messages():
            try:
                packet = packet_of(message, capture_id)
            except HepDecodeError:
                self.counters[BAD] += 1
                continue
            yield Captured(message.seconds + message.microseconds / 1_000_000, packet)

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
        damage: list[str] = []
        add = self._finder.add
        while not self._is_stopped:
            try:
                if (file := self._open_next()) is None:
                    break
                for frame in file.frames():
                    yield from add(frame)
            except HepError as exc:
                damage.append(str(exc))
            if not self._files:
                break
            self._close_current()
        yield from self._finder.finish()
        if damage:
            raise HepError("; ".join(damage))

    def _open_next(self) -> CaptureFile | None:
        """The file that is being read, or the next one."""
        if self._current is None and self._files:
            file = self._files.popleft()
            if not isinstance(file, CaptureFile):
                file = CaptureFile(file, self.unread)
            self._current = file
            if self._is_stopped:
                # `stop` may have looked before this file was there.
                file.source.stop()
        return self._current

    def _close_current(self) -> None:
        if self._current is not None:
            self._position += self._current.source.position
            self._current.close()
            self._current = None


def packet_of(message: Message, capture_id: int = 0) -> Packet:
    """Make a packet of a message: SIP gets the addresses of the frame, HEP is decoded.

    Args:
        message: the message.
        capture_id: capture agent id of a packet made from SIP, 0 to 2³²-1.

    Raises:
        HepDecodeError: the message is HEP that cannot be decoded.
    """
    if message.is_hep:
        return decode(message.data)
    return Packet(
        src_ip=message.src_ip,
        src_port=message.src_port,
        dst_ip=message.dst_ip,
        dst_port=message.dst_port,
        ip_protocol=_IP_PROTOCOLS.get(message.transport, wire.TCP),
        seconds=message.seconds,
        microseconds=message.microseconds,
        capture_id=capture_id,
        # Homer does not store SIP with line ends before the start line.
        payload=message.data.lstrip(LINE_ENDS),
        correlation_id=call_of(message.data),
    )


_CAUSES: Final = {
    BAD: "not decodable",
    finder.CUT: "cut by the capture's length",
    finder.GAPS: "at gaps of TCP streams",
    FRAGMENTS_LOST: "with lost fragments",
    finder.INCOMPLETE: "incomplete",
}
"""Counters of lost messages, and how they are called in summaries."""

_NO_LOSS: Final = frozenset((*links.ENCRYPTED.values(), finder.ENCRYPTED_BY_TLS))


def losses(capture: Capture) -> Counter[str]:
    """What a capture has of SIP and HEP, or may have, and was not read, by cause."""
    found = Counter({cause: capture.counters[name] for name, cause in _CAUSES.items()})
    found.update({kind: n for kind, n in capture.unread.items() if kind not in _NO_LOSS})
    return +found


def skipped(capture: Capture) -> Counter[str]:
    """What a capture has of other data, or encrypted, by kind."""
    found = Counter({kind: n for kind, n in capture.unread.items() if kind in _NO_LOSS})
    found["not SIP"] = capture.counters[finder.NOT_SIP]
    return +found
