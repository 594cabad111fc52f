"""The tracing pipeline as one object: bus, tracer and sender, for connections of any server.

`sipws.Server` publishes on a bus of its own; the adapters of `sipws.adapters` publish what happens
to the connections of other servers on the bus of a pipeline.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import hep
from sipws.bus import Bus
from sipws.deferred_bus import DeferredBus, Gathering
from sipws.errors import ConfigurationError
from sipws.events import Connection
from sipws.registry import Registered, Registry
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import Decide, Tracer, TraceSettings

FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the last packets have to leave at the end."""

FilterSource = Callable[[Connection], object] | str | Path
"""A filter: a function that returns true for what is to be traced, the text of an OpenSIPS script
with a route that decides, or the path of such a script."""


class Pipeline:
    """Traces what is published on its bus to a collector.

    Example::

        async with Pipeline("10.0.0.2:9060;transport=udp", trace_sip=True) as trace:
            async with serve(handler, "127.0.0.1", 8080, create_connection=traced(trace)):
                await asyncio.sleep(3600)

    Making one has no effect beyond checking what it is given; `start` and `aclose`, or ``async
    with``, belong around the life of the server.

    Args:
        destination: where packets go: ``HOST:PORT;transport=udp;version=3``, or parsed.
        trace_sip: whether SIP messages are traced beside the connection events.
        filter: which connections are traced; all, unless given.
        route: the route of the script that is the filter; needed where there is more than one.
        homer5: payloads as colon-joined text rather than as JSON (OpenSIPS ``homer5_on``).
        capture_id: who is sending, for the collector: 0 to 4294967295.
        auth_key: the collector's password, if it asks for one.
        on: whether tracing is on at the start; `Tracer.switch` changes it.
        bus: where events come from; one of its own unless given.

    Raises:
        HepIdError: the destination does not parse.
        ConfigurationError: the script cannot be read, or does not have the route.
        FilterRouteError: the script is refused.
    """

    def __init__(
        self,
        destination: hep.HepId | str,
        *,
        trace_sip: bool = False,
        filter: FilterSource | None = None,  # noqa: A002  what it is called everywhere else
        route: str | None = None,
        homer5: bool = False,
        capture_id: int = 1,
        auth_key: bytes | None = None,
        on: bool = True,
        bus: Bus | None = None,
    ) -> None:
        if isinstance(destination, str):
            destination = hep.HepId.parse(destination)
        self.destination = destination
        self.bus = bus or Bus()
        """What adapters publish on, and anybody may listen to."""
        self.connections: Registry[Registered] = Registry()
        """The connections that are alive, and the source of their ids."""
        self.sender: hep.Sender | None = None
        """Once started; its counters tell what was sent and what was dropped."""
        self.tracer: Tracer | None = None
        """Once started; it can be switched off and on, and its filter replaced."""
        packets = PacketSettings(destination.version, capture_id, auth_key=auth_key)
        self._deferred = DeferredBus(self.bus)
        self._packets: Gathering[bytes] | None = None
        self._settings = TraceSettings(packets, homer5=homer5, trace_sip=trace_sip)
        self._decide = _decide(filter, route)
        self._on = on

    def start(self) -> None:
        """Start tracing; a second call does nothing. Needs a running event loop.

        Connecting to the collector goes on in the background, again and again where it fails.
        """
        if self.sender is None:
            self.sender = hep.open_sender(self.destination)
            self._packets = Gathering(self._deferred, self.sender.send_all)
            self.tracer = Tracer(
                self._deferred,
                self._packets.put,
                self._settings,
                decide=self._decide,
                on=self._on,
            )

    def flush(self) -> None:
        """Hand to the sender what has happened until now; by itself that takes milliseconds."""
        self._deferred.flush()

    async def aclose(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Send what waits, and end; it may be started again.

        Args:
            timeout: seconds that sending may take; what is left then is dropped and counted.
        """
        sender, tracer, packets = self.sender, self.tracer, self._packets
        self.sender = self.tracer = self._packets = None
        if tracer is not None:
            tracer.close()
        if packets is not None:
            packets.close()
        if sender is not None:
            await sender.aclose(timeout)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _decide(source: FilterSource | None, route: str | None) -> Decide | None:
    if source is None:
        return None
    # Who has no filter need not wait for its import.
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
