"""The viewer's metrics in Prometheus' text format (version 0.0.4). Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from hep.view.web.backend import Facts
from hep.view.web.models import Status

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What the format is called in HTTP."""

Samples = Mapping[str, float]
"""Values by labels as they are written, such as ``{reason="queue-full"}``; empty for none."""


def render(status: Status, facts: Facts, clients: int) -> str:
    """Write the metrics.

    Args:
        status: of the viewer.
        facts: what the status was made of.
        clients: browsers that follow the live list.
    """
    return "".join(f"{line}\n" for line in _lines(status, facts, clients))


def _lines(status: Status, facts: Facts, clients: int) -> Iterator[str]:
    store = status.store
    received: Counter[str] = Counter()
    for each in status.listening:
        # What an address says counts for all addresses of its transport.
        received[each.transport] = each.received
    dropped = facts.dropped or {"any": store.dropped}
    counters: list[tuple[str, str, Samples]] = [
        (
            "packets_received",
            "Packets received, by transport.",
            {_label("transport", name): count for name, count in received.items()},
        ),
        ("packets_stored", "Packets stored.", {"": store.stored}),
        (
            "packets_dropped",
            "Packets that were received and not stored, by reason.",
            {_label("reason", name): count for name, count in dropped.items()},
        ),
        ("bad", "Data received that is not HEP.", {"": status.bad}),
    ]
    gauges: list[tuple[str, str, float]] = [
        ("store_packets", "Packets in the store.", store.packets),
        ("store_bytes", "Size of the store in bytes.", store.bytes),
        ("store_segments", "Segments of the store.", store.segments),
        (
            "store_problem",
            "Whether packets cannot be stored, such as with a full disk.",
            int(bool(store.problem)),
        ),
        ("calls", "Calls in the store.", status.calls),
        ("calls_open", "Calls that go on, among the latest 8,192.", status.calls_open),
        (
            "connections_open",
            "WebSocket connections that are open, among the latest 16,384.",
            status.connections_open,
        ),
        ("live_clients", "Browsers that follow the live list.", clients),
        ("start_time_seconds", "Start time in seconds since the epoch.", status.started / 1e6),
    ]
    for name, about, samples in counters:
        yield from _family(f"hep_view_{name}_total", "counter", about, samples)
    for name, about, number in gauges:
        yield from _family(f"hep_view_{name}", "gauge", about, {"": number})


def _family(name: str, kind: str, about: str, samples: Samples) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, number in samples.items():
        yield f"{name}{labels} {number}"


def _label(name: str, text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{{{name}="{escaped}"}}'
