"""Thousands of connections that come and go, traced, and what is left of them."""

import asyncio
import gc
import os
import resource
import tracemalloc

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application

CONNECTIONS = int(os.environ.get("SIPWS_CONNECTIONS", "2000"))
"""How many; ``make soak`` has 50,000 of them."""

AT_ONCE = 50
GROWTH = 300_000
"""Bytes that may be left: caches and counters, and far less than a byte for each that came."""

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
GOOD = REQUEST + b"Sec-WebSocket-Protocol: sip\r\n\r\n"
BAD = REQUEST + b"\r\n"
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"


async def come_and_go(port: int, number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(BAD if number % 5 == 0 else GOOD)
    await reader.readuntil(b"\r\n\r\n")
    if number % 3 == 0:
        writer.transport.abort()
    else:
        writer.write(CLOSE)
        await reader.read()
        writer.close()


async def some(port: int, count: int) -> None:
    waiting = iter(range(count))

    async def work() -> None:
        for number in waiting:
            await come_and_go(port, number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def test_memory_and_descriptors_are_flat() -> None:
    received = 0

    def take(packet: hep.Packet, source: hep.Source) -> None:
        nonlocal received
        received += 1

    async with hep.Collector(take, tcp="127.0.0.1:0") as collector:
        ip, port = collector.tcp_address
        table = {
            "transport": {"listen": "ws:127.0.0.1:0"},
            "tracing": {"trace_on": True, "trace_destination": f"{ip}:{port}", "trace_sip": True},
        }
        async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
            listener = application.server.listeners[0].port
            await some(listener, 500)
            await application.server.flows.wait_empty()
            gc.collect()
            descriptors = len(os.listdir("/proc/self/fd"))
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                await some(listener, CONNECTIONS)
                await application.server.flows.wait_empty()
                application.traces.bus.flush()
                [sender] = application.traces.senders
                async with asyncio.timeout(60):
                    while sender.counters.queued:  # noqa: ASYNC110 - has no event
                        await asyncio.sleep(0.01)
                gc.collect()
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert after - before < GROWTH
            # The event loop keeps one or two for itself.
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
            assert len(application.server.flows) == 0
            assert application.tracer is not None
            assert not application.tracer._traces
        counters = sender.counters
    assert counters.offered == counters.sent
    # At least the start and the end of each.
    assert received >= 2 * CONNECTIONS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_000_000
