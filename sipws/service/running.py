"""The interface of a running server for commands, statistics and HTTP pages.

`sipws.service.app.Application` implements it. The application imports its commands, and they import
only this, so that no two modules import each other.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from sipws.bus import Bus
from sipws.config.changes import Changes
from sipws.config.resolved import ResolvedConfig
from sipws.control.server import ControlServer
from sipws.metrics.counters import Counts, Lag
from sipws.relay.relay import Relay
from sipws.service.traces import Traces
from sipws.sip_counts import SipCounts
from sipws.transport.server import Server


class Reloaded(NamedTuple):
    """What a reload has done."""

    found: Changes = Changes()
    warnings: tuple[str, ...] = ()
    """What is allowed in the new configuration but most likely not meant."""


class Running(Protocol):
    """A running server."""

    resolved: ResolvedConfig
    bus: Bus
    relay: Relay | None
    """Relays messages to the upstream; None without one."""
    server: Server
    traces: Traces
    control: ControlServer | None
    """The control interface; None without one."""
    counts: Counts
    sip_counts: Mapping[str, SipCounts]
    """Counts of the SIP messages that arrive, by leg; empty if nothing counts them."""
    lag: Lag
    started: float
    """When the program started, in seconds since the epoch."""
    started_monotonic: float
    """The same moment on the monotonic clock."""
    reset: dict[str, int]
    """The values of statistics when they were reset last, by name."""
    unready: str | None
    """Why ``/readyz`` answers 503; None while the server is ready."""

    def start_trace(self, trace_id: str, uri: str, filters: Sequence[str]) -> None:
        """Start a trace to one more destination; see `Traces.start`.

        Args:
            trace_id: name of the trace.
            uri: ``hep:HOST:PORT;transport=tcp;version=3``.
            filters: ``caller=…``, ``callee=…`` and ``ip=…``.

        Raises:
            TraceError: the name is taken, the uri or a filter is wrong, or there are too many.
        """

    def reload(self) -> Reloaded:
        """Read the configuration again, and the files that it names.

        Raises:
            ConfigurationError: what is wrong; its old state stays.
        """

    def reload_filter(self) -> tuple[str, ...]:
        """Reload the filter; see `reload`."""

    def reload_certificates(self) -> None:
        """Reload the certificates; see `reload`."""
