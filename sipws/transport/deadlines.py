"""Time limits of connections: one timer for all that have the same limit.

A timer of the event loop costs as much as a tenth of all else that a connection does which comes
and goes, and hardly one is ever due. Who has a limit waits in a line with all others that have the
same one, in the order of their deadlines, and only the first of a line has a timer.
"""

import asyncio
from typing import Protocol


class Limited(Protocol):
    """Who has a time limit."""

    def time_is_up(self) -> None:
        """The limit has passed; called once, from the event loop."""


class Line:
    """Those that have the same time limit.

    Args:
        limit: seconds.
    """

    __slots__ = ("_deadlines", "_limit", "_loop", "_timer")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._deadlines: dict[Limited, float] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, who: Limited) -> None:
        """The time of somebody who is not in line begins."""
        self._deadlines[who] = self._loop.time() + self._limit
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, self._look)

    def leave(self, who: Limited) -> None:
        """Somebody has no limit any more; it may have passed already."""
        # The timer stays: it looks when it is due who is the first then.
        self._deadlines.pop(who, None)

    def close(self) -> None:
        """Nobody's time will be up."""
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
        """The line for a limit, in seconds. Needs a running event loop."""
        line = self._lines.get(limit)
        if line is None:
            line = self._lines[limit] = Line(limit)
        return line

    def close(self) -> None:
        """Let go of the timers: no connection is left."""
        for line in self._lines.values():
            line.close()
        # The next ones may be for another event loop.
        self._lines.clear()
