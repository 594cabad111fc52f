"""Starts the workers of a program, restarts those that end, and calls MI methods of all of them.

The parent serves no SIP. It keeps the listening sockets open, so that connections that wait in a
backlog survive the restart of a worker.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self

from sipws.config.changes import Changes, Source, refused, resolve_again
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control.mi import BAD_VALUE, FAILED, Content
from sipws.errors import ConfigurationError
from sipws.metrics.prometheus_text import Family
from sipws.service.console import set_log
from sipws.service.statistics import process_families
from sipws.service.systemd import Assigned
from sipws.tracing.trace import FLUSH_TIMEOUT
from sipws.transport.listening import fresh, open_sockets
from sipws.workers.trace_relay import TraceRelays
from sipws.workers.worker_config import Start, as_text, config_of_worker
from sipws.workers.worker_link import LinkError
from sipws.workers.worker_process import WorkerEndedError, WorkerProcess, how_ended, is_orderly
from sipws.workers.worker_results import (
    Switches,
    by_worker,
    combined,
    families_from_json,
    params_by_name,
)

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
"""Seconds before a worker is restarted; doubled each time that it ends again soon."""

LONGEST_PAUSE: Final = 30.0
"""Seconds before a worker is restarted, at most."""

SETTLED: Final = 60.0
"""Seconds of life after which the pause of a worker is `FIRST_PAUSE` again."""

ABANDONED: Final = 1.0
"""Seconds of a pause from which on new connections go to the other workers instead of waiting."""

PING_INTERVAL: Final = 1.0
"""Seconds between two pings of a worker."""

HUNG: Final = 30.0
"""Seconds without an answer after which a worker is killed, unless WatchdogSec= says otherwise.
No SIP transaction lasts longer (RFC 3261 timer B, 32 s)."""

RELOADS: Final = frozenset({"reload", "reload_routes", "tls_reload"})
"""The MI methods that read files again."""

END_MARGIN: Final = 3.0
"""Seconds that a worker has to end, beyond the configured ones."""


def pause_before(last: float, lived: float) -> float:
    """Compute the pause before a worker is restarted, in seconds.

    Args:
        last: the pause before this one, in seconds; 0 for none.
        lived: seconds that the worker ran.
    """
    return FIRST_PAUSE if lived >= SETTLED else min(max(last * 2, FIRST_PAUSE), LONGEST_PAUSE)


class Supervisor:
    """The workers of a program.

    Args:
        resolved: a checked configuration.
        source: the files that it comes from, for messages.
        sockets: sockets that are bound already, by listener. All workers share them. Of other
            listeners each worker has its own sockets.
        is_service: whether workers log as a service.
        hung: seconds without an answer after which a worker is killed; None for `HUNG`.
        reads: reads the configuration again; without it, a reload reads only the files that the
            configuration names.
    """

    def __init__(
        self,
        resolved: ResolvedConfig,
        source: str,
        *,
        sockets: Assigned | None = None,
        is_service: bool = True,
        hung: float | None = None,
        reads: Source | None = None,
    ) -> None:
        self.resolved = resolved
        """The configuration of all workers. A reload replaces it."""
        self._reads = reads
        self.listeners = list(resolved.config.transport.listeners)
        """The listeners as configured; once started, with their real ports."""
        self.numbers = range(1, resolved.config.transport.workers + 1)
        """The numbers of the workers."""
        self.workers: dict[int, WorkerProcess] = {}
        """The workers that serve, by number."""
        self.restarts = dict.fromkeys(self.numbers, 0)
        """How often each worker was restarted."""
        self.started = time.time()
        """In seconds since the epoch."""
        self.started_monotonic = time.monotonic()
        """The same moment on the monotonic clock."""
        self.unready: str | None = "starting"
        """Why ``/readyz`` answers 503; None while the program is ready."""
        self.ended: Sequence[WorkerProcess] = ()
        """At the end: the workers that served until then."""
        self._source = source
        self._is_service = is_service
        self._hung = hung or HUNG
        self._given = (sockets or Assigned()).listeners
        self._sockets: dict[int, list[list[socket.socket]]] = {}
        """The sockets of each worker, by the index of the listener."""
        self._alive: set[WorkerProcess] = set()
        self._restarting: set[asyncio.Task[None]] = set()
        self.switches = Switches()
        """The switches that were changed at run time."""
        self.relays = TraceRelays(lambda pid: any(x.process.pid == pid for x in self._alive))
        """The relays of traces over TCP and TLS."""
        self._calls: set[asyncio.Task[Content]] = set()
        """Calls under way, also those whose caller has gone."""
        self.switching = asyncio.Lock()
        """Held while an MI method is carried out: workers must not differ in their switches."""
        self.stopping = asyncio.Event()
        """Set once the program stops."""
        self._spawning = asyncio.Lock()
        """Held while a worker's process is started: the end closes the sockets, and must not do so
        meanwhile."""
        self._reloads = 0
        """How often a reload was requested."""

    async def __aenter__(self) -> Self:
        """Open the listeners and start the workers.

        Raises:
            TransportError: a listener cannot be opened.
            WorkerEndedError: a worker ended before it served; it has printed or logged why.
        """
        try:
            await self._listen()
            # An error that all workers have is then printed once.
            await self._launch(1)
            launches = (self._launch(number) for number in self.numbers[1:])
            found = await asyncio.gather(*launches, return_exceptions=True)
            if wrong := [x for x in found if isinstance(x, BaseException)]:
                raise wrong[0]
        except BaseException:
            await self._end(0)
            raise
        loop = asyncio.get_running_loop()
        self._restarting = {
            loop.create_task(self._restart_forever(x)) for x in self.workers.values()
        }
        self.unready = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop all workers; each closes its connections within the configured time."""
        self.unready = "stopping"
        transport = self.resolved.config.transport
        configured = (transport.shutdown_spread + transport.shutdown_grace) / 1000
        await self._end(configured + FLUSH_TIMEOUT + END_MARGIN)

    async def call(self, method: str, params: Any) -> Content:
        """Call an MI method of all workers.

        A call that has begun is carried out even if its caller is cancelled; otherwise the workers
        could differ in their switches.

        Args:
            method: its name.
            params: its parameters, in order or by name.

        Returns:
            the result or the error.
        """
        calling = asyncio.get_running_loop().create_task(self._call(method, params))
        self._calls.add(calling)
        calling.add_done_callback(self._calls.discard)
        return await asyncio.shield(calling)

    async def _call(self, method: str, params: Any) -> Content:
        async with self.switching:
            return await self._switch(method, params)

    async def _switch(self, method: str, params: Any) -> Content:
        """As `call`; the caller holds `switching`."""
        workers = [each for _, each in sorted(self.workers.items())]
        if not workers:
            return _failed("no worker serves")
        if method == "reload":
            return await self._reload(workers)
        named = params_by_name(method, params)
        if method == "trace_start":
            try:
                taken = self.switches.traces
                await self.relays.open(named.get("id"), named.get("uri"), taken)
            except OSError as exc:
                return _failed(
                    f"the relay of the trace cannot be opened at {self.relays.paths}…:"
                    f" {exc.strerror or exc}; set TMPDIR to another directory"
                )
        contents = await asyncio.gather(*(each.call(method, params) for each in workers))
        # The answer of a worker that has ended does not count: its successor gets the switches.
        pairs = zip(workers, contents, strict=True)
        contents = [one for each, one in pairs if not each.reading.done()] or contents
        content = combined(method, contents)
        self._reloads += method in RELOADS
        is_done = any("result" in each for each in contents)
        match method:
            case "trace_start" if "error" in content:
                return self._undone(named.get("id"), content, contents)
            case "trace_stop" if is_done or content["error"]["code"] == BAD_VALUE:
                # The trace may have ended by itself in all workers.
                self.relays.close(named["id"])
                is_done = True
        if is_done:
            # A worker that has not answered does it late, or its successor gets the switches.
            self.switches.note(method, params)
        return content

    def _undone(self, trace_id: object, content: Content, contents: Sequence[Content]) -> Content:
        """Stop a trace that not all workers could start; returns the answer to ``trace_start``."""
        if not isinstance(trace_id, str) or trace_id in self.switches.traces:
            # This call has not started it.
            return content
        self.relays.close(trace_id)
        for worker in self.workers.values():
            # Workers that have not answered too: they may start it later.
            worker.link.notify("trace_stop", trace_id)
        if not any("result" in each for each in contents):
            return content
        error = content["error"]
        named = "data" if "data" in error else "message"
        why = f"{error[named]}; trace {trace_id!r} is started in no worker"
        return {"error": {**error, named: why}}

    async def families(self) -> list[Family]:
        """Read the metrics of all workers; those of this process are worker 0."""
        workers = dict(self.workers)
        found = await asyncio.gather(*map(_families, workers.values()))
        parts = {0: list(process_families(self.started)), **dict(zip(workers, found, strict=True))}
        up = Family("sipws_worker_up", "gauge", "Whether a worker serves and answers.")
        restarts = Family(
            "sipws_worker_restarts_total", "counter", "Restarts of workers that ended."
        )
        for number in self.numbers:
            up.add(int(bool(parts.get(number))), worker=str(number))
            restarts.add(self.restarts[number], worker=str(number))
        return [up, restarts, *by_worker(parts)]

    async def reload(self) -> None:
        """Read the configuration again, for all workers; errors are logged."""
        # Also while no worker serves: those that start later use what is read now.
        self._reloads += 1
        try:
            async with self.switching:
                found = await self._take_over()
        except ConfigurationError as exc:
            log.error("%s", exc)
            return
        if not found.live:
            await asyncio.gather(*map(_reload, list(self.workers.values())))

    async def _reload(self, workers: Sequence[WorkerProcess]) -> Content:
        """As `reload`, for MI; the caller holds `switching`."""
        self._reloads += 1
        try:
            found = await self._take_over()
        except ConfigurationError as exc:
            log.error("nothing is reloaded:\n%s", exc)
            return _failed(str(exc))
        if not found.live:
            contents = await asyncio.gather(*(each.call("reload", None) for each in workers))
            pairs = zip(workers, contents, strict=True)
            contents = [one for each, one in pairs if not each.reading.done()] or contents
            if "error" in (content := combined("reload", contents)):
                return content
        return {"result": found.answer}

    async def _take_over(self) -> Changes:
        """Read the configuration, and apply it in all workers or in none.

        Returns:
            what differs from the one before; without live changes, the workers have done nothing.

        Raises:
            ConfigurationError: it is wrong, or a worker refuses it.
        """
        if self._reads is None:
            return Changes()
        old = self.resolved.config
        found, config = self._reads.compared_to(old)
        found.log()
        if not found.live:
            return found
        resolved = resolve_again(config, self._reads.name)
        workers = sorted(self.workers.items())
        problems = await asyncio.gather(*(self._prepare(each, config) for _, each in workers))
        if wrong := [text for text in problems if text is not None]:
            for _, each in workers:
                each.link.notify("abandon")
            raise refused(ConfigurationError("\n".join(wrong)))
        self.resolved = resolved
        self.switches.forget(old, config)
        if (old.log.level, old.log.format) != (config.log.level, config.log.format):
            set_log(config.log)
        for warning in resolved.warnings:
            log.warning("%s", warning)
        await asyncio.gather(*(_apply(each) for _, each in workers))
        return found

    async def _prepare(self, worker: WorkerProcess, config: Config) -> str | None:
        """Let a worker check a configuration; returns why it refuses, None if it does not."""
        own = config_of_worker(
            config, worker.number, self.listeners, trace_on=self.switches.trace_on
        )
        try:
            why = await worker.ask("prepare", as_text(own))
        except LinkError as exc:
            # A worker that has ended has a successor, which gets the configuration in force.
            return None if worker.reading.done() else f"worker {worker.number} {exc}"
        return None if why is None else f"worker {worker.number}: {why}"

    @property
    def quiet(self) -> list[int]:
        """The numbers of the workers that do not answer."""
        return [x.number for x in self.workers.values() if x.is_quiet]

    async def _listen(self) -> None:
        """Open the sockets of listeners that were not inherited."""
        self._sockets = {number: [] for number in self.numbers}
        for index, listener in enumerate(self.listeners):
            given = self._given.get(listener)
            if given is not None:
                copies = [list(given)] * len(self.numbers)
            else:
                self.listeners[index], copies = await open_sockets(listener, len(self.numbers))
            for number, sockets in zip(self.numbers, copies, strict=True):
                self._sockets[number].append(sockets)

    async def _launch(self, number: int) -> WorkerProcess | None:
        """Start a worker, and wait until it serves.

        Args:
            number: of the worker.

        Returns:
            the worker; None if the program is stopping.

        Raises:
            WorkerEndedError: it ended before it served.
        """
        config, reloads = self.resolved.config, self._reloads
        async with self._spawning:
            if self.stopping.is_set():
                return None
            start = Start(
                number,
                config_of_worker(config, number, self.listeners, trace_on=self.switches.trace_on),
                self._source,
                sockets=tuple(tuple(x.fileno() for x in of) for of in self._sockets[number]),
                is_service=self._is_service,
                is_restart=self.restarts[number] > 0,
                counts_sip=config.control.address is not None,
                relays=self.relays.paths,
            )
            worker = await WorkerProcess.spawn(start, self._forward)
            self._alive.add(worker)
        worker.ended.add_done_callback(lambda _: self._alive.discard(worker))
        await worker.serving()
        async with self.switching:
            for method, params in self.switches.calls:
                if "error" in (content := await worker.call(method, params)):
                    error = content["error"]
                    why = error.get("data", error["message"])
                    log.error("worker %d cannot do %s as the others did: %s", number, method, why)
            if self.resolved.config is not config:
                # The others have got another configuration meanwhile.
                if (why := await self._prepare(worker, self.resolved.config)) is not None:
                    # It is started again, with that configuration.
                    log.error("%s; it is killed", why)
                    worker.kill()
                else:
                    await _apply(worker)
            elif self._reloads != reloads:
                # It may have read the files as they were before.
                await worker.call("reload", None)
            self.workers[number] = worker
        log.debug("worker %d serves, process %d", number, worker.process.pid)
        return worker

    async def _restart_forever(self, worker: WorkerProcess) -> None:
        """Restart a worker each time that it ends, until the program stops."""
        loop, number, pause = asyncio.get_running_loop(), worker.number, 0.0
        while True:
            status = await self._end_of(worker)
            self.workers.pop(number, None)
            started_at = worker.started_at
            while True:
                if self.stopping.is_set():
                    return
                pause = pause_before(pause, loop.time() - started_at)
                # A service manager may send SIGTERM to all processes of the program, and an
                # operator to one.
                log.log(
                    logging.INFO if is_orderly(status) else logging.ERROR,
                    "worker %d ended with %s and is started again in %g s",
                    number, how_ended(status), pause,
                )  # fmt: skip
                if pause >= ABANDONED:
                    self._abandon(number)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), pause)
                    return
                self.restarts[number] += 1
                started_at = loop.time()
                try:
                    started = await self._launch(number)
                except WorkerEndedError as exc:
                    status = exc.status
                    continue
                if started is None:
                    return
                worker = started
                break

    async def _end_of(self, worker: WorkerProcess) -> int:
        """Wait for the end of a worker, or kill it if it no longer answers; returns its status."""
        while not worker.ended.done():
            try:
                await self.stop_ended_traces(await worker.ping(self._hung))
            except LinkError as exc:
                if worker.reading.done():
                    # It is ending; its link closes a moment earlier.
                    await asyncio.wait((worker.ended,), timeout=END_MARGIN)
                if not worker.ended.done():
                    log.error("worker %d %s and is killed", worker.number, exc)
                    worker.kill()
                break
            await asyncio.wait((worker.ended,), timeout=PING_INTERVAL)
        return await worker.ended

    async def stop_ended_traces(self, traces: Sequence[str]) -> None:
        """Stop traces in all workers that have ended in one, or whose relay lost its destination.

        Args:
            traces: the ids of the traces that are started in one worker.
        """
        ended = set(self.switches.traces).difference(traces).union(self.relays.gone)
        for name, params in list(self.switches.traces.items()):
            if name in ended:
                async with self.switching:
                    # Another trace may have been started with this id meanwhile.
                    if self.switches.traces.get(name) is params:
                        await self._switch("trace_stop", {"id": name})

    def _abandon(self, number: int) -> None:
        """Stop listening for a worker, so that the system gives new connections to the others."""
        for listener, sockets in zip(self.listeners, self._sockets[number], strict=True):
            if not self._given.get(listener):
                for index, each in enumerate(sockets):
                    # A bound socket that does not listen gets no connections.
                    with suppress(OSError):
                        sockets[index] = fresh(each)
                        each.close()

    def _forward(self, worker: WorkerProcess, name: str, content: Any) -> None:
        """Forward a notice of one worker to the others."""
        for other in self.workers.values():
            if other is not worker:
                other.link.notify(name, content)

    async def _end(self, patience: float) -> None:
        self.stopping.set()
        async with self._spawning:
            # From here on only the workers have them, and refuse new connections.
            for each in (x for of in self._sockets.values() for sockets in of for x in sockets):
                each.close()
            self.ended = list(self._alive)
        for worker in self.ended:
            worker.link.notify("stop")
        try:
            waiting = [*self._restarting, *(x.ended for x in self.ended)]
            if waiting:
                await asyncio.wait(waiting, timeout=patience)
        finally:
            for worker in self._alive:
                if patience:
                    log.error("worker %d does not end and is killed", worker.number)
                worker.kill()
        await asyncio.gather(*self._restarting, *(x.ended for x in self.ended))
        if links := [x.reading for x in self.ended]:
            # Their last notices. The link of a worker that has forked does not close with it.
            await asyncio.wait(links, timeout=END_MARGIN)
        await self.relays.aclose()


def _failed(why: str) -> Content:
    return {"error": {"code": FAILED, "message": why}}


async def _families(worker: WorkerProcess) -> list[Family]:
    try:
        return families_from_json(await worker.ask("metrics"))
    except LinkError as exc:
        log.error("worker %d %s, and its metrics are missing", worker.number, exc)
        return []


async def _apply(worker: WorkerProcess) -> None:
    """Let a worker use the configuration that it has prepared."""
    try:
        await worker.ask("apply")
    except LinkError as exc:
        if not worker.reading.done():
            log.error("worker %d %s, and may still use the old configuration", worker.number, exc)


async def _reload(worker: WorkerProcess) -> None:
    try:
        await worker.ask("reload")
    except LinkError as exc:
        # A worker that has ended has a successor, which reads the files.
        if not worker.reading.done():
            log.error("worker %d %s, and may still use the old files", worker.number, exc)
