"""MI methods that switch, start, stop and list traces.

OpenSIPS' proto_ws and proto_wss have ``ws_trace`` and ``wss_trace``; its tracer has ``trace``,
``trace_start`` and ``trace_stop``.
"""

import logging
from collections import Counter
from typing import Any, Final

from hep.sending.fair_queue import Flow, named
from sipws.address import Proto
from sipws.config.resolved import NOWHERE
from sipws.control.mi import BAD_VALUE, INVALID_PARAMS, Method, MiError, bad_type, text_of
from sipws.errors import TraceError
from sipws.service.running import Running
from sipws.service.statistics import ledger_over
from sipws.service.traces import Traces
from sipws.tracing.trace import Trace

log = logging.getLogger(__name__)

LONGEST_NAME: Final = 255
"""Characters of an id, a destination or a filter."""

MOST_CROWDED_OUT: Final = 10
"""Connections listed per trace, of those whose packets were dropped because a queue was full."""

BAD_PARAMETER: Final = "Bad parameter value"
"""OpenSIPS' message for a value that a method does not take."""

Listed = dict[str, Any]
"""A trace as ``trace`` lists it."""


def trace_commands(application: Running) -> dict[str, Method]:
    """The MI methods of `sipws.service.traces.Traces`, by name."""
    traces = application.traces

    def trace(
        id: str | None = None,  # noqa: A002 - the parameter's name on the wire
        mode: str | None = None,
    ) -> Any:
        """List traces, or turn them on or off.

        Args:
            id: name of a trace; by default all traces are meant.
            mode: ``on`` or ``off``; by default traces are listed.
        """
        name = None if id is None else text_of(id, "id")
        on = None if mode is None else _mode(text_of(mode, "mode"))
        if on is None:
            return _listed(traces, name)
        if name is None:
            traces.switch(on=on)
        else:
            try:
                traces.switch_one(name, on=on)
            except TraceError as exc:
                log.warning("%s", exc)
                raise MiError(BAD_PARAMETER, BAD_VALUE) from exc
        _log_switch("tracing" if name is None else f"trace {name}", traces, on=on)
        return "OK"

    def trace_start(
        id: str,  # noqa: A002 - the parameter's name on the wire
        uri: str,
        filter: list[str] | str = (),  # type: ignore[assignment]  # noqa: A002 - as for id
        scope: object = None,
        type: object = None,  # noqa: A002 - as for id
    ) -> str:
        """Start a trace to ``hep:HOST:PORT;transport=tcp;version=3``.

        Args:
            id: name of the new trace.
            uri: where to.
            filter: which calls and connections; see `Traces.start`.
            scope: ignored; all messages of a call are traced.
            type: ignored; all is traced.
        """
        name, where = text_of(id, "id"), text_of(uri, "uri")
        filters = [filter] if isinstance(filter, str) else filter
        if not isinstance(filters, list | tuple):
            raise bad_type("filter")
        if not all(map(_is_text, (name, where, *filters))):
            raise MiError("Invalid params", INVALID_PARAMS)
        if name in traces.names:
            kind = "dynamic trace" if name in traces.started else "trace"
            raise MiError(BAD_PARAMETER, data=f"{kind} id already used")
        try:
            application.start_trace(name, where, filters)
        except TraceError as exc:
            raise MiError(BAD_PARAMETER, data=str(exc)) from exc
        return "OK"

    def trace_stop(id: str) -> str:  # noqa: A002 - the parameter's name on the wire
        """End a trace that ``trace_start`` started."""
        try:
            traces.stop(text_of(id, "id"))
        except TraceError as exc:
            raise MiError(BAD_PARAMETER, BAD_VALUE) from exc
        return "OK"

    def trace_list() -> dict[str, list[Listed]]:
        """All traces, those of the configuration first."""
        return {"Traces": [_described(traces, trace) for trace in traces.read()]}

    ws_trace, wss_trace = _switch(traces, "ws"), _switch(traces, "wss")
    started = ("id", "uri"), ("id", "uri", "filter"), ("id", "uri", "filter", "scope", "type")
    return {
        "ws_trace": ws_trace,
        "ws:trace": ws_trace,
        "wss_trace": wss_trace,
        "wss:trace": wss_trace,
        "trace": Method(
            trace,
            ((), ("id",), ("mode",), ("id", "mode")),
            "tracer",
            "lists traces, or turns all or one of them on or off",
            named_only=True,
        ),
        "trace_start": Method(trace_start, started, "tracer", "starts a trace"),
        "trace_stop": Method(trace_stop, (("id",),), "tracer", "ends a trace that was started"),
        "trace_list": Method(trace_list, ((),), about="lists traces with their packet counts"),
    }


def _switch(traces: Traces, proto: Proto) -> Method:
    """Make the method that switches tracing of one protocol."""

    def switch(trace_mode: str | None = None) -> Any:
        if trace_mode is None:
            return {f"{proto.upper()} tracing": "on" if proto in traces.protocols_on else "off"}
        # OpenSIPS compares no more than these letters.
        mode = text_of(trace_mode, "trace_mode").lower()
        if not mode.startswith(("on", "off")):
            raise MiError(BAD_PARAMETER, data="trace_mode should be 'on' or 'off'")
        on = mode.startswith("on")
        traces.switch(on=on, proto=proto)
        _log_switch(f"tracing of {proto}", traces, on=on)
        return "OK"

    about = f"shows whether tracing of {proto} is on, or turns it on or off"
    return Method(switch, ((), ("trace_mode",)), f"proto_{proto}", about)


def _mode(text: str) -> bool:
    mode = text.lower()
    if mode not in ("on", "off"):
        raise MiError(BAD_PARAMETER, data="trace mode should be 'on' or 'off'")
    return mode == "on"


def _log_switch(what: str, traces: Traces, *, on: bool) -> None:
    log.info("%s is switched %s", what, "on" if on else "off")
    if traces.on and not traces.configured:
        log.warning("%s", NOWHERE)


def _listed(traces: Traces, name: str | None) -> dict[str, Any]:
    """The answer of ``trace`` without a mode: all traces, or those of a name."""
    found = [
        each
        for trace in traces.all
        if name in (None, trace.name)
        for each in _destinations(traces, trace)
    ]
    if name is None:
        return {"global": "on" if traces.on else "off", "trace destinations": found}
    if not found:
        raise MiError("Bad trace id value", BAD_VALUE)
    return {"trace destinations": found}


def _destinations(traces: Traces, trace: Trace) -> list[Listed]:
    """A trace as OpenSIPS lists it: an entry for each destination."""
    state: dict[str, Any] = {"state": "off" if trace.name in traces.off else "on"}
    if trace.name in traces.started:
        state = {"state": "dynamic"}
        if filters := traces.filters[trace.name]:
            # OpenSIPS puts each filter in front of the others.
            pairs = (each.partition("=") for each in reversed(filters))
            state["filters"] = [{kind: wanted} for kind, _, wanted in pairs]
    return [
        {"name": trace.name, "type": "HEP", "uri": f"{hep_id.host}:{hep_id.port}", **state}
        for hep_id in trace.destinations.hep_ids
    ]


def _is_text(given: object) -> bool:
    """Whether this can be an id, a destination or a filter.

    Logs and metrics repeat it: line ends, control and formatting characters are refused, as are
    thousands of characters.
    """
    return isinstance(given, str) and given.isprintable() and len(given) <= LONGEST_NAME


def _described(traces: Traces, trace: Trace) -> Listed:
    return {
        "ID": trace.name,
        "URI": str(trace.destinations),
        "Started": "by hand" if trace.name in traces.started else "by configuration",
        "State": "on" if trace.tracer.on else "off",
        "Filters": list(traces.filters.get(trace.name, ())),
        **{
            name.replace("_", " ").capitalize(): count
            for name, count in ledger_over(trace.senders).items()
        },
        "Crowded out": _crowded_out(trace),
        **_last_error(trace),
    }


def _last_error(trace: Trace) -> dict[str, str]:
    """Why the latest connection to a collector failed or ended; empty if none did."""
    errors = [
        f"{sender.destination}: {sender.last_error}"
        for sender in trace.senders
        if sender.last_error is not None
    ]
    return {"Last error": ", ".join(errors)} if errors else {}


def _crowded_out(trace: Trace) -> dict[str, int]:
    """Packets dropped because a queue was full, by connection; those that lost most."""
    total = sum((sender.counters.crowded_out for sender in trace.senders), Counter[Flow]())
    return {named(flow): count for flow, count in total.most_common(MOST_CROWDED_OUT)}
