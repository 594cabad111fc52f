"""Checks quiet connections: one task for all of them, so that no connection needs a timer."""

import asyncio
from typing import Final

from sipws.liveness import Intervals
from sipws.registry import Registry
from sipws.transport.flow import Flow

AT_A_TIME: Final = 200
"""Connections checked in one slice of the event loop, which take a fraction of a millisecond."""


class PingScheduler:
    """Pings quiet peers, drops dead ones and closes idle connections.

    Args:
        flows: the connections.
        intervals: the times, in seconds; `Intervals.look` is the pause between two checks.
    """

    def __init__(self, flows: Registry[Flow], intervals: Intervals) -> None:
        self._flows = flows
        self._pause = intervals.look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task, in a running event loop; a second call does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def renew(self, intervals: Intervals) -> None:
        """Check as often as new connections need it, and no less often than the old ones do.

        Args:
            intervals: the times of new connections.
        """
        if intervals.look < self._pause:
            self._pause = intervals.look
            if self._task is not None:
                # It may be in a long pause.
                self._task.cancel()
                self._task = None
                self.start()

    async def aclose(self) -> None:
        """Stop the task."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            # Unlike an await of the task, this is not confused by our own cancellation.
            await asyncio.wait([task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._pause)
            for number, flow in enumerate(self._flows, 1):
                flow.look_after(loop.time())
                if number % AT_A_TIME == 0:
                    await asyncio.sleep(0)
