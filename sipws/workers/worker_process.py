"""A worker as its parent sees it: the process, and the link to it."""

import asyncio
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from sipws.control.mi import FAILED, Content
from sipws.errors import SipwsError
from sipws.workers.worker_config import Start
from sipws.workers.worker_link import LENGTH, Link, LinkError
from sipws.workers.worker_results import content_of_reply, request

ANSWER_TIMEOUT: Final = 5.0
"""Seconds that a worker has to answer an MI request. `sipws ctl` waits for 10."""

QUIET: Final = 5.0
"""Seconds without an answer after which requests no longer wait for a worker."""

START_TIMEOUT: Final = 60.0
"""Seconds that a worker has to start, the import of its filter function included."""

CANNOT_START: Final = 1
"""The status of a process that the system could not start."""

log = logging.getLogger(__name__)


class WorkerEndedError(SipwsError):
    """A worker ended before it served."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"worker {number} ended with {how_ended(status)} before it served")
        self.status = status


def how_ended(status: int) -> str:
    """Describe how a process ended, by its return code: ``status 2``, ``signal 9``."""
    return f"status {status}" if status >= 0 else f"signal {-status}"


def is_orderly(status: int) -> bool:
    """Whether a process with this return code has ended because a signal asked it to.

    A worker returns 0 only then. Before it has its handlers, the signal itself ends it.
    """
    return status in (0, -signal.SIGTERM, -signal.SIGINT)


OnNotice = Callable[["WorkerProcess", str, Any], object]
"""Called with a worker, and the name and the content of its notice."""


class WorkerProcess:
    """A worker that runs, or has ended.

    Args:
        number: of the worker, from 1.
        process: a fresh interpreter; a fork would inherit the running event loop.
        streams: the parent's end of the link.
        on_notice: called with notices that are for the other workers.
    """

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        on_notice: OnNotice,
    ) -> None:
        self.number = number
        self.process = process
        self.is_ready = asyncio.Event()
        self.totals: list[int] | None = None
        """The totals that it reported at its end; None before, and without tracing."""
        loop = asyncio.get_running_loop()
        self.started_at = loop.time()
        """When it was started, in seconds on the event loop's clock."""
        self.link = Link(*streams, on_notice=self._take_notice)
        self.reading = loop.create_task(self.link.run())
        self.ended = loop.create_task(process.wait())
        self._on_notice = on_notice

    @classmethod
    async def spawn(cls, start: Start, on_notice: OnNotice) -> Self:
        """Start a worker.

        Args:
            start: its first message.
            on_notice: called with notices that are for the other workers.

        Raises:
            WorkerEndedError: the system cannot start a process; the cause is logged.
        """
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                # From here on a transport owns our socket, and the worker the other one.
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
        return cls(start.number, process, (reader, writer), on_notice)

    async def serving(self) -> None:
        """Wait until it serves; kill it after `START_TIMEOUT`.

        Raises:
            WorkerEndedError: it ended before it served.
        """
        ready = asyncio.get_running_loop().create_task(self.is_ready.wait())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait((ready, self.ended), timeout=START_TIMEOUT, return_when=first)
        ready.cancel()
        if not self.is_ready.is_set():
            if not self.ended.done():
                log.error(
                    "worker %d does not serve after %g s and is killed; its script and its filter"
                    " function must load faster", self.number, START_TIMEOUT,
                )  # fmt: skip
            self.kill()
            raise WorkerEndedError(self.number, await self.ended)

    @property
    def is_quiet(self) -> bool:
        """Whether it has not answered for `QUIET`."""
        return self.link.silence >= QUIET

    async def ask(self, name: str, content: Any = None) -> Any:
        """Send it a request, and wait for the answer.

        A worker that `is_quiet` gets the request, but the answer is not awaited.

        Args:
            name: of the request.
            content: a value that JSON can hold.

        Raises:
            LinkError: it does not answer in time.
        """
        return await self.link.ask(name, content, timeout=0 if self.is_quiet else ANSWER_TIMEOUT)

    async def call(self, method: str, params: Any) -> Content:
        """Call an MI method of it.

        Args:
            method: its name.
            params: its parameters.

        Returns:
            the result or the error; an error if it does not answer.
        """
        try:
            reply = await self.ask("mi", request(method, params))
        except LinkError as exc:
            return {"error": {"code": FAILED, "message": f"worker {self.number} {exc}"}}
        return content_of_reply(reply)

    async def ping(self, timeout: float) -> list[str]:
        """Check that it answers; returns the ids of the traces that were started in it.

        Args:
            timeout: seconds to wait.

        Raises:
            LinkError: it does not answer in time.
        """
        traces: list[str] = await self.link.ask("ping", timeout=timeout)
        return traces

    def kill(self) -> None:
        """Kill the process, if it runs."""
        if self.process.returncode is None:
            self.process.kill()

    def _take_notice(self, name: str, content: Any) -> None:
        if name == "ready":
            self.is_ready.set()
        elif name == "stopped":
            self.totals = content
        else:
            self._on_notice(self, name, content)


async def _run(link: int, sockets: Iterable[Iterable[int]]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        # -P: a file in the current directory must not shadow a module.
        *(sys.executable, "-P", "-m", "sipws.workers.worker", str(link)),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=[link, *(fd for fds in sockets for fd in fds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # A Ctrl-C at the terminal reaches only the parent, which stops the workers.
        start_new_session=True,
    )
