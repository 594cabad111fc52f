"""Time limits of connections: one timer for all connections with the same limit.

A timer of the event loop costs a tenth of everything else that a short connection does, and nearly
all timers are cancelled. Connections with the same limit therefore wait in a line, in the order of
their deadlines. Only the first of a line has a timer.
"""

import asyncio
from typing import Protocol


class Limited(Protocol):
    """A connection with a time limit."""

    def time_is_up(self) -> None:
        """Act on a limit that has passed; called once, from the event loop."""


class Line:
    """The connections with one time limit.

    Args:
        limit: seconds.
    """

    __slots__ = ("_deadlines", "_limit", "_loop", "_timer")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._deadlines: dict[Limited, float] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_used(self) -> bool:
        """Whether a connection is in the line."""
        return bool(self._deadlines)

    def enter(self, limited: Limited) -> None:
        """Start the time of a connection, which is in no line yet."""
        self._deadlines[limited] = self._loop.time() + self._limit
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, self._look)

    def leave(self, limited: Limited) -> None:
        """Remove the limit of a connection; no effect if it has passed."""
        # The timer stays: when it fires it finds the connection that is the first then.
        self._deadlines.pop(limited, None)

    def close(self) -> None:
        """Remove all limits."""
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now, deadlines = self._loop.time(), self._deadlines
        try:
            while deadlines:
                first = next(iter(deadlines))
                if deadlines[first] > now:
                    break
                del deadlines[first]
                first.time_is_up()
        finally:
            if deadlines and self._timer is None:
                earliest = next(iter(deadlines.values()))
                self._timer = self._loop.call_at(earliest, self._look)


class Deadlines:
    """The lines of a server's or a client's connections, by their limit."""

    def __init__(self) -> None:
        self._lines: dict[float, Line] = {}

    def line(self, limit: float) -> Line:
        """The line for a limit in seconds; needs a running event loop."""
        line = self._lines.get(limit)
        if line is None:
            line = self._lines[limit] = Line(limit)
        return line

    def forget_unused(self) -> None:
        """Forget the lines in which nothing waits; `line` makes them again."""
        for limit, line in list(self._lines.items()):
            if not line.is_used:
                line.close()
                del self._lines[limit]

    def close(self) -> None:
        """Cancel the timers; no connection is left."""
        for line in self._lines.values():
            line.close()
        # A server that starts again may run in another event loop.
        self._lines.clear()
