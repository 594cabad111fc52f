"""Looks after quiet connections: one task for all of them, so that none costs a timer."""

import asyncio
from typing import Final

from sipws.liveness import Intervals
from sipws.registry import Registry
from sipws.transport.flow import Flow

AT_A_TIME: Final = 200
"""Connections looked at before others get their turn: a fraction of a millisecond."""


class PingScheduler:
    """Pings quiet peers, and lets go of those that are gone or idle.

    Args:
        flows: the connections.
        intervals: when.
    """

    def __init__(self, flows: Registry[Flow], intervals: Intervals) -> None:
        self._flows = flows
        self._pause = intervals.look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; a second call does nothing. Needs a running event loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """End."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            # Unlike an await of the task, this does not take our own cancelling for the task's.
            await asyncio.wait([task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._pause)
            for number, flow in enumerate(self._flows, 1):
                flow.look_after(loop.time())
                if number % AT_A_TIME == 0:
                    await asyncio.sleep(0)
