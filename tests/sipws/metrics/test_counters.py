"""Counting what the bus tells."""

import asyncio
from dataclasses import replace

import pytest

from sipws.bus import Bus
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    Side,
)
from sipws.metrics.counters import CLIENT, Counts, Lag, Traffic, code_label
from sipws.metrics.lag_sampler import LagSampler
from sipws.metrics.prometheus_text import Histogram


def closed(connection: Connection, code: int = 1000, *, accepted: bool = True) -> Closed:
    return Closed(
        connection,
        1002.0,
        code=code,
        reason="",
        closed_by=Side.PEER,
        clean=True,
        accepted=accepted,
        duration=2.0,
        messages_in=3,
        messages_out=2,
        bytes_in=300,
        bytes_out=200,
    )


def samples(counts: Counts, **alive: Traffic) -> dict[tuple[str, ...], object]:
    return {
        (family.name, *labels.values()): number
        for family in counts.families({CLIENT: Traffic()} | alive)
        for labels, number in family.samples
    }


def test_connections_are_counted_by_how_they_begin_and_end(connection: Connection) -> None:
    bus = Bus()
    counts = Counts(bus)
    bus.publish(Accepted(connection, 1000.0, b"", b""))
    bus.publish(ErrorOccurred(connection, 1001.0, ErrorKind.PROTOCOL_ERROR, ""))
    bus.publish(closed(connection, 1002))
    bus.publish(HandshakeFailed(connection, 1000.0, b"", b"", ErrorKind.NOT_HTTP, ""))
    bus.publish(closed(connection, 1006, accepted=False))
    assert samples(counts, client=Traffic(1, 1, 10, 10)) == {
        ("sipws_handshakes_total", "peer", "accepted", "client"): 1,
        ("sipws_handshakes_total", "peer", "not-http", "client"): 1,
        ("sipws_probes_total", "tcp"): 0,
        ("sipws_probes_total", "tls"): 0,
        ("sipws_probes_total", "http"): 0,
        ("sipws_connection_closes_total", "1002", "peer", "client"): 1,
        ("sipws_connection_errors_total", "protocol-error", "client"): 1,
        ("sipws_connection_duration_seconds_total",): 2.0,
        ("sipws_messages_total", "in", "client"): 7,
        ("sipws_messages_total", "out", "client"): 5,
        ("sipws_bytes_total", "in", "client"): 610,
        ("sipws_bytes_total", "out", "client"): 410,
    }


def test_connections_that_we_open_are_counted_apart(connection: Connection) -> None:
    bus = Bus()
    counts = Counts(bus)
    ours = replace(connection, destination="ws://192.0.2.9/")
    bus.publish(ConnectFailed(ours, 1000.0, ErrorKind.CONNECT_REFUSED, ""))
    bus.publish(Connected(ours, 1000.0, b"", b"", "sip"))
    bus.publish(HandshakeFailed(ours, 1000.0, b"", b"", ErrorKind.BAD_REPLY, ""))
    found = samples(counts)
    assert found["sipws_failed_connects_total", "connect-refused"] == 1
    assert found["sipws_handshakes_total", "local", "accepted", "upstream"] == 1
    assert found["sipws_handshakes_total", "local", "bad-reply", "upstream"] == 1
    assert found["sipws_handshakes_total", "peer", "accepted", "client"] == 0


def test_messages_cost_nothing() -> None:
    bus = Bus()
    Counts(bus)
    assert not bus.message_received.subscribers
    assert not bus.message_sent.subscribers


@pytest.mark.parametrize(
    ("code", "label"),
    [
        *((code, str(code)) for code in (1000, 1006, 1015)),
        *((code, "other") for code in (0, 1016, 2999, 5000)),
        (3000, "3xxx"),
        (4999, "4xxx"),
    ],
)
def test_close_codes_are_few_labels_whatever_peers_send(code: int, label: str) -> None:
    assert code_label(code) == label


def test_lag_is_sorted_into_buckets() -> None:
    lag = Lag()
    for seconds in (-1.0, 0.0, 0.001, 0.0011, 0.3, 7.0):
        lag.observe(seconds)
    [(labels, histogram)] = lag.family().samples
    assert labels == {}
    assert isinstance(histogram, Histogram)
    assert histogram.counts == (3, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1)
    assert histogram.total == pytest.approx(7.3021)
    assert lag.longest == 7.0


async def test_a_blocked_event_loop_is_seen() -> None:
    import time

    lag = Lag()
    async with asyncio.timeout(5), LagSampler(lag, interval=0.01):
        time.sleep(0.1)  # noqa: ASYNC251 - this is what it is to notice
        while lag.longest < 0.08:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
