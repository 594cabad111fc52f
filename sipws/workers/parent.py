"""``sipws run`` with several workers: the parent process, around a `Supervisor`."""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, Final, Self

from hep.cli.usage import FAILED, WRONG_INPUT
from sipws.address import Listener
from sipws.config.changes import Source
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import mi
from sipws.control.server import ControlServer, Page
from sipws.control.server import families as control_families
from sipws.metrics import prometheus_text
from sipws.service import serving
from sipws.service.http_pages import Shown, page_table
from sipws.service.process_commands import (
    log_level_method,
    log_level_of_process,
    start_commands,
    uptime_since,
)
from sipws.service.serving import Totals
from sipws.service.statistics import SUSPENDED
from sipws.service.systemd import Assigned, Notifier
from sipws.workers.supervisor import Supervisor
from sipws.workers.worker_process import WorkerEndedError
from sipws.workers.worker_results import by_worker

logger = logging.getLogger(__name__)

PARENT: Final = "sipws parent"
WORKER: Final = "sipws worker"
"""The types of processes in the answers of MI methods."""


class SeveralProcesses:
    """A supervisor with the control interface of its workers; a `sipws.service.serving.Program`.

    Args:
        supervisor: the workers.
        control_socket: a bound socket for the control interface, if the service manager opened one.
    """

    def __init__(self, supervisor: Supervisor, control_socket: socket.socket | None = None) -> None:
        self.control: ControlServer | None = None
        """The control interface; None without one."""
        self._supervisor = supervisor
        self._control_socket = control_socket
        self._stack = AsyncExitStack()

    @property
    def workers(self) -> int:
        """Processes that serve."""
        return len(self._supervisor.numbers)

    @property
    def listeners(self) -> list[Listener]:
        """The listeners; once entered, with their real ports."""
        return self._supervisor.listeners

    @property
    def leaving(self) -> str:
        """What is done at the end."""
        return f"stopping {self.workers} workers"

    @property
    def totals(self) -> Totals | None:
        """The sum of the totals that the workers reported at their end; None without tracing."""
        found = [x.totals for x in self._supervisor.ended if x.totals is not None]
        return Totals(*map(sum, zip(*found, strict=True))) if found else None

    async def reload(self) -> None:
        """Read the configuration again, for all workers."""
        await self._supervisor.reload()

    async def __aenter__(self) -> Self:
        supervisor, config = self._supervisor, self._supervisor.resolved.config.control
        async with AsyncExitStack() as stack:
            # It answers /readyz and /healthz while the workers start and end.
            if config.address is not None:
                self.control = ControlServer(
                    config.address,
                    lambda body: reply(supervisor, body),
                    config.secret,
                    metrics_token=config.metrics_secret,
                    pages=pages_of(supervisor, lambda: self.control),
                    inherited=self._control_socket,
                )
                await stack.enter_async_context(self.control)
            await stack.enter_async_context(supervisor)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


async def serve(resolved: ResolvedConfig, sockets: Assigned, source: Source) -> int:
    """Run as a service; see `sipws.service.serving.serve`.

    Args:
        resolved: a checked configuration with more than one worker.
        sockets: sockets that are bound already, by listener.
        source: the files that it comes from, and how they are read again.

    Returns:
        the exit status; if a worker cannot start, that worker's, after its own message.

    Raises:
        TransportError: a listener cannot be opened.
    """

    def make(notifier: Notifier) -> SeveralProcesses:
        hung = notifier.watchdog
        supervisor = Supervisor(resolved, source.name, sockets=sockets, hung=hung, reads=source)
        return SeveralProcesses(supervisor, sockets.control)

    try:
        return await serving.serve(resolved, make)
    except WorkerEndedError as exc:
        return _status(exc)


async def serve_embedded(config: Config, shown: serving.Shown) -> int:
    """Run at a terminal, with the collector in the parent; see `sipws.service.serving`.

    Args:
        config: the configuration, without a trace destination.
        shown: how the traces are shown.

    Returns:
        the exit status.
    """

    def make(resolved: ResolvedConfig) -> SeveralProcesses:
        return SeveralProcesses(Supervisor(resolved, "command line", is_service=False))

    try:
        return await serving.serve_at_terminal(config, make, shown)
    except WorkerEndedError as exc:
        return _status(exc)


async def reply(supervisor: Supervisor, body: bytes) -> bytes:
    """Answer an MI request for all workers.

    Args:
        supervisor: the workers.
        body: a request of JSON-RPC 2.0.

    Returns:
        the reply as JSON; empty for a notification.
    """
    request = mi.parse(body)
    own = _methods_of(supervisor)
    if isinstance(request, mi.BadRequest) or request.method in own:
        return mi.reply(request, own)
    content = await supervisor.call(request.method, request.params)
    if request.method == "log_level":
        content = _with_own_log_level(request, content)
    return mi.written(request, content)


def _with_own_log_level(request: mi.Request, content: mi.Content) -> mi.Content:
    """Do in the parent what ``log_level`` has done in the workers."""
    if "error" in content:
        # Of this process, perhaps.
        return mi.content(request, {"log_level": log_level_method()})
    result = content["result"]
    if "Processes" in result:
        workers = [{**each, "Type": WORKER} for each in result["Processes"]]
        return {"result": {"Processes": [log_level_of_process(PARENT), *workers]}}
    if "New global log level" in result:
        mi.content(request, {"log_level": log_level_method()})
    return content


def _methods_of(supervisor: Supervisor) -> mi.Methods:
    """The MI methods that the parent answers itself; the workers answer all others."""

    def uptime() -> dict[str, str]:
        return uptime_since(supervisor.started, supervisor.started_monotonic)

    def ps() -> dict[str, list[dict[str, Any]]]:
        rows = [(0, os.getpid(), PARENT)]
        workers = sorted(supervisor.workers.items())
        rows += [(number, x.process.pid, WORKER) for number, x in workers]
        return {"Processes": [dict(zip(("ID", "PID", "Type"), row, strict=True)) for row in rows]}

    return {
        "uptime": mi.Method(uptime, ((),)),
        "ps": mi.Method(ps, ((),)),
        **start_commands(),
    }


def pages_of(
    supervisor: Supervisor, control: Callable[[], ControlServer | None] = lambda: None
) -> Mapping[str, Page]:
    """The pages by path, as `sipws.service.http_pages` has them for one process.

    Args:
        supervisor: the workers.
        control: returns the control interface that shows the pages.
    """

    async def metrics() -> Shown:
        # The control interface is the parent's, which is worker 0.
        own = by_worker({0: control_families(control())})
        return HTTPStatus.OK, prometheus_text.render([*await supervisor.families(), *own])

    def healthz() -> Shown:
        if quiet := supervisor.quiet:
            numbers = ", ".join(map(str, quiet))
            return HTTPStatus.SERVICE_UNAVAILABLE, f"no answer from worker {numbers}\n"
        return HTTPStatus.OK, "ok\n"

    def unready() -> str | None:
        return supervisor.unready or (None if supervisor.workers else "no worker serves")

    async def remarks() -> Iterable[str]:
        families = await supervisor.families()
        samples = [
            each for family in families if family.name == SUSPENDED for each in family.samples
        ]
        return [
            f"worker {labels['worker']}: {count} subscribers to its events are suspended"
            for labels, count in samples
            if count
        ]

    return page_table(metrics, healthz, unready, remarks)


def _status(exc: WorkerEndedError) -> int:
    """The exit status of a program whose worker could not start."""
    if exc.status == WRONG_INPUT:
        # The worker has printed the message.
        return WRONG_INPUT
    logger.error("%s", exc)
    return FAILED
