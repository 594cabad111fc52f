"""IP fragments to packets, and TCP segments to what was sent. Pure.

A capture may hold anything: what waits for its missing rest is bounded everywhere, and what is
given up is counted.
"""

from collections import Counter
from typing import Final, NamedTuple

from hep.captures.wire import SYN, Ip, Segment

MOST_FRAGMENTED: Final = 256
"""IP packets that may wait for fragments; the one that has waited longest goes when one more comes.
Fragments of a packet come together, so that few wait at a time."""

MOST_FRAGMENTS: Final = 256
"""Fragments of a packet: 64 KiB over a link that carries 576 bytes are 120."""

LONGEST_PACKET: Final = 0xFFFF

LONGEST_WAIT: Final = 256 * 1024
"""Bytes that may wait in a stream for a segment that comes late; with more of them it is taken for
lost. What is under way at a time is hardly more."""

MOST_WAITING: Final = 256
"""Segments that may wait, likewise."""

FARTHEST: Final = 1 << 24
"""How far ahead of, or behind, what is expected a segment's sequence number can stand, in bytes.
Beyond it, it belongs to another connection of the same addresses."""

FRAGMENTS_LOST: Final = "fragments lost"
"""Counter: IP packets given up because not all of them came."""


class Fragments:
    """Puts IP packets together.

    Args:
        counters: where `FRAGMENTS_LOST` are counted.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._waiting: dict[tuple[bytes, bytes, int, int], dict[int, Ip]] = {}

    def add(self, part: Ip) -> Ip | None:
        """Take a fragment; returns the whole packet when it was the last one missing."""
        if part.fragment is None:
            return part
        if part.missing:
            self._counters[FRAGMENTS_LOST] += 1
            return None
        # IPv4 tells packets apart by protocol, too, while in IPv6 only the first one's counts.
        protocol = part.protocol if len(part.src) == 4 else 0
        key = part.src, part.dst, protocol, part.fragment.ident
        parts = self._waiting.setdefault(key, {})
        parts.setdefault(part.fragment.offset, part)
        whole = _joined(parts)
        if whole is not None:
            del self._waiting[key]
        elif len(parts) > MOST_FRAGMENTS:
            del self._waiting[key]
            self._counters[FRAGMENTS_LOST] += 1
        elif len(self._waiting) > MOST_FRAGMENTED:
            del self._waiting[next(iter(self._waiting))]
            self._counters[FRAGMENTS_LOST] += 1
        return whole

    def finish(self) -> None:
        """Nothing more comes."""
        if self._waiting:
            self._counters[FRAGMENTS_LOST] += len(self._waiting)
        self._waiting.clear()


def _joined(parts: dict[int, Ip]) -> Ip | None:
    """The packet whose parts these are, if they are all there."""
    if 0 not in parts:
        return None
    data = bytearray()
    for offset in sorted(parts):
        part = parts[offset]
        if offset > len(data) or part.fragment is None:
            return None
        data += part.payload[len(data) - offset :]
        if not part.fragment.more:
            if len(data) > LONGEST_PACKET:
                return None
            return parts[0]._replace(payload=bytes(data), fragment=None)
    return None


class Piece(NamedTuple):
    """The next bytes of a stream."""

    data: bytes
    after_gap: bool
    """Whether something is missing before them."""


class Stream:
    """One direction of a TCP connection, in order, each byte once."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._gap = False
        self._waiting: dict[int, Segment] = {}
        self._size = 0

    def feed(self, segment: Segment) -> list[Piece]:
        """Take a segment; returns what is in order now."""
        seq = segment.seq
        if segment.flags & SYN:
            # TCP connections reuse addresses: what is left of the one before never comes.
            self._forget()
            seq = (seq + 1) % 2**32
            self._next, self._gap = seq, False
        if self._next is None:
            self._next = seq
        if not segment.payload and not segment.missing:
            return []
        if abs(_ahead(seq, self._next)) > FARTHEST:
            self._forget()
            self._next, self._gap = seq, True
        kept = self._waiting.get(seq)
        if kept is None or len(kept.payload) < len(segment.payload):
            self._size += len(segment.payload) - (len(kept.payload) if kept else 0)
            self._waiting[seq] = segment
        pieces = self._in_order()
        while self._size > LONGEST_WAIT or len(self._waiting) > MOST_WAITING:
            pieces += self._skip_gap()
        return pieces

    def finish(self) -> list[Piece]:
        """Nothing more comes; returns what still waited, with its gaps."""
        pieces = []
        while self._waiting:
            pieces += self._skip_gap()
        return pieces

    def _skip_gap(self) -> list[Piece]:
        expected = self._next or 0
        self._next = min(self._waiting, key=lambda seq: _ahead(seq, expected))
        self._gap = True
        return self._in_order()

    def _in_order(self) -> list[Piece]:
        pieces = []
        for seq in self._sorted():
            expected = self._next or 0
            ahead = _ahead(seq, expected)
            if ahead > 0:
                break
            segment = self._waiting.pop(seq)
            self._size -= len(segment.payload)
            data = segment.payload[-ahead:]
            end = (seq + len(segment.payload)) % 2**32
            if data:
                pieces.append(Piece(data, self._gap))
                self._next, self._gap = end, False
            if segment.missing and _ahead(end, self._next or 0) >= 0:
                self._next, self._gap = (end + segment.missing) % 2**32, True
        return pieces

    def _sorted(self) -> list[int]:
        expected = self._next or 0
        if len(self._waiting) == 1:
            return list(self._waiting)
        return sorted(self._waiting, key=lambda seq: _ahead(seq, expected))

    def _forget(self) -> None:
        self._waiting.clear()
        self._size = 0


def _ahead(seq: int, expected: int) -> int:
    """How far a sequence number stands behind another in the stream; they wrap at 2³²."""
    return (seq - expected + 2**31) % 2**32 - 2**31
