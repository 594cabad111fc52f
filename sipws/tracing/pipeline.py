"""The tracing pipeline as one object: bus, tracer and senders, for connections of any server.

`sipws.Server` publishes on a bus of its own. The adapters of `sipws.adapters` publish the events of
other servers' connections on the bus of a pipeline.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import hep
from sipws.bus import Bus
from sipws.deferred_bus import DeferredBus
from sipws.errors import ConfigurationError
from sipws.events import Connection
from sipws.registry import Registered, Registry
from sipws.tracing.destinations import Destinations, Distribution
from sipws.tracing.packets import PacketSettings
from sipws.tracing.trace import FLUSH_TIMEOUT, Trace
from sipws.tracing.tracer import Decide, Tracer, TraceSettings

FilterSource = Callable[[Connection], object] | str | Path
"""A filter: a function that returns true for each connection to trace, the text of an OpenSIPS
script with a route that decides, or the path of such a script."""


class Pipeline:
    """Traces what is published on its bus to a collector, or to several.

    Example::

        async with Pipeline("10.0.0.2:9060;transport=udp", trace_sip=True) as trace:
            async with serve(handler, "127.0.0.1", 8080, create_connection=traced(trace)):
                await asyncio.sleep(3600)

    The constructor only checks its arguments. `start` and `aclose`, or ``async with``, enclose the
    life of the server. A collector that was away gets a report of the packets that it missed
    (event ``LOST``) once it is back.

    Args:
        destination: the collector, ``HOST:PORT;transport=udp;version=3`` or parsed; or several, all
            of one version.
        distribution: how packets are spread over several collectors: ``duplicate`` sends each to
            all, ``failover`` to the first that is connected, ``balanced`` to one by correlation id.
        spool: directory for packets that find no room in the queue and those left at the end; the
            next pipeline with it sends them. Without it, such packets are dropped and counted.
        sending: queue limits, retries and TLS of each sender; its ``spool`` is the directory unless
            ``spool`` is given.
        trace_sip: whether SIP messages are traced in addition to the connection events.
        filter: which connections are traced; by default all.
        route: the route of the script that is the filter; required if there is more than one.
        homer5: payloads as colon-joined text rather than as JSON (OpenSIPS ``homer5_on``).
        capture_id: capture agent id of the packets: 0 to 4294967295.
        auth_key: password of the collector (HEP chunk 0x000e); by default none.
        on: whether tracing is on at the start; `Tracer.switch` changes it.
        bus: source of the events; by default one of its own.

    Raises:
        HepIdError: a destination does not parse.
        ConfigurationError: no destination, one that is there twice, or different HEP versions; the
            script cannot be read, or does not have the route.
        FilterRouteError: the script is refused.
    """

    def __init__(
        self,
        destination: hep.HepId | str | Sequence[hep.HepId | str],
        *,
        distribution: Distribution = "duplicate",
        spool: Path | str | None = None,
        sending: hep.SenderSettings | None = None,
        trace_sip: bool = False,
        filter: FilterSource | None = None,  # noqa: A002 - its name in all other places
        route: str | None = None,
        homer5: bool = False,
        capture_id: int = 1,
        auth_key: bytes | None = None,
        on: bool = True,
        bus: Bus | None = None,
    ) -> None:
        sending = sending or hep.SenderSettings()
        if spool is not None:
            sending = replace(sending, spool=Path(spool))
        given = (destination,) if isinstance(destination, hep.HepId | str) else destination
        self.destinations = Destinations.alike(given, sending, distribution)
        """The collectors, and how packets are sent to them."""
        self.bus = bus or Bus()
        """The bus that adapters publish on. Any code may subscribe to it."""
        self.connections: Registry[Registered] = Registry()
        """The connections that are alive, and the source of their ids."""
        packets = PacketSettings(self.destinations.version, capture_id, auth_key=auth_key)
        self._deferred = DeferredBus(self.bus)
        self._settings = TraceSettings(packets, homer5=homer5, trace_sip=trace_sip)
        self._decide = _decide(filter, route)
        self._on = on
        self._trace: Trace | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def destination(self) -> hep.HepId:
        """The collector; with several, the first."""
        return self.destinations.hep_ids[0]

    @property
    def senders(self) -> tuple[hep.Sender, ...]:
        """One for each collector, in their order; empty until started."""
        return self._trace.senders if self._trace is not None else ()

    @property
    def sender(self) -> hep.Sender | None:
        """The sender to `destination`; None until started.

        Its counters say what was sent and what was dropped.
        """
        return next(iter(self.senders), None)

    @property
    def tracer(self) -> Tracer | None:
        """Switches tracing off and on, and takes another filter; None until started."""
        return self._trace.tracer if self._trace is not None else None

    def start(self) -> None:
        """Start tracing; a second call does nothing. Needs a running event loop.

        Connecting to the collectors goes on in the background, and is tried again where it fails.

        Raises:
            ConfigurationError: the spool directory cannot be used.
        """
        if self._trace is not None:
            return
        trace = Trace(
            self._deferred, self.destinations, self._settings, decide=self._decide, on=self._on
        )
        try:
            trace.start()
        except Exception:
            closing = asyncio.get_running_loop().create_task(trace.aclose(0))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            raise
        self._trace = trace

    def flush(self) -> None:
        """Hand all events so far to the senders now; otherwise that takes some milliseconds."""
        self._deferred.flush()

    async def aclose(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Send the queued packets, and end. The pipeline may be started again.

        Args:
            timeout: seconds that sending may take; what is left then is spooled, or dropped and
                counted.
        """
        trace, self._trace = self._trace, None
        if trace is not None:
            await trace.aclose(timeout)
        await asyncio.gather(*self._closing)

    async def __aenter__(self) -> Self:
        try:
            self.start()
        except Exception:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _decide(source: FilterSource | None, route: str | None) -> Decide | None:
    if source is None:
        return None
    # Imported here: a program without a filter starts faster without the filter language.
    from sipws.tracing.filter import Script
    from sipws.tracing.routes import decide_by_function, decide_by_route

    if not isinstance(source, str | Path):
        return decide_by_function(source)
    script = Script.load(source) if isinstance(source, Path) else Script.parse(source)
    candidates = script.filters or script.routes
    chosen = route or (candidates[0] if len(candidates) == 1 else None)
    if chosen not in script.routes:
        there = ", ".join(script.routes) or "none"
        problem = f"there is no route {chosen!r}" if chosen else "which route decides is not said"
        raise ConfigurationError(f"trace filter: {problem}; route= one of: {there}")
    return decide_by_route(script, chosen)
