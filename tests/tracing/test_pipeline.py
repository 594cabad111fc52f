"""The pipeline as one object: what it takes, and its life."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hep
import sipws.tracing.trace
from sipws import Bus, ConfigurationError, FilterRouteError
from sipws.events import Accepted, Connection, ConnectionOpened
from sipws.tracing.destinations import Distribution
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


class Inbox(list[dict[str, Any]]):
    """The payloads that a collector on loopback received over TCP, and the way to it."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        super().__init__()
        self._collector = hep.Collector(self._take, tcp=address)
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> "Inbox":
        await self._collector.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._collector.__aexit__(*exc)

    @property
    def address(self) -> str:
        ip, port = self._collector.tcp_address
        return f"{ip}:{port}"

    @property
    def hep_id(self) -> str:
        return f"{self.address};transport=tcp"

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self) < count:
                self._arrived.clear()
                await self._arrived.wait()

    def _take(self, packet: hep.Packet, source: object) -> None:
        self.append(json.loads(packet.payload))
        self._arrived.set()


def publish(trace: Pipeline, connection: Connection, accepted: Accepted, times: int = 1) -> None:
    """Publish one connection, and its acceptance so often."""
    trace.bus.publish(ConnectionOpened(connection, 1000.0))
    for _ in range(times):
        trace.bus.publish(accepted)
    trace.flush()


async def connected(trace: Pipeline, *wanted: bool) -> None:
    async with asyncio.timeout(10):
        while [sender.connected for sender in trace.senders] != list(wanted):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def nowhere() -> str:
    """An address where no collector listens any more."""
    async with Inbox() as gone:
        return gone.address


HURRY = hep.SenderSettings(queue_limit=10, retry_first=0.01, retry_longest=0.02)


async def test_a_collector_that_is_back_gets_a_report_of_what_it_missed(
    connection: Connection, accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sipws.tracing.trace, "LOOK_INTERVAL", 0.01)
    address = await nowhere()
    async with Pipeline(f"{address};transport=tcp", sending=HURRY) as trace:
        publish(trace, connection, accepted, times=30)
        assert trace.sender is not None
        lost = trace.sender.counters.dropped.total()
        async with Inbox(address) as back:
            await back.until(11)
    assert lost == 20
    assert [payload["Event"] for payload in back] == ["ACCEPTED"] * 10 + ["LOST"]
    assert back[-1]["Packets"] == "20"


async def test_a_report_of_losses_goes_to_the_collector_that_missed_them(
    connection: Connection, accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sipws.tracing.trace, "LOOK_INTERVAL", 0.01)
    address = await nowhere()
    async with (
        Inbox() as there,
        Pipeline([there.hep_id, f"{address};transport=tcp"], sending=HURRY) as trace,
    ):
        await connected(trace, True, False)
        for _ in range(30):
            publish(trace, connection, accepted)
            await trace.senders[0].drained()
        async with Inbox(address) as back:
            await back.until(11)
        await there.until(30)
    assert back[-1]["Event"] == "LOST"
    assert {payload["Event"] for payload in there} == {"ACCEPTED"}


@pytest.mark.parametrize(
    ("distribution", "expected"), [("duplicate", (4, 4)), ("failover", (4, 0))]
)
async def test_several_collectors_share_or_repeat(
    connection: Connection,
    accepted: Accepted,
    distribution: Distribution,
    expected: tuple[int, int],
) -> None:
    async with Inbox() as first, Inbox() as second:
        destinations = (first.hep_id, hep.HepId.parse(second.hep_id))
        async with Pipeline(destinations, distribution=distribution) as trace:
            await connected(trace, True, True)
            publish(trace, connection, accepted, times=4)
        await first.until(expected[0])
        await second.until(expected[1])
    assert (len(first), len(second)) == expected
    assert trace.destination == hep.HepId.parse(destinations[0])
    assert trace.destinations.hep_ids[1] == destinations[1]


async def test_balanced_collectors_share_by_correlation_id(
    connection: Connection, accepted: Accepted
) -> None:
    async with Inbox() as first, Inbox() as second:
        async with Pipeline([first.hep_id, second.hep_id], distribution="balanced") as trace:
            for number in range(40):
                other = replace(connection, id=number)
                publish(trace, other, replace(accepted, connection=other), times=2)
        async with asyncio.timeout(10):
            while len(first) + len(second) < 80:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert len(first) % 2 == 0
    assert first
    assert second


async def test_failover_goes_to_the_collector_that_is_there(
    connection: Connection, accepted: Accepted
) -> None:
    address = await nowhere()
    async with Inbox() as second:
        destinations = [f"{address};transport=tcp", second.hep_id]
        async with Pipeline(destinations, distribution="failover", sending=HURRY) as trace:
            await connected(trace, False, True)
            publish(trace, connection, accepted)
            await second.until(1)


async def test_a_spool_keeps_what_is_left_for_the_next_pipeline(
    connection: Connection, accepted: Accepted, tmp_path: Path
) -> None:
    address = await nowhere()
    destination = f"{address};transport=tcp"
    trace = Pipeline(destination, spool=tmp_path, sending=HURRY)
    trace.start()
    publish(trace, connection, accepted, times=30)
    await trace.aclose(0)
    assert os.listdir(tmp_path) == [f"{address.replace(':', '_')}_tcp"]
    async with Inbox(address) as back, Pipeline(destination, spool=str(tmp_path)):
        await back.until(30)
    assert len(back) == 30


@pytest.mark.parametrize("repeats", [1, 2])
async def test_a_spool_that_cannot_be_used_leaves_nothing(tmp_path: Path, repeats: int) -> None:
    ip, _, port = (await nowhere()).partition(":")
    # Of two senders the second cannot have its directory.
    (tmp_path / f"{ip}_{port}_tcp").touch()
    before = asyncio.all_tasks()
    trace = Pipeline([TO_NOWHERE, f"{ip}:{port};transport=tcp"], spool=tmp_path)
    for _ in range(repeats):
        with pytest.raises(ConfigurationError, match=r"^spool "):
            trace.start()
        assert (trace.sender, trace.tracer, trace.senders) == (None, None, ())
    await trace.aclose()
    with pytest.raises(ConfigurationError, match=r"spool .* cannot be used"):
        await trace.__aenter__()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("destinations", "problem"),
    [
        ([], "trace_destination is empty"),
        (["a:9060", "b:9060", "a:9060"], "one of them is there twice"),
        (["a;version=3", "b;version=2"], "different versions of HEP"),
    ],
)
def test_collectors_that_are_no_group_are_refused(destinations: list[str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Pipeline(destinations)
