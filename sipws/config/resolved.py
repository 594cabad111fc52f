"""A configuration worked out to the end: everything that can be wrong with it is found here.

Nothing is started yet: `sipws.service.app.Application` does that.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import hep
from hep import HepId
from sipws.config.settings import Config
from sipws.config.tracing import Distribution, TracePointSettings
from sipws.errors import ConfigurationError
from sipws.tracing.destinations import resolve
from sipws.tracing.tracer import Decide, TraceSettings
from sipws.transport.tls import Certificates, certificate_warnings

NOWHERE: Final = (
    "tracing is on, but there is no trace_destination: nothing is traced but by MI trace_start"
)
"""The warning where tracing is on and goes nowhere, which OpenSIPS allows too."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter of a destination."""

    decide: Decide | None = None
    """None: every connection is traced."""
    warnings: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    """What an ``opensips.cfg`` holds beside the filter route, in words."""

    @classmethod
    def of(
        cls, config: Config, point: TracePointSettings | None = None, source: str = "configuration"
    ) -> Self:
        """Read, check and compile a filter.

        Args:
            config: the settings.
            point: whose filter; that of ``[tracing]`` unless given.
            source: where the settings come from, for messages.

        Raises:
            ConfigurationError: the script cannot be read, or the function not imported.
            FilterRouteError: the script is refused.
        """
        tracing = config.tracing
        point = point or tracing
        path = tracing.script_of(point)
        if path is None and point.trace_filter is None:
            return cls()
        # Who has no filter need not wait for its import.
        from sipws.tracing.filter import Script, load_callable
        from sipws.tracing.routes import decide_by_function, decide_by_route

        if path is None:
            return cls(decide_by_function(load_callable(point.trace_filter or "")))
        script = Script.load(path)
        warnings = [str(warning) for warning in script.warnings]
        # An opensips.cfg says itself which of its routes is the filter.
        route = point.trace_filter_route or next(iter(script.filters), None)
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


@dataclass(frozen=True, slots=True)
class PointPlan:
    """What is traced to one destination, or to one group of them."""

    point: TracePointSettings
    """Where it is configured."""
    destinations: tuple[HepId, ...]
    distribution: Distribution
    senders: tuple[hep.SenderSettings, ...]
    """How hard it is tried to reach each of them."""
    settings: TraceSettings
    filter: Filter

    @classmethod
    def of(cls, config: Config, point: TracePointSettings, source: str) -> Self:
        """Resolve and compile what a destination's settings name.

        Raises as `ResolvedConfig.of`.
        """
        settings = config.hep
        try:
            destinations = tuple(
                resolve(name, settings.hep_ids, settings.hep_port)
                for name in point.trace_destination
            )
        except ConfigurationError as exc:
            raise ConfigurationError(f"{source}: tracing.{exc}") from exc
        if len(set(destinations)) < len(destinations):
            raise ConfigurationError(
                f"{source}: tracing.trace_destination: {', '.join(map(str, destinations))}: one of"
                " them is there twice"
            )
        versions = {destination.version for destination in destinations}
        if len(versions) > 1:
            raise ConfigurationError(
                f"{source}: tracing.trace_destination: {', '.join(map(str, destinations))} take"
                " different versions of HEP; trace to one of them by [[tracing.also]]"
            )
        return cls(
            point=point,
            destinations=destinations,
            distribution=point.trace_distribution,
            senders=tuple(settings.sender_settings(each) for each in destinations),
            settings=config.tracing.settings_of(point, settings, *versions),
            filter=Filter.of(config, point, source),
        )


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A configuration that has been checked to the end."""

    config: Config
    points: tuple[PointPlan, ...] = ()
    """Where traces go; without one, nothing is traced."""
    filter: Filter = Filter()
    """The filter of ``[tracing]``."""
    certificates: Certificates | None = None
    """Those of the ``wss`` listeners."""
    upstream_tls: ssl.SSLContext | None = None
    """How a ``wss`` upstream is checked."""
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
        tracing = config.tracing
        chosen = [point for point in (tracing, *tracing.also) if point.trace_destination]
        points = tuple(PointPlan.of(config, point, source) for point in chosen)
        warnings: list[str] = []
        if chosen and not tracing.trace_on:
            names = ", ".join(map(repr, chosen[0].trace_destination))
            warnings.append(
                f"trace_destination {names} is set but trace_on is false: nothing is traced"
            )
        if tracing.trace_on and not chosen:
            warnings.append(NOWHERE)
        warnings += config.control.warnings
        try:
            certificates = config.transport.certificates
        except ConfigurationError as exc:
            raise ConfigurationError(f"{source}: transport: {exc}") from exc
        if certificates is not None:
            warnings += certificates.warnings
        if config.hep.hep_tls_certificate is not None:
            warnings += certificate_warnings(config.hep.hep_tls_certificate, config.hep.hep_tls_key)
        try:
            upstream_tls = config.upstream.tls
        except ConfigurationError as exc:
            raise ConfigurationError(f"{source}: upstream: {exc}") from exc
        if config.upstream.upstream_uri is not None and not config.upstream.upstream_tls_verify:
            warnings.append(
                "upstream_tls_verify is false: whoever is between here and the upstream can read"
                " and change everything"
            )
        # A filter is checked also while nothing is traced.
        own = points[0].filter if points and points[0].point is tracing else None
        main = own or Filter.of(config, source=source)
        for each in (main, *(point.filter for point in points if point.filter is not main)):
            warnings += [text for text in each.warnings if text not in warnings]
        return cls(config, points, main, certificates, upstream_tls, tuple(warnings))

    @property
    def destinations(self) -> Sequence[HepId]:
        """All collectors."""
        return [each for point in self.points for each in point.destinations]
