"""A worker as its parent has it: the process, and the link to it."""

import asyncio
import os
import pickle
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, Self

from sipws.errors import SipwsError
from sipws.merging import Content, content_of, request
from sipws.mi import FAILED
from sipws.shares import Start
from sipws.worker_link import LENGTH, Link, LinkError

ANSWER_TIMEOUT: Final = 5.0
"""Seconds that a worker has to answer: those who ask wait no longer than ten."""

START_TIMEOUT: Final = 60.0
"""Seconds that a worker has until it serves, whatever its filter's function is up to."""


class WorkerEndedError(SipwsError):
    """A worker ended before it served."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"worker {number} ended with {status} before it served")
        self.status = status


class WorkerProcess:
    """A worker that runs, or has ended.

    Args:
        number: counted from 1.
        process: a Python of its own, so that nothing of a running event loop is in it.
        hear: called with this worker, and the name and content of what it tells.
    """

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        hear: Callable[["WorkerProcess", str, Any], object],
    ) -> None:
        self.number = number
        self.process = process
        self.is_ready = asyncio.Event()
        self.totals: list[int] | None = None
        """What it said at its end."""
        loop = asyncio.get_running_loop()
        self.begun = self.heard_of = loop.time()
        """When it was started, and when it answered last, on the event loop's clock."""
        self.ended = loop.create_task(process.wait())
        self._hear_other = hear

    @classmethod
    async def spawn(cls, start: Start, hear: Callable[["WorkerProcess", str, Any], object]) -> Self:
        """Start one."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                # Nothing in the current directory is to be taken for a module of ours.
                *(sys.executable, "-P", "-m", "sipws.worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *(fd for fds in start.sockets for fd in fds)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                # A Ctrl-C at the terminal is for the parent, which says what it means.
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        worker = cls(start.number, process, hear)
        data = pickle.dumps(start)
        writer.write(len(data).to_bytes(LENGTH, "big") + data)
        worker.link = Link(reader, writer, hear=worker._hear)
        worker.reading = asyncio.get_running_loop().create_task(worker.link.run())
        return worker

    link: Link
    reading: asyncio.Task[None]

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
            self.kill()
            raise WorkerEndedError(self.number, await self.ended)

    async def call(self, method: str, params: Any) -> Content:
        """Call an MI method of it; one that does not answer has answered with an error."""
        try:
            reply = await self.link.ask("mi", request(method, params), timeout=ANSWER_TIMEOUT)
        except LinkError as exc:
            return {"error": {"code": FAILED, "message": f"worker {self.number} {exc}"}}
        return content_of(reply)

    async def ping(self, timeout: float) -> list[str]:
        """Ask whether it is there; returns the ids of the traces that were started in it.

        Raises:
            LinkError: it does not answer.
        """
        traces: list[str] = await self.link.ask("ping", timeout=timeout)
        self.heard_of = asyncio.get_running_loop().time()
        return traces

    def kill(self) -> None:
        """End it at once."""
        if self.process.returncode is None:
            self.process.kill()

    def _hear(self, name: str, content: Any) -> None:
        if name == "ready":
            self.heard_of = asyncio.get_running_loop().time()
            self.is_ready.set()
        elif name == "stopped":
            self.totals = content
        else:
            self._hear_other(self, name, content)
