"""Whether a quiet peer is still there (RFC 6455 section 5.5.2, RFC 5626 section 4.4.1). Pure.

A phone that lost its network sends nothing, and TCP notices after many minutes or never. A peer
that was quiet for some time gets a ping. A peer that does not answer is dropped.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

PROBE_TIMEOUT: Final = 10.0
"""Seconds for the answer to a single ping while `Intervals.pong` is 0 (RFC 5626 section 4.4.1: a
flow without an answer in 10 s has failed)."""


class Finding(Enum):
    """The result of a check of a connection."""

    WELL = auto()
    ASK = auto()
    """A ping is due."""
    GONE = auto()
    """The ping was not answered in time."""
    IDLE = auto()
    """No message was received for too long."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """When a quiet connection is pinged, and when an idle one is closed; 0 for never."""

    ping: float = 30.0
    """Seconds without a byte from the peer before it is pinged. Home routers drop the mapping of a
    connection after a minute."""

    pong: float = 10.0
    """Seconds for the answer (RFC 5626 section 4.4.1)."""

    idle: float = 0.0
    """Seconds without a message from the peer before it is closed with 1000. A pong is not a
    message."""

    @property
    def patience(self) -> float:
        """Seconds for the answer to a ping; `PROBE_TIMEOUT` if `pong` is 0."""
        return self.pong or PROBE_TIMEOUT

    @property
    def look(self) -> float:
        """Seconds between two checks: half the shortest of the times above, at least 0.02."""
        shortest = min(each for each in (self.ping, self.idle, self.patience) if each)
        return max(0.02, shortest / 2)


class Liveness:
    """Watches one connection by its counters, so that received data costs nothing."""

    __slots__ = (
        "_bytes_in",
        "_heard",
        "_intervals",
        "_last_message",
        "_messages_in",
        "_ping",
        "_pinged",
    )

    def __init__(self, intervals: Intervals, now: float) -> None:
        self._intervals = intervals
        self._ping = intervals.ping
        self._bytes_in = self._messages_in = -1
        self._heard = self._last_message = now
        self._pinged: float | None = None

    def look(self, now: float, bytes_in: int, messages_in: int, is_read: bool = True) -> Finding:
        """Look at a connection.

        Args:
            now: seconds on a monotonic clock.
            bytes_in: bytes received from the peer, in total.
            messages_in: messages received, in total.
            is_read: whether the connection is read now. Otherwise silence proves nothing: the peer
                is pinged, so that it knows that we are there, and stays.
        """
        intervals = self._intervals
        if bytes_in != self._bytes_in:
            self._bytes_in, self._heard, self._pinged = bytes_in, now, None
        if messages_in != self._messages_in:
            self._messages_in, self._last_message = messages_in, now
        if not is_read:
            self._last_message, self._pinged = now, None
            if self._ping and now - self._heard >= self._ping:
                self._heard = now
                return Finding.ASK
            return Finding.WELL
        if self._pinged is not None:
            return Finding.GONE if now - self._pinged >= intervals.patience else Finding.WELL
        if intervals.idle and now - self._last_message >= intervals.idle:
            return Finding.IDLE
        if self._ping and now - self._heard >= self._ping:
            return self.ask(now, bytes_in)
        return Finding.WELL

    def expect(self, seconds: float) -> None:
        """Ping a peer that expects a sign of us at this interval (RFC 5626 section 4.4.1).

        It gets a ping within 80 to 100 % of that time, or sooner if the intervals are shorter.

        Args:
            seconds: the peer's interval.
        """
        # Both the last data and the next ping are noticed by a look.
        due = max(min(0.8 * seconds, seconds - 2 * self._intervals.look), 0.001)
        self._ping = min(self._intervals.ping or due, due)

    def ask(self, now: float, bytes_in: int) -> Finding:
        """Ping at once, whatever the intervals; a ping under way is enough."""
        if self._pinged is not None:
            return Finding.WELL
        self._pinged = now
        # Data received until now is no answer.
        self._bytes_in = bytes_in
        return Finding.ASK
