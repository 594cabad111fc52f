"""Metrics and health over HTTP, of a whole application."""

import asyncio
import socket
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws.address import Address
from sipws.bus import MAX_FAILURES_IN_A_ROW
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.errors import TraceError
from sipws.events import Accepted, Connection, ConnectionOpened
from sipws.metrics.prometheus_text import CONTENT_TYPE
from sipws.service.app import Application
from sipws.service.commands import methods_of

SIP = [Subprotocol("sip")]
PAGE = Origin("https://phone.example.com")
OPTIONS = (
    "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid\r\nFrom: <sip:a@b>;tag=1\r\n"
    "To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
)


def application(token: str | None = None, **sections: Any) -> Application:
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "control": {"listen": "127.0.0.1:0", "token": token},
        **sections,
    }
    return Application(ResolvedConfig.of(Config.of(table, "test")))


async def get(
    running: Application, path: str, *headers: str, method: str = "GET"
) -> tuple[int, dict[str, str], str]:
    assert running.control is not None
    reader, writer = await asyncio.open_connection(*running.control.address)
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    status, *fields = head.split("\r\n")
    found = dict(field.lower().split(": ", 1) for field in fields)
    return int(status.split()[1]), found, body


async def metrics(running: Application) -> dict[tuple[str, ...], float]:
    status, headers, body = await get(running, "/metrics")
    assert status == 200
    assert headers["content-type"] == CONTENT_TYPE
    return samples(body)


def samples(body: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(body)
        for sample in family.samples
    }


async def test_traffic_is_counted_while_it_flows_and_stays_when_it_ends() -> None:
    async with application() as running:
        listener = str(running.server.listeners[0])
        url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
        async with connect(url, subprotocols=SIP, origin=PAGE) as client:
            await client.send(OPTIONS)
            await client.recv()
            during = await metrics(running)
        await running.server.flows.wait_empty()
        after = await metrics(running)
    assert during["sipws_connections", listener, "open", "client"] == 1
    assert after["sipws_connections", listener, "open", "client"] == 0
    assert after["sipws_handshakes_total", "peer", "accepted", "client"] == 1
    assert after["sipws_connection_closes_total", "1000", "peer", "client"] == 1
    for found in (during, after):
        assert found["sipws_messages_total", "in", "client"] == 1
        assert found["sipws_messages_total", "out", "client"] == 1
    assert during["sipws_bytes_total", "in", "client"] > len(OPTIONS)
    for name in during:
        if name[0].endswith("_total"):
            assert after[name] >= during[name], name


async def test_a_program_without_an_upstream_has_one_leg() -> None:
    async with application() as running:
        url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
        async with connect(url, subprotocols=SIP, origin=PAGE) as client:
            await client.send(OPTIONS)
            await client.recv()
            found = await metrics(running)
    assert not [key for key in found if "upstream" in key]
    assert found["sipws_sip_requests_total", "OPTIONS", "client"] == 1
    assert found["sipws_sip_requests_total", "INVITE", "client"] == 0


async def test_sip_is_not_counted_where_nothing_reads_it() -> None:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}}
    assert not Application(ResolvedConfig.of(Config.of(table, "test"))).sip_counts


async def test_refusals_are_counted_by_kind() -> None:
    async with application() as running:
        port = running.server.listeners[0].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.read()
        writer.close()
        await running.server.flows.wait_empty()
        assert (await metrics(running))[
            "sipws_handshakes_total", "peer", "no-upgrade", "client"
        ] == 1


async def test_hep_is_counted_by_destination_and_cause() -> None:
    tracing = {
        "hep": {"hep_id": "[homer]127.0.0.1:1;transport=tcp"},
        "tracing": {"trace_destination": "homer", "trace_on": True},
    }
    async with application(**tracing) as running:
        port = running.server.listeners[0].port
        async with connect(f"ws://127.0.0.1:{port}/", subprotocols=SIP, origin=PAGE):
            pass
        await running.server.flows.wait_empty()
        running.traces.bus.flush()
        [sender] = running.traces.senders
        sender.counters.drop_all("example")
        found = await metrics(running)
        to = str(sender.destination)
    assert found["sipws_tracing_enabled",] == 1
    assert found["sipws_trace_decisions_total", "homer", "traced"] == 1
    assert found["sipws_trace_packets_total", "homer"] == 2
    assert found["sipws_hep_dropped_packets_total", "homer", to, "example"] == 2
    assert found["sipws_hep_queued_packets", "homer", to] == 0
    assert found["sipws_hep_connected", "homer", to] == 0


async def test_no_series_is_there_twice_however_often_a_destination_is() -> None:
    tracing = {
        "hep": {"hep_id": "[homer]127.0.0.1:1;transport=tcp"},
        "tracing": {
            "trace_destination": "homer",
            "trace_on": True,
            "also": [{"trace_destination": "homer"}, {"trace_destination": "127.0.0.1:1"}],
        },
    }
    async with application(**tracing) as running:
        for trace in ("one", "two"):
            running.start_trace(trace, "hep:127.0.0.1:1;transport=tcp", [])
        with pytest.raises(TraceError, match="'homer' is taken; the configuration has it"):
            running.start_trace("homer", "hep:127.0.0.1:1;transport=tcp", [])
        _, _, body = await get(running, "/metrics")
        ids = [trace.name for trace in running.traces.all]
    assert ids == ["homer", "homer-1", "2", "one", "two"]
    series = [
        (sample.name, *sorted(sample.labels.items()))
        for family in parse(body)
        for sample in family.samples
    ]
    assert len(series) == len(set(series))
    names = [family.name for family in parse(body)]
    assert len(names) == len(set(names))


async def test_the_ledger_is_the_same_wherever_it_is_read() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        # It is taken, and closed before anything is sent to it.
        nobody.bind(("127.0.0.1", 0))
        to = "{}:{};transport=udp".format(*nobody.getsockname())
    tracing = {"tracing": {"trace_destination": to, "trace_on": True, "trace_sip": True}}
    async with application(**tracing) as running:
        url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
        async with connect(url, subprotocols=SIP, origin=PAGE) as client:
            for _ in range(20):
                await client.send(OPTIONS)
                await client.recv()
        await running.server.flows.wait_empty()
        [sender] = running.traces.senders
        async with asyncio.timeout(10):
            while not sender.counters.bounced or sender.counters.queued:
                running.traces.bus.flush()
                await asyncio.sleep(0.005)
        assert running.control is not None
        mi = methods_of(running)
        [listed] = mi["trace_list"]()["Traces"]
        statistics = mi["get_statistics"](["hep:"])
        found = samples(running.control.pages["/metrics"].read()[1])
    told = {
        name: sum(
            value
            for (series, *_), value in found.items()
            if series in (f"sipws_hep_{name}_packets_total", f"sipws_hep_{name}_packets")
        )
        for name in ("offered", "sent", "bounced", "dropped", "queued")
    }
    assert told["bounced"] > 0
    # Two packets a message, one for each end of the connection and one for the call.
    assert told["offered"] == told["sent"] + told["dropped"] + told["queued"] == 43
    assert {name: statistics[f"hep:{name}"] for name in told} == told
    assert {name: listed[name.capitalize()] for name in told} == told


async def test_the_process_is_described_under_the_usual_names() -> None:
    async with application() as running:
        found = await metrics(running)
        started = running.started
    assert found["process_start_time_seconds",] == pytest.approx(started)
    for name in ("cpu_seconds_total", "max_fds", "open_fds", "resident_memory_bytes"):
        assert found[f"process_{name}",] > 0
    [build] = [name for name in found if name[0] == "sipws_build_info"]
    assert build[3] in ("asyncio", "uvloop")


async def test_names_follow_the_conventions() -> None:
    async with application() as running:
        _, _, body = await get(running, "/metrics")
    for family in parse(body):
        assert family.documentation.endswith(".")
        for sample in family.samples:
            counts = sample.name.endswith(("_total", "_bucket", "_count", "_sum"))
            assert counts == (family.type in ("counter", "histogram")), sample.name


async def test_health_tells_live_from_ready() -> None:
    running = application()
    assert running.unready == "starting"
    async with running:
        assert (await get(running, "/healthz"))[::2] == (200, "ok\n")
        assert (await get(running, "/readyz"))[::2] == (200, "ready\n")
        port = running.server.listeners[0].port
        # A peer that does not answer the close frame holds up the end.
        async with connect(f"ws://127.0.0.1:{port}/", subprotocols=SIP, origin=PAGE) as client:
            client.transport.pause_reading()
            ending = asyncio.ensure_future(running.__aexit__())
            await asyncio.sleep(0)
            assert (await get(running, "/readyz"))[::2] == (503, "stopping\n")
            assert (await get(running, "/healthz"))[0] == 200
            client.transport.resume_reading()
            await ending


async def test_a_tracer_that_only_raises_is_shown_while_it_is_suspended() -> None:
    running = application(
        hep={"hep_id": "[homer]127.0.0.1:9;transport=udp"},
        tracing={"trace_destination": "homer", "trace_on": True},
    )
    async with running:
        [trace] = running.traces.configured
        trace.tracer._writer = None  # type: ignore[assignment]  # a mistake of ours
        assert (await metrics(running))["sipws_tracing_enabled",] == 1
        hook = running.traces.bus.accepted
        connection = Connection(
            1, running.server.listeners[0], Address("127.0.0.1", 1), Address("127.0.0.1", 2), 0.0
        )
        running.bus.publish(ConnectionOpened(connection, 0.0))
        for _ in range(MAX_FAILURES_IN_A_ROW):
            running.bus.publish(Accepted(connection, 0.0, b"", b""))
        found = await metrics(running)
        assert hook.failed == MAX_FAILURES_IN_A_ROW
        assert found["sipws_tracing_enabled",] == 0
        assert found["sipws_subscribers_suspended",] == 1
        # Phones are served all the same.
        assert (await get(running, "/readyz"))[::2] == (
            200,
            "ready\ntrace homer gets no Accepted for a while: its tracer only raised\n",
        )


async def test_metrics_want_the_token_and_health_does_not() -> None:
    async with application(token="s3cr3t") as running:
        assert (await get(running, "/metrics"))[0] == 401
        assert (await get(running, "/metrics", "Authorization: Bearer s3cr3t"))[0] == 200
        assert (await get(running, "/healthz"))[0] == 200
        assert (await get(running, "/readyz"))[0] == 200


async def test_a_page_is_looked_at_and_nothing_else() -> None:
    async with application() as running:
        status, headers, body = await get(running, "/metrics", method="HEAD")
        assert (status, body) == (200, "")
        assert int(headers["content-length"]) > 0
        status, headers, _ = await get(running, "/metrics", method="POST")
        assert (status, headers["allow"]) == (405, "get, head")
        assert (await get(running, "/metric"))[0] == 404
        assert (await get(running, "/metrics?name=x"))[0] == 200
