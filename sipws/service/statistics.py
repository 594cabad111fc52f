"""What a running application can say of itself in numbers: as metrics, and as OpenSIPS' statistics.

Counts come from `sipws.metrics.counters.Counts`; everything else is looked up when it is asked for.
"""

import asyncio
import os
import platform
import resource
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import hep
from hep.sending.senders import REFUSED
from sipws import __version__
from sipws.address import Listener
from sipws.control.server import families as control_families
from sipws.events import Side
from sipws.metrics.counters import ACCEPTED, Traffic
from sipws.metrics.prometheus_text import Family
from sipws.relay.relay import Relay
from sipws.service.running import Running
from sipws.service.traces import Trace
from sipws.transport.flow import Flow
from sipws.ws.phase import Phase

SUSPENDED: Final = "sipws_subscribers_suspended"
"""The metric that shows a subscriber which the bus has suspended."""

_PROCESS: Final = Path("/proc/self")
_ALIVE: Final = (Phase.HANDSHAKE, Phase.OPEN, Phase.CLOSING)


def traffic_of(flow: Flow) -> Traffic:
    """What a connection has carried so far; once it is closed, `Closed` has said so."""
    return Traffic(*flow.traffic)


def families(application: Running) -> Iterator[Family]:
    """All metrics."""
    points = application.traces.read()
    phases, upstream, traffic = _look(application)
    yield _connections(phases)
    yield from _upstream(application.relay, upstream)
    yield from application.counts.families(traffic)
    yield Family(
        "sipws_tracing_enabled", "gauge", "Whether tracing is on, and nothing of it is suspended."
    ).add(int(application.traces.on and not any(suspensions(points))))
    yield from _tracing(points)
    yield from _hep(points)
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


def suspensions(points: Iterable[Trace]) -> Iterator[str]:
    """What is suspended of tracing now, a line for each event type of a trace."""
    for point in points:
        for event in point.tracer.suspended:
            yield f"trace {point.id} gets no {event} for a while: its tracer only raised"


def statistics(application: Running) -> dict[str, int]:
    """The statistics that MI ``get_statistics`` knows, as ``GROUP:NAME``."""
    points = application.traces.read()
    phases, upstream, alive = _look(application)
    counts = application.counts
    senders = [sender for point in points for sender in point.senders]
    traffic = counts.traffic + alive
    traced: Counter[str] = Counter()
    for point in points:
        if not point.temporary:
            traced += point.tracer.counters
    return {
        "ws:connections": phases.total(),
        "ws:open_connections": sum(n for (_, phase), n in phases.items() if phase is Phase.OPEN),
        "ws:upstream_connections": upstream.total(),
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
        "trace:packets": sum(point.tracer.offered for point in points),
        **{f"hep:{name}": count for name, count in ledger_over(senders).items()},
        "hep:connected": sum(sender.connected for sender in senders),
        "hep:reconnects": sum(sender.reconnects for sender in senders),
    }


def ledger_of(sender: hep.Sender) -> tuple[dict[str, int], Counter[str]]:
    """What became of the packets for a collector, and the causes for which some were dropped.

    ``offered = sent + dropped + queued`` at every moment, and what was sent or dropped stays so,
    because counters may not go down. So a packet that came back, as only UDP knows, stays ``sent``
    and is ``bounced`` too; the sender's own ledger takes it from ``sent`` to ``dropped``.
    """
    own = sender.counters
    causes = own.dropped - Counter({REFUSED: own.bounced})
    return {
        "offered": own.offered,
        "sent": own.sent + own.bounced,
        "bounced": own.bounced,
        "dropped": causes.total(),
        "queued": own.queued,
    }, causes


def ledger_over(senders: Iterable[hep.Sender]) -> dict[str, int]:
    """The same for several collectors together."""
    total = dict.fromkeys(("offered", "sent", "bounced", "dropped", "queued"), 0)
    for sender in senders:
        for name, count in ledger_of(sender)[0].items():
            total[name] += count
    return total


def _look(
    application: Running,
) -> tuple[Counter[tuple[Listener, Phase]], Counter[Phase], Traffic]:
    """The living connections, and what they have carried.

    Those of peers are counted by listener and phase, ours to the upstream by phase.

    There may be 10,000 of them, and SIP waits meanwhile: nothing is built or written for each.
    """
    alive: dict[Phase, Counter[int]] = {phase: Counter() for phase in Phase}
    upstream: Counter[Phase] = Counter()
    messages_in = messages_out = bytes_in = bytes_out = 0
    for flow in application.server.flows:
        if (phase := flow.phase) is Phase.CLOSED:
            continue
        connection = flow.connection
        if connection.destination is None:
            # By identity: all connections of a listener share its definition.
            alive[phase][id(connection.listener)] += 1
        else:
            upstream[phase] += 1
        traffic = flow.traffic
        messages_in += traffic[0]
        messages_out += traffic[1]
        bytes_in += traffic[2]
        bytes_out += traffic[3]
    phases = Counter(
        {
            (listener, phase): alive[phase][id(listener)]
            for listener in application.server.listeners
            for phase in _ALIVE
        }
    )
    return phases, upstream, Traffic(messages_in, messages_out, bytes_in, bytes_out)


def _connections(phases: Counter[tuple[Listener, Phase]]) -> Family:
    connections = Family(
        "sipws_connections", "gauge", "Connections that are alive, by listener and state."
    )
    for (listener, phase), count in phases.items():
        connections.add(count, listener=str(listener), state=phase.name.lower())
    return connections


def _upstream(relay: Relay | None, phases: Counter[Phase]) -> Iterator[Family]:
    connections = Family(
        "sipws_upstream_connections",
        "gauge",
        "Connections to the upstream that are alive, by state.",
    )
    reachable = Family(
        "sipws_upstream_up",
        "gauge",
        "Whether the upstream was there when it was connected to last.",
    )
    if relay is not None:
        for phase in _ALIVE:
            connections.add(phases[phase], state=phase.name.lower())
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


def _tracing(points: Sequence[Trace]) -> Iterator[Family]:
    decisions = Family(
        "sipws_trace_decisions_total", "counter", "Connections that a trace's filter decided on."
    )
    failures = Family(
        "sipws_trace_filter_failures_total",
        "counter",
        "Decisions for which the filter raised; the connection is then traced.",
    )
    packets = Family(
        "sipws_trace_packets_total", "counter", "HEP packets that tracing handed to its senders."
    )
    left_out = Family(
        "sipws_trace_messages_left_out_total",
        "counter",
        "SIP messages that sampling, methods or a filter left out.",
    )
    no_sip = Family(
        "sipws_trace_messages_no_sip_total",
        "counter",
        "Messages that are no SIP, told as network events.",
    )
    broken_sip = Family(
        "sipws_trace_messages_broken_sip_total",
        "counter",
        "SIP messages that collectors drop or misfile; traced, and told as network events.",
    )
    too_long = Family(
        "sipws_trace_packets_too_long_total",
        "counter",
        "Traces that fit no HEP packet and were cut.",
    )
    not_made = Family(
        "sipws_trace_packets_dropped_total",
        "counter",
        "Traces of which no HEP packet could be made, by cause.",
    )
    for point in points:
        counters, trace = point.tracer.counters, point.id
        decisions.add(counters["traced"], trace=trace, decision="traced")
        decisions.add(counters["excluded"], trace=trace, decision="excluded")
        failures.add(counters["failed"], trace=trace)
        packets.add(point.tracer.offered, trace=trace)
        left_out.add(counters["left_out"], trace=trace)
        no_sip.add(counters["no_sip"], trace=trace)
        broken_sip.add(counters["broken_sip"], trace=trace)
        too_long.add(counters["too_long"], trace=trace)
        for cause, count in sorted(point.tracer.dropped.items()):
            not_made.add(count, trace=trace, cause=cause)
    if points:
        yield from (decisions, failures, packets, left_out, no_sip, broken_sip, too_long, not_made)


def _hep(points: Sequence[Trace]) -> Iterator[Family]:
    offered = Family(
        "sipws_hep_offered_packets_total",
        "counter",
        "HEP packets for a destination: sent, dropped or queued.",
    )
    sent = Family("sipws_hep_sent_packets_total", "counter", "HEP packets that the system took.")
    sent_bytes = Family("sipws_hep_sent_bytes_total", "counter", "Their bytes.")
    bounced = Family(
        "sipws_hep_bounced_packets_total",
        "counter",
        "Of those sent, HEP packets that came back because nobody receives them there.",
    )
    dropped = Family(
        "sipws_hep_dropped_packets_total", "counter", "HEP packets given up unsent, by cause."
    )
    queued = Family("sipws_hep_queued_packets", "gauge", "HEP packets that wait.")
    queued_bytes = Family("sipws_hep_queued_bytes", "gauge", "Bytes of those in memory.")
    connected = Family(
        "sipws_hep_connected", "gauge", "Whether there is a connection; UDP has one."
    )
    reconnects = Family(
        "sipws_hep_reconnects_total", "counter", "Connections that came up after the first."
    )
    failures = Family(
        "sipws_hep_connection_failures_total",
        "counter",
        "Tries to connect that failed, and connections that broke.",
    )
    for point in points:
        for destination, sender in zip(point.destinations, point.senders, strict=True):
            # A destination may be that of several traces.
            labels = {"trace": point.id, "destination": str(destination)}
            ledger, causes = ledger_of(sender)
            offered.add(ledger["offered"], **labels)
            sent.add(ledger["sent"], **labels)
            sent_bytes.add(sender.counters.bytes_sent, **labels)
            bounced.add(ledger["bounced"], **labels)
            for cause, count in sorted(causes.items()):
                dropped.add(count, **labels, cause=cause)
            queued.add(ledger["queued"], **labels)
            queued_bytes.add(sender.counters.bytes_queued, **labels)
            connected.add(int(sender.connected), **labels)
            reconnects.add(sender.reconnects, **labels)
            failures.add(sender.failures, **labels)
    yield from (offered, sent, sent_bytes, bounced, dropped)
    yield from (queued, queued_bytes, connected, reconnects, failures)


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
