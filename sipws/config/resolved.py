"""A configuration resolved to the end: every mistake in it is found here.

Nothing is started: `sipws.service.app.Application` does that.
"""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from hep import HepId
from sipws.config.collectors import collector_warnings
from sipws.config.settings import Config
from sipws.config.tracing import TraceSection
from sipws.errors import ConfigurationError
from sipws.tracing.destinations import Destinations, resolve
from sipws.tracing.tracer import Decide, TraceSettings
from sipws.transport.tls import Certificates, certificate_warnings

NOWHERE: Final = (
    "tracing is on, but there is no trace_destination: nothing is traced but by MI trace_start"
)
"""The warning where tracing is on without a destination, which OpenSIPS allows too."""

MOST_CAPTURE_ID_2: Final = 0xFFFF
"""Greatest capture id of HEP version 2, which has 2 bytes for it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter of a trace."""

    decide: Decide | None = None
    """None: every connection is traced."""
    warnings: tuple[str, ...] = ()
    """What is allowed in the script but most likely not meant."""
    passed_over: tuple[str, ...] = ()
    """The kinds of statements in an ``opensips.cfg`` that the filter does not use, in words."""

    @classmethod
    def of(
        cls,
        config: Config,
        section: TraceSection | None = None,
        source: str = "configuration",
    ) -> Self:
        """Read, check and compile a filter.

        Args:
            config: the settings.
            section: the section that names the filter; by default ``[tracing]``.
            source: where the settings come from, for messages.

        Raises:
            ConfigurationError: the script cannot be read, or the function not imported.
            FilterRouteError: the script is refused.
        """
        tracing = config.tracing
        section = section or tracing
        path = tracing.script_of(section)
        if path is None and section.trace_filter is None:
            return cls()
        # Imported here: a program without a filter starts faster without the filter language.
        from sipws.tracing.filter import Script, load_callable
        from sipws.tracing.routes import decide_by_function, decide_by_route, socket_of

        if path is None:
            return cls(decide_by_function(load_callable(section.trace_filter or "")))
        script = Script.load(path)
        warnings = [str(warning) for warning in script.warnings]
        # An opensips.cfg itself names the route that is the filter.
        route = section.trace_filter_route or next(iter(script.filters), None)
        if route is None:
            warnings.append(
                f"{source}: tracing.script is set but trace_filter_route is not: every connection"
                " is traced"
            )
            return cls(None, tuple(warnings), script.passed_over)
        if missing := script.missing(route):
            warnings.append(str(missing))
        own = [socket_of(listener) for listener in config.transport.listeners]
        decide = decide_by_route(script, route, own)
        return cls(decide, tuple(warnings), script.passed_over)


@dataclass(frozen=True, slots=True)
class ResolvedTrace:
    """What is traced to one destination, or to one group of them."""

    section: TraceSection
    """The section that configures it: ``[tracing]``, or one of ``[[tracing.also]]``."""
    destinations: Destinations
    settings: TraceSettings
    filter: Filter

    @classmethod
    def of(cls, config: Config, section: TraceSection, source: str) -> Self:
        """Resolve and compile what a section names.

        Args:
            config: the settings.
            section: the section; it has a ``trace_destination``.
            source: where the settings come from, for messages.

        Raises:
            ConfigurationError: see `ResolvedConfig.of`.
        """
        settings = config.hep
        with _located(f"{source}: tracing."):
            hep_ids = tuple(
                resolve(name, settings.hep_ids, settings.hep_port)
                for name in section.trace_destination
            )
        senders = tuple(map(settings.sender_settings, hep_ids))
        with _located(f"{source}: tracing."):
            destinations = Destinations(hep_ids, senders, section.trace_distribution)
        if destinations.version == 2 and settings.hep_capture_id > MOST_CAPTURE_ID_2:
            raise ConfigurationError(
                f"{source}: hep.hep_capture_id = {settings.hep_capture_id}: trace_destination"
                f" {destinations} has version=2, whose packets have room for {MOST_CAPTURE_ID_2} at"
                " most; use a smaller number, or version=3"
            )
        return cls(
            section=section,
            destinations=destinations,
            settings=config.tracing.settings_of(section, settings, destinations.version),
            filter=Filter.of(config, section, source),
        )


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A configuration that has been checked to the end."""

    config: Config
    traces: tuple[ResolvedTrace, ...] = ()
    """One for each section with a ``trace_destination``; without one, nothing is traced."""
    filter: Filter = Filter()
    """The filter of ``[tracing]``."""
    certificates: Certificates | None = None
    """The certificates of the ``wss`` listeners."""
    upstream_tls: ssl.SSLContext | None = None
    """The TLS context for a ``wss`` upstream."""
    warnings: tuple[str, ...] = ()
    """What is allowed but most likely not meant."""

    @classmethod
    def of(cls, config: Config, source: str = "configuration") -> Self:
        """Resolve and compile what a configuration names.

        Args:
            config: the settings.
            source: where they come from, for messages.

        Raises:
            ConfigurationError: a destination does not exist, or a script or a certificate cannot
                be read.
            FilterRouteError: a script is refused.
        """
        tracing = config.tracing
        chosen = [section for section in (tracing, *tracing.also) if section.trace_destination]
        traces = tuple(ResolvedTrace.of(config, section, source) for section in chosen)
        warnings: list[str] = []
        if chosen and not tracing.trace_on:
            names = ", ".join(map(repr, chosen[0].trace_destination))
            warnings.append(
                f"trace_destination {names} is set but trace_on is false: nothing is traced"
            )
        if tracing.trace_on and not chosen:
            warnings.append(NOWHERE)
        sent_to = [(trace.section, trace.destinations.hep_ids) for trace in traces]
        warnings += dict.fromkeys(collector_warnings(config.hep, sent_to))
        warnings += config.control.warnings
        with _located(f"{source}: transport: "):
            certificates = config.transport.certificates
        if certificates is not None:
            warnings += certificates.warnings
        if config.hep.hep_tls_certificate is not None:
            warnings += certificate_warnings(config.hep.hep_tls_certificate, config.hep.hep_tls_key)
        with _located(f"{source}: upstream: "):
            upstream_tls = config.upstream.tls
        if config.upstream.upstream_uri is not None and not config.upstream.upstream_tls_verify:
            warnings.append(
                "upstream_tls_verify is false: anyone on the path to the upstream can read and"
                " change everything"
            )
        # The filter of [tracing] is checked even if nothing is traced.
        own = traces[0].filter if traces and traces[0].section is tracing else None
        main = own or Filter.of(config, source=source)
        for each in (main, *(trace.filter for trace in traces if trace.filter is not main)):
            warnings += [text for text in each.warnings if text not in warnings]
        return cls(config, traces, main, certificates, upstream_tls, tuple(warnings))

    @property
    def destinations(self) -> Sequence[HepId]:
        """All collectors."""
        return [each for trace in self.traces for each in trace.destinations.hep_ids]


@contextmanager
def _located(place: str) -> Iterator[None]:
    """Put the place of a mistake before its message.

    Args:
        place: file and section, with the separator.

    Raises:
        ConfigurationError: the mistake.
    """
    try:
        yield
    except ConfigurationError as exc:
        raise ConfigurationError(f"{place}{exc}") from exc
