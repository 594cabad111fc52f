"""What waits to be sent: a bounded queue with a ledger. Pure.

At every moment ``offered = sent + dropped + queued``: no packet is lost unseen.
"""

from collections import Counter, deque
from typing import Final, Literal

WhenFull = Literal["drop-oldest", "drop-newest"]

LIMIT: Final = 10_000
"""Packets that wait unless told: some ten seconds of a busy server, some megabytes."""

FULL: Final = "queue-full"
"""The cause of a packet dropped because too many waited."""


class Outbox:
    """A queue of encoded packets.

    Args:
        limit: how many may wait.
        when_full: which one goes when one more comes. The newest is of more use to whoever looks
            at what happens now, the oldest to whoever wants to know how it began.
    """

    def __init__(self, limit: int = LIMIT, when_full: WhenFull = "drop-oldest") -> None:
        self.offered = 0
        """Packets put in."""
        self.sent = 0
        """Packets that the system has taken."""
        self.bytes_sent = 0
        self.dropped: Counter[str] = Counter()
        """Packets given up, by cause."""
        self._limit = limit
        self._drop_oldest = when_full == "drop-oldest"
        self._waiting: deque[bytes] = deque()
        self._taken: list[bytes] = []

    @property
    def queued(self) -> int:
        """Packets that are neither sent nor dropped."""
        return len(self._waiting) + len(self._taken)

    def put(self, packet: bytes) -> None:
        """Add a packet; one goes when there is no room."""
        self.offered += 1
        if self.queued < self._limit:
            self._waiting.append(packet)
            return
        self.dropped[FULL] += 1
        if self._drop_oldest and self._waiting:
            self._waiting.popleft()
            self._waiting.append(packet)

    def take(self, size: int) -> list[bytes]:
        """Take the next packets for sending: at least one, and about ``size`` bytes at most.

        They count as queued until `done`, `undo` or `drop_taken` says what became of them.
        """
        taken = self._taken
        while self._waiting and size > 0:
            packet = self._waiting.popleft()
            size -= len(packet)
            taken.append(packet)
        return taken

    def done(self) -> None:
        """What was taken has been sent."""
        self.sent += len(self._taken)
        self.bytes_sent += sum(map(len, self._taken))
        self._taken = []

    def undo(self) -> None:
        """What was taken could not be sent: it is first in the queue again."""
        self._waiting.extendleft(reversed(self._taken))
        self._taken = []

    def drop_taken(self, cause: str) -> None:
        """What was taken can never be sent."""
        self.dropped[cause] += len(self._taken)
        self._taken = []

    def lost(self, cause: str) -> None:
        """A packet that was sent turned out to be lost."""
        if self.sent:
            self.sent -= 1
            self.dropped[cause] += 1

    def drop_all(self, cause: str) -> None:
        """Give up everything that waits."""
        if self.queued:
            self.dropped[cause] += self.queued
        self._waiting.clear()
        self._taken = []
