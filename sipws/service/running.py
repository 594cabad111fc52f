"""What commands, statistics and pages need of a running server: the interface between them and it.

`sipws.service.app.Application` has it. The arrows run one way so: the application imports its
commands, and they import this.
"""

from collections.abc import Sequence
from typing import Protocol

from sipws.bus import Bus
from sipws.config.resolved import ResolvedConfig
from sipws.control.server import ControlServer
from sipws.metrics.counters import Counts, Lag
from sipws.relay.relay import Relay
from sipws.service.traces import Traces
from sipws.transport.server import Server


class Running(Protocol):
    """A server that runs."""

    resolved: ResolvedConfig
    bus: Bus
    relay: Relay | None
    """Takes messages to the upstream; None without one."""
    server: Server
    traces: Traces
    control: ControlServer | None
    """The control interface; None without one."""
    counts: Counts
    lag: Lag
    started: float
    """In seconds since the epoch."""
    started_monotonic: float
    """The same moment on the monotonic clock."""
    unready: str | None
    """Why ``/readyz`` answers 503; None while the server is ready."""

    def start_trace(self, trace_id: str, uri: str, filters: Sequence[str]) -> None:
        """Trace to one more destination; see `Traces.start`."""

    def reload(self) -> tuple[str, ...]:
        """Read the filter route and the certificates again; returns the filter's warnings.

        Raises:
            ConfigurationError: what is wrong; its old state stays.
        """

    def reload_filter(self) -> tuple[str, ...]:
        """Read the filter route again; see `reload`."""

    def reload_certificates(self) -> None:
        """Read the certificates again; see `reload`."""
