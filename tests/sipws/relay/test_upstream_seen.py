"""Both connections of a relayed client, as an operator sees them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from sipws import Server
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.events import Side
from sipws.service.app import Application
from sipws.service.statistics import families, statistics
from sipws.transport.flow import Flow

PAGE = Origin("https://phone.example.com")


@pytest.fixture
async def running() -> AsyncIterator[Application]:
    async with Server(["ws:127.0.0.1:0"], lambda flow, message: flow.send(message)) as behind:
        table = {
            "transport": {"listen": "ws:127.0.0.1:0"},
            "control": {"listen": "127.0.0.1:0"},
            "upstream": {"upstream_uri": f"ws://127.0.0.1:{behind.listeners[0].port}/sip"},
        }
        async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
            yield application


@pytest.fixture
async def phone(running: Application) -> AsyncIterator[ClientConnection]:
    port = running.server.listeners[0].port
    async with connect(
        f"ws://127.0.0.1:{port}/", subprotocols=[Subprotocol("sip")], origin=PAGE
    ) as client:
        await client.send("x")
        assert await client.recv() == "x"
        yield client


async def ctl(running: Application, *words: str) -> int:
    assert running.control is not None
    url = f"http://{running.control.address}/mi"
    return await asyncio.to_thread(main, ["ctl", "--url", url, *words])


async def test_ctl_lists_both_connections_and_which_belong_together(
    running: Application, phone: ClientConnection, capsys: Any
) -> None:
    assert await ctl(running, "connections") == 0
    _, client, ours = capsys.readouterr().out.splitlines()
    assert running.relay is not None
    assert f"  {running.server.listeners[0]}  " in client
    assert f"  to {running.relay.upstream.shown}  " in ours
    assert await ctl(running, "connections", "--json") == 0
    client, ours = json.loads(capsys.readouterr().out)["Connections"]
    assert (client["Relayed with"], ours["Relayed with"]) == (ours["ID"], client["ID"])
    assert ours["Destination"] == running.relay.upstream.shown
    assert "Destination" not in client


@pytest.mark.parametrize("opened_by", list(Side))
async def test_either_is_closed_with_the_other(
    running: Application, phone: ClientConnection, opened_by: Side, capsys: Any
) -> None:
    [flow] = [flow for flow in running.server.flows if flow.connection.opened_by is opened_by]
    words = ("close", str(flow.connection.id), "--code", "4001", "--reason", "moved")
    assert await ctl(running, *words) == 0
    async with asyncio.timeout(10):
        await phone.wait_closed()
        await running.server.flows.wait_empty()
    assert (phone.close_code, phone.close_reason) == (4001, "moved")
    assert running.counts.closes == {
        ("4xxx", "local", "client"): 1,
        ("4xxx", "local", "upstream"): 1,
    }


async def test_both_are_counted_apart(running: Application, phone: ClientConnection) -> None:
    samples = {
        (family.name, *labels.values()): number
        for family in families(running)
        if "connections" in family.name or "upstream" in family.name
        for labels, number in family.samples
    }
    listener = str(running.server.listeners[0])
    assert samples["sipws_connections", listener, "open", "client"] == 1
    assert samples["sipws_upstream_connections", "open", "upstream"] == 1
    assert samples["sipws_upstream_up",] == 1
    counted = statistics(running)
    assert (counted["ws:connections"], counted["ws:upstream_connections"]) == (1, 1)
    assert (counted["ws:accepted"], counted["ws:connected"]) == (1, 1)
    assert (counted["ws:messages_in"], counted["ws:messages_out"]) == (2, 2)


REGISTER = (
    "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\r\n"
)


async def metrics(running: Application) -> dict[tuple[str, ...], float]:
    """The samples of the page, by name and by the values of their labels."""
    assert running.control is not None
    reader, writer = await asyncio.open_connection(*running.control.address)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    page = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.mark.parametrize("messages_told", [True, False])
async def test_metrics_name_the_leg(messages_told: bool) -> None:
    def refuse(flow: Flow, message: bytes) -> None:
        for line in (b"SIP/2.0 100 Trying", b"SIP/2.0 503 Service Unavailable"):
            flow.send(line + b"\r\nCall-ID: 1\r\n\r\n")

    async with Server(["ws:127.0.0.1:0"], refuse) as behind:
        upstream = {
            "upstream_uri": f"ws://127.0.0.1:{behind.listeners[0].port}/sip",
            "upstream_trace_sip": messages_told,
        }
        table = {
            "transport": {"listen": "ws:127.0.0.1:0"},
            "control": {"listen": "127.0.0.1:0"},
            "upstream": upstream,
        }
        async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
            url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
            async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as phone:
                await phone.send(REGISTER)
                await phone.recv()
                await phone.recv()
                # What is no SIP is a message, and no request.
                await phone.send("\r\n\r\n")
                await phone.recv()
                await phone.send("hello")
                await phone.recv()
                await phone.recv()
                during = await metrics(running)
            await running.server.flows.wait_empty()
            after = await metrics(running)
    for found in (during, after):
        assert found["sipws_handshakes_total", "peer", "accepted", "client"] == 1
        assert found["sipws_handshakes_total", "local", "accepted", "upstream"] == 1
        assert found["sipws_messages_total", "in", "client"] == 3
        assert found["sipws_messages_total", "out", "client"] == 5
        assert found["sipws_messages_total", "in", "upstream"] == 4
        assert found["sipws_messages_total", "out", "upstream"] == 2
        assert found["sipws_sip_requests_total", "REGISTER", "client"] == 1
        assert found["sipws_sip_requests_total", "REGISTER", "upstream"] == 0
        assert found["sipws_sip_responses_total", "100", "upstream"] == 2
        assert found["sipws_sip_responses_total", "503", "upstream"] == 2
        assert ("sipws_sip_responses_total", "503", "client") not in found
        sip = [key for key, count in found.items() if key[0].startswith("sipws_sip_") and count]
        assert len(sip) == 3
    assert after["sipws_connection_closes_total", "1000", "peer", "client"] == 1
    assert after["sipws_connection_closes_total", "1000", "local", "upstream"] == 1
    assert after["sipws_bytes_total", "in", "upstream"] > 0
    assert after["sipws_connection_duration_seconds_total",] > 0
