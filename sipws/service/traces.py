"""Where traces go, while the program runs: tracers with their senders, some of them for a while.

A trace point is a destination, or a group of them, with a tracer of its own. Those of the
configuration last as long as the program; others come and go by MI ``trace_start`` and
``trace_stop``, and go by themselves when their peer has gone.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final, Self

import hep
from hep.sending.groups import Group
from hep.sending.senders import REFUSED
from sipws.address import Address
from sipws.admission.proxy_headers import Networks
from sipws.bus import Bus
from sipws.config.resolved import PointPlan
from sipws.config.tracing import Distribution
from sipws.deferred_bus import DeferredBus, Gathering
from sipws.errors import AddressError, ConfigurationError, TraceError
from sipws.events import Connection
from sipws.tracing.losses import Losses
from sipws.tracing.messages import CallsOf, Party
from sipws.tracing.pipeline import FLUSH_TIMEOUT
from sipws.tracing.tracer import Decide, Tracer, TraceSettings, Verdict

log = logging.getLogger(__name__)

LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks at the ledgers and at who has gone."""

MOST_STARTED: Final = 32
"""Trace points that may be started: each costs an encoding of every message."""

_DISTRIBUTIONS: Final[dict[Distribution, Callable[..., Group]]] = {
    "duplicate": hep.Duplicate,
    "failover": hep.Failover,
    "balanced": hep.Balanced,
}


@dataclass(slots=True)
class Trace:
    """A destination, or a group of them, and what is traced to it."""

    id: str
    tracer: Tracer
    packets: Gathering[bytes]
    """Its packets, on their way to the senders."""
    destinations: tuple[hep.HepId, ...]
    senders: tuple[hep.Sender, ...]
    """One for each destination."""
    temporary: bool
    """Whether it was started by MI ``trace_start``."""
    losses: list[Losses] = field(default_factory=list)
    """Of each sender."""
    filters: tuple[str, ...] = ()
    """What it was started with."""

    @property
    def uri(self) -> str:
        """Where to, in words."""
        return ", ".join(map(str, self.destinations))

    @property
    def has_gone(self) -> bool:
        """Whether its peer was there and is not any more, or never was."""
        return any(sender.failures or sender.counters.dropped[REFUSED] for sender in self.senders)

    def close(self) -> None:
        """Trace no more; what waits at the senders waits on."""
        self.tracer.close()
        self.packets.close()


class Traces:
    """All trace points of an application."""

    def __init__(self, bus: Bus) -> None:
        self.configured: list[Trace] = []
        self.started: dict[str, Trace] = {}
        """By id."""
        self.bus = DeferredBus(bus)
        """What the tracers listen to, so that no message waits for its trace."""
        self.way_to: Callable[[str, hep.HepId], hep.HepId] = lambda _, destination: destination
        """Where to send a trace that is started, by its id and destination: straight there, unless
        somebody passes it on."""
        self.on = False
        """Whether tracing is on (OpenSIPS ``trace_on``), with a destination or without."""
        self._watching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def ids(self) -> set[str]:
        """What they are called, each by a name of its own."""
        return {point.id for point in self.all}

    @property
    def senders(self) -> list[hep.Sender]:
        """The senders of all of them."""
        return [sender for point in self.all for sender in point.senders]

    @property
    def all(self) -> list[Trace]:
        """Those of the configuration, and those that were started."""
        return [*self.configured, *self.started.values()]

    def read(self) -> list[Trace]:
        """All of them, for whoever reads counters: told what has happened until now."""
        self.bus.flush()
        return self.all

    def switch(self, *, on: bool) -> None:
        """Turn tracing on or off (OpenSIPS ``ws_trace``); what was started by hand goes on."""
        self.on = on
        for point in self.configured:
            point.tracer.switch(on=on)

    async def open(self, plans: Sequence[PointPlan], *, on: bool) -> None:
        """Open the trace points of the configuration.

        Raises:
            ConfigurationError: the directory for what waits cannot be used.
        """
        self.on = on
        for number, resolved in enumerate(plans):
            senders = await _opened(resolved)
            group = (
                senders[0] if len(senders) == 1 else _DISTRIBUTIONS[resolved.distribution](*senders)
            )
            packets = Gathering(self.bus, group.send_all)
            tracer = Tracer(
                self.bus, packets.put, resolved.settings, decide=resolved.filter.decide, on=on
            )
            name = resolved.destinations[0].name or str(number)
            while name in self.ids:
                name += f"-{number}"
            self.configured.append(_point(name, tracer, packets, resolved.destinations, senders))

    def start(
        self,
        point_id: str,
        uri: str,
        filters: Sequence[str],
        settings: TraceSettings,
        connections: Iterable[Connection],
    ) -> Trace:
        """Trace to one more destination until `stop` (MI ``trace_start``).

        Args:
            point_id: what it is called.
            uri: ``hep:HOST:PORT;transport=tcp;version=3``.
            filters: ``caller=USER[@HOST]``, ``callee=…`` and ``ip=ADDRESS`` (of the peer, or a
                network); of one kind any may match, and each kind must.
            settings: how events are written, as for other destinations.
            connections: those that are open now; they are traced too.

        Raises:
            TraceError: the id is taken, the uri or a filter is wrong, or there are too many.
        """
        if point_id in self.ids:
            remedy = "stop it first" if point_id in self.started else "the configuration has it"
            raise TraceError(f"trace id {point_id!r} is taken; {remedy}")
        if len(self.started) >= MOST_STARTED:
            raise TraceError(f"{MOST_STARTED} traces were started; stop one first")
        try:
            destination = hep.HepId.parse(uri.removeprefix("hep:"))
        except hep.HepIdError as exc:
            raise TraceError(str(exc)) from exc
        decide, select = _filters(filters)
        written = replace(settings.packets, version=destination.version)
        # What it shows is for its own filters to say.
        messages = replace(settings.messages, sample=1.0, methods=frozenset())
        sender = hep.open_sender(self.way_to(point_id, destination))
        packets = Gathering(self.bus, sender.send_all)
        tracer = Tracer(
            self.bus,
            packets.put,
            # The events of all connections would bury the calls of a party.
            replace(
                settings,
                packets=written,
                messages=messages,
                trace_sip=True,
                trace_events=select is None,
            ),
            decide=decide,
            select=select,
        )
        for connection in connections:
            tracer.adopt(connection)
        point = _point(point_id, tracer, packets, (destination,), (sender,), temporary=True)
        point.filters = tuple(filters)
        self.started[point_id] = point
        log.info("trace %s is started, to %s", point_id, destination)
        return point

    def stop(self, point_id: str, why: str = "stopped") -> None:
        """End what was started (MI ``trace_stop``).

        Raises:
            TraceError: there is none with that id.
        """
        point = self.started.pop(point_id, None)
        if point is None:
            raise TraceError(f"there is no trace {point_id!r}")
        point.close()
        log.info("trace %s to %s is %s", point_id, point.uri, why)
        closing = asyncio.get_running_loop().create_task(_close(point))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def look(self, now: float) -> None:
        """Tell what was lost, and let go of who has gone.

        Args:
            now: the time, in seconds since the epoch.
        """
        for point in self.all:
            if point.temporary and point.has_gone:
                self.stop(point.id, "gone: its peer is not there")
                continue
            each = list(zip(point.destinations, point.senders, point.losses, strict=True))
            for destination, _, losses in each:
                if (text := losses.warning(now)) is not None:
                    log.warning("%s: %s", destination, text)
            if not point.tracer.on:
                # Switched off, nothing is sent. What was lost is told when it is on again.
                continue
            for destination, sender, losses in each:
                if (loss := losses.look(now, reachable=sender.connected)) is not None:
                    log.warning("%s: %s", destination, loss)
                    # To that one alone: the others of a group may have missed nothing.
                    point.tracer.tell(loss, _address(destination), now, sender.send)

    async def __aenter__(self) -> Self:
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End all of them, within `FLUSH_TIMEOUT`."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        points = self.all
        for point in points:
            point.close()
        await asyncio.gather(*map(_close, points), *self._closing)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            self.look(time.time())


def _point(
    name: str,
    tracer: Tracer,
    packets: Gathering[bytes],
    destinations: tuple[hep.HepId, ...],
    senders: tuple[hep.Sender, ...],
    *,
    temporary: bool = False,
) -> Trace:
    losses = [Losses(sender.counters, time.time()) for sender in senders]
    return Trace(name, tracer, packets, destinations, senders, temporary, losses)


async def _opened(resolved: PointPlan) -> tuple[hep.Sender, ...]:
    """All senders of a trace point, or none of them."""
    senders: list[hep.Sender] = []
    try:
        for destination, settings in zip(resolved.destinations, resolved.senders, strict=True):
            senders.append(hep.open_sender(destination, settings))
    except hep.HepSpoolError as exc:
        await asyncio.gather(*(sender.aclose(0) for sender in senders))
        raise ConfigurationError(f"hep_spool: {exc}") from exc
    return tuple(senders)


async def _close(point: Trace) -> None:
    await asyncio.gather(*(sender.aclose(FLUSH_TIMEOUT) for sender in point.senders))


def _address(destination: hep.HepId) -> Address:
    try:
        ip_address(destination.host)
    except ValueError:
        return Address("0.0.0.0", destination.port)
    return Address(destination.host, destination.port)


def _filters(filters: Sequence[str]) -> tuple[Decide | None, CallsOf | None]:
    """What filters say about connections, and about messages."""
    by_kind: dict[str, list[str]] = {"caller": [], "callee": [], "ip": []}
    for text in filters:
        kind, equals, wanted = text.partition("=")
        if kind not in by_kind or not equals or not wanted:
            raise TraceError(
                f"filter {text!r} is none of caller=USER[@HOST], callee=USER[@HOST], ip=ADDRESS"
            )
        by_kind[kind].append(wanted)
    callers, callees = ([Party(text) for text in by_kind[kind]] for kind in ("caller", "callee"))
    select = CallsOf(callers, callees) if callers or callees else None
    if not by_kind["ip"]:
        return None, select
    try:
        networks = Networks(by_kind["ip"])
    except AddressError as exc:
        raise TraceError(f"filter ip=: {exc}") from exc
    return lambda connection: Verdict(connection.peer.ip in networks), select
