"""A bounded queue of packets to send, with counters that always add up. Pure.

``offered = sent + dropped + queued + handed_over`` holds at every moment: each packet is accounted
for. When the queue is full, the flow with the most queued data loses a packet. A flood on one flow
thus does not displace the others.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from hep.sending.fair_queue import FairQueue, Flow

WhenFull = Literal["drop-oldest", "drop-newest"]
"""Which packet of the heaviest flow is dropped when the queue is full."""

LIMIT: Final = 10_000
"""Default limit in packets: about ten seconds of a busy server, some megabytes."""

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Default limit in bytes, a tenth of `LIMIT` packets of maximum length."""

FULL: Final = "queue-full"
"""Cause of a drop: the queue was full."""

MOST_FLOWS: Final = 1000
"""Maximum number of flows in `Outbox.crowded_out`. Beyond it, the 500 with the most drops stay."""


class Outbox:
    """A queue of encoded packets with the counters of a sender (``Sender.counters``).

    Counters: ``offered``, ``sent``, ``bytes_sent``, ``dropped`` by cause, ``crowded_out`` by flow,
    ``bounced``, ``handed_over``, ``queued``, ``in_memory``, ``bytes_queued``, ``spooled``. A sender
    calls `put`. A link calls `take`, and then `done`, `undo` or `drop_taken`. A spooler sets
    ``divert``.

    Args:
        limit: maximum number of queued packets, from 1. Default: 10000.
        when_full: packet dropped when the queue is full: the oldest or the newest one of the flow
            with the most queued data. ``drop-oldest`` keeps the present, ``drop-newest`` the start
            of an incident.
        limit_bytes: maximum number of queued bytes, from 1. Default: 64 MiB.
    """

    def __init__(
        self,
        limit: int = LIMIT,
        when_full: WhenFull = "drop-oldest",
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.offered = 0
        """Packets put into the queue."""
        self.sent = 0
        """Packets that the system accepted."""
        self.bytes_sent = 0
        """Bytes that the system accepted."""
        self.dropped: Counter[str] = Counter()
        """Dropped packets by cause: `FULL`, ``refused``, ``too-long``, ``shutdown``,
        ``spool-full``, ``spool-failed``, ``spool-damaged``."""
        self.crowded_out: Counter[Flow] = Counter()
        """Packets dropped as `FULL`, by flow."""
        self.bounced = 0
        """Dropped packets that counted as sent before. ``sent + bounced`` never decreases."""
        self.handed_over = 0
        """Packets that another sender took over, which counts them as offered too."""
        self.bytes_queued = 0
        """Bytes queued in memory."""
        self.spooled = 0
        """Packets queued on disk, after those in memory."""
        self.divert: Callable[[bytes], None] | None = None
        """Receives a packet for which memory has no room, instead of a drop. While ``spooled`` is
        not 0 it receives every packet, which keeps the order."""
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._drop_oldest = when_full == "drop-oldest"
        # Up to half of the limits the flows of packets are not determined.
        self._calm, self._calm_bytes = limit // 2, limit_bytes // 2
        self._waiting: deque[bytes] | FairQueue = deque()
        self._is_fair = False
        self._taken: list[bytes] = []

    def __repr__(self) -> str:
        names = ("offered", "sent", "dropped", "bounced", "handed_over", "queued", "spooled")
        values = (dict(v) if isinstance(v := getattr(self, n), Counter) else v for n in names)
        return f"Outbox({', '.join(f'{n}={v!r}' for n, v in zip(names, values, strict=True))})"

    @property
    def queued(self) -> int:
        """Packets neither sent nor dropped, in memory and on disk."""
        return len(self._waiting) + len(self._taken) + self.spooled

    @property
    def in_memory(self) -> int:
        """Packets queued in memory."""
        return len(self._waiting) + len(self._taken)

    def put(self, packet: bytes) -> None:
        """Add a packet. When the queue is full, drop a packet or pass this one to ``divert``."""
        self.offered += 1
        size = self.bytes_queued + len(packet)
        waiting = self._waiting
        if (
            len(waiting) + len(self._taken) < self._calm
            and size <= self._calm_bytes
            and not self.spooled
        ):
            self.bytes_queued = size
            waiting.append(packet)
        elif self.divert is None:
            self.bytes_queued = size
            self._put_fairly(packet)
        elif (
            len(waiting) + len(self._taken) < self._limit
            and size <= self._limit_bytes
            and not self.spooled
        ):
            self.bytes_queued = size
            waiting.append(packet)
        else:
            self.spooled += 1
            self.divert(packet)

    def _put_fairly(self, packet: bytes) -> None:
        """Add a packet and drop packets of the heaviest flow until the limits hold."""
        waiting = self._waiting
        if not isinstance(waiting, FairQueue):
            waiting = self._waiting = FairQueue(waiting, self._limit, self._limit_bytes)
            self._is_fair = True
        waiting.append(packet)
        # Packets taken for sending are never dropped.
        while self._is_over_full and waiting:
            victim, flow = waiting.pop_heaviest(oldest=self._drop_oldest)
            self.bytes_queued -= len(victim)
            self.dropped[FULL] += 1
            self.crowded_out[flow] += 1
        if len(self.crowded_out) > MOST_FLOWS:
            self.crowded_out = Counter(dict(self.crowded_out.most_common(MOST_FLOWS // 2)))

    def put_all(self, packets: Sequence[bytes], size: int) -> None:
        """Add packets in order, with the result of one `put` each. Faster while there is room.

        Args:
            packets: the packets, oldest first.
            size: sum of their lengths in bytes.
        """
        count = len(packets)
        if (
            len(self._waiting) + len(self._taken) + count <= self._calm
            and self.bytes_queued + size <= self._calm_bytes
            and not self.spooled
        ):
            self.offered += count
            self.bytes_queued += size
            self._waiting.extend(packets)
        else:
            for packet in packets:
                self.put(packet)

    @property
    def _is_over_full(self) -> bool:
        waiting = len(self._waiting) + len(self._taken)
        return waiting > self._limit or self.bytes_queued > self._limit_bytes

    def restore(self, packets: Iterable[bytes]) -> None:
        """Move packets from disk back to the end of the queue in memory, oldest first."""
        for packet in packets:
            self.spooled -= 1
            self._waiting.append(packet)
            self.bytes_queued += len(packet)

    def remove_all(self) -> list[bytes]:
        """Remove all packets from memory, to be spooled. They stay queued and count as spooled.

        Returns:
            the packets, oldest first.
        """
        self.undo()
        packets = list(self._waiting)
        self._waiting = deque()
        self.bytes_queued = 0
        self.spooled += len(packets)
        return packets

    def drop_spooled(self, count: int, cause: str) -> None:
        """Count ``count`` packets on disk, from 0, as dropped for ``cause``."""
        if count:
            self.spooled -= count
            self.dropped[cause] += count

    def refuse(self, cause: str) -> None:
        """Count a packet as offered and dropped for ``cause`` without queueing it."""
        self.offered += 1
        self.dropped[cause] += 1

    def take(self, size: int) -> list[bytes]:
        """Take the oldest packets for sending.

        They count as queued until `done`, `undo` or `drop_taken` is called.

        Args:
            size: bytes to take, from 1. The last packet may exceed it.

        Returns:
            the packets taken, and those taken before that are not yet done; empty if none are
            queued.
        """
        taken = self._taken
        waiting = self._waiting
        while waiting and size > 0:
            packet = waiting.popleft()
            size -= len(packet)
            taken.append(packet)
        if self._is_fair and len(waiting) <= self._calm // 2:
            self._is_fair = False
            self._waiting = deque(waiting)
        return taken

    def done(self, count: int | None = None) -> None:
        """Count the taken packets as sent.

        Args:
            count: number of packets sent, from 0. The others go back to the front of the queue.
                None counts all as sent.
        """
        if count is not None and count < len(self._taken):
            self._waiting.extendleft(reversed(self._taken[count:]))
            del self._taken[count:]
        size = sum(map(len, self._taken))
        self.sent += len(self._taken)
        self.bytes_sent += size
        self.bytes_queued -= size
        self._taken = []

    def undo(self) -> None:
        """Put the taken packets back to the front of the queue, because sending failed."""
        self._waiting.extendleft(reversed(self._taken))
        self._taken = []

    def drop_taken(self, cause: str) -> None:
        """Count the taken packets as dropped for ``cause``."""
        self.dropped[cause] += len(self._taken)
        self.bytes_queued -= sum(map(len, self._taken))
        self._taken = []

    def lost(self, cause: str) -> None:
        """Count a packet as dropped for ``cause`` that counted as sent before."""
        if self.sent:
            self.sent -= 1
            self.dropped[cause] += 1
            self.bounced += 1

    def withdraw(self) -> list[bytes]:
        """Remove the queued packets, so that another sender sends them.

        They count as ``handed_over``. Packets taken for sending and packets on disk stay.

        Returns:
            the packets, oldest first.
        """
        packets = list(self._waiting)
        self._waiting = deque()
        self.handed_over += len(packets)
        self.bytes_queued -= sum(map(len, packets))
        return packets

    def drop_all(self, cause: str) -> None:
        """Drop all packets in memory for ``cause``."""
        if self.in_memory:
            self.dropped[cause] += self.in_memory
        self._waiting = deque()
        self._taken = []
        self.bytes_queued = 0
