"""The running program: transport, responder, tracing and control, from one configuration.

`sipws.config.resolved.ResolvedConfig.of` finds the mistakes of a configuration before this opens a
socket.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Self

from sipws.address import PROTOCOLS
from sipws.bus import Bus
from sipws.config.changes import Source, resolve_again
from sipws.config.resolved import Filter, ResolvedConfig
from sipws.config.settings import Config, Log
from sipws.control import mi
from sipws.control.server import ControlServer
from sipws.errors import ConfigurationError
from sipws.metrics.counters import CLIENT, UPSTREAM, Counts, Lag
from sipws.metrics.lag_sampler import LagSampler
from sipws.relay.relay import Relay
from sipws.service import responder
from sipws.service.commands import methods_of
from sipws.service.event_log import ConnectionLog, log_connections
from sipws.service.http_pages import pages_of
from sipws.service.running import Reloaded
from sipws.service.systemd import Assigned
from sipws.service.traces import Traces
from sipws.sip_counts import SipCounts
from sipws.tracing.tracer import Tracer
from sipws.transport import descriptors
from sipws.transport.flow import Handler
from sipws.transport.server import Server

log = logging.getLogger(__name__)


class Application:
    """A server with its responder and its tracing, from start to orderly end.

    Args:
        resolved: a checked configuration.
        handler: answers SIP messages if there is no upstream; by default the built-in responder.
        sockets: sockets that are bound already, by listener. Other listeners open their own.
        counts_sip: whether SIP messages are counted for metrics, also without a control interface
            of its own.
        source: reads the configuration again; without one, a reload reads only the files that it
            names.
        set_log: sets up the log of the program as a reload finds it; without one, its level and
            format stay.
    """

    def __init__(
        self,
        resolved: ResolvedConfig,
        handler: Handler = responder.answer,
        *,
        sockets: Assigned | None = None,
        counts_sip: bool = False,
        source: Source | None = None,
        set_log: Callable[[Log], object] | None = None,
    ) -> None:
        transport = resolved.config.transport
        sockets = sockets or Assigned()
        self.resolved = resolved
        """The configuration that is in force. A reload replaces it."""
        self.connection_log: ConnectionLog | None = None
        """The log entries about connections; see `log_connections`."""
        self._source = source
        self._set_log = set_log
        self.bus = Bus()
        self.sip_counts: Mapping[str, SipCounts] = (
            _sip_counts(resolved) if counts_sip or _is_controlled(resolved) else {}
        )
        self.relay = _relay(resolved, self.sip_counts.get(UPSTREAM))
        """Relays messages to the upstream; None without one."""
        self.server = Server(
            transport.listeners,
            handler,
            relay=self.relay,
            bus=self.bus,
            limits=transport.limits,
            wss_limits=transport.wss_limits,
            rules=replace(transport.rules, max_connections=most_connections(resolved)),
            wss_rules=transport.of_wss.rules,
            tls=resolved.certificates,
            compression=transport.permessage_deflate,
            health_path=transport.health_path,
            sip_counts=self.sip_counts.get(CLIENT),
            inherited=sockets.listeners,
        )
        self._control_socket = sockets.control
        self.traces = Traces(self.bus)
        self.traces.used = resolved.config.protocols
        self.control: ControlServer | None = None
        self.counts = Counts(self.bus)
        self.lag = Lag()
        self.started = time.time()
        """When the program started, in seconds since the epoch."""
        self.started_monotonic = time.monotonic()
        """The same moment on the monotonic clock."""
        self.reset: dict[str, int] = {}
        """The values of statistics when they were reset last, by name."""
        self.unready: str | None = "starting"
        """Why ``/readyz`` answers 503; None while the server is ready."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            TransportError: a listener cannot be opened.
            ConfigurationError: ``hep_spool`` cannot be used.
        """
        async with AsyncExitStack() as stack:
            # Tracing starts before the first connection, and ends after the last one.
            await self._start_tracing(stack)
            # The control interface outlives the server, to report that it stops.
            await self._start_control(stack)
            await stack.enter_async_context(LagSampler(self.lag))
            await self.server.start()
            stack.push_async_callback(self._close_server)
            self._stack = stack.pop_all()
        self.unready = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections, then send the last packets of their traces."""
        self.unready = "stopping"
        await self._stack.aclose()

    async def _close_server(self) -> None:
        transport = self.resolved.config.transport
        grace, spread = transport.shutdown_grace / 1000, transport.shutdown_spread / 1000
        await self.server.aclose(grace=grace, spread=spread)

    def log_connections(self) -> None:
        """Log the connections from now on, unless ``log.connections`` is off."""
        config = self.resolved.config
        if config.log.connections:
            all_sent = not config.upstream.upstream_trace_sip
            masking = config.tracing.masking
            self.connection_log = log_connections(self.bus, masking, all_sent=all_sent)

    async def _start_control(self, stack: AsyncExitStack) -> None:
        control = self.resolved.config.control
        if control.address is None:
            return
        methods = methods_of(self)
        self.control = ControlServer(
            control.address,
            lambda body: mi.reply(mi.parse(body), methods),
            control.secret,
            metrics_token=control.metrics_secret,
            pages=pages_of(self),
            inherited=self._control_socket,
        )
        await stack.enter_async_context(self.control)

    async def _start_tracing(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.traces)
        await self.traces.open(self.resolved.traces, on=self.resolved.config.tracing.protocols_on)

    @property
    def tracer(self) -> Tracer | None:
        """The tracer of the first configured destination."""
        traces = self.traces.configured
        return traces[0].tracer if traces else None

    def start_trace(self, trace_id: str, uri: str, filters: Sequence[str]) -> None:
        """Start a trace to one more destination; see `Traces.start`.

        Args:
            trace_id: name of the trace.
            uri: ``hep:HOST:PORT;transport=tcp;version=3``.
            filters: ``caller=…``, ``callee=…`` and ``ip=…``.

        Raises:
            TraceError: the name is taken, the uri or a filter is wrong, or there are too many.
        """
        hep_settings, tracing = self.resolved.config.hep, self.resolved.config.tracing
        settings = tracing.settings_of(tracing, hep_settings, version=3)
        connections = [flow.connection for flow in self.server.flows]
        self.traces.start(trace_id, uri, filters, settings, connections)

    def reload(self) -> Reloaded:
        """Read the configuration again, and the files that it names; log what came of it.

        A configuration with a mistake is refused whole. If it has not changed, its filter and its
        certificates are read; if one of them is wrong, its old state stays, and the other is
        reloaded all the same.

        Raises:
            ConfigurationError: what is wrong, and that its old state stays.
        """
        if self._source is None:
            return Reloaded(warnings=self.reload_files())
        found, config = self._source.compared_to(self.resolved.config)
        found.log()
        if not found.live:
            return Reloaded(found, self.reload_files())
        self.apply(resolved := resolve_again(config, self._source.name))
        return Reloaded(found, resolved.warnings)

    def apply(self, resolved: ResolvedConfig) -> None:
        """Use another configuration from now on.

        Args:
            resolved: the configuration in force with other live settings, checked; see
                `sipws.config.changes.resolve_again`.
        """
        old, new = self.resolved.config, resolved.config
        if self.resolved.certificates is not None and resolved.certificates is not None:
            # The listeners have it.
            self.resolved.certificates.take(resolved.certificates)
            resolved = replace(resolved, certificates=self.resolved.certificates)
        self.resolved = resolved
        transport = new.transport
        self.server.renew(
            limits=transport.limits,
            wss_limits=transport.wss_limits,
            rules=replace(transport.rules, max_connections=most_connections(resolved)),
            wss_rules=transport.of_wss.rules,
            compression=transport.permessage_deflate,
            health_path=transport.health_path,
        )
        self.traces.renew(resolved.traces)
        for proto in PROTOCOLS:
            # What a command has switched stays, unless the configuration changes.
            if (on := proto in new.tracing.protocols_on) != (proto in old.tracing.protocols_on):
                self.traces.switch(on=on, proto=proto)
        self._renew_log(old, new)
        log.info("configuration, filter and certificates reloaded")

    def _renew_log(self, old: Config, new: Config) -> None:
        is_set = (old.log.level, old.log.format) != (new.log.level, new.log.format)
        if is_set and self._set_log is not None:
            self._set_log(new.log)
        if self.connection_log is not None:
            self.connection_log.masking = new.tracing.masking
        if old.log == new.log:
            return
        if self.connection_log is not None and not new.log.connections:
            self.connection_log.close()
            self.connection_log = None
        elif self.connection_log is None:
            self.log_connections()

    def reload_files(self) -> tuple[str, ...]:
        """Reload the filter and the certificates; see `reload`.

        Returns:
            warnings: what is allowed in the new filter but most likely not meant.

        Raises:
            ConfigurationError: what is wrong, and that its old state stays.
        """
        problems: list[str] = []
        warnings: tuple[str, ...] = ()
        try:
            warnings = self.reload_filter()
        except ConfigurationError as exc:
            problems.append(f"the new filter is refused, the old one stays:\n{exc}")
        try:
            self.reload_certificates()
        except ConfigurationError as exc:
            problems.append(f"the new certificates are refused, the old ones stay:\n{exc}")
        if problems:
            raise ConfigurationError("\n".join(problems))
        return warnings

    def reload_filter(self) -> tuple[str, ...]:
        """Reload the filter; see `reload`.

        Returns:
            warnings about the new filter.

        Raises:
            ConfigurationError: a filter is wrong; all old ones stay.
        """
        config = self.resolved.config
        # All filters are read before the first is replaced: a wrong one keeps all old ones.
        filters = [
            Filter.of(config, resolved.section, protocols=resolved.protocols)
            for resolved in self.resolved.traces
        ]
        # Events until now are decided by the old filters.
        self.traces.bus.flush()
        for trace, new in zip(self.traces.configured, filters, strict=True):
            trace.tracer.decide = new.decide
        log.info("filter reloaded")
        warnings = (text for each in filters or [Filter.of(config)] for text in each.warnings)
        return tuple(dict.fromkeys(warnings))

    def reload_certificates(self) -> None:
        """Reload the certificates; see `reload`.

        Raises:
            ConfigurationError: a certificate is wrong; the old ones stay.
        """
        if self.resolved.certificates is not None:
            self.resolved.certificates.reload()
            log.info("certificates reloaded")
            for warning in self.resolved.certificates.warnings:
                log.warning("%s", warning)


def room_for_connections(resolved: ResolvedConfig) -> int:
    """The number of connections that the file descriptors of this process allow."""
    relayed = resolved.config.upstream.destination is not None
    return descriptors.connections_within(descriptors.limit(), relayed=relayed)


def most_connections(resolved: ResolvedConfig) -> int:
    """The most connections of this process: as configured, otherwise as its descriptors allow."""
    return resolved.config.transport.max_connections or room_for_connections(resolved)


def _is_controlled(resolved: ResolvedConfig) -> bool:
    """Whether there is a control interface, and with it a reader of metrics."""
    return resolved.config.control.address is not None


def _sip_counts(resolved: ResolvedConfig) -> dict[str, SipCounts]:
    """A count of SIP messages for each leg."""
    is_relayed = resolved.config.upstream.destination is not None
    return {leg: SipCounts() for leg in ((CLIENT, UPSTREAM) if is_relayed else (CLIENT,))}


def _relay(resolved: ResolvedConfig, sip_counts: SipCounts | None) -> Relay | None:
    settings = resolved.config.upstream
    if (destination := settings.destination) is None:
        return None
    return Relay(
        destination,
        tls=resolved.upstream_tls,
        messages_told=settings.upstream_trace_sip,
        sip_counts=sip_counts,
    )
