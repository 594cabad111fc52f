"""A phone whose network goes away without a word, and which comes back on another connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application

pytestmark = pytest.mark.e2e

PING_TIMEOUT_MS = 500
"""Milliseconds: how long the test waits for a phone that cannot answer."""


class Network:
    """Carries bytes to a server; whoever hangs up on it is never heard of again."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        # The event loop itself holds no task that only waits.
        self._carrying: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def aclose(self) -> None:
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection; its end is not passed on to the server."""
        to_phone, to_server = await asyncio.open_connection(*self._server)
        back = asyncio.create_task(self._copy(to_phone, writer))
        try:
            await self._copy(reader, to_server)
            await back
        finally:
            back.cancel()
            writer.close()
            to_server.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)


@pytest.fixture
async def application(collected: Any) -> AsyncIterator[Application]:
    """The application, traced to the collector."""
    ip, port = collected.collector.tcp_address
    table = {
        "transport": {"listen": "ws:127.0.0.1:0", "ws_ping_timeout": PING_TIMEOUT_MS},
        "tracing": {"trace_on": True, "trace_destination": f"{ip}:{port}"},
    }
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as started:
        yield started


@pytest.fixture
async def url(application: Application) -> AsyncIterator[str]:
    """Where phones find it through a network that loses what ends."""
    network = Network(("127.0.0.1", application.server.listeners[0].port))
    server = await asyncio.start_server(network.accept, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await network.aclose()


def told(packet: hep.Packet) -> dict[str, str]:
    if packet.protocol_type != hep.ProtocolType.NET:
        return {}
    return json.loads(packet.payload)


async def test_a_browser_lost_without_a_word_is_superseded_and_dropped(
    open_page, url, collected
) -> None:
    await open_page(url, "jssip", "kill")
    lost = await collected.wait_for(lambda packet: told(packet).get("Event") == "ACCEPTED")
    # The network says nothing of the browser's end: the next one registers beside it.
    assert "CLOSED" not in {told(packet).get("Event") for packet in collected.packets}
    await open_page(url, "jssip", "leave")

    superseded = await collected.wait_for(lambda packet: told(packet).get("Event") == "SUPERSEDED")
    assert superseded.correlation_id == lost.correlation_id
    assert "f81d4fae-7dec-41d0-a765-00a0c91e6bf6" in told(superseded)["Instance"]
    dropped = await collected.wait_for(
        lambda packet: (
            told(packet).get("Event") == "CLOSED" and packet.correlation_id == lost.correlation_id
        )
    )
    assert told(dropped)["Close_Code"] == "1006"
    failure = await collected.wait_for(lambda packet: told(packet).get("Error") == "ping-timeout")
    assert failure.correlation_id == lost.correlation_id
