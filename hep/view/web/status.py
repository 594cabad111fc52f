"""The status of the viewer: read for ``status`` and ``/metrics``, and sent to browsers."""

import asyncio
import time
from typing import Final

from hep.view.web.backend import Backend, Facts
from hep.view.web.live import status_event
from hep.view.web.models import Status
from hep.view.web.problems import ProblemError
from hep.view.web.threads import Threads

PERIOD: Final = 1.0
"""Seconds between two looks at the status while browsers are connected."""

UNCHANGED: Final = 10
"""Periods after which an unchanged status is sent too."""


class StatusReader:
    """Reads the status, and sends it to browsers while there are any.

    Args:
        backend: the program.
        threads: for the store.
        login: whether a token is needed.
    """

    def __init__(self, backend: Backend, threads: Threads, *, login: bool) -> None:
        self._backend = backend
        self._threads = threads
        self._login = login
        self._sending: asyncio.Task[None] | None = None

    async def read(self) -> tuple[Status, Facts]:
        """Return the status, and what it was made of.

        Raises:
            ProblemError: the store does not answer (503).
        """
        facts, store = self._backend.status(), self._backend.store
        held, (calls, calls_open, connections_open) = await self._threads.run(
            lambda: (store.status(), store.counts())
        )
        status = Status(
            version=facts.version,
            now=now(),
            started=facts.started,
            store=held,
            calls=calls,
            calls_open=calls_open,
            connections_open=connections_open,
            rate=facts.rate,
            listening=[*facts.listening],
            files=[*facts.files],
            bad=facts.bad,
            control=self._backend.control is not None,
            login=self._login,
        )
        return status, facts

    async def first_event(self) -> bytes:
        """Return the status as an event, and send further ones to all browsers from now on."""
        status, _ = await self.read()
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send(status))
        return status_event(status.model_dump_json().encode())

    async def _send(self, before: Status) -> None:
        unchanged = 0
        feed = self._backend.live
        while True:
            await asyncio.sleep(PERIOD)
            if not feed.clients or feed.closed:
                return
            try:
                status, _ = await self.read()
            except ProblemError:
                # The store is busy; the next look may succeed.
                continue
            unchanged += 1
            same = before == status.model_copy(update={"now": before.now})
            if not same or unchanged >= UNCHANGED:
                feed.status(status.model_dump_json().encode())
                before, unchanged = status, 0

    def close(self) -> None:
        """Send no more."""
        if self._sending is not None:
            self._sending.cancel()


def now() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000
