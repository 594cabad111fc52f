"""Collectors that die, hang or are not there, while SIP goes on."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

import hep
from sipws.app import Application
from sipws.config import Config
from sipws.plan import Plan

Run = Callable[..., Awaitable[Application]]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def options(number: int) -> str:
    return (
        "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
        "From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\n"
        f"Call-ID: {number:06}\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """The application, tracing SIP alone to a port: ``await run(port, hep_queue_packets=10)``."""
    async with AsyncExitStack() as stack:

        async def start(port: int, transport: str = "tcp", **settings: Any) -> Application:
            table = {
                "transport": {"listen": "ws:127.0.0.1:0"},
                "hep": {"hep_retry_first": 10, "hep_retry_longest": 50, **settings},
                "tracing": {
                    "trace_on": True,
                    "trace_destination": f"127.0.0.1:{port};transport={transport}",
                    "trace_sip": True,
                    "trace_events": False,
                },
            }
            application = Application(Plan.of(Config.of(table, "test")))
            return await stack.enter_async_context(application)

        yield start


class Phone:
    """Asks for options, again and again, and counts the answers."""

    def __init__(self, application: Application) -> None:
        self.asked = self.answered = 0
        self._url = f"ws://127.0.0.1:{application.server.listeners[0].port}/"
        self._ledger = application.trace_points.senders[0].counters

    async def ask(self, count: int) -> None:
        """Ask so often, and wait for every answer; the ledger is right all along."""
        async with connect(self._url, subprotocols=[Subprotocol("sip")]) as client:
            for _ in range(count):
                await client.send(options(self.asked))
                self.asked += 1
                async with asyncio.timeout(10):
                    await client.recv()
                self.answered += 1
                self.check()

    def check(self) -> None:
        ledger = self._ledger
        assert ledger.offered == ledger.sent + ledger.dropped.total() + ledger.queued


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


class Listener:
    """``hep listen`` as a process that can be killed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: list[int] = []

    async def __aenter__(self) -> "Listener":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hep.cli", "listen", "--tcp", f"127.0.0.1:{self.port}", "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stderr is not None
        await self._process.stderr.readline()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._reading
        await self._process.communicate()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with suppress(ValueError):  # it may die in the middle of a line
                self.calls.append(int(json.loads(line)["correlation_id"]))


async def test_a_collector_that_is_killed_and_started_again_misses_what_the_system_had(
    run: Run,
) -> None:
    port = free_port()
    async with Listener(port) as first:
        application = await run(port)
        [sender] = application.trace_points.senders
        phone = Phone(application)
        await phone.ask(300)
        await until(lambda: first.calls)
    await until(lambda: not sender.connected)
    # All of this waits for the next one: request and answer of each.
    await phone.ask(300)
    assert sender.counters.queued == 600
    async with Listener(port) as second:
        await phone.ask(300)
        await until(lambda: len(second.calls) >= 1200)
    assert phone.answered == 900
    assert first.calls == sorted(first.calls)
    # In order, nothing twice and nothing missing, from the first that the first one did not get.
    assert second.calls == [call for call in range(300, 900) for _ in range(2)]
    assert sender.counters.dropped.total() == 0
    assert sender.counters.sent == sender.counters.offered == 1800


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_no_collector_at_all_holds_nobody_up(run: Run, transport: str) -> None:
    application = await run(free_port(), transport, hep_queue_packets=50)
    phone = Phone(application)
    await phone.ask(500)
    assert phone.answered == 500
    [sender] = application.trace_points.senders
    assert sender.counters.in_memory <= 50
    await until(lambda: sender.counters.dropped.total() > 0)


async def test_a_collector_that_never_reads_holds_nobody_up(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        black_hole.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        application = await run(black_hole.getsockname()[1], hep_queue_packets=50)
        [sender] = application.trace_points.senders
        await until(lambda: sender.connected)
        sender_socket = sender._link._transport.get_extra_info("socket")  # type: ignore[union-attr]
        sender_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        phone = Phone(application)
        async with asyncio.timeout(60):
            while not sender.counters.dropped:
                await phone.ask(200)
        assert phone.answered == phone.asked
        assert sender.counters.in_memory <= 50
        # It is gone at the end: what it did not take is dropped, within the deadline.
    phone.check()


async def test_a_name_that_does_not_resolve_holds_nobody_up(run: Run) -> None:
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "tracing": {
            "trace_on": True,
            "trace_destination": "collector.invalid:9060",
            "trace_sip": True,
        },
    }
    async with Application(Plan.of(Config.of(table, "test"))) as application:
        phone = Phone(application)
        await phone.ask(50)
        assert phone.answered == 50
        phone.check()


class Wire:
    """A TCP proxy in front of a collector: it can be cut, and it can be slow."""

    def __init__(self, collector: tuple[str, int]) -> None:
        self._collector = collector
        self._open = asyncio.Event()
        self._open.set()
        self._writers: list[asyncio.StreamWriter] = []
        self.bytes_a_turn = 65536

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.drop()
        self._open.set()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._open.clear()

    def mend(self) -> None:
        """What waited passes."""
        self._open.set()

    def drop(self) -> None:
        """The connections end."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        _, onward = await asyncio.open_connection(*self._collector)
        self._writers.append(onward)
        with suppress(OSError):
            while data := await reader.read(self.bytes_a_turn):
                await self._open.wait()
                onward.write(data)
                await onward.drain()
        onward.transport.abort()


async def test_a_network_that_is_cut_for_a_while_costs_nothing(run: Run) -> None:
    calls: list[int] = []
    collector = hep.Collector(
        lambda packet, _: calls.append(int(packet.correlation_id or b"0")), tcp="127.0.0.1:0"
    )
    async with collector, Wire(collector.tcp_address) as wire:
        application = await run(wire.port)
        phone = Phone(application)
        await phone.ask(50)
        wire.cut()
        await phone.ask(200)
        wire.mend()
        await phone.ask(50)
        await until(lambda: len(calls) == 600)
    assert phone.answered == 300
    assert calls == [call for call in range(300) for _ in range(2)]


async def test_a_connection_that_breaks_again_and_again_keeps_the_order(run: Run) -> None:
    calls: list[int] = []
    collector = hep.Collector(
        lambda packet, _: calls.append(int(packet.correlation_id or b"0")), tcp="127.0.0.1:0"
    )
    async with collector, Wire(collector.tcp_address) as wire:
        application = await run(wire.port)
        [sender] = application.trace_points.senders
        phone = Phone(application)
        for _ in range(5):
            await phone.ask(40)
            wire.drop()
            await until(lambda: not sender.connected or sender.failures)
        await phone.ask(40)
        await until(lambda: calls and calls[-1] == 239)
    assert phone.answered == 240
    # What was on the wire is lost, as HEP has no acknowledgement; nothing comes out of order.
    assert calls == sorted(calls)
    phone.check()


async def test_a_slow_collector_gets_the_latest_and_holds_nobody_up(run: Run) -> None:
    calls: list[int] = []
    collector = hep.Collector(
        lambda packet, _: calls.append(int(packet.correlation_id or b"0")), tcp="127.0.0.1:0"
    )
    async with collector, Wire(collector.tcp_address) as wire:
        wire.bytes_a_turn = 256
        application = await run(wire.port, hep_queue_packets=20)
        [sender] = application.trace_points.senders
        phone = Phone(application)
        await phone.ask(500)
        assert phone.answered == 500
        assert sender.counters.in_memory <= 20
        await until(lambda: calls and calls[-1] == 499)
    assert calls == sorted(calls)
    phone.check()
