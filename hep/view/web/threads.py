"""Threads in which the store is read: bounded in number, in what waits for them, and in time."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from hep.view.web.problems import ProblemError

READERS: Final = 8
"""Threads for queries that use an index, and for pictures."""

SCANS: Final = 2
"""Threads for queries that read messages. They are apart, so that they delay no other query."""

MOST_WAITING: Final = 64
"""Queries that wait for a thread; further ones get 503."""

MOST_WAITING_SCANS: Final = 8
"""Scans that wait for a thread; further ones get 503."""

TIME_LIMIT: Final = 30.0
"""Seconds that a query may take, its wait included."""

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded pool of threads.

    A thread cannot be stopped. A query beyond its time limit goes on, and its thread counts until
    it has ended.

    Args:
        name: of the pool, for errors and thread names.
        size: threads.
        waiting: queries that may wait for one.
        time_limit: seconds for a query.
    """

    def __init__(self, name: str, size: int, waiting: int, time_limit: float = TIME_LIMIT) -> None:
        self._name = name
        self._most = size + waiting
        self._time_limit = time_limit
        self._pool = ThreadPoolExecutor(size, f"hep-view-{name}")
        self._busy = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread.

        Raises:
            ProblemError: too many calls wait, or the time limit is exceeded (503).
        """
        with self._lock:
            if self._busy >= self._most:
                raise ProblemError(
                    503,
                    f"{self._busy} {self._name} are under way already; try again in some seconds",
                    Retry_After="2",
                )
            self._busy += 1
        try:
            submitted = self._pool.submit(function, *args, **kwargs)
        except RuntimeError:
            self._ended(None)
            raise ProblemError(503, "the viewer is stopping") from None
        submitted.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._time_limit):
                # Cancelling takes a call out of the queue; one that runs counts until its end.
                return await asyncio.wrap_future(submitted)
        except TimeoutError:
            raise ProblemError(
                503,
                f"no answer within {self._time_limit:g} s; ask for a shorter time with since and"
                " until",
            ) from None

    def _ended(self, _: object) -> None:
        # Called in the thread that has ended.
        with self._lock:
            self._busy -= 1

    def close(self) -> None:
        """Take no further calls, and do not wait for those under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)
