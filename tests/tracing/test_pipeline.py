"""The pipeline as one object: what it takes, and its life."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import hep
from sipws import Bus, ConfigurationError, FilterRouteError
from sipws.events import Accepted, Connection, ConnectionOpened
from sipws.tracing.pipeline import Pipeline

ROUTE = "route[ws_filter] { if ($sp == 50123) drop; }"
TO_NOWHERE = "127.0.0.1:9060;transport=udp"


@pytest.fixture
def accepted(connection: Connection) -> Accepted:
    return Accepted(connection, 1001.0, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 101 \r\n\r\n")


async def test_what_is_published_arrives(connection: Connection, accepted: Accepted) -> None:
    arrived: asyncio.Queue[hep.Packet] = asyncio.Queue()
    async with hep.Collector(lambda packet, _: arrived.put_nowait(packet), udp="127.0.0.1:0") as to:
        destination = f"127.0.0.1:{to.udp_address[1]};transport=udp"
        async with Pipeline(destination, capture_id=2001, auth_key=b"secret") as trace:
            trace.bus.publish(ConnectionOpened(connection, 1000.0))
            trace.bus.publish(accepted)
        async with asyncio.timeout(5):
            packet = await arrived.get()
    assert (packet.capture_id, packet.auth_key) == (2001, b"secret")
    assert json.loads(packet.payload)["Event"] == "ACCEPTED"


@pytest.mark.parametrize(
    ("options", "traced"),
    [
        ({}, 1),
        ({"filter": lambda connection: connection.peer.port == 50123}, 1),
        ({"filter": lambda connection: False}, 0),
        ({"filter": ROUTE}, 0),
        ({"filter": ROUTE + "route[other] { exit; }", "route": "ws_filter"}, 0),
        ({"filter": ROUTE + "route[other] { exit; }", "route": "other"}, 1),
        ({"on": False}, 0),
    ],
)
async def test_a_filter_decides(
    connection: Connection, accepted: Accepted, options: dict[str, Any], traced: int
) -> None:
    async with Pipeline(TO_NOWHERE, **options) as trace:
        trace.bus.publish(ConnectionOpened(connection, 1000.0))
        trace.bus.publish(accepted)
        trace.flush()
        assert trace.tracer is not None
        assert trace.tracer.counters["traced"] == traced


async def test_a_script_may_be_a_file(
    tmp_path: Path, connection: Connection, accepted: Accepted
) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text(ROUTE)
    async with Pipeline(TO_NOWHERE, filter=script) as trace:
        trace.bus.publish(ConnectionOpened(connection, 1000.0))
        trace.bus.publish(accepted)
        trace.flush()
        assert trace.tracer is not None
        assert trace.tracer.counters["excluded"] == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"route": "missing"}, "there is no route 'missing'; route= one of: ws_filter, other"),
        ({}, "which route decides is not said; route= one of: ws_filter, other"),
    ],
)
def test_a_route_that_is_not_there_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Pipeline(TO_NOWHERE, filter=ROUTE + "route[other] { exit; }", **options)


def test_a_script_that_is_wrong_is_refused() -> None:
    with pytest.raises(FilterRouteError):
        Pipeline(TO_NOWHERE, filter="route[ws_filter] { if }")


def test_a_destination_that_is_wrong_is_refused() -> None:
    with pytest.raises(hep.HepIdError):
        Pipeline("nowhere;transport=pigeon")


async def test_it_starts_and_ends_as_often_as_it_is_told() -> None:
    bus = Bus()
    trace = Pipeline(hep.HepId.parse(TO_NOWHERE), bus=bus)
    await trace.aclose()
    assert not bus.accepted.subscribers
    for _ in range(2):
        trace.start()
        sender = trace.sender
        trace.start()
        assert trace.sender is sender
        assert len(bus.accepted.subscribers) == 1
        await trace.aclose()
        assert not bus.accepted.subscribers
