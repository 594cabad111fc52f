"""Reassembly of IP fragments and TCP segments. Pure.

A capture may contain anything. Therefore all buffers are bounded, and dropped data is counted.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hep.captures.wire import SYN, Ip, Segment

MOST_FRAGMENTED: Final = 256
"""Maximum number of incomplete IP packets. Beyond it, the oldest is dropped. The fragments of a
packet arrive close together, so few packets are incomplete at a time."""

MOST_FRAGMENTS: Final = 256
"""Maximum number of fragments of a packet. 64 KiB over a link with an MTU of 576 bytes need 120."""

LONGEST_PACKET: Final = 0xFFFF
"""Maximum length of a reassembled IP payload in bytes."""

LONGEST_WAIT: Final = 256 * 1024
"""Maximum number of bytes buffered after a missing segment. Beyond it, the segment counts as lost.
Few connections have more unacknowledged data in flight."""

MOST_WAITING: Final = 256
"""Maximum number of segments buffered after a missing one, as `LONGEST_WAIT`."""

FARTHEST: Final = 1 << 24
"""Maximum distance in bytes between the sequence number of a segment and the expected one. A
segment beyond it belongs to another connection between the same addresses."""

FRAGMENTS_LOST: Final = "fragments lost"
"""Counter: IP packets dropped because a fragment is missing."""


class Fragments:
    """Reassembles fragmented IP packets (RFC 791 section 3.2, RFC 8200 section 4.5).

    Args:
        counters: counter for `FRAGMENTS_LOST`.
        matters: whether an incomplete packet counts, by its first fragment, None if that is
            missing. Default: all count.
    """

    def __init__(
        self, counters: Counter[str], matters: Callable[[Ip | None], bool] = lambda _: True
    ) -> None:
        self._counters = counters
        self._matters = matters
        self._waiting: dict[tuple[bytes, bytes, int, int], dict[int, Ip]] = {}

    def add(self, part: Ip) -> Ip | None:
        """Add an IP packet or a fragment.

        Returns:
            the complete packet; None while fragments are missing.
        """
        if part.fragment is None:
            return part
        if part.missing:
            self._lose({part.fragment.offset: part})
            return None
        # In IPv4 the protocol is part of a packet's identity. In IPv6 it is not (RFC 8200, 4.5).
        protocol = part.protocol if len(part.src) == 4 else 0
        key = part.src, part.dst, protocol, part.fragment.ident
        parts = self._waiting.setdefault(key, {})
        parts.setdefault(part.fragment.offset, part)
        whole = _joined(parts)
        if whole is not None:
            del self._waiting[key]
        elif len(parts) > MOST_FRAGMENTS:
            self._lose(self._waiting.pop(key))
        elif len(self._waiting) > MOST_FRAGMENTED:
            self._lose(self._waiting.pop(next(iter(self._waiting))))
        return whole

    def finish(self) -> None:
        """Drop and count all incomplete packets at the end of the capture."""
        for parts in self._waiting.values():
            self._lose(parts)
        self._waiting.clear()

    def _lose(self, parts: dict[int, Ip]) -> None:
        if self._matters(parts.get(0)):
            self._counters[FRAGMENTS_LOST] += 1


def _joined(parts: dict[int, Ip]) -> Ip | None:
    """The packet that these fragments make, keyed by offset; None if one is missing."""
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
    """Whether bytes before ``data`` are missing."""
    is_cut: bool = False
    """Whether the length of the capture truncated them; otherwise a segment is missing."""
    stamp: Any = None
    """As given to `Stream.feed`: that of the segment which completed ``data``, or behind a gap that
    of the segment with ``data``."""


class Stream:
    """Reassembles one direction of a TCP connection: in order, each byte once (RFC 9293)."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes that wait for a missing segment."""
        self._next: int | None = None
        self._gap = False
        self._is_cut = False
        self._waiting: dict[int, tuple[Segment, Any]] = {}
        self._stamp: Any = None

    @property
    def is_waiting(self) -> bool:
        """Whether segments wait for a missing one."""
        return bool(self._waiting)

    @property
    def gap(self) -> tuple[bool, bool]:
        """Whether bytes are missing at the end, and whether the capture truncated them."""
        return self._gap, self._is_cut

    def feed(self, segment: Segment, stamp: Any = None) -> list[Piece]:
        """Add a segment.

        Args:
            segment: the segment.
            stamp: what `Piece.stamp` refers to, such as the time.

        Returns:
            the bytes that are in order now.
        """
        seq = segment.seq
        self._stamp = stamp
        pieces: list[Piece] = []
        if segment.flags & SYN:
            # A new connection reuses the addresses: the rest of the earlier one never arrives.
            pieces = self.finish()
            seq = (seq + 1) % 2**32
            self._next, self._gap, self._is_cut = seq, False, False
        if self._next is None:
            self._next = seq
        if not segment.payload and not segment.missing:
            return pieces
        if abs(_ahead(seq, self._next)) > FARTHEST:
            pieces += self.finish()
            self._next, self._gap = seq, True
        kept = self._waiting.get(seq)
        if kept is None or len(kept[0].payload) < len(segment.payload):
            self.size += len(segment.payload) - (len(kept[0].payload) if kept else 0)
            self._waiting[seq] = segment, stamp
        pieces += self._in_order(is_gap=False)
        while self.size > LONGEST_WAIT or len(self._waiting) > MOST_WAITING:
            pieces += self._skip_gap()
        return pieces

    def finish(self) -> list[Piece]:
        """Return all buffered bytes with their gaps at the end of the capture."""
        pieces = []
        while self._waiting:
            pieces += self._skip_gap()
        return pieces

    def _skip_gap(self) -> list[Piece]:
        expected = self._next or 0
        self._next = min(self._waiting, key=lambda seq: _ahead(seq, expected))
        self._gap = True
        return self._in_order(is_gap=True)

    def _in_order(self, *, is_gap: bool) -> list[Piece]:
        pieces = []
        for seq in self._sorted():
            expected = self._next or 0
            ahead = _ahead(seq, expected)
            if ahead > 0:
                break
            segment, stamp = self._waiting.pop(seq)
            self.size -= len(segment.payload)
            data = segment.payload[-ahead:]
            end = (seq + len(segment.payload)) % 2**32
            if data:
                own = stamp if is_gap else self._stamp
                pieces.append(Piece(data, self._gap, self._is_cut, own))
                self._next, self._gap, self._is_cut = end, False, False
            if segment.missing and _ahead(end, self._next or 0) >= 0:
                self._next = (end + segment.missing) % 2**32
                self._gap = self._is_cut = True
        return pieces

    def _sorted(self) -> list[int]:
        expected = self._next or 0
        if len(self._waiting) == 1:
            return list(self._waiting)
        return sorted(self._waiting, key=lambda seq: _ahead(seq, expected))


def _ahead(seq: int, expected: int) -> int:
    """Distance from ``expected`` to ``seq`` in bytes, -2³¹ to 2³¹-1; sequence numbers wrap."""
    return (seq - expected + 2**31) % 2**32 - 2**31
