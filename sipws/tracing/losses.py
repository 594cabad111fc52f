"""Reports of the packets that a destination did not get. Pure.

The ledger of a sender counts dropped packets. `Losses` watches it, and returns a report when
packets were lost, no more were lost since the last look, and the destination is connected.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hep import Outbox
from hep.sending.fair_queue import named
from hep.sending.outbox import FULL

NAMED: Final = 3
"""Connections named in a report, of those that lost packets because the queue was full."""

WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings that a queue is full."""

LONGEST_WAIT: Final = 64
"""Most looks between two reports. Over UDP a report may be lost itself, which is a new loss."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Packets that were lost."""

    causes: Counter[str]
    """Packets by cause."""
    since: float
    """A time before the first loss, in seconds since the epoch."""
    until: float
    """A time after the last loss, in seconds since the epoch."""
    whose: str = ""
    """The connections that lost most because the queue was full, with their packets."""

    def __str__(self) -> str:
        total = self.causes.total()
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.most_common())
        noun = "packet" if total == 1 else "packets"
        text = f"{total} {noun} lost from {_when(self.since)} to {_when(self.until)}: {causes}"
        return f"{text}; most of {self.whose}" if self.whose else text


class Losses:
    """Watches the ledger of a sender.

    Args:
        ledger: of the sender to the destination.
        now: the time, in seconds since the epoch.
    """

    def __init__(self, ledger: Outbox, now: float) -> None:
        self._ledger = ledger
        self._reported: Counter[str] = Counter()
        self._reported_whose = ledger.crowded_out.copy()
        self._warned = 0
        self._next_warning = now
        self._seen = 0
        self._since = self._until = self._looked = now
        self._wait = self._waited = 0

    def look(self, now: float, *, reachable: bool) -> Loss | None:
        """Look at the ledger. The caller does so about once a second.

        Args:
            now: the time, in seconds since the epoch.
            reachable: whether the destination is connected.

        Returns:
            the loss to report to the destination now; it counts as reported.
        """
        ledger = self._ledger
        total = ledger.dropped.total()
        before, self._looked = self._looked, now
        if total > self._seen:
            if self._seen == self._reported.total():
                self._since = before
            # With a clock that was set back it would end before it began.
            self._since, self._until = min(self._since, now), now
            self._seen = total
            return None
        if total == self._reported.total():
            self._wait = self._waited = 0
            return None
        self._waited += 1
        if not reachable or ledger.in_memory or self._waited < self._wait:
            return None
        # A packet that is refused later is reported with the others of that cause.
        loss = Loss(ledger.dropped - self._reported, self._since, self._until, self._whose())
        self._reported, self._reported_whose = ledger.dropped.copy(), ledger.crowded_out.copy()
        self._waited, self._wait = 0, min(max(1, self._wait * 2), LONGEST_WAIT)
        return loss

    def warning(self, now: float) -> str | None:
        """Return a log line about a full queue, at most one in `WARNING_INTERVAL`.

        Args:
            now: the time, in seconds since the epoch.

        Returns:
            the line; None when no packets were dropped since the last one.
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
        lost = (self._ledger.crowded_out - self._reported_whose).most_common(NAMED)
        return ", ".join(f"{named(flow)} ({count})" for flow, count in lost)


def _when(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"
