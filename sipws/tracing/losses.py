"""What a destination did not get, told to it once it is back. Pure.

A ledger counts what was dropped; this watches it, and says when there is something to tell: when
packets have been lost, none has been lost since the last look, and the destination is there.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hep import Outbox
from hep.sending.fair_queue import named
from hep.sending.outbox import FULL

NAMED: Final = 3
"""Connections that are named of those that lost packets because the queue was full."""

WARNING_INTERVAL: Final = 60.0
"""Seconds from one warning that a queue is full to the next."""

LONGEST_WAIT: Final = 64
"""Looks between two tries to tell: over UDP a report may be lost itself, which is a loss again."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Packets that were lost."""

    causes: Counter[str]
    """How many, by cause."""
    since: float
    """When the first of them was still safe, in seconds since the epoch."""
    until: float
    """When all of them were lost."""
    whose: str = ""
    """The connections that lost most because the queue was full, and how many packets each."""

    def __str__(self) -> str:
        total = self.causes.total()
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.most_common())
        noun = "packet" if total == 1 else "packets"
        text = f"{total} {noun} lost from {_when(self.since)} to {_when(self.until)}: {causes}"
        return f"{text}; most of {self.whose}" if self.whose else text


class Losses:
    """Watches a ledger.

    Args:
        ledger: of the sender to the destination.
        now: the time, in seconds since the epoch.
    """

    def __init__(self, ledger: Outbox, now: float) -> None:
        self._ledger = ledger
        self._told: Counter[str] = Counter()
        self._told_of = ledger.crowded_out.copy()
        self._warned = 0
        self._next_warning = now
        self._seen = 0
        self._since = self._until = self._looked = now
        self._wait = self._waited = 0

    def look(self, now: float, *, reachable: bool) -> Loss | None:
        """Look at the ledger; to be called about once a second.

        Args:
            now: the time, in seconds since the epoch.
            reachable: whether the destination is there.

        Returns:
            what is to be told to it now. It counts as told.
        """
        ledger = self._ledger
        total = ledger.dropped.total()
        before, self._looked = self._looked, now
        if total > self._seen:
            if self._seen == self._told.total():
                self._since = before
            # A clock that was set back is not to let it end before it began.
            self._since, self._until = min(self._since, now), now
            self._seen = total
            return None
        if total == self._told.total():
            self._wait = self._waited = 0
            return None
        self._waited += 1
        if not reachable or ledger.in_memory or self._waited < self._wait:
            return None
        # A packet that comes back as refused later on is told with the others of its kind.
        loss = Loss(ledger.dropped - self._told, self._since, self._until, self._whose())
        self._told, self._told_of = ledger.dropped.copy(), ledger.crowded_out.copy()
        self._waited, self._wait = 0, min(max(1, self._wait * 2), LONGEST_WAIT)
        return loss

    def warning(self, now: float) -> str | None:
        """What is to be logged of a full queue while packets are dropped, about once a minute.

        Args:
            now: the time, in seconds since the epoch.
        """
        full = self._ledger.dropped[FULL]
        if full == self._warned or now < self._next_warning:
            return None
        count, self._warned = full - self._warned, full
        self._next_warning = now + WARNING_INTERVAL
        whose = self._whose()
        return f"the queue is full: {count} packets dropped" + (whose and f", most of {whose}")

    def _whose(self) -> str:
        """The connections that lost most since the last report."""
        lost = (self._ledger.crowded_out - self._told_of).most_common(NAMED)
        return ", ".join(f"{named(flow)} ({count})" for flow, count in lost)


def _when(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"
