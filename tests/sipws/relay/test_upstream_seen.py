"""Both connections of a relayed client, as an operator sees them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from sipws import Server
from sipws.cli.main import main
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.events import Side
from sipws.service.app import Application
from sipws.service.statistics import families, statistics

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
    assert running.counts.closes == {("4xxx", "local"): 2}


async def test_both_are_counted_apart(running: Application, phone: ClientConnection) -> None:
    samples = {
        (family.name, *labels.values()): number
        for family in families(running)
        if "connections" in family.name or "upstream" in family.name
        for labels, number in family.samples
    }
    listener = str(running.server.listeners[0])
    assert samples["sipws_connections", listener, "open"] == 1
    assert samples["sipws_upstream_connections", "open"] == 1
    assert samples["sipws_upstream_up",] == 1
    counted = statistics(running)
    assert (counted["ws:connections"], counted["ws:upstream_connections"]) == (1, 1)
    assert (counted["ws:accepted"], counted["ws:connected"]) == (1, 1)
    assert (counted["ws:messages_in"], counted["ws:messages_out"]) == (2, 2)
