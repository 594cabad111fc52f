"""The program put together: transport, responder and tracing, from one configuration.

Nothing imports this but the commands. Everything that can be wrong with a configuration is found
by `Plan.of`, before a socket is opened.
"""

from dataclasses import dataclass
from typing import Final, Self

import hep
from sipws import responder, tls
from sipws.bus import Bus
from sipws.config import IP_PROTOCOLS, Config
from sipws.errors import ConfigurationError
from sipws.flow import Handler
from sipws.server import Server
from sipws.tracing.destinations import resolve
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import Decide, Tracer, TraceSettings

FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the last packets have to leave at the end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration that has been checked to the end."""

    config: Config
    destination: hep.HepId | None
    """Where traces go; None: nothing is traced."""
    settings: TraceSettings
    decide: Decide | None
    warnings: tuple[str, ...] = ()
    """What is allowed but most likely not meant."""

    @classmethod
    def of(cls, config: Config, source: str = "configuration") -> Self:
        """Resolve and compile what a configuration names.

        Args:
            config: the settings.
            source: where they come from, for messages.

        Raises:
            ConfigurationError: a destination that does not exist, a script that cannot be read.
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
        decide, more = _filter(config, source)
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
            decide=decide,
            warnings=(*warnings, *more),
        )


def _filter(config: Config, source: str) -> tuple[Decide | None, tuple[str, ...]]:
    """The configured filter route, and what its script may not mean."""
    path, route = config.tracing.script, config.tracing.trace_filter_route
    if path is None or route is None:
        return None, ()
    # The grammar's parser takes a while to import: only those who have a script pay for it.
    from sipws.tracing.filter import Script
    from sipws.tracing.routes import decide_by

    try:
        text = path.read_text()
    except OSError as exc:
        raise ConfigurationError(
            f"{source}: tracing.script = {str(path)!r}: cannot be read: {exc.strerror}"
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{source}: tracing.script = {str(path)!r}: not UTF-8") from exc
    script = Script.parse(text, filename=str(path))
    warnings: tuple[str, ...] = ()
    if route not in script.routes:
        routes = ", ".join(script.routes) or "none"
        warnings = (
            f"trace_filter_route {route!r} is not in {path} (routes there: {routes}):"
            " every connection is traced",
        )
    return decide_by(script, route), warnings


class Application:
    """A server with its responder and its tracing, from start to orderly end.

    Args:
        plan: a checked configuration.
        handler: what answers SIP messages; the built-in responder unless given.
    """

    def __init__(self, plan: Plan, handler: Handler = responder.answer) -> None:
        transport = plan.config.transport
        context = None
        if transport.tls_certificate is not None:
            context = tls.server_context(transport.tls_certificate, transport.tls_key)
        self.plan = plan
        self.bus = Bus()
        self.server = Server(
            transport.listeners, handler, bus=self.bus, limits=transport.limits, tls=context
        )
        self.sender: hep.Sender | None = None
        self.tracer: Tracer | None = None

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            TransportError: a listener cannot be opened.
        """
        plan = self.plan
        # Tracing comes first, or it would miss the first connections.
        if plan.destination is not None:
            self.sender = hep.open_sender(plan.destination)
            self.tracer = Tracer(
                self.bus,
                self.sender.send,
                plan.settings,
                decide=plan.decide,
                on=plan.config.tracing.trace_on,
            )
        try:
            await self.server.start()
        except BaseException:
            await self._close_sender()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every connection, then send what is left to trace."""
        await self.server.aclose()
        await self._close_sender()

    async def _close_sender(self) -> None:
        if self.sender is not None:
            await self.sender.aclose(timeout=FLUSH_TIMEOUT)
