"""The numbers of a running application: metrics for Prometheus, and OpenSIPS' statistics.

`sipws.metrics.counters.Counts` counts events as they happen. Everything else is read on request.
"""

import asyncio
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import hep
from hep.sending.senders import REFUSED
from sipws import __version__
from sipws.address import Listener
from sipws.control.server import families as control_families
from sipws.events import Side
from sipws.metrics.counters import ACCEPTED, CLIENT, UPSTREAM, Traffic, sip_families
from sipws.metrics.prometheus_text import Family, Kind
from sipws.relay.relay import Relay
from sipws.service.running import Running
from sipws.tracing.trace import Trace
from sipws.transport.flow import Flow
from sipws.ws.phase import Phase

SUSPENDED: Final = "sipws_subscribers_suspended"
"""The metric that counts the subscribers that the bus has suspended."""

NON_INCREMENTAL: Final = frozenset(
    {
        "core:timestamp",
        "net:waiting_udp",
        "net:waiting_tcp",
        "net:waiting_tls",
        "ws:connections",
        "ws:open_connections",
        "ws:upstream_connections",
        "trace:on",
        "hep:queued",
        "hep:connected",
    }
)
"""The statistics that are read rather than counted. OpenSIPS calls them so, and resets the others
alone."""

_PROCESS: Final = Path("/proc/self")
_ALIVE: Final = (Phase.HANDSHAKE, Phase.OPEN, Phase.CLOSING)


def traffic_of(flow: Flow) -> Traffic:
    """The traffic of an open connection so far; `Closed` has that of an ended one."""
    return Traffic(*flow.traffic)


def families(application: Running) -> Iterator[Family]:
    """Return all metrics of the program, as `/metrics` shows them."""
    traces = application.traces.read()
    flows = _count_flows(application)
    yield _connections(flows)
    yield from _upstream(application.relay, flows)
    yield from application.counts.families(flows.traffic)
    yield from sip_families(application.sip_counts)
    yield Family(
        "sipws_tracing_enabled",
        "gauge",
        "1 if tracing is on and no part of it is suspended.",
    ).add(int(application.traces.on and not any(suspensions(traces))))
    yield from _tracing(traces)
    yield from _hep(traces)
    yield Family(
        "sipws_subscriber_failures_total",
        "counter",
        "Calls of subscribers to the event bus that raised.",
    ).add(application.bus.failed + application.traces.bus.failed)
    yield Family(
        SUSPENDED,
        "gauge",
        "Subscribers to the event bus that only raised and get no events for a while.",
    ).add(len(application.bus.suspended) + len(application.traces.bus.suspended))
    yield Family(
        "sipws_out_of_descriptors_total",
        "counter",
        "Times that no file descriptor was left: for a connection to accept, or at a look once a"
        " second.",
    ).add(application.server.out_of_descriptors)
    yield from control_families(application.control)
    yield _certificates(application)
    yield application.lag.family()
    yield Family("sipws_build_info", "gauge", "Always 1; the labels say what runs.").add(
        1,
        version=__version__,
        python=platform.python_version(),
        loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
    )
    yield from process_families(application.started)


def suspensions(traces: Iterable[Trace]) -> Iterator[str]:
    """What is suspended of tracing now, a line for each event type of a trace."""
    for trace in traces:
        for event in trace.tracer.suspended:
            yield f"trace {trace.name} gets no {event} for a while: its tracer only raised"


def statistics(application: Running) -> dict[str, int]:
    """The statistics of MI ``get_statistics``, as ``GROUP:NAME``."""
    traces = application.traces.read()
    flows = _count_flows(application)
    counts = application.counts
    senders = application.traces.senders
    traffic = Traffic()
    for leg, alive in flows.traffic.items():
        traffic += counts.traffic(leg) + alive
    traced: Counter[str] = Counter()
    for trace in application.traces.configured:
        traced += trace.tracer.counters
    return {
        # OpenSIPS' names. sipws routes no SIP, so that it has nothing to count for the other names
        # of this group; and it has no sockets of the protocols of the next one.
        "core:timestamp": int(time.monotonic() - application.started_monotonic),
        "net:waiting_udp": 0,
        "net:waiting_tcp": 0,
        "net:waiting_tls": 0,
        "ws:connections": flows.accepted.total(),
        "ws:open_connections": sum(
            count for (_, phase), count in flows.accepted.items() if phase is Phase.OPEN
        ),
        "ws:upstream_connections": flows.upstream.total(),
        "ws:accepted": counts.handshakes[Side.PEER.value, ACCEPTED],
        "ws:connected": counts.handshakes[Side.LOCAL.value, ACCEPTED],
        "ws:failed_handshakes": sum(
            count for (_, result), count in counts.handshakes.items() if result != ACCEPTED
        ),
        "ws:failed_connects": counts.failed_connects.total(),
        "ws:closed": counts.closes.total(),
        "ws:errors": counts.errors.total(),
        "ws:messages_in": traffic.messages_in,
        "ws:messages_out": traffic.messages_out,
        "ws:bytes_in": traffic.bytes_in,
        "ws:bytes_out": traffic.bytes_out,
        "trace:on": int(application.traces.on),
        "trace:traced_connections": traced["traced"],
        "trace:excluded_connections": traced["excluded"],
        "trace:failed_filters": traced["failed"],
        "trace:packets": sum(trace.tracer.offered for trace in traces),
        **{f"hep:{name}": count for name, count in ledger_over(senders).items()},
        "hep:connected": sum(sender.connected for sender in senders),
        "hep:reconnects": sum(sender.reconnects for sender in senders),
    }


# The ledger of a sender, as counters that never go down: offered = sent + dropped + handed over +
# queued. A packet that came back, which only UDP reports, stays sent and is bounced too. The
# sender's own ledger moves it from sent to dropped.


def _sent(sender: hep.Sender) -> int:
    return sender.counters.sent + sender.counters.bounced


def _dropped(sender: hep.Sender) -> Counter[str]:
    """Packets by cause."""
    return sender.counters.dropped - Counter({REFUSED: sender.counters.bounced})


def ledger_of(sender: hep.Sender) -> tuple[dict[str, int], Counter[str]]:
    """What became of the packets for one collector.

    Returns:
        the counts, which hold at every moment (offered = sent + dropped + handed over + queued),
        and the dropped packets by cause.
    """
    causes = _dropped(sender)
    counts = {
        "offered": sender.counters.offered,
        "sent": _sent(sender),
        "bounced": sender.counters.bounced,
        "dropped": causes.total(),
        "handed_over": sender.counters.handed_over,
        "queued": sender.counters.queued,
    }
    return counts, causes


def ledger_over(senders: Iterable[hep.Sender]) -> dict[str, int]:
    """What became of the packets for several collectors together; see `ledger_of`."""
    names = ("offered", "sent", "bounced", "dropped", "handed_over", "queued")
    total = dict.fromkeys(names, 0)
    for sender in senders:
        for name, count in ledger_of(sender)[0].items():
            total[name] += count
    return total


class _Flows(NamedTuple):
    """The living connections."""

    accepted: Counter[tuple[Listener, Phase]]
    """Those of peers, by listener and phase."""
    upstream: Counter[Phase]
    """Ours to the upstream, by phase."""
    traffic: Mapping[str, Traffic]
    """What they have carried, for each leg that the program has."""


def _count_flows(application: Running) -> _Flows:
    """Count the living connections.

    There may be 10,000 of them, and SIP waits meanwhile: nothing is built or written for each.
    """
    alive: dict[Phase, Counter[int]] = {phase: Counter() for phase in Phase}
    upstream: Counter[Phase] = Counter()
    of_clients, of_upstream = [0, 0, 0, 0], [0, 0, 0, 0]
    for flow in application.server.flows:
        if (phase := flow.phase) is Phase.CLOSED:
            continue
        connection = flow.connection
        if connection.destination is None:
            # By identity: all connections of a listener share its definition.
            alive[phase][id(connection.listener)] += 1
            total = of_clients
        else:
            upstream[phase] += 1
            total = of_upstream
        traffic = flow.traffic
        total[0] += traffic[0]
        total[1] += traffic[1]
        total[2] += traffic[2]
        total[3] += traffic[3]
    accepted = Counter(
        {
            (listener, phase): alive[phase][id(listener)]
            for listener in application.server.listeners
            for phase in _ALIVE
        }
    )
    carried = {CLIENT: Traffic(*of_clients)}
    if application.relay is not None:
        carried[UPSTREAM] = Traffic(*of_upstream)
    return _Flows(accepted, upstream, carried)


def _connections(flows: _Flows) -> Family:
    connections = Family(
        "sipws_connections",
        "gauge",
        "Connections of clients that are alive, by listener and state.",
    )
    for (listener, phase), count in flows.accepted.items():
        connections.add(count, listener=str(listener), state=phase.name.lower(), leg=CLIENT)
    return connections


def _upstream(relay: Relay | None, flows: _Flows) -> Iterator[Family]:
    connections = Family(
        "sipws_upstream_connections",
        "gauge",
        "Connections to the upstream that are alive, by state.",
    )
    reachable = Family(
        "sipws_upstream_up",
        "gauge",
        "Whether the last connect to the upstream succeeded.",
    )
    if relay is not None:
        for phase in _ALIVE:
            connections.add(flows.upstream[phase], state=phase.name.lower(), leg=UPSTREAM)
        if relay.reachable is not None:
            reachable.add(int(relay.reachable))
    yield connections
    yield reachable


def _certificates(application: Running) -> Family:
    family = Family(
        "sipws_tls_certificate_expiry_seconds",
        "gauge",
        "When the certificate for a server name ends, in seconds since the epoch.",
    )
    if (certificates := application.resolved.certificates) is not None:
        for name, ends in certificates.expiries.items():
            family.add(ends, name=name)
    return family


class _OfTrace(NamedTuple):
    """A counter with a value for each trace."""

    name: str
    meaning: str
    read: Callable[[Trace], int | Mapping[str, int]]
    """Returns the value, or values by ``label``."""
    label: str = ""


_OF_TRACES: Final = (
    _OfTrace(
        "sipws_trace_decisions_total",
        "Connections that a trace's filter decided on.",
        lambda trace: {each: trace.tracer.counters[each] for each in ("traced", "excluded")},
        label="decision",
    ),
    _OfTrace(
        "sipws_trace_filter_failures_total",
        "Decisions for which the filter raised; the connection is then traced.",
        lambda trace: trace.tracer.counters["failed"],
    ),
    _OfTrace(
        "sipws_trace_packets_total",
        "HEP packets that the tracer passed to its senders.",
        lambda trace: trace.tracer.offered,
    ),
    _OfTrace(
        "sipws_trace_messages_left_out_total",
        "SIP messages that sampling, methods or a filter left out.",
        lambda trace: trace.tracer.counters["left_out"],
    ),
    _OfTrace(
        "sipws_trace_messages_no_sip_total",
        "Messages that are not SIP, traced as network events.",
        lambda trace: trace.tracer.counters["no_sip"],
    ),
    _OfTrace(
        "sipws_trace_messages_broken_sip_total",
        "SIP messages that collectors drop or misfile; traced, and reported as network events.",
        lambda trace: trace.tracer.counters["broken_sip"],
    ),
    _OfTrace(
        "sipws_trace_messages_withheld_total",
        "SIP messages that a collector would lose those of others with; reported as network events"
        " alone.",
        lambda trace: trace.tracer.counters["withheld"],
    ),
    _OfTrace(
        "sipws_trace_packets_too_long_total",
        "Traces that fit no HEP packet and were cut.",
        lambda trace: trace.tracer.counters["too_long"],
    ),
    _OfTrace(
        "sipws_trace_packets_dropped_total",
        "Traces that could not be encoded as a HEP packet, by cause.",
        lambda trace: trace.tracer.dropped,
        label="cause",
    ),
)


def _tracing(traces: Sequence[Trace]) -> Iterator[Family]:
    for row in _OF_TRACES:
        family = Family(row.name, "counter", row.meaning)
        for trace in traces:
            value = row.read(trace)
            if isinstance(value, Mapping):
                for each, count in value.items():
                    family.add(count, trace=trace.name, **{row.label: each})
            else:
                family.add(value, trace=trace.name)
        yield family


class _OfSender(NamedTuple):
    """A metric with a value for each sender, or with values by ``cause``."""

    name: str
    kind: Kind
    meaning: str
    read: Callable[[hep.Sender], int | Mapping[str, int]]


_OF_SENDERS: Final = (
    _OfSender(
        "sipws_hep_offered_packets_total",
        "counter",
        "HEP packets for a destination: sent, dropped, handed over or queued.",
        lambda sender: sender.counters.offered,
    ),
    _OfSender(
        "sipws_hep_sent_packets_total",
        "counter",
        "HEP packets that were sent: the system accepted them.",
        _sent,
    ),
    _OfSender(
        "sipws_hep_sent_bytes_total",
        "counter",
        "Bytes of the HEP packets that were sent.",
        lambda sender: sender.counters.bytes_sent,
    ),
    _OfSender(
        "sipws_hep_bounced_packets_total",
        "counter",
        "Sent HEP packets that were returned because nothing listens at the destination.",
        lambda sender: sender.counters.bounced,
    ),
    _OfSender(
        "sipws_hep_dropped_packets_total", "counter", "HEP packets dropped, by cause.", _dropped
    ),
    _OfSender(
        "sipws_hep_handed_over_packets_total",
        "counter",
        "HEP packets that another destination of the trace took over.",
        lambda sender: sender.counters.handed_over,
    ),
    _OfSender(
        "sipws_hep_queued_packets",
        "gauge",
        "HEP packets in the queue.",
        lambda sender: sender.counters.queued,
    ),
    _OfSender(
        "sipws_hep_queued_bytes",
        "gauge",
        "Bytes of the HEP packets that are queued in memory.",
        lambda sender: sender.counters.bytes_queued,
    ),
    _OfSender(
        "sipws_hep_spooled_packets",
        "gauge",
        "HEP packets that are queued on disk.",
        lambda sender: sender.counters.spooled,
    ),
    _OfSender(
        "sipws_hep_connected",
        "gauge",
        "1 if the destination is connected; UDP always is.",
        lambda sender: int(sender.connected),
    ),
    _OfSender(
        "sipws_hep_reconnects_total",
        "counter",
        "Connections to the destination that were established after the first.",
        lambda sender: sender.reconnects,
    ),
    _OfSender(
        "sipws_hep_connection_failures_total",
        "counter",
        "Connects to the destination that failed, and connections that were lost.",
        lambda sender: sender.failures,
    ),
)


def _hep(traces: Sequence[Trace]) -> Iterator[Family]:
    for row in _OF_SENDERS:
        family = Family(row.name, row.kind, row.meaning)
        for trace in traces:
            for hep_id, sender in zip(trace.destinations.hep_ids, trace.senders, strict=True):
                # Several traces may have the same destination.
                labels = {"trace": trace.name, "destination": str(hep_id)}
                value = row.read(sender)
                if isinstance(value, Mapping):
                    for cause, count in sorted(value.items()):
                        family.add(count, **labels, cause=cause)
                else:
                    family.add(value, **labels)
        yield family


def process_families(started: float) -> Iterator[Family]:
    """What every Prometheus client says of its process, under the names that all of them use."""
    yield Family(
        "process_start_time_seconds", "gauge", "Start time of the process since the epoch."
    ).add(started)
    times = os.times()
    yield Family(
        "process_cpu_seconds_total", "counter", "User and system CPU time of the process."
    ).add(times.user + times.system)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Family("process_max_fds", "gauge", "File descriptors that may be open.").add(limit)
    try:
        pages = int((_PROCESS / "statm").read_text().split()[1])
        open_files = sum(1 for _ in (_PROCESS / "fd").iterdir())
    except OSError:
        # Not every system has this file system.
        return
    yield Family("process_resident_memory_bytes", "gauge", "Memory of the process in bytes.").add(
        pages * resource.getpagesize()
    )
    yield Family("process_open_fds", "gauge", "File descriptors that are open.").add(open_files)
