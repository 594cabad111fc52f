"""An ``opensips.cfg`` as settings, and what became of each of its lines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sipws.address import PROTOCOLS, WS_PORT, WSS_PORT, Proto
from sipws.config.opensips.certificates import Certificates
from sipws.config.opensips.interfaces import addresses_of
from sipws.config.opensips.modparams import MODULES, Parameter, loaded_modules, read_modparam
from sipws.config.opensips.parameters import DEFAULTS, Parameters
from sipws.config.opensips.report import Line, Report
from sipws.config.opensips.sip_traces import SipTraces
from sipws.config.opensips.sockets import Interfaces, Socket, read_socket
from sipws.tracing.filter import Script

_SECTIONS: Final[dict[Proto, str]] = {"ws": "tracing", "wss": "tracing.wss"}

_NO_EVENTS: Final = (
    "events of {} are not traced, so it has no trace_destination here: its SIP has one of its own"
)


@dataclass(frozen=True, slots=True)
class OpensipsCfg:
    """The contents of an ``opensips.cfg`` that concern sipws."""

    sections: Mapping[str, dict[str, Any]]
    """Settings by section: ``transport``, ``transport.wss``, ``hep``, ``tracing``,
    ``tracing.wss``. Those of ``wss`` are of proto_wss alone."""

    also: tuple[dict[str, Any], ...]
    """Further destinations, for ``[[tracing.also]]``."""

    lines: tuple[Line, ...]
    """The lines, in the order of the file."""

    sockets: tuple[Socket, ...]
    """The listeners."""

    uses_wss: bool
    """Whether there is a ``wss`` socket or a parameter of proto_wss."""


def read(path: Path, interfaces: Interfaces = addresses_of) -> OpensipsCfg:
    """Read an ``opensips.cfg`` with the files that it includes.

    Args:
        path: the file.
        interfaces: finds the addresses of a network interface.

    Raises:
        ConfigurationError: the file cannot be read, or OpenSIPS refuses a line that is used here;
            each has its place.
        FilterRouteError: its filter route is refused.
    """
    script = Script.load(path)
    contents, report = script.contents, Report(script.source)
    loaded = loaded_modules(contents.modules)
    for name in contents.modules:
        if loaded_modules([name]) & MODULES.keys():
            report.loaded(name)
    parameters = Parameters(report, has_compression=not loaded or "compression" in loaded)
    certificates = Certificates(path.parent, report)
    sip = SipTraces(report)
    takers: dict[str, Callable[[Parameter], None]] = {
        "tracer": sip.take,
        "tls_mgm": certificates.take,
    }
    uses_wss = False
    for statement in contents.parameters:
        for parameter in read_modparam(statement, loaded, report):
            uses_wss = uses_wss or parameter.module == "proto_wss"
            takers.get(parameter.module, parameters.take)(parameter)
    for call in contents.traces:
        if len(call) > 2 and (call[2].kind == "STRING" or "tracer" in loaded):
            sip.call(call)
    listed = [
        socket
        for statement in contents.sockets
        for socket in read_socket(statement, report, interfaces)
    ]
    report.check()
    sockets = _without_duplicates(listed, parameters.settings["transport"])
    sections = parameters.settings
    transport = sections["transport"]
    if sockets:
        transport["listen"] = tuple(socket.definition for socket in sockets)
    transport |= certificates.settings(sockets, transport.get("wss_port", WSS_PORT))
    sections["hep"] = DEFAULTS | sections["hep"]
    if parameters.hep_ids:
        sections["hep"]["hep_id"] = tuple(parameters.hep_ids.values())
    parameters.fit_capture_id()
    _name_destinations(parameters)
    also = _trace_sip(sections, sip.destinations([*parameters.hep_ids]), _used(sockets), parameters)
    names_route = any(sections[each].get("trace_filter_route") for each in _SECTIONS.values())
    if names_route:
        sections["tracing"]["script"] = path.absolute()
    # OpenSIPS finds no route without a name.
    if sections["tracing"].get("trace_filter_route") == "":
        del sections["tracing"]["trace_filter_route"]
    return OpensipsCfg(
        sections=sections,
        also=also,
        lines=report.lines,
        sockets=tuple(sockets),
        uses_wss=uses_wss or "wss" in {socket.proto for socket in sockets},
    )


def _without_duplicates(
    sockets: Sequence[Socket], transport: Mapping[str, Any]
) -> Sequence[Socket]:
    """Leave out listeners that are there already, as OpenSIPS does."""
    ports = {"ws": transport.get("ws_port", WS_PORT), "wss": transport.get("wss_port", WSS_PORT)}
    first: dict[tuple[str, str, int], Socket] = {}
    for socket in sockets:
        port = ports[socket.proto] if socket.port is None else socket.port
        there = first.setdefault((socket.proto, socket.host, port), socket)
        if there is not socket:
            socket.line.change(f"{there.line.place} listens on {socket.host} port {port} already")
    return list(first.values())


def _used(sockets: Sequence[Socket]) -> frozenset[Proto]:
    """The protocols that have a listener; both if none has one."""
    return frozenset(each for each in PROTOCOLS if each in {x.proto for x in sockets}) or PROTOCOLS


def _name_destinations(parameters: Parameters) -> None:
    """Check the ``trace_destination`` of each module. OpenSIPS traces nothing to an unknown one."""
    for section in _SECTIONS.values():
        name = parameters.settings[section].get("trace_destination")
        if name is None:
            continue
        known = name in parameters.hep_ids
        parameters.settings[section]["trace_destination"] = (name,) if known else ()
        if not known and (line := parameters.line_of(section, "trace_destination")) is not None:
            line.drop(f"there is no hep_id {name!r}, and OpenSIPS traces nothing to it")


def _trace_sip(
    sections: Mapping[str, dict[str, Any]],
    destinations: tuple[str, ...],
    used: frozenset[Proto],
    parameters: Parameters,
) -> tuple[dict[str, Any], ...]:
    """Add the tracing of SIP to the settings; returns further destinations.

    Args:
        sections: the settings.
        destinations: the names of the HEP ids to which SIP is traced; none if it is not.
        used: the protocols with a listener.
        parameters: the origin of the settings.
    """
    if not destinations:
        return ()
    traced = {proto: sections[_SECTIONS[proto]] for proto in used}
    events = {p: bool(x.get("trace_on") and x.get("trace_destination")) for p, x in traced.items()}
    tracing, wss = sections["tracing"], sections["tracing.wss"]
    # OpenSIPS writes SIP messages in JSON too then.
    form = {} if sections["hep"]["homer5_on"] else {"trace_sip_format": "json"}
    sip = {"trace_destination": destinations, "trace_sip": True, **form}
    if not any(events.values()):
        tracing.clear()
        wss.clear()
        wss |= {"trace_on": True, "trace_destination": destinations, "trace_filter_route": ""}
        tracing |= {"trace_on": True, **sip, "trace_events": False}
        return ()
    if all(events.values()) and all(
        x["trace_destination"] == destinations and not x.get("trace_filter_route")
        for x in traced.values()
    ):
        tracing |= {"trace_sip": True, **form}
        return ()
    for proto, settings in traced.items():
        if not events[proto]:
            line = parameters.line_of(_SECTIONS[proto], "trace_destination")
            if line is not None and settings.get("trace_destination"):
                (line.drop if line.modules == 1 else line.change)(_NO_EVENTS.format(proto))
            settings |= {"trace_on": True, "trace_destination": ()}
    return ({**sip, "trace_events": False},)
