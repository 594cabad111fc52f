"""Counters of packets at one moment, of one sender or of several together. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, Self


class Counters(Protocol):
    """What all senders and groups count: ``offered = sent + dropped + queued + handed_over``."""

    @property
    def offered(self) -> int:
        """Packets put into the queue."""

    @property
    def sent(self) -> int:
        """Packets that the system accepted."""

    @property
    def bytes_sent(self) -> int:
        """Bytes that the system accepted."""

    @property
    def dropped(self) -> Counter[str]:
        """Dropped packets by cause."""

    @property
    def bounced(self) -> int:
        """Dropped packets that counted as sent before."""

    @property
    def handed_over(self) -> int:
        """Packets that another sender took over."""

    @property
    def queued(self) -> int:
        """Packets neither sent nor dropped, in memory and on disk."""

    @property
    def in_memory(self) -> int:
        """Packets queued in memory."""

    @property
    def bytes_queued(self) -> int:
        """Bytes queued in memory."""

    @property
    def spooled(self) -> int:
        """Packets queued on disk."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one moment; see `Counters`."""

    offered: int = 0
    sent: int = 0
    bytes_sent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bounced: int = 0
    handed_over: int = 0
    queued: int = 0
    in_memory: int = 0
    bytes_queued: int = 0
    spooled: int = 0

    @classmethod
    def of(cls, counted: Iterable[Counters]) -> Self:
        """Add up the counters of several senders or groups.

        Args:
            counted: their counters.
        """
        every = list(counted)
        return cls(
            offered=sum(each.offered for each in every),
            sent=sum(each.sent for each in every),
            bytes_sent=sum(each.bytes_sent for each in every),
            dropped=sum((each.dropped for each in every), Counter()),
            bounced=sum(each.bounced for each in every),
            handed_over=sum(each.handed_over for each in every),
            queued=sum(each.queued for each in every),
            in_memory=sum(each.in_memory for each in every),
            bytes_queued=sum(each.bytes_queued for each in every),
            spooled=sum(each.spooled for each in every),
        )
