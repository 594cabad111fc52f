"""A configuration resolved to the end: every mistake in it is found here.

Nothing is started: `sipws.service.app.Application` does that.
"""

import ssl
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from hep import HepId
from sipws.address import PROTOCOLS, Proto
from sipws.config.collectors import collector_warnings
from sipws.config.settings import Config
from sipws.config.tracing import TraceSection, Tracing
from sipws.errors import ConfigurationError
from sipws.tracing.destinations import Destinations, resolve
from sipws.tracing.protocols import decide_by_protocol
from sipws.tracing.tracer import Decide, TraceSettings
from sipws.transport.tls import Certificates, certificate_warnings

if TYPE_CHECKING:
    from sipws.tracing.filter import Script

NOWHERE: Final = (
    "tracing is on, but there is no trace_destination: nothing is traced but by MI trace_start"
)
"""The warning where tracing is on without a destination, which OpenSIPS allows too."""

MOST_CAPTURE_ID_2: Final = 0xFFFF
"""Greatest capture id of HEP version 2, which has 2 bytes for it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter of a trace, or of a section."""

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
        protocols: Collection[Proto] = PROTOCOLS,
    ) -> Self:
        """Read, check and compile a filter.

        Args:
            config: the settings.
            section: the section that names the filter; by default ``[tracing]``, with what
                ``[tracing.wss]`` changes.
            source: where the settings come from, for messages.
            protocols: the protocols whose connections it decides about.

        Raises:
            ConfigurationError: the script cannot be read, or the function not imported.
            FilterRouteError: the script is refused.
        """
        reader = _FilterReader(config, source)
        tracing = config.tracing
        sections = {
            proto: tracing.of(proto) if section is None or section is tracing else section
            for proto in sorted(protocols)
        }
        found = {proto: reader.read(each, proto) for proto, each in sections.items()}
        decide = decide_by_protocol(found.get("ws"), found.get("wss"))
        if len(found) == 1:
            [decide] = found.values()
        scripts = reader.scripts.values()
        if scripts and not any(found.values()):
            reader.warnings.append(
                f"{source}: tracing.script is set but trace_filter_route is not: every connection"
                " is traced"
            )
        passed_over = [kind for script in scripts for kind in script.passed_over]
        return cls(decide, tuple(reader.warnings), tuple(dict.fromkeys(passed_over)))


class _FilterReader:
    """Reads the filters of a section, each script and each route once.

    Args:
        config: the settings.
        source: where the settings come from, for messages.
    """

    def __init__(self, config: Config, source: str) -> None:
        self._config = config
        self._source = source
        self._made: dict[tuple[object, str], Decide] = {}
        self.scripts: dict[Path, Script] = {}
        """The scripts that were read, by path."""
        self.warnings: list[str] = []

    def read(self, section: TraceSection, proto: Proto) -> Decide | None:
        """Read the filter of a section for a protocol; None if there is none.

        Raises:
            ConfigurationError: the script cannot be read, or the function not imported.
            FilterRouteError: the script is refused.
        """
        path = self._config.tracing.script_of(section)
        if path is None and section.trace_filter is None:
            return None
        # Imported here: a program without a filter starts faster without the filter language.
        from sipws.tracing.filter import Script, load_callable
        from sipws.tracing.routes import decide_by_function, decide_by_route, socket_of

        if path is None:
            name = section.trace_filter or ""
            if (None, name) not in self._made:
                self._made[None, name] = decide_by_function(load_callable(name))
            return self._made[None, name]
        if path not in self.scripts:
            self.scripts[path] = Script.load(path)
            self.warnings += map(str, self.scripts[path].warnings)
        script = self.scripts[path]
        # An opensips.cfg itself names the route that is the filter.
        route = section.trace_filter_route or script.filter_of(f"proto_{proto}")
        if route is None:
            return None
        if (path, route) not in self._made:
            if missing := script.missing(route):
                self.warnings.append(str(missing))
            own = [socket_of(listener) for listener in self._config.transport.listeners]
            self._made[path, route] = decide_by_route(script, route, own)
        return self._made[path, route]


@dataclass(frozen=True, slots=True)
class ResolvedTrace:
    """What is traced to one destination, or to one group of them."""

    section: TraceSection
    """The section that configures it: ``[tracing]``, or one of ``[[tracing.also]]``."""
    destinations: Destinations
    settings: TraceSettings
    filter: Filter
    protocols: Collection[Proto] = PROTOCOLS
    """The protocols whose connections it traces: ``[tracing.wss]`` may have a destination of its
    own."""

    @classmethod
    def of(
        cls,
        config: Config,
        section: TraceSection,
        source: str,
        protocols: Collection[Proto] = PROTOCOLS,
    ) -> Self:
        """Resolve and compile what a section names.

        Args:
            config: the settings.
            section: the section; it has a ``trace_destination``.
            source: where the settings come from, for messages.
            protocols: the protocols whose connections it traces.

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
            filter=Filter.of(config, section, source, protocols),
            protocols=protocols,
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
        chosen = _sections(tracing)
        traces = tuple(
            ResolvedTrace.of(config, section, source, protocols) for section, protocols in chosen
        )
        warnings: list[str] = []
        on = tracing.protocols_on & config.protocols
        if chosen and not on:
            names = ", ".join(map(repr, chosen[0][0].trace_destination))
            warnings.append(
                f"trace_destination {names} is set but trace_on is false: nothing is traced"
            )
        if on and not chosen:
            warnings.append(NOWHERE)
        elif without := on.difference(*(each for _, each in chosen)):
            warnings.append(f"tracing is on for {', '.join(without)}, but without destination")
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
        is_whole = traces and traces[0].section is tracing and traces[0].protocols == PROTOCOLS
        own = traces[0].filter if is_whole else None
        main = own or Filter.of(config, source=source)
        for each in (main, *(trace.filter for trace in traces if trace.filter is not main)):
            warnings += [text for text in each.warnings if text not in warnings]
        return cls(config, traces, main, certificates, upstream_tls, tuple(warnings))

    @property
    def destinations(self) -> Sequence[HepId]:
        """All collectors."""
        return [each for trace in self.traces for each in trace.destinations.hep_ids]


def _sections(tracing: Tracing) -> list[tuple[TraceSection, Collection[Proto]]]:
    """The sections with a destination, and the protocols that each of them is for."""
    own: list[tuple[TraceSection, Collection[Proto]]] = [(tracing, PROTOCOLS)]
    if tracing.of_wss.trace_destination != tracing.trace_destination:
        own = [(tracing, {"ws"}), (tracing.of_wss, {"wss"})]
    also = [(section, PROTOCOLS) for section in tracing.also]
    return [(section, each) for section, each in (*own, *also) if section.trace_destination]


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
