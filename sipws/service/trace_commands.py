"""MI methods that start, stop and list traces (as OpenSIPS' ``trace_start`` and ``trace_stop``)."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from hep.sending.fair_queue import Flow, named
from sipws.control.mi import INVALID_PARAMS, NOT_FOUND, MiError
from sipws.errors import TraceError
from sipws.service.running import Running
from sipws.service.statistics import ledger_over
from sipws.service.traces import Traces
from sipws.tracing.trace import Trace

LONGEST_NAME: Final = 255
"""Characters of an id, a destination or a filter."""

MOST_CROWDED_OUT: Final = 10
"""Connections listed per trace, of those whose packets were dropped because a queue was full."""


def trace_commands(application: Running) -> dict[str, Callable[..., Any]]:
    """The MI methods of `sipws.service.traces.Traces`, by name."""

    def trace_start(
        id: str,  # noqa: A002 - the parameter's name on the wire
        uri: str,
        filter: list[str] | str = (),  # type: ignore[assignment]  # noqa: A002 - as for id
    ) -> str:
        """Start a trace to ``hep:HOST:PORT;transport=tcp;version=3``."""
        filters = [filter] if isinstance(filter, str) else filter
        texts = (id, uri, *filters) if isinstance(filters, list | tuple) else (None,)
        if not all(map(_is_text, texts)):
            raise MiError("Invalid params", INVALID_PARAMS)
        try:
            application.start_trace(id, uri, filters)
        except TraceError as exc:
            raise MiError(str(exc)) from exc
        return "OK"

    def trace_stop(id: str) -> str:  # noqa: A002 - the parameter's name on the wire
        """End a trace that ``trace_start`` started."""
        if not isinstance(id, str):
            raise MiError("Invalid params", INVALID_PARAMS)
        try:
            application.traces.stop(id)
        except TraceError as exc:
            raise MiError(str(exc), NOT_FOUND) from exc
        return "OK"

    def trace_list() -> dict[str, list[dict[str, Any]]]:
        """All traces, those of the configuration first."""
        traces = application.traces
        return {"Traces": [_described(traces, trace) for trace in traces.read()]}

    return {"trace_start": trace_start, "trace_stop": trace_stop, "trace_list": trace_list}


def _is_text(given: object) -> bool:
    """Whether this can be an id, a destination or a filter.

    Logs and metrics repeat it: line ends, control and formatting characters are refused, as are
    thousands of characters.
    """
    return isinstance(given, str) and given.isprintable() and len(given) <= LONGEST_NAME


def _described(traces: Traces, trace: Trace) -> dict[str, Any]:
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
