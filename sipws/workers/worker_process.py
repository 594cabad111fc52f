"""A worker as its parent has it: the process, and the link to it."""

import asyncio
import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from sipws.control.mi import FAILED
from sipws.errors import SipwsError
from sipws.workers.worker_config import Start
from sipws.workers.worker_link import LENGTH, Link, LinkError
from sipws.workers.worker_results import Content, content_of, request

ANSWER_TIMEOUT: Final = 5.0
"""Seconds that a worker has to answer: those who ask wait no longer than ten."""

QUIET: Final = 5.0
"""Seconds without an answer after which nobody waits for a worker any more."""

START_TIMEOUT: Final = 60.0
"""Seconds that a worker has until it serves, whatever its filter's function is up to."""

CANNOT_START: Final = 1
"""In the place of a status, for a process that has not even begun."""

log = logging.getLogger(__name__)


class WorkerEndedError(SipwsError):
    """A worker ended before it served."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"worker {number} ended with {how_ended(status)} before it served")
        self.status = status


def how_ended(status: int) -> str:
    """How a process has ended, in words."""
    return f"status {status}" if status >= 0 else f"signal {-status}"


Hear = Callable[["WorkerProcess", str, Any], object]
"""Called with a worker, and the name and content of what it tells."""


class WorkerProcess:
    """A worker that runs, or has ended.

    Args:
        number: counted from 1.
        process: a Python of its own, so that nothing of a running event loop is in it.
        streams: the parent's end of the link.
        hear: called with what is not for the parent alone.
    """

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        hear: Hear,
    ) -> None:
        self.number = number
        self.process = process
        self.is_ready = asyncio.Event()
        self.totals: list[int] | None = None
        """What it said at its end."""
        loop = asyncio.get_running_loop()
        self.begun = loop.time()
        """When it was started, on the event loop's clock."""
        self.link = Link(*streams, hear=self._hear)
        self.reading = loop.create_task(self.link.run())
        self.ended = loop.create_task(process.wait())
        self._hear_other = hear

    @classmethod
    async def spawn(cls, start: Start, hear: Hear) -> Self:
        """Start one.

        Raises:
            WorkerEndedError: the system has no room for it; this is logged.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                # A transport has the one socket from here on, the worker the other.
                reader, writer = await asyncio.open_unix_connection(sock=ours)
                try:
                    process = await _run(theirs.fileno(), start.sockets)
                except OSError:
                    writer.close()
                    raise
        except OSError as exc:
            log.error("worker %d cannot be started: %s", start.number, exc)
            raise WorkerEndedError(start.number, CANNOT_START) from exc
        data = pickle.dumps(start)
        writer.write(len(data).to_bytes(LENGTH, "big") + data)
        return cls(start.number, process, (reader, writer), hear)

    async def serving(self) -> None:
        """Wait until it serves; one that takes longer than `START_TIMEOUT` is killed.

        Raises:
            WorkerEndedError: it has ended.
        """
        ready = asyncio.get_running_loop().create_task(self.is_ready.wait())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait((ready, self.ended), timeout=START_TIMEOUT, return_when=first)
        ready.cancel()
        if not self.is_ready.is_set():
            if not self.ended.done():
                log.error(
                    "worker %d does not serve after %g s and is killed; what it reads and imports"
                    " may take no longer", self.number, START_TIMEOUT,
                )  # fmt: skip
            self.kill()
            raise WorkerEndedError(self.number, await self.ended)

    @property
    def is_quiet(self) -> bool:
        """Whether it has not answered for `QUIET`."""
        return self.link.silence >= QUIET

    async def ask(self, name: str, content: Any = None) -> Any:
        """Ask it; one that `is_quiet` is not waited for, but has the question when it wakes.

        Raises:
            LinkError: it does not answer.
        """
        return await self.link.ask(name, content, timeout=0 if self.is_quiet else ANSWER_TIMEOUT)

    async def call(self, method: str, params: Any) -> Content:
        """Call an MI method of it; one that does not answer has answered with an error."""
        try:
            reply = await self.ask("mi", request(method, params))
        except LinkError as exc:
            return {"error": {"code": FAILED, "message": f"worker {self.number} {exc}"}}
        return content_of(reply)

    async def ping(self, timeout: float) -> list[str]:
        """Ask whether it is there; returns the ids of the traces that were started in it.

        Raises:
            LinkError: it does not answer.
        """
        traces: list[str] = await self.link.ask("ping", timeout=timeout)
        return traces

    def kill(self) -> None:
        """End it at once."""
        if self.process.returncode is None:
            self.process.kill()

    def _hear(self, name: str, content: Any) -> None:
        if name == "ready":
            self.is_ready.set()
        elif name == "stopped":
            self.totals = content
        else:
            self._hear_other(self, name, content)


async def _run(link: int, sockets: Iterable[Iterable[int]]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        # Nothing in the current directory is to be taken for a module of ours.
        *(sys.executable, "-P", "-m", "sipws.workers.worker", str(link)),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=[link, *(fd for fds in sockets for fd in fds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # A Ctrl-C at the terminal is for the parent, which says what it means.
        start_new_session=True,
    )
