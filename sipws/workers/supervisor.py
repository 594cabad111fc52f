"""Several workers as one program: started, started again when one dies, asked and steered together.

The parent serves no SIP. It holds the listening sockets, so that no connection is lost that waits
in one while its worker is started again, and has the control interface for all of them.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self

from sipws.config.resolved import ResolvedConfig
from sipws.control.mi import FAILED, NOT_FOUND
from sipws.metrics.prometheus_text import Family
from sipws.service.statistics import process_families
from sipws.service.systemd import Assigned
from sipws.tracing.pipeline import FLUSH_TIMEOUT
from sipws.transport.listening import fresh, open_sockets
from sipws.workers.trace_relay import TraceRelays
from sipws.workers.worker_config import Start, share_of
from sipws.workers.worker_link import LinkError
from sipws.workers.worker_process import WorkerEndedError, WorkerProcess, how_ended
from sipws.workers.worker_results import Content, Switched, by_name, by_worker, merged, unpacked

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
"""Seconds until a worker is started again that dies again and again."""

SETTLED: Final = 60.0
"""Seconds after which a worker that dies is no longer one that cannot live."""

ABANDONED: Final = 1.0
"""Seconds of a pause from which on what comes in goes to the other workers, not to wait for it."""

PING_INTERVAL: Final = 1.0
HUNG: Final = 30.0
"""Seconds without an answer after which a worker is killed, where systemd names none: no SIP
transaction lasts longer (RFC 3261 timer B)."""

RELOADS: Final = frozenset({"reload", "reload_routes", "tls_reload"})
"""The methods that read something anew."""

END_MARGIN: Final = 3.0
"""Seconds beyond those that are configured, for a worker to end."""


def pause_before(last: float, lived: float) -> float:
    """Seconds until a worker that ended is started again.

    Args:
        last: the pause before this one.
        lived: seconds that it ran.
    """
    return FIRST_PAUSE if lived >= SETTLED else min(max(last * 2, FIRST_PAUSE), LONGEST_PAUSE)


class Supervisor:
    """The workers of a program.

    Args:
        resolved: a checked configuration.
        source: where it comes from, for messages.
        sockets: those that are bound already, by whose they are. All workers share them; of the
            others each worker has its own.
        is_service: whether workers log, as a service does.
        hung: seconds without an answer after which a worker is killed.
    """

    def __init__(
        self,
        resolved: ResolvedConfig,
        source: str,
        *,
        sockets: Assigned | None = None,
        is_service: bool = True,
        hung: float | None = None,
    ) -> None:
        self.resolved = resolved
        self.listeners = list(resolved.config.transport.listeners)
        """As configured; once started, with the real ports."""
        self.numbers = range(1, resolved.config.transport.workers + 1)
        self.workers: dict[int, WorkerProcess] = {}
        """Those that serve, by number."""
        self.restarts = dict.fromkeys(self.numbers, 0)
        self.started = time.time()
        self.started_monotonic = time.monotonic()
        self.unready: str | None = "starting"
        """Why nobody is to be sent here; None while there is no reason."""
        self.ended: Sequence[WorkerProcess] = ()
        """At the end: those that served until then."""
        self._source = source
        self._is_service = is_service
        self._hung = hung or HUNG
        self._given = (sockets or Assigned()).listeners
        self._sockets: dict[int, list[list[socket.socket]]] = {}
        """Of each worker, by listener."""
        self._alive: set[WorkerProcess] = set()
        self._keepers: set[asyncio.Task[None]] = set()
        self._switched = Switched()
        self.relays = TraceRelays(lambda pid: any(x.process.pid == pid for x in self._alive))
        """Where the workers' packets of a trace come together."""
        self._calls: set[asyncio.Task[Content]] = set()
        """Those under way, whether somebody waits for the answer or not."""
        self._switching = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._spawning = asyncio.Lock()
        """Held while a process is given its sockets: the end closes them, and begins after that."""
        self._reloads = 0
        """How often all was to be read anew."""

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            TransportError: a listener cannot be opened.
            WorkerEndedError: a worker has ended before it served; it has said why.
        """
        try:
            await self._listen()
            # What is wrong for all is told once.
            await self._launch(1)
            launches = (self._launch(number) for number in self.numbers[1:])
            found = await asyncio.gather(*launches, return_exceptions=True)
            if wrong := [x for x in found if isinstance(x, BaseException)]:
                raise wrong[0]
        except BaseException:
            await self._end(0)
            raise
        loop = asyncio.get_running_loop()
        self._keepers = {loop.create_task(self._keep(x)) for x in self.workers.values()}
        self.unready = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End all workers: each closes its connections, and has as long for that as configured."""
        self.unready = "stopping"
        transport = self.resolved.config.transport
        configured = (transport.shutdown_spread + transport.shutdown_grace) / 1000
        await self._end(configured + FLUSH_TIMEOUT + END_MARGIN)

    async def call(self, method: str, params: Any) -> Content:
        """Call an MI method of all workers.

        Whoever asked may go away meanwhile: what was begun is ended all the same, or some workers
        would be left as they were.
        """
        calling = asyncio.get_running_loop().create_task(self._call(method, params))
        self._calls.add(calling)
        calling.add_done_callback(self._calls.discard)
        return await asyncio.shield(calling)

    async def _call(self, method: str, params: Any) -> Content:
        async with self._switching:
            return await self._switch(method, params)

    async def _switch(self, method: str, params: Any) -> Content:
        """As `call`; to be called while nothing else is switched."""
        workers = list(self.workers.values())
        if not workers:
            return _failed("no worker serves")
        named = by_name(method, params)
        if method == "trace_start":
            try:
                taken = self._switched.traces
                await self.relays.open(named.get("id"), named.get("uri"), taken)
            except OSError as exc:
                return _failed(
                    "the workers' packets cannot be brought together at"
                    f" {self.relays.paths}…: {exc.strerror or exc}; TMPDIR may name another"
                    " directory"
                )
        contents = await asyncio.gather(*(each.call(method, params) for each in workers))
        # Who is gone counts for nothing: its successor is told what has been switched.
        pairs = zip(workers, contents, strict=True)
        contents = [said for each, said in pairs if not each.reading.done()] or contents
        content = merged(method, contents)
        self._reloads += method in RELOADS
        is_done = any("result" in each for each in contents)
        match method:
            case "trace_start" if "error" in content:
                return self._undone(named.get("id"), content, contents)
            case "trace_stop" if is_done or content["error"]["code"] == NOT_FOUND:
                # It may have ended by itself in all of them.
                self.relays.close(named["id"])
                is_done = True
        if is_done:
            # Who has not answered does it late, or has a successor that is told.
            self._switched.note(method, params)
        return content

    def _undone(self, trace_id: object, content: Content, contents: Sequence[Content]) -> Content:
        """End a trace that could not be started in all workers; returns what to answer."""
        if not isinstance(trace_id, str) or trace_id in self._switched.traces:
            # Nobody has started it now.
            return content
        self.relays.close(trace_id)
        for worker in self.workers.values():
            # Also who has not answered: it may be about to.
            worker.link.tell("trace_stop", trace_id)
        if not any("result" in each for each in contents):
            return content
        return _failed(f"{content['error']['message']}; so trace {trace_id!r} is started in none")

    async def families(self) -> list[Family]:
        """The metrics of all workers, and those of this process as worker 0."""
        workers = dict(self.workers)
        found = await asyncio.gather(*map(_families, workers.values()))
        parts = {0: list(process_families(self.started)), **dict(zip(workers, found, strict=True))}
        up = Family("sipws_worker_up", "gauge", "Whether a worker serves, and answers.")
        restarts = Family(
            "sipws_worker_restarts_total", "counter", "Workers that died and were started again."
        )
        for number in self.numbers:
            up.add(int(bool(parts.get(number))), worker=str(number))
            restarts.add(self.restarts[number], worker=str(number))
        return [up, restarts, *by_worker(parts)]

    async def reload(self) -> None:
        """Have all workers read filter and certificates anew; they log what is wrong."""
        self._reloads += 1
        await asyncio.gather(*map(_reload, list(self.workers.values())))

    @property
    def quiet(self) -> list[int]:
        """The workers that do not answer."""
        return [x.number for x in self.workers.values() if x.is_quiet]

    async def _listen(self) -> None:
        """Open what has not been opened for us."""
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
        """Start a worker, and wait until it serves; none where all are to end.

        Raises:
            WorkerEndedError: it has ended.
        """
        config, reloads = self.resolved.config, self._reloads
        async with self._spawning:
            if self._stopping.is_set():
                return None
            start = Start(
                number,
                share_of(config, number, self.listeners, trace_on=self._switched.trace_on),
                self._source,
                sockets=tuple(tuple(x.fileno() for x in of) for of in self._sockets[number]),
                is_service=self._is_service,
                is_restart=self.restarts[number] > 0,
                relays=self.relays.paths,
            )
            worker = await WorkerProcess.spawn(start, self._hear)
            self._alive.add(worker)
        worker.ended.add_done_callback(lambda _: self._alive.discard(worker))
        await worker.serving()
        async with self._switching:
            for method, params in self._switched.calls:
                if "error" in (said := await worker.call(method, params)):
                    why = said["error"]["message"]
                    log.error("worker %d does no %s as the others: %s", number, method, why)
            if self._reloads != reloads:
                # It may have read what was there before.
                await worker.call("reload", None)
            self.workers[number] = worker
        log.debug("worker %d serves, process %d", number, worker.process.pid)
        return worker

    async def _keep(self, worker: WorkerProcess) -> None:
        """Start a worker again whenever it has ended, until all are to end."""
        loop, number, pause = asyncio.get_running_loop(), worker.number, 0.0
        while True:
            status = await self._end_of(worker)
            self.workers.pop(number, None)
            begun = worker.begun
            while True:
                if self._stopping.is_set():
                    return
                pause = pause_before(pause, loop.time() - begun)
                log.error(
                    "worker %d ended with %s and is started again in %g s",
                    number, how_ended(status), pause,
                )  # fmt: skip
                if pause >= ABANDONED:
                    self._abandon(number)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                    return
                self.restarts[number] += 1
                begun = loop.time()
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
        """Wait for the end of a worker; make it, if it does not answer any more."""
        while not worker.ended.done():
            try:
                await self._forget_gone(await worker.ping(self._hung))
            except LinkError as exc:
                if worker.reading.done():
                    # It ends, and has closed its link a little earlier.
                    await asyncio.wait((worker.ended,), timeout=END_MARGIN)
                if not worker.ended.done():
                    log.error("worker %d %s and is killed", worker.number, exc)
                    worker.kill()
                break
            await asyncio.wait((worker.ended,), timeout=PING_INTERVAL)
        return await worker.ended

    async def _forget_gone(self, traces: Sequence[str]) -> None:
        """End the traces everywhere that have ended by themselves in one worker, or here."""
        ended = set(self._switched.traces).difference(traces).union(self.relays.gone)
        for name, params in list(self._switched.traces.items()):
            if name in ended:
                async with self._switching:
                    # Meanwhile another one may have been started that is called so.
                    if self._switched.traces.get(name) is params:
                        await self._switch("trace_stop", {"id": name})

    def _abandon(self, number: int) -> None:
        """Let the system give to the other workers what comes in."""
        for listener, sockets in zip(self.listeners, self._sockets[number], strict=True):
            if not self._given.get(listener):
                for index, each in enumerate(sockets):
                    # Only what listens gets anything.
                    with suppress(OSError):
                        sockets[index] = fresh(each)
                        each.close()

    def _hear(self, worker: WorkerProcess, name: str, content: Any) -> None:
        """Tell the others what one has told."""
        for other in self.workers.values():
            if other is not worker:
                other.link.tell(name, content)

    async def _end(self, patience: float) -> None:
        self._stopping.set()
        async with self._spawning:
            # What comes in now is for the workers alone to refuse.
            for each in (x for of in self._sockets.values() for sockets in of for x in sockets):
                each.close()
            self.ended = list(self._alive)
        for worker in self.ended:
            worker.link.tell("stop")
        try:
            waiting = [*self._keepers, *(x.ended for x in self.ended)]
            if waiting:
                await asyncio.wait(waiting, timeout=patience)
        finally:
            for worker in self._alive:
                if patience:
                    log.error("worker %d does not end and is killed", worker.number)
                worker.kill()
        await asyncio.gather(*self._keepers, *(x.ended for x in self.ended))
        if readings := [x.reading for x in self.ended]:
            # What they said last. Where one has forked, its link does not end with it.
            await asyncio.wait(readings, timeout=END_MARGIN)
        await self.relays.aclose()


def _failed(why: str) -> Content:
    return {"error": {"code": FAILED, "message": why}}


async def _families(worker: WorkerProcess) -> list[Family]:
    try:
        return unpacked(await worker.ask("metrics"))
    except LinkError as exc:
        log.error("worker %d %s, and its metrics are left out", worker.number, exc)
        return []


async def _reload(worker: WorkerProcess) -> None:
    try:
        await worker.ask("reload")
    except LinkError as exc:
        # The next one in the place of one that is gone reads what is there.
        if not worker.reading.done():
            log.error("worker %d %s, and may not have read all anew", worker.number, exc)
