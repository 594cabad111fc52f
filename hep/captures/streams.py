"""SIP, HEP and WebSocket messages out of a TCP stream, wherever the capture of it begins. Pure.

A stream is searched for the first sign of a protocol. From there on its messages follow one
another. Where they do not, and after missing bytes, the stream is searched again. The work is
linear in the bytes, whatever they are and however the stream is cut.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from hep.captures import websocket
from hep.captures.sip_stream import LONGEST_HEAD, Heads, SipReader, may_begin
from hep.captures.websocket import FrameReader
from hep.codec import v3

Protocol = Literal["sip", "hep", "ws", "http", "proxy"]

LONGEST_START: Final = 4400
"""Bytes of a line that may be a start line, if it is not complete."""

MOST_UNSURE: Final = 2
"""Segments in a row that are whole compressed frames, after which a stream without a handshake is
taken for WebSocket. Among random bytes one segment in 10,000 looks like that."""

_START_LINE: Final = (
    rb"(?:(SIP/2\.0 [1-6][0-9]{2}[ \r\n]|[A-Za-z0-9.!%*_+`'~-]{1,64} [^\s\x00-\x1f]{1,4096}"
    rb" SIP/2\.0\r?\n)|GET [^\s]{1,4096} HTTP/1\.[01]\r?\n|HTTP/1\.[01] 101[ \r\n])"
)
_at_start: Final = re.compile(_START_LINE).match
_after_line: Final = re.compile(rb"\n" + _START_LINE).search
_PROXY: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""Start of a PROXY header of version 2. Version 1 is a line."""
_PROXY_HEADER: Final = 16
_FIRST_CHUNK: Final = 12
"""Bytes of the header of a HEP packet and of its first chunk."""
_is_no_line_end: Final = re.compile(rb"[^\r\n]").search
_upgrades: Final = re.compile(rb"\nupgrade[ \t]*:[ \t]*websocket", re.IGNORECASE).search
_TLS_RECORD: Final = re.compile(rb"[\x14-\x17]\x03[\x00-\x04][\x00-\x48]").match
_may_be_line: Final = re.compile(
    rb"[A-Za-z0-9.!%*_+`'~/-]{1,64}(?: [^\s\x00-\x1f]{0,4096}(?: [!-~]{0,16}\r?)?)?\Z"
).match


class Found(NamedTuple):
    """A message of a stream."""

    protocol: Literal["sip", "hep", "ws"]
    data: bytes


class Connection:
    """What both directions of a connection share."""

    __slots__ = ("is_websocket",)

    def __init__(self) -> None:
        self.is_websocket = False
        """Whether a handshake or frames with SIP were seen."""


class StreamReader:
    """Reads the messages of one direction of a connection.

    Args:
        connection: shared with the reader of the other direction.
        unread: counter for kinds of messages that are not read.
    """

    def __init__(self, connection: Connection, unread: Counter[str]) -> None:
        self.messages = 0
        """Messages found so far."""
        self.is_tls = False
        """Whether the stream is encrypted, and therefore skipped."""
        self._connection = connection
        self._unread = unread
        self._buffer = bytearray()
        self._protocol: Protocol | None = None
        self._needed = 0
        self._start: int | None = 0
        self._fills: int | None = None
        self._is_new = True
        self._compressed = 0
        self._sip = SipReader()
        self._heads = Heads()
        self._frames = FrameReader(unread)
        self._signs = [
            _Signs(_find_line),
            _Signs(_find_hep),
            _Signs(_find_older_hep),
            _Signs(websocket.find_bare),
            _Signs(websocket.find_masked),
        ]

    @property
    def size(self) -> int:
        """Bytes that are buffered."""
        return len(self._buffer)

    @property
    def holds_part(self) -> bool:
        """Whether a message has begun whose rest is missing."""
        if self._protocol == "ws":
            return bool(self._buffer) or self._frames.is_within_message
        if self._protocol in ("sip", "hep"):
            return bool(self._buffer.strip(b"\r\n"))
        line = self._buffer.rfind(b"\n") + 1
        return self._protocol is None and may_begin(bytes(self._buffer[line:]))

    def feed(self, data: bytes) -> list[Found]:
        """Take the bytes of a segment; returns the messages that are complete now."""
        if self.is_tls or self._is_encrypted(data):
            return []
        buffer, segment = self._buffer, len(self._buffer)
        buffer += data
        if len(buffer) < self._needed:
            return []
        found: list[Found] = []
        at = self._needed = 0
        self._fills = None
        is_fresh = False
        while at < len(buffer):
            if self._protocol is None:
                at = self._search(at, segment)
                if self._protocol is None:
                    break
                is_fresh = True
            if self._protocol == "sip":
                # Empty lines between messages are keep-alives.
                line = _is_no_line_end(buffer, at)
                at = line.start() if line is not None else len(buffer)
                if line is None:
                    break
            length = self._measure(at)
            if length < 0:
                # Where the protocol was just found, this is no message. Otherwise another protocol
                # may follow.
                at -= length if is_fresh else 0
                self._start = None if is_fresh and self._protocol != "sip" else at
                self._protocol = None
                is_fresh = False
                continue
            if length == 0 or length > len(buffer) - at:
                self._needed = length
                break
            self._take(at, length, found)
            self._start = at = at + length
            is_fresh = False
        self._shift(at)
        return found

    def lose(self) -> None:
        """Search again, because bytes of the stream are missing."""
        self._shift(len(self._buffer))
        self._protocol = None
        self._needed = 0
        self._start = 0
        self._compressed = 0
        self._frames.reset()

    def _shift(self, count: int) -> None:
        if count:
            del self._buffer[:count]
            if self._start is not None:
                self._start = max(0, self._start - count)
            self._sip.shift(count)
            self._heads.shift(count)
            for sign in self._signs:
                sign.shift(count)

    def _is_encrypted(self, data: bytes) -> bool:
        """Whether a segment is skipped since TLS records start in it."""
        is_record = self._protocol is None and _TLS_RECORD(data) is not None
        self.is_tls = self._is_new and is_record
        self._is_new = False
        return is_record

    def _search(self, at: int, segment: int) -> int:
        """Find the next sign of a protocol and set it.

        Args:
            at: offset from which on nothing is known.
            segment: offset where the last segment starts.

        Returns:
            the offset of the sign; if there is none, the offset up to which there is none.
        """
        best, protocol = self._first_sign(at)
        # A message may start with a segment, and behind what was read before.
        starts = {max(at, segment)} | ({max(at, self._start)} if self._start is not None else set())
        self._start = None
        for start in sorted(starts):
            if start < best and (starting := self._starting(start, segment)) is not None:
                best, protocol = start, starting
                break
            if self._start is None and self._may_start(start):
                self._start = start
        if protocol is not None:
            self._protocol = protocol
            if protocol == "ws":
                self._connection.is_websocket = True
            return best
        clear = min(sign.clear for sign in self._signs)
        return max(at, clear if self._start is None else min(clear, self._start))

    def _may_start(self, start: int) -> bool:
        """Whether an incomplete line at the end of the buffer may be a start line."""
        line = bytes(self._buffer[start : start + LONGEST_START])
        return _may_be_line(line) is not None or (bool(line) and _PROXY.startswith(line))

    def _starting(self, start: int, segment: int) -> Protocol | None:
        """The protocol that starts where a segment or what follows a message starts."""
        buffer = self._buffer
        if (line := _at_start(buffer, start)) is not None:
            return "sip" if line[1] is not None else "http"
        if buffer.startswith(_PROXY, start):
            return "proxy"
        if start != segment or start >= len(buffer):
            return None
        if self._fills is None:
            self._fills = websocket.frames_fill(buffer, start)
            is_compressed = self._fills and websocket.is_compressed(buffer, start)
            self._compressed = self._compressed + 1 if is_compressed else 0
        if self._fills and (self._connection.is_websocket or self._compressed >= MOST_UNSURE):
            return "ws"
        return None

    def _first_sign(self, at: int) -> tuple[int, Protocol | None]:
        buffer = self._buffer
        best, which = len(buffer), -1
        for number, sign in enumerate(self._signs):
            place = sign.next(buffer, at)
            if place is not None and place < best:
                best, which = place, number
        if which < 0:
            return best, None
        if which == 0:
            line = _at_start(buffer, best)
            return best, "sip" if line is not None and line[1] is not None else "http"
        return best, "hep" if which < 3 else "ws"

    def _measure(self, at: int) -> int:
        """The length of the unit at ``at``: 0 if not known yet; less if there is none."""
        buffer = self._buffer
        if self._protocol == "sip":
            return self._sip.measure(buffer, at)
        if self._protocol == "ws":
            return self._frames.measure(buffer, at)
        if self._protocol == "hep":
            if len(buffer) - at < v3.HEADER.size:
                return 0
            magic, total = v3.HEADER.unpack_from(buffer, at)
            return total if magic in v3.MAGICS and total >= v3.HEADER.size else -1
        if self._protocol == "http":
            end = self._heads.end(buffer, at)
            if end is not None and end - at <= LONGEST_HEAD:
                return end - at
            return 0 if end is None and len(buffer) - at < LONGEST_HEAD else -1
        if len(buffer) - at < _PROXY_HEADER:
            return 0
        return _PROXY_HEADER + int.from_bytes(buffer[at + 14 : at + 16])

    def _take(self, at: int, length: int, found: list[Found]) -> None:
        """Read the unit at ``at``, which is complete."""
        protocol, buffer = self._protocol, self._buffer
        if protocol in ("sip", "hep"):
            found.append(Found(protocol, bytes(buffer[at : at + length])))
            self.messages += 1
        elif protocol == "ws":
            message = self._frames.take(buffer, at)
            if message is not None and message.strip(b"\r\n"):
                found.append(Found("ws", message))
                self.messages += 1
        elif protocol == "http" and _upgrades(buffer, at, at + length):
            # The client waits for the answer, so that frames follow the head in both directions.
            self._connection.is_websocket = True
            self._protocol = "ws"
        else:
            self._protocol = None


class _Signs:
    """Finds the places of one kind of sign in a buffer, and searches each byte about once.

    Args:
        find: returns the offset of the first sign from an offset on, or None; and the offset before
            which none starts, whatever follows.
    """

    def __init__(self, find: Callable[[bytearray, int], tuple[int | None, int]]) -> None:
        self._find = find
        self._place: int | None = None
        self.clear = 0
        """The offset before which no sign starts, if none was found."""

    def next(self, buffer: bytearray, at: int) -> int | None:
        """The first sign at or after ``at``; None if there is none yet."""
        if self._place is None or self._place < at:
            start = max(at, self.clear)
            self._place = None
            if start < len(buffer):
                self._place, self.clear = self._find(buffer, start)
        return self._place

    def shift(self, count: int) -> None:
        """Follow the buffer after its first bytes were deleted."""
        if self._place is not None:
            self._place = self._place - count if self._place >= count else None
        self.clear = max(0, self.clear - count)


def _find_line(buffer: bytearray, start: int) -> tuple[int | None, int]:
    found = _after_line(buffer, start)
    if found is not None:
        return found.start() + 1, found.start()
    # The last line may be the start of one.
    line = buffer.rfind(b"\n", max(start, len(buffer) - LONGEST_START))
    return None, line if line >= 0 else len(buffer)


def _find_magic(magic: bytes, buffer: bytearray, start: int) -> tuple[int | None, int]:
    clear = max(start, len(buffer) - _FIRST_CHUNK)
    while (start := buffer.find(magic, start)) >= 0:
        total = int.from_bytes(buffer[start + 4 : start + 6])
        length = int.from_bytes(buffer[start + 10 : start + _FIRST_CHUNK])
        if 6 <= length <= total - v3.HEADER.size:
            return start, start
        start += 1
    return None, clear


def _find_hep(buffer: bytearray, start: int) -> tuple[int | None, int]:
    return _find_magic(v3.MAGICS[0], buffer, start)


def _find_older_hep(buffer: bytearray, start: int) -> tuple[int | None, int]:
    return _find_magic(v3.MAGICS[1], buffer, start)
