"""What waits to be sent: a bounded queue with a ledger. Pure.

At every moment ``offered = sent + dropped + queued``: no packet is lost unseen. When the queue is
full, the flow that has most waiting loses a packet: a flood of one does not crowd out the others.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from hep.sending.fair_queue import FairQueue, Flow

WhenFull = Literal["drop-oldest", "drop-newest"]

LIMIT: Final = 10_000
"""Packets that wait unless told: some ten seconds of a busy server, some megabytes."""

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Their bytes: so many packets of the greatest length would be ten times as much."""

FULL: Final = "queue-full"
"""The cause of a packet dropped because too many waited."""

MOST_FLOWS: Final = 1000
"""Flows of which it is counted how many packets were dropped; of more, those that lost most."""


class Outbox:
    """A queue of encoded packets.

    Args:
        limit: how many may wait.
        when_full: which packet goes when one more comes, of those of the flow that has most
            waiting. The newest is of more use to whoever looks at what happens now, the oldest to
            whoever wants to know how it began.
        limit_bytes: how many bytes may wait.
    """

    def __init__(
        self,
        limit: int = LIMIT,
        when_full: WhenFull = "drop-oldest",
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.offered = 0
        """Packets put in."""
        self.sent = 0
        """Packets that the system has taken."""
        self.bytes_sent = 0
        self.dropped: Counter[str] = Counter()
        """Packets given up, by cause."""
        self.crowded_out: Counter[Flow] = Counter()
        """Packets given up because too many waited, by flow."""
        self.bounced = 0
        """Of those, packets that had counted as sent before; ``sent`` and these together never go
        down."""
        self.bytes_queued = 0
        """Bytes in memory."""
        self.spooled = 0
        """Packets that wait elsewhere, behind those in memory."""
        self.divert: Callable[[bytes], None] | None = None
        """Takes what there is no room for in memory, instead of dropping something; and all that
        comes while ``spooled`` is not 0, so that order is kept."""
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._drop_oldest = when_full == "drop-oldest"
        # Up to half of the limits no flow needs to be told from another.
        self._calm, self._calm_bytes = limit // 2, limit_bytes // 2
        self._waiting: deque[bytes] | FairQueue = deque()
        self._is_fair = False
        self._taken: list[bytes] = []

    @property
    def queued(self) -> int:
        """Packets that are neither sent nor dropped."""
        return len(self._waiting) + len(self._taken) + self.spooled

    @property
    def in_memory(self) -> int:
        """Those of them that can be taken."""
        return len(self._waiting) + len(self._taken)

    def put(self, packet: bytes) -> None:
        """Add a packet; others go, or it does, when there is no room."""
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
        """Add a packet where there may be no room, and give up what has to go."""
        waiting = self._waiting
        if not isinstance(waiting, FairQueue):
            waiting = self._waiting = FairQueue(waiting, self._limit, self._limit_bytes)
            self._is_fair = True
        waiting.append(packet)
        # What has been taken for sending is being sent, and stays.
        while self._is_over_full and waiting:
            given_up, flow = waiting.pop_heaviest(oldest=self._drop_oldest)
            self.bytes_queued -= len(given_up)
            self.dropped[FULL] += 1
            self.crowded_out[flow] += 1
        if len(self.crowded_out) > MOST_FLOWS:
            self.crowded_out = Counter(dict(self.crowded_out.most_common(MOST_FLOWS // 2)))

    def put_all(self, packets: Sequence[bytes], size: int) -> None:
        """Add packets in their order, as if each were put; where there is room, at once.

        Args:
            packets: what to add.
            size: their bytes.
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
        """Packets that waited elsewhere can be taken from now on."""
        for packet in packets:
            self.spooled -= 1
            self._waiting.append(packet)
            self.bytes_queued += len(packet)

    def remove_all(self) -> list[bytes]:
        """Take out what is in memory: it waits elsewhere from now on."""
        self.undo()
        packets = list(self._waiting)
        self._waiting = deque()
        self.bytes_queued = 0
        self.spooled += len(packets)
        return packets

    def drop_spooled(self, count: int, cause: str) -> None:
        """So many packets that waited elsewhere are lost."""
        if count:
            self.spooled -= count
            self.dropped[cause] += count

    def refuse(self, cause: str) -> None:
        """Count a packet that was offered and cannot even wait."""
        self.offered += 1
        self.dropped[cause] += 1

    def take(self, size: int) -> list[bytes]:
        """Take the next packets for sending: at least one, and about ``size`` bytes at most.

        They count as queued until `done`, `undo` or `drop_taken` says what became of them.
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
        """What was taken has been sent; or so many of it, and the others wait on."""
        if count is not None and count < len(self._taken):
            self._waiting.extendleft(reversed(self._taken[count:]))
            del self._taken[count:]
        size = sum(map(len, self._taken))
        self.sent += len(self._taken)
        self.bytes_sent += size
        self.bytes_queued -= size
        self._taken = []

    def undo(self) -> None:
        """What was taken could not be sent: it is first in the queue again."""
        self._waiting.extendleft(reversed(self._taken))
        self._taken = []

    def drop_taken(self, cause: str) -> None:
        """What was taken can never be sent."""
        self.dropped[cause] += len(self._taken)
        self.bytes_queued -= sum(map(len, self._taken))
        self._taken = []

    def lost(self, cause: str) -> None:
        """A packet that was sent turned out to be lost."""
        if self.sent:
            self.sent -= 1
            self.dropped[cause] += 1
            self.bounced += 1

    def withdraw(self) -> list[bytes]:
        """Take back what waits, as if it had never been offered: another will send it."""
        packets = list(self._waiting)
        self._waiting = deque()
        self.offered -= len(packets)
        self.bytes_queued -= sum(map(len, packets))
        return packets

    def drop_all(self, cause: str) -> None:
        """Give up everything in memory."""
        if self.in_memory:
            self.dropped[cause] += self.in_memory
        self._waiting = deque()
        self._taken = []
        self.bytes_queued = 0
