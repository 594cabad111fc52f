"""The program put together: transport, responder and tracing, from one configuration.

Nothing imports this but the commands. Everything that can be wrong with a configuration is found
by `Plan.of`, before a socket is opened.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Self

import hep
from sipws import responder, systemd
from sipws.bus import Bus
from sipws.commands import methods_of
from sipws.config import IP_PROTOCOLS, Config
from sipws.control import ControlServer
from sipws.errors import ConfigurationError
from sipws.flow import Handler
from sipws.lag_sampler import LagSampler
from sipws.metrics import Counts, Lag
from sipws.pages import pages_of
from sipws.server import Server
from sipws.tls import Certificates
from sipws.tracing.destinations import resolve
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import Decide, Tracer, TraceSettings

log = logging.getLogger(__name__)

FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the last packets have to leave at the end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration that has been checked to the end."""

    config: Config
    destination: hep.HepId | None
    """Where traces go; None: nothing is traced."""
    settings: TraceSettings
    filter: "Filter"
    """What decides about connections."""
    certificates: Certificates | None = None
    """Those of the ``wss`` listeners."""
    warnings: tuple[str, ...] = ()
    """What is allowed but most likely not meant."""

    @classmethod
    def of(cls, config: Config, source: str = "configuration") -> Self:
        """Resolve and compile what a configuration names.

        Args:
            config: the settings.
            source: where they come from, for messages.

        Raises:
            ConfigurationError: a destination that does not exist, a script or a certificate that
                cannot be read.
            FilterRouteError: a script that is refused.
        """
        tracing, settings = config.tracing, config.hep
        destination = None
        warnings: list[str] = []
        if tracing.trace_destination is not None:
            try:
                destination = resolve(tracing.trace_destination, settings.hep_id)
            except ConfigurationError as exc:
                raise ConfigurationError(f"{source}: tracing.{exc}") from exc
            if not tracing.trace_on:
                warnings.append(
                    f"trace_destination {tracing.trace_destination!r} is set but trace_on is"
                    " false: nothing is traced"
                )
        try:
            certificates = config.transport.certificates
        except ConfigurationError as exc:
            raise ConfigurationError(f"{source}: transport: {exc}") from exc
        chosen = Filter.of(config, source)
        auth_key = settings.hep_auth_key
        return cls(
            config=config,
            destination=destination,
            settings=TraceSettings(
                packets=PacketSettings(
                    version=destination.version if destination else 3,
                    capture_id=settings.hep_capture_id,
                    ip_protocol=IP_PROTOCOLS[settings.hep_ip_protocol],
                    auth_key=auth_key.get_secret_value().encode() if auth_key is not None else None,
                ),
                homer5=settings.homer5_on,
                homer5_delimiter=settings.homer5_delim,
                trace_sip=tracing.trace_sip,
            ),
            filter=chosen,
            certificates=certificates,
            warnings=(*warnings, *chosen.warnings),
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """The configured filter."""

    decide: Decide | None = None
    """None: every connection is traced."""
    warnings: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    """What an ``opensips.cfg`` holds beside the filter route, in words."""

    @classmethod
    def of(cls, config: Config, source: str = "configuration") -> Self:
        """Read, check and compile the filter.

        Args:
            config: the settings.
            source: where they come from, for messages.

        Raises:
            ConfigurationError: the script cannot be read, or the function not imported.
            FilterRouteError: the script is refused.
        """
        tracing = config.tracing
        if tracing.script is None and tracing.trace_filter is None:
            return cls()
        # Who has no filter need not wait for its import.
        from sipws.tracing.filter import Script, load_callable
        from sipws.tracing.routes import decide_by_function, decide_by_route

        if tracing.script is None:
            return cls(decide_by_function(load_callable(tracing.trace_filter or "")))
        script = Script.load(tracing.script)
        warnings = [str(warning) for warning in script.warnings]
        # An opensips.cfg says itself which of its routes is the filter.
        route = tracing.trace_filter_route or next(iter(script.filters), None)
        if route is None:
            warnings.append(
                f"{source}: tracing.script is set but trace_filter_route is not: every connection"
                " is traced"
            )
            return cls(None, tuple(warnings), script.passed_over)
        if missing := script.missing(route):
            warnings.append(str(missing))
        own = [listener.address for listener in config.transport.listeners]
        decide = decide_by_route(script, route, own)
        return cls(decide, tuple(warnings), script.passed_over)


class Application:
    """A server with its responder and its tracing, from start to orderly end.

    Args:
        plan: a checked configuration.
        handler: what answers SIP messages; the built-in responder unless given.
        inherited: listening sockets that the service manager has opened.

    Raises:
        ConfigurationError: one of them belongs to no listener.
    """

    def __init__(
        self,
        plan: Plan,
        handler: Handler = responder.answer,
        *,
        inherited: Sequence[systemd.Inherited] = (),
    ) -> None:
        transport = plan.config.transport
        assigned = systemd.assign(inherited, transport.listeners, plan.config.control.address)
        self.plan = plan
        self.bus = Bus()
        self.server = Server(
            transport.listeners,
            handler,
            bus=self.bus,
            limits=transport.limits,
            rules=transport.rules,
            tls=plan.certificates,
            inherited=assigned.listeners,
        )
        self._control_socket = assigned.control
        self.sender: hep.Sender | None = None
        self.tracer: Tracer | None = None
        self.control: ControlServer | None = None
        self.counts = Counts(self.bus)
        self.lag = Lag()
        self.started = time.time()
        """In seconds since the epoch."""
        self.unready: str | None = "starting"
        """Why nobody is to be sent here; None while there is no reason."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            TransportError: a listener cannot be opened.
        """
        async with AsyncExitStack() as stack:
            # Tracing comes first, or it would miss the first connections; it ends last, when
            # the last connection has been closed and there is nothing left to trace.
            self._start_tracing(stack)
            # The control interface outlives the server, to say that it stops.
            await self._start_control(stack)
            await stack.enter_async_context(LagSampler(self.lag))
            await stack.enter_async_context(self.server)
            self._stack = stack.pop_all()
        self.unready = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection, then send what is left to trace."""
        self.unready = "stopping"
        await self._stack.aclose()

    async def _start_control(self, stack: AsyncExitStack) -> None:
        control = self.plan.config.control
        if control.address is None:
            return
        token = control.token.get_secret_value() if control.token else None
        self.control = ControlServer(
            control.address,
            methods_of(self),
            token,
            pages=pages_of(self),
            inherited=self._control_socket,
        )
        await stack.enter_async_context(self.control)

    def _start_tracing(self, stack: AsyncExitStack) -> None:
        plan = self.plan
        if plan.destination is None:
            return
        self.sender = hep.open_sender(plan.destination)
        stack.push_async_callback(self.sender.aclose, timeout=FLUSH_TIMEOUT)
        self.tracer = Tracer(
            self.bus,
            self.sender.send,
            plan.settings,
            decide=plan.filter.decide,
            on=plan.config.tracing.trace_on,
        )

    def reload(self) -> tuple[str, ...]:
        """Read the filter and the certificates anew; connections that stand keep what they have.

        What is wrong keeps its old state, and does not keep the other from being taken.

        Returns:
            what is allowed in the new filter but most likely not meant.

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
        """Read the filter anew; see `reload`."""
        chosen = Filter.of(self.plan.config)
        if self.tracer is not None:
            self.tracer.decide = chosen.decide
        log.info("the filter is read anew")
        return chosen.warnings

    def reload_certificates(self) -> None:
        """Read the certificates anew; see `reload`."""
        if self.plan.certificates is not None:
            self.plan.certificates.reload()
            log.info("the certificates are read anew")
