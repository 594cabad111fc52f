"""Counters of connections: a subscriber of the bus, without I/O.

It subscribes to four events per connection and to none per message. `Closed` holds the traffic of a
connection; a reader adds the traffic of the open ones.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from sipws.bus import Bus
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ErrorOccurred,
    HandshakeFailed,
    Probe,
    Side,
    value,
)
from sipws.metrics.prometheus_text import Family, Histogram
from sipws.sip_counts import SipCounts

ACCEPTED: Final = "accepted"
"""The result of a handshake that succeeded; any other is the `ErrorKind` that it failed with."""

CLIENT: Final = "client"
"""The leg of connections that clients opened."""

UPSTREAM: Final = "upstream"
"""The leg of connections that the relay opened."""

_LEG_OF: Final = {Side.PEER.value: CLIENT, Side.LOCAL.value: UPSTREAM}
_BY_PEER: Final = (Side.PEER.value, ACCEPTED)
_BY_US: Final = (Side.LOCAL.value, ACCEPTED)

LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. Timers have a resolution of 1 ms; SIP retransmits after 500 ms (RFC 3261 T1)."""


@value
class Traffic:
    """What connections have carried."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.messages_in + other.messages_in,
            self.messages_out + other.messages_out,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
        )


class Counts:
    """Counts the events of a bus, from its construction on.

    Args:
        bus: the source of the events.
    """

    def __init__(self, bus: Bus) -> None:
        # Keys are plain text: an enumeration's hash is computed in Python each time.
        self.handshakes: Counter[tuple[str, str]] = Counter()
        """Opening handshakes by the side that connected and by result."""
        self.failed_connects: Counter[str] = Counter()
        """Connects that failed, by kind of error."""
        self.closes: Counter[tuple[str, str, str]] = Counter()
        """Ended connections that were open, by `code_label`, by the side that ended them and by
        leg."""
        self.errors: Counter[tuple[str, str]] = Counter()
        """Errors on open connections, by kind and leg."""
        self.probes: Counter[str] = Counter()
        """Connections without an upgrade request, by `Probe`."""
        self.seconds = 0.0
        """Total duration of the connections in ``closes``."""
        self._ended = {CLIENT: [0, 0, 0, 0], UPSTREAM: [0, 0, 0, 0]}
        bus.accepted.subscribe(self._accepted)
        bus.connected.subscribe(self._connected)
        bus.connect_failed.subscribe(self._connect_failed)
        bus.handshake_failed.subscribe(self._handshake_failed)
        bus.error_occurred.subscribe(self._error_occurred)
        bus.closed.subscribe(self._closed)

    def _accepted(self, event: Accepted) -> None:
        self.handshakes[_BY_PEER] += 1

    def _connected(self, event: Connected) -> None:
        self.handshakes[_BY_US] += 1

    def _connect_failed(self, event: ConnectFailed) -> None:
        self.failed_connects[event.kind.value] += 1

    def _handshake_failed(self, event: HandshakeFailed) -> None:
        self.handshakes[event.connection.opened_by.value, event.kind.value] += 1

    def _error_occurred(self, event: ErrorOccurred) -> None:
        self.errors[event.kind.value, leg_of(event.connection)] += 1

    def _closed(self, event: Closed) -> None:
        leg = leg_of(event.connection)
        if event.accepted:
            self.closes[code_label(event.code), event.closed_by.value, leg] += 1
            self.seconds += event.duration
        elif event.probe is not None:
            self.probes[event.probe.value] += 1
        ended = self._ended[leg]
        ended[0] += event.messages_in
        ended[1] += event.messages_out
        ended[2] += event.bytes_in
        ended[3] += event.bytes_out

    def traffic(self, leg: str) -> Traffic:
        """The traffic of all ended connections of a leg, refused ones included."""
        return Traffic(*self._ended[leg])

    def families(self, alive: Mapping[str, Traffic]) -> Iterator[Family]:
        """The counts as metrics.

        Args:
            alive: the traffic of the open connections, for each leg that the program has.
        """
        handshakes = Family(
            "sipws_handshakes_total",
            "counter",
            "Opening handshakes by the side that connected (peer, or local: sipws), by result:"
            " accepted, or the kind of error, and by leg.",
        )
        # From the start at 0, or the first one would not show as a rise.
        zeros = {_BY_PEER: 0, _BY_US: 0} if UPSTREAM in alive else {_BY_PEER: 0}
        for (side, result), count in sorted((zeros | self.handshakes).items()):
            handshakes.add(count, opened_by=side, result=result, leg=_LEG_OF[side])
        yield handshakes

        probes = Family(
            "sipws_probes_total",
            "counter",
            "Connections without an upgrade request, such as health checks: without a byte (tcp),"
            " with a TLS handshake only (tls), or with a plain HTTP request (http).",
        )
        for probe in Probe:
            probes.add(self.probes[probe.value], kind=probe.value)
        yield probes

        connects = Family(
            "sipws_failed_connects_total",
            "counter",
            "Connects of sipws that failed, by kind of error.",
        )
        for kind, count in sorted(self.failed_connects.items()):
            connects.add(count, kind=kind)
        yield connects

        closes = Family(
            "sipws_connection_closes_total",
            "counter",
            "Ended connections, by close code, by the side that ended them and by leg.",
        )
        for (code, by, leg), count in sorted(self.closes.items()):
            closes.add(count, code=code, by=by, leg=leg)
        yield closes

        errors = Family(
            "sipws_connection_errors_total",
            "counter",
            "Errors on open connections, by kind and leg.",
        )
        for (kind, leg), count in sorted(self.errors.items()):
            errors.add(count, kind=kind, leg=leg)
        yield errors

        yield Family(
            "sipws_connection_duration_seconds_total",
            "counter",
            "Total duration of ended connections, of both legs.",
        ).add(self.seconds)
        messages = Family(
            "sipws_messages_total",
            "counter",
            "WebSocket messages by leg, keep-alives included. A relayed message counts on both.",
        )
        size = Family(
            "sipws_bytes_total",
            "counter",
            "Bytes of connections by leg, before TLS, handshakes and frame headers included.",
        )
        for leg, living in alive.items():
            total = self.traffic(leg) + living
            messages.add(total.messages_in, direction="in", leg=leg)
            messages.add(total.messages_out, direction="out", leg=leg)
            size.add(total.bytes_in, direction="in", leg=leg)
            size.add(total.bytes_out, direction="out", leg=leg)
        yield messages
        yield size


def leg_of(connection: Connection) -> str:
    """The leg that a connection belongs to."""
    return CLIENT if connection.destination is None else UPSTREAM


def sip_families(legs: Mapping[str, SipCounts]) -> Iterator[Family]:
    """The SIP messages that arrived as metrics.

    Args:
        legs: their counts, for each leg that the program has; empty if nothing counts them.
    """
    requests = Family(
        "sipws_sip_requests_total",
        "counter",
        "SIP requests by method and by the leg on which they arrived.",
    )
    responses = Family(
        "sipws_sip_responses_total",
        "counter",
        "SIP responses by status code and by the leg on which they arrived.",
    )
    for leg, counts in legs.items():
        for method, count in sorted(counts.requests.items()):
            requests.add(count, method=method, leg=leg)
        for status, count in sorted(counts.responses.items()):
            # Of the 80 codes a program sees a few.
            if count:
                responses.add(count, status=status, leg=leg)
    yield requests
    yield responses


def code_label(code: int) -> str:
    """A close code as a label: the registered ones as they are, the others by their range.

    A peer may send any of 3,000 codes (RFC 6455 section 7.4.2), and each would be a time series.
    """
    if 1000 <= code <= 1015:
        return str(code)
    return f"{code // 1000}xxx" if 3000 <= code <= 4999 else "other"


class Lag:
    """The delay of the event loop, in buckets."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LAG_BOUNDS) + 1)
        self._total = 0.0
        self.longest = 0.0
        """Total of all delays, in seconds."""

    def observe(self, seconds: float) -> None:
        """Count one delay, in seconds."""
        seconds = max(0.0, seconds)
        self._counts[bisect_left(LAG_BOUNDS, seconds)] += 1
        self._total += seconds
        self.longest = max(self.longest, seconds)

    def family(self) -> Family:
        """The lag as a metric."""
        histogram = Histogram(LAG_BOUNDS, tuple(self._counts), self._total)
        return Family(
            "sipws_event_loop_lag_seconds",
            "histogram",
            "Delay of a timer of the event loop, measured twice a second.",
        ).add(histogram)
