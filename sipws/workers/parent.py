"""``sipws run`` with several workers, as a service manager or a person at a terminal sees it."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

from hep.cli.usage import DONE, FAILED, WRONG_INPUT
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import mi
from sipws.control.server import ControlServer, Page
from sipws.control.server import families as control_families
from sipws.metrics import prometheus_text as exposition
from sipws.service import console, systemd
from sipws.service.console import Totals
from sipws.service.embedded import EmbeddedCollector
from sipws.service.http_pages import Shown, page_table
from sipws.service.process_commands import uptime_since
from sipws.service.statistics import SUSPENDED
from sipws.workers.supervisor import Supervisor
from sipws.workers.worker_process import WorkerEndedError
from sipws.workers.worker_results import by_worker

logger = logging.getLogger(__name__)


async def serve(resolved: ResolvedConfig, source: str) -> int:
    """Serve as a service, which logs and prints nothing.

    Args:
        resolved: a checked configuration, of more than one worker.
        source: where it comes from, for messages.

    Returns:
        the exit status: that of a worker that could not start; it has said why.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = console.stop_on_signals()
    notifier = systemd.Notifier.of()
    sockets = console.inherited(resolved)
    supervisor = Supervisor(resolved, source, sockets=sockets, hung=notifier.watchdog)
    count = len(supervisor.numbers)
    try:
        async with AsyncExitStack() as stack:
            control = await _start_control(stack, supervisor, sockets)
            await stack.enter_async_context(supervisor)
            status = f"{console.status_of(supervisor.listeners)}, {count} workers"

            async def reload() -> None:
                notifier.reloading()
                await supervisor.reload()
                notifier.ready(status)

            console.on_hangup(reload)
            console.tell_what_is_served(resolved, supervisor.listeners, control)
            logger.info("%d workers serve", count, extra={"event": "workers", "workers": count})
            notifier.ready(status)
            await stop.wait()
            notifier.stopping(f"stopping {count} workers")
            logger.info("stopping %d workers", count, extra={"event": "stopping"})
    except WorkerEndedError as exc:
        return _status(exc)
    notifier.close()
    logger.info("stopped: %s", console.told(_totals(supervisor)), extra={"event": "stopped"})
    return DONE


async def serve_embedded(config: Config, *, trace_on: bool = True, trace_sip: bool = True) -> int:
    """Serve with a collector in this process that prints the traces of all workers.

    Raises:
        TransportError: a listener cannot be opened.
    """
    stop = console.stop_on_signals()
    async with EmbeddedCollector() as collector:
        config = collector.traced_by(config, trace_on=trace_on, trace_sip=trace_sip)
        resolved = ResolvedConfig.of(config)
        supervisor = Supervisor(resolved, "command line", is_service=False)
        try:
            async with AsyncExitStack() as stack:
                await _start_control(stack, supervisor, systemd.Assigned())
                await stack.enter_async_context(supervisor)
                console.on_hangup(supervisor.reload)
                console.begin(resolved, supervisor.listeners, collector)
                await stop.wait()
        except WorkerEndedError as exc:
            return _status(exc)
        totals = _totals(supervisor)
        await collector.show(totals.packets if totals is not None else 0)
    console.say(f"\nStopped: {console.told(totals)}.")
    return DONE


async def reply(supervisor: Supervisor, body: bytes) -> bytes:
    """Answer an MI request for all; see `sipws.control.mi.reply`."""
    methods = _Methods(supervisor)
    reply = mi.reply(body, methods)
    if methods.asked is None:
        # It is answered: it was for us, or wrong.
        return reply
    content = await supervisor.call(*methods.asked)
    if not reply:
        return b""
    return json.dumps({"jsonrpc": "2.0", **content, "id": json.loads(reply)["id"]}).encode()


class _Methods(Mapping[str, Callable[..., Any]]):
    """The MI methods that are ours to answer; any other is noted, to be asked of the workers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._own = {"uptime": self._uptime, "ps": self._ps}
        self.asked: tuple[str, list[Any] | dict[str, Any]] | None = None
        """The method, and its parameters, that the workers are to be asked."""

    def __getitem__(self, name: str) -> Callable[..., Any]:
        def note(*in_order: Any, **by_name: Any) -> None:
            self.asked = name, list(in_order) or by_name

        return self._own.get(name, note)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def _uptime(self) -> dict[str, str]:
        return uptime_since(self._supervisor.started, self._supervisor.started_monotonic)

    def _ps(self) -> dict[str, list[dict[str, Any]]]:
        rows = [(0, os.getpid(), "sipws parent")]
        workers = sorted(self._supervisor.workers.items())
        rows += [(number, x.process.pid, "sipws worker") for number, x in workers]
        return {"Processes": [dict(zip(("ID", "PID", "Type"), row, strict=True)) for row in rows]}


def pages_of(
    supervisor: Supervisor, control: Callable[[], ControlServer | None] = lambda: None
) -> Mapping[str, Page]:
    """The pages by path, as `sipws.service.http_pages` has them for a program of one process.

    Args:
        supervisor: whose pages.
        control: the interface that shows them.
    """

    async def metrics() -> Shown:
        # It is that of the parent, which is worker 0.
        own = by_worker({0: control_families(control())})
        return HTTPStatus.OK, exposition.render([*await supervisor.families(), *own])

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


async def _start_control(
    stack: AsyncExitStack, supervisor: Supervisor, sockets: systemd.Assigned
) -> ControlServer | None:
    control = supervisor.resolved.config.control
    if control.address is None:
        return None
    server = ControlServer(
        control.address,
        lambda body: reply(supervisor, body),
        control.secret,
        metrics_token=control.metrics_secret,
        pages=pages_of(supervisor, lambda: server),
        inherited=sockets.control,
    )
    return await stack.enter_async_context(server)


def _totals(supervisor: Supervisor) -> Totals | None:
    """What all that ended with us have said, added up."""
    found = [x.totals for x in supervisor.ended if x.totals is not None]
    return Totals(*map(sum, zip(*found, strict=True))) if found else None


def _status(exc: WorkerEndedError) -> int:
    """What the program ends with when a worker could not start."""
    if exc.status == WRONG_INPUT:
        # It has said what is wrong.
        return WRONG_INPUT
    logger.error("%s", exc)
    return FAILED
