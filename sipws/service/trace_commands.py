"""MI methods about traces that come and go (OpenSIPS tracer: ``trace_start``, ``trace_stop``)."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from hep.sending.fair_queue import Flow, named
from sipws.control.mi import INVALID_PARAMS, NOT_FOUND, MiError
from sipws.errors import TraceError
from sipws.service.running import Running
from sipws.service.statistics import ledger_over
from sipws.service.traces import Trace

LONGEST_NAME: Final = 255
"""Characters of an id, a destination or a filter."""


MOST_CROWDED_OUT: Final = 10
"""Connections that are listed of those whose packets were dropped because a queue was full."""


def trace_commands(application: Running) -> dict[str, Callable[..., Any]]:
    """The methods by name."""

    def trace_start(
        id: str,  # noqa: A002 - the parameter's name on the wire
        uri: str,
        filter: list[str] | str = (),  # type: ignore[assignment]  # noqa: A002 - likewise
    ) -> str:
        """Trace to one more destination, live: ``hep:HOST:PORT;transport=tcp;version=3``."""
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
        """End a trace that was started."""
        if not isinstance(id, str):
            raise MiError("Invalid params", INVALID_PARAMS)
        try:
            application.traces.stop(id)
        except TraceError as exc:
            raise MiError(str(exc), NOT_FOUND) from exc
        return "OK"

    def trace_list() -> dict[str, list[dict[str, Any]]]:
        """All destinations, those of the configuration first."""
        return {"Traces": [_described(point) for point in application.traces.read()]}

    return {"trace_start": trace_start, "trace_stop": trace_stop, "trace_list": trace_list}


def _is_text(given: object) -> bool:
    """Whether this can be an id, a destination or a filter. Logs and metrics repeat them.

    So there are no line ends, control or formatting characters, and no thousands of characters.
    """
    return isinstance(given, str) and given.isprintable() and len(given) <= LONGEST_NAME


def _described(point: Trace) -> dict[str, Any]:
    return {
        "ID": point.id,
        "URI": point.uri,
        "Started": "by hand" if point.temporary else "by configuration",
        "State": "on" if point.tracer.on else "off",
        "Filters": list(point.filters),
        **{name.capitalize(): count for name, count in ledger_over(point.senders).items()},
        "Crowded out": _crowded_out(point),
    }


def _crowded_out(point: Trace) -> dict[str, int]:
    """Packets dropped because a queue was full, of the connections that lost most of them."""
    total = sum((sender.counters.crowded_out for sender in point.senders), Counter[Flow]())
    return {named(flow): count for flow, count in total.most_common(MOST_CROWDED_OUT)}
