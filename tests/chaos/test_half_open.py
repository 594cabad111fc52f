"""Hundreds of peers that begin and never end: what they hold is free while they still wait."""

import asyncio
import gc
import os
import socket
import tracemalloc
from contextlib import ExitStack

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application

PEERS = 400
GROWTH = 200_000
"""Bytes that may be left: caches and counters, however many floods there are."""

BEGINNINGS = (
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PUT no HTTP at all",
)


async def flood(application: Application) -> None:
    """Have peers begin, wait until the server is rid of all of them, and only then let go."""
    loop, port = asyncio.get_running_loop(), application.server.listeners[0].port
    with ExitStack() as stack:
        for number in range(PEERS):
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)
            await loop.sock_connect(peer, ("127.0.0.1", port))
            await loop.sock_sendall(peer, BEGINNINGS[number % len(BEGINNINGS)])
        async with asyncio.timeout(20):
            while application.server.admission.connections:  # noqa: ASYNC110 - has no event
                await asyncio.sleep(0.01)
        assert len(application.server.flows) == 0
        # Its ends are closed, the peers' are not.
        held = len(os.listdir("/proc/self/fd"))
    assert held < 2 * PEERS


async def test_half_open_peers_leave_nothing_behind() -> None:
    table = {"transport": {"listen": "ws:127.0.0.1:0", "ws_handshake_timeout": 300}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        await flood(application)
        gc.collect()
        descriptors = len(os.listdir("/proc/self/fd"))
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await flood(application)
            await flood(application)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < GROWTH
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
        # Each was told why, and traced as what it is.
        assert application.counts.handshakes.total() == 3 * PEERS
        assert not application.counts.probes
