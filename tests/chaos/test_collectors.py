"""Collectors that die, hang or are not there, while SIP goes on."""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application
from sipws.service.trace_commands import trace_commands

Run = Callable[..., Awaitable[Application]]
MakePhone = Callable[[Application], Any]
Until = Callable[[Callable[[], object]], Awaitable[None]]


async def test_a_collector_that_is_killed_and_started_again_misses_what_the_system_had(
    run: Run, phone: MakePhone, listener: Any, until: Until, free_port: int
) -> None:
    address = f"127.0.0.1:{free_port}"
    async with listener(address) as first:
        application = await run(free_port)
        [sender] = application.traces.senders
        caller = phone(application)
        await caller.ask(300)
        await until(lambda: first.calls and not sender.counters.queued)
    await until(lambda: not sender.connected)
    # All of this waits for the next one: request and answer of each.
    await caller.ask(300)
    assert sender.counters.queued == 600
    async with listener(address) as second:
        await caller.ask(300)
        await until(lambda: len(second.calls) >= 1200)
    assert caller.answered == 900
    assert first.calls == sorted(first.calls)
    # In order, nothing twice and nothing missing, from the first that the first one did not get.
    assert second.calls == [call for call in range(300, 900) for _ in range(2)]
    assert sender.counters.dropped.total() == 0
    assert sender.counters.sent == sender.counters.offered == 1800


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_no_collector_at_all_holds_nobody_up(
    run: Run, phone: MakePhone, until: Until, free_port: int, transport: str
) -> None:
    application = await run(free_port, transport, hep_queue_packets=50)
    caller = phone(application)
    await caller.ask(500)
    assert caller.answered == 500
    [sender] = application.traces.senders
    assert sender.counters.in_memory <= 50
    await until(lambda: sender.counters.dropped.total() > 0)


async def test_a_collector_that_never_reads_holds_nobody_up(
    run: Run, phone: MakePhone, until: Until
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        black_hole.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        application = await run(black_hole.getsockname()[1], hep_queue_packets=50)
        [sender] = application.traces.senders
        await until(lambda: sender.connected)
        sender_socket = sender._link._transport.get_extra_info("socket")  # type: ignore[union-attr]
        sender_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        caller = phone(application)
        async with asyncio.timeout(60):
            while not sender.counters.dropped:
                await caller.ask(200)
        assert caller.answered == caller.asked
        assert sender.counters.in_memory <= 50
        # It is gone at the end: what it did not take is dropped, within the deadline.
    caller.check()


async def test_a_name_that_does_not_resolve_holds_nobody_up(
    run: Run, phone: MakePhone, until: Until
) -> None:
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "tracing": {
            "trace_on": True,
            "trace_destination": "collector.invalid:9060",
            "trace_sip": True,
        },
    }
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        caller = phone(application)
        await caller.ask(50)
        assert caller.answered == 50
        caller.check()


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


async def test_a_network_that_is_cut_for_a_while_costs_nothing(
    run: Run, phone: MakePhone, until: Until
) -> None:
    calls: list[int] = []
    collector = hep.Collector(
        lambda packet, _: calls.append(int(packet.correlation_id or b"0")), tcp="127.0.0.1:0"
    )
    async with collector, Wire(collector.tcp_address) as wire:
        application = await run(wire.port)
        caller = phone(application)
        await caller.ask(50)
        wire.cut()
        await caller.ask(200)
        wire.mend()
        await caller.ask(50)
        await until(lambda: len(calls) == 600)
    assert caller.answered == 300
    assert calls == [call for call in range(300) for _ in range(2)]


async def test_a_connection_that_breaks_again_and_again_keeps_the_order(
    run: Run, phone: MakePhone, until: Until
) -> None:
    calls: list[int] = []
    collector = hep.Collector(
        lambda packet, _: calls.append(int(packet.correlation_id or b"0")), tcp="127.0.0.1:0"
    )
    async with collector, Wire(collector.tcp_address) as wire:
        application = await run(wire.port)
        [sender] = application.traces.senders
        caller = phone(application)
        for _ in range(5):
            await caller.ask(40)
            wire.drop()
            await until(lambda: not sender.connected or sender.failures)
        await caller.ask(40)
        await until(lambda: calls and calls[-1] == 239)
    assert caller.answered == 240
    # What was on the wire is lost, as HEP has no acknowledgement; nothing comes out of order.
    assert calls == sorted(calls)
    caller.check()


async def test_a_slow_collector_gets_the_latest_and_holds_nobody_up(
    run: Run, phone: MakePhone, until: Until
) -> None:
    calls: list[int] = []
    collector = hep.Collector(
        lambda packet, _: calls.append(int(packet.correlation_id or b"0")), tcp="127.0.0.1:0"
    )
    async with collector, Wire(collector.tcp_address) as wire:
        wire.bytes_a_turn = 256
        application = await run(wire.port, hep_queue_packets=20)
        [sender] = application.traces.senders
        caller = phone(application)
        await caller.ask(500)
        assert caller.answered == 500
        assert sender.counters.in_memory <= 20
        await until(lambda: calls and calls[-1] == 499)
    assert calls == sorted(calls)
    caller.check()


async def test_fifty_that_flood_do_not_crowd_out_the_packets_of_others(
    run: Run, phone: MakePhone, listener: Any, until: Until, free_port: int
) -> None:
    application = await run(free_port, hep_queue_packets=400)
    [sender] = application.traces.senders
    quiet, flooding = phone(application), [phone(application) for _ in range(50)]
    for number, each in enumerate(flooding, 1):
        each.asked = number * 1000
    await quiet.ask(2)
    await asyncio.gather(*(each.ask(20) for each in flooding))
    await quiet.ask(1)
    assert sender.counters.dropped["queue-full"] >= 1600
    [listed] = trace_commands(application)["trace_list"]()["Traces"]
    assert len(listed["Crowded out"]) == 10
    async with listener(f"127.0.0.1:{free_port}") as collector:
        await until(lambda: collector.lost)
        await until(lambda: not sender.counters.queued)
        mine = [call for call in collector.calls if call < 1000]
    # Request and answer of each; the others have a share each, and no more.
    assert mine == [0, 0, 1, 1, 2, 2]
    shares = Counter(call // 1000 for call in collector.calls)
    assert len(shares) == 51
    assert max(shares.values()) <= 400 // 50
    assert "most of 127.0.0.1:" in collector.lost[0]
