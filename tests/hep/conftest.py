"""Packets recorded from others, and collectors on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

import hep


@pytest.fixture
def packet() -> hep.Packet:
    return hep.Packet(
        src_ip="192.0.2.5",
        src_port=50123,
        dst_ip="192.0.2.1",
        dst_port=8080,
        seconds=1_700_000_000,
        microseconds=123_456,
        capture_id=2001,
        payload=b"OPTIONS sip:example.com SIP/2.0\r\nCall-ID: call-1\r\n\r\n",
        correlation_id=b"call-1",
    )


class Inbox:
    """What a collector has received."""

    def __init__(self) -> None:
        self.packets: list[hep.Packet] = []
        self.sources: list[hep.Source] = []
        self.arrived = asyncio.Event()

    def __call__(self, packet: hep.Packet, source: hep.Source) -> None:
        self.packets.append(packet)
        self.sources.append(source)
        self.arrived.set()

    async def wait_for(self, count: int) -> list[hep.Packet]:
        """Wait until so many packets have come in all."""
        async with asyncio.timeout(5):
            while len(self.packets) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.packets


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def collect(inbox: Inbox) -> AsyncIterator[Callable[..., Awaitable[hep.Collector]]]:
    """Start collectors that fill the inbox: ``await collect(udp="127.0.0.1:0")``."""
    async with AsyncExitStack() as stack:

        async def start(**where: Any) -> hep.Collector:
            return await stack.enter_async_context(hep.Collector(inbox, **where))

        yield start


@pytest.fixture
def numbered(packet: hep.Packet) -> Callable[..., list[bytes]]:
    """Encoded packets whose payloads count: ``numbered(10, start=5)``."""

    def encoded(count: int, start: int = 0) -> list[bytes]:
        return [hep.encode(replace(packet, payload=b"%d" % n)) for n in range(start, start + count)]

    return encoded


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Let the event loop run until something is so: ``await until(lambda: inbox.packets)``."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def deaf() -> Any:
    """A listening TCP socket that the test serves by hand: ``await loop.sock_accept(deaf)``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
