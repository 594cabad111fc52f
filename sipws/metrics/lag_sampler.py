"""A timer that measures how late the event loop is: whatever blocks it delays SIP as much."""

import asyncio
from typing import Final, Self

from sipws.metrics.counters import Lag

INTERVAL: Final = 0.5
"""Seconds between two looks: often enough to see what delays a call, seldom enough to cost nothing
(some microseconds each)."""


class LagSampler:
    """Samples the lag of the running event loop: ``async with LagSampler(lag): …``.

    Args:
        lag: takes what is measured.
        interval: seconds between two looks.
    """

    def __init__(self, lag: Lag, interval: float = INTERVAL) -> None:
        self._lag = lag
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._interval
        self._timer = loop.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        self._lag.observe(asyncio.get_running_loop().time() - due)
        self._start()
