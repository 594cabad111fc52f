"""The traces of a running program: those of the configuration, and those that come and go.

The configured ones last as long as the program. Others start and end by MI ``trace_start`` and
``trace_stop``, and end by themselves when their peer has gone.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, Self

import hep
from sipws.address import PROTOCOLS, Proto
from sipws.admission.proxy_headers import Networks
from sipws.bus import Bus
from sipws.config.resolved import ResolvedTrace
from sipws.deferred_bus import DeferredBus
from sipws.errors import AddressError, ConfigurationError, TraceError
from sipws.events import Connection
from sipws.tracing.destinations import Destinations
from sipws.tracing.messages import CallsOf, Party
from sipws.tracing.trace import LOOK_INTERVAL, Trace
from sipws.tracing.tracer import Decide, TraceSettings, Verdict

log = logging.getLogger(__name__)

MOST_STARTED: Final = 32
"""Traces that may be started: each costs an encoding of every message."""


class Traces:
    """All traces of an application, by name."""

    def __init__(self, bus: Bus) -> None:
        self.configured: list[Trace] = []
        self.started: dict[str, Trace] = {}
        """By name."""
        self.filters: dict[str, tuple[str, ...]] = {}
        """The filters that each of `started` was started with, by its name."""
        self.bus = DeferredBus(bus)
        """The bus of the tracers. It hands events on later, so that no message waits for its
        trace."""
        self.way_to: Callable[[str, hep.HepId], hep.HepId] = lambda _, destination: destination
        """Returns where to send a started trace, by its name and destination. A worker sends it to
        its parent process."""
        self.protocols_on: frozenset[Proto] = frozenset()
        """The protocols for which tracing is on (OpenSIPS ``trace_on``), with a destination or
        without."""
        self.used: frozenset[Proto] = PROTOCOLS
        """The protocols that connections may have: those of the listeners and of the upstream."""
        self.off: set[str] = set()
        """Names of the configured traces that are off by themselves, whatever `protocols_on`."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> set[str]:
        """The names in use; no two traces share one."""
        return {trace.name for trace in self.all}

    @property
    def senders(self) -> list[hep.Sender]:
        """The senders of all traces."""
        return [sender for trace in self.all for sender in trace.senders]

    @property
    def all(self) -> list[Trace]:
        """The configured traces, then the started ones."""
        return [*self.configured, *self.started.values()]

    def read(self) -> list[Trace]:
        """Return all traces with counters that include all events so far."""
        self.bus.flush()
        return self.all

    @property
    def on(self) -> bool:
        """Whether tracing is on, for one protocol in use at least."""
        return bool(self.protocols_on & self.used)

    def switch(self, *, on: bool, proto: Proto | None = None) -> None:
        """Turn tracing on or off. Started traces go on.

        Args:
            on: whether the configured traces are on from now on.
            proto: the protocol for which (OpenSIPS ``ws_trace``, ``wss_trace``); None for both.
        """
        chosen = PROTOCOLS if proto is None else {proto}
        self.protocols_on = self.protocols_on | chosen if on else self.protocols_on - chosen
        for trace in self.configured:
            if trace.name not in self.off:
                trace.tracer.switch(on=on, proto=proto)

    def switch_one(self, name: str, *, on: bool) -> None:
        """Turn one of the configured traces on or off (OpenSIPS' tracer, ``trace``).

        Args:
            name: of the trace.
            on: whether it is on while tracing is on.

        Raises:
            TraceError: no configured trace has that name.
        """
        trace = next((each for each in self.configured if each.name == name), None)
        if trace is None:
            raise TraceError(f"the configuration has no trace {name!r}")
        if on:
            self.off.discard(name)
        else:
            self.off.add(name)
        for proto in PROTOCOLS:
            trace.tracer.switch(on=on and proto in self.protocols_on, proto=proto)

    async def open(
        self, resolved: Iterable[ResolvedTrace], *, on: Collection[Proto] = PROTOCOLS
    ) -> None:
        """Open the traces of the configuration.

        Args:
            resolved: the traces.
            on: the protocols for which tracing is on at the start.

        Raises:
            ConfigurationError: a spool directory cannot be used.
        """
        self.protocols_on = frozenset(on)
        for number, each in enumerate(resolved):
            name = each.destinations.hep_ids[0].name or str(number)
            while name in self.names:
                name += f"-{number}"
            decide = each.filter.decide
            trace = Trace(
                self.bus,
                each.destinations,
                each.settings,
                decide=decide,
                on=on,
                protocols=each.protocols,
                name=name,
            )
            try:
                trace.start()
            except ConfigurationError as exc:
                await trace.aclose(0)
                raise ConfigurationError(f"hep_spool: {exc}") from exc
            self.configured.append(trace)

    def renew(self, resolved: Iterable[ResolvedTrace]) -> None:
        """Use the settings and filters of a new configuration with the same destinations.

        Args:
            resolved: the traces of that configuration.
        """
        # Events until now are decided and written by the old ones.
        self.bus.flush()
        for trace, new in zip(self.configured, resolved, strict=True):
            trace.renew(new.settings, new.filter.decide)

    def start(
        self,
        name: str,
        uri: str,
        filters: Sequence[str],
        settings: TraceSettings,
        connections: Iterable[Connection],
    ) -> Trace:
        """Start a trace that lasts until `stop` (MI ``trace_start``).

        Args:
            name: of the new trace.
            uri: ``hep:HOST:PORT;transport=tcp;version=3``.
            filters: ``caller=USER[@HOST]``, ``callee=…`` and ``ip=ADDRESS`` (of the peer, or a
                network). Of each kind that is given, one filter has to match.
            settings: how events are written, as for other destinations.
            connections: the open connections, which are traced too.

        Raises:
            TraceError: the name is taken, the uri or a filter is wrong, or there are too many.
        """
        if name in self.names:
            remedy = "stop it first" if name in self.started else "the configuration has it"
            raise TraceError(f"trace id {name!r} is taken; {remedy}")
        if len(self.started) >= MOST_STARTED:
            raise TraceError(f"{MOST_STARTED} traces were started; stop one first")
        try:
            destination = hep.HepId.parse(uri.removeprefix("hep:"))
        except hep.HepIdError as exc:
            raise TraceError(str(exc)) from exc
        decide, select = _filters(filters)
        settings = replace(
            settings,
            packets=replace(settings.packets, version=destination.version),
            # Its own filters decide alone what it shows.
            messages=replace(settings.messages, sample=1.0, methods=frozenset()),
            trace_sip=True,
            # The events of all connections would bury the calls of a party.
            trace_events=select is None,
        )
        try:
            settings.packets.room()
        except hep.HepEncodeError as exc:
            raise TraceError(
                f"version={destination.version} has no room for hep_capture_id ="
                f" {settings.packets.capture_id}; use version=3, or a number up to 65535"
            ) from exc
        trace = Trace(
            self.bus,
            Destinations((destination,), (hep.SenderSettings(),)),
            settings,
            decide=decide,
            select=select,
            name=name,
            open_sender=lambda to, how: hep.open_sender(self.way_to(name, to), how),
        )
        trace.start()
        for connection in connections:
            trace.tracer.adopt(connection)
        self.started[name] = trace
        self.filters[name] = tuple(filters)
        log.info("trace %s is started, to %s", name, destination)
        return trace

    def stop(self, name: str, why: str = "stopped") -> None:
        """End a started trace (MI ``trace_stop``).

        Args:
            name: of the trace.
            why: the end of the log line.

        Raises:
            TraceError: no started trace has that name.
        """
        trace = self.started.pop(name, None)
        if trace is None:
            raise TraceError(f"there is no trace {name!r}")
        del self.filters[name]
        trace.stop()
        log.info("trace %s to %s is %s", name, trace.destinations, why)
        closing = asyncio.get_running_loop().create_task(trace.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def stop_gone(self) -> None:
        """End the started traces whose peer has gone. Runs by itself once a second."""
        for name, trace in list(self.started.items()):
            if trace.peer_has_gone:
                self.stop(name, "gone: its peer is not there")

    async def __aenter__(self) -> Self:
        self._look_later()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End all traces, within `sipws.tracing.trace.FLUSH_TIMEOUT`."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(trace.aclose() for trace in self.all), *self._closing)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        self._look_later()
        self.stop_gone()


def _filters(filters: Sequence[str]) -> tuple[Decide | None, CallsOf | None]:
    """Parse filters of ``trace_start``: into one for connections, and one for messages."""
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
