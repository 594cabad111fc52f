"""Compressed messages: what they may inflate to in a second, and what is left of a reset one."""

import asyncio
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sipws import Limits, Server
from sipws.events import Closed, Connection, ErrorOccurred, Event, MessageReceived
from sipws.limits import INFLATE_BURST
from sipws.transport.flow import Flow
from sipws.ws.inflate_limit import InflateLimit
from sipws.ws.server_session import ServerSession

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
OFFER = (
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover;"
    b" client_no_context_takeover; client_max_window_bits=12\r\n\r\n"
)
SIZE = 60_000
RATE = 10 * SIZE
"""Bytes a second: ten messages."""


def compressed(message: bytes) -> bytes:
    """A text in one compressed frame, with a mask of zeros."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -12)
    data = (deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    if len(data) < 126:
        return bytes((0xC1, 0x80 | len(data))) + bytes(4) + data
    return bytes((0xC1, 0xFE)) + len(data).to_bytes(2, "big") + bytes(4) + data


BOMB = compressed(b"A" * SIZE)
"""Some 80 bytes."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inflating(connection: Connection, upgrade: bytes, clock: Clock) -> ServerSession:
    """A session with compression, just open."""
    limits = Limits(max_chunks=0, inflate_rate=RATE)
    session = ServerSession(connection, limits, compression=True, monotonic=clock)
    session.receive(upgrade[:-2] + OFFER, 1000.0)
    writes, _ = session.take_writes()
    assert b"permessage-deflate" in b"".join(writes)
    return session


def messages(events: list[Event]) -> int:
    return sum(isinstance(event, MessageReceived) for event in events)


@pytest.mark.parametrize("frames", [1, 40], ids=["a frame a read", "all in one read"])
def test_as_much_as_the_rate_is_inflated_and_the_rest_later(
    inflating: ServerSession, clock: Clock, frames: int
) -> None:
    taken, reads = 0, 40 // frames
    began = clock.now
    for _ in range(reads):
        taken += messages(inflating.receive(BOMB * frames, 1000.0))
        while inflating.is_more:
            # What may come at once has come, and no message beyond it.
            allowed = RATE * (INFLATE_BURST + clock.now - began)
            assert taken * SIZE <= allowed + SIZE + 1
            clock.now += inflating.pause
            taken += messages(inflating.process_backlog(1000.0))
    assert taken == 40
    # 40 messages are four seconds' worth, of which one comes at once.
    assert clock.now - began == pytest.approx(3.0, abs=0.11)


def test_a_phone_is_never_paused(inflating: ServerSession, clock: Clock) -> None:
    register = compressed(b"REGISTER sip:example.com SIP/2.0\r\n" + b"X: y\r\n" * 200)
    for _ in range(300):
        inflating.receive(register, 1000.0)
        assert not inflating.pause
        clock.now += 0.1


def test_no_rate_pauses_nobody(connection: Connection, upgrade: bytes, clock: Clock) -> None:
    limits = Limits(max_chunks=0, inflate_rate=0)
    session = ServerSession(connection, limits, compression=True, monotonic=clock)
    session.receive(upgrade[:-2] + OFFER, 1000.0)
    taken = messages(session.receive(BOMB * 40, 1000.0))
    while session.is_more:
        assert not session.pause
        taken += messages(session.process_backlog(1000.0))
    assert taken == 40


async def opened(server: Server, upgrade: bytes) -> socket.socket:
    """A client whose handshake is done, with compression."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", server.listeners[0].port))
    await loop.sock_sendall(client, upgrade[:-2] + OFFER)
    async with asyncio.timeout(5):
        assert b"permessage-deflate" in await loop.sock_recv(client, 4096)
    return client


async def test_a_paused_connection_is_read_on(serve: Serve, upgrade: bytes) -> None:
    limits = Limits(max_chunks=0, inflate_rate=100 * SIZE)
    server, events = await serve(limits=limits, compression=True)
    with await opened(server, upgrade) as client:
        await asyncio.get_running_loop().sock_sendall(client, BOMB * 120)
        await events.wait_for(MessageReceived, 120)
    assert not events.of(ErrorOccurred)


async def test_what_is_left_of_a_reset_connection_is_dropped(serve: Serve, upgrade: bytes) -> None:
    handled = 0
    client = None

    def handle(flow: Flow, message: bytes) -> None:
        nonlocal handled
        handled += 1
        if handled == 1:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

    limits = Limits(max_chunks=0, inflate_rate=0)
    server, events = await serve(handle, limits=limits, compression=True)
    client = await opened(server, upgrade)
    await asyncio.get_running_loop().sock_sendall(client, BOMB * 500)
    closed = await events.wait_for(Closed)
    # What belongs to the turn in which it came is handled.
    assert handled < 100
    assert closed.code == 1006
    assert closed.messages_in == handled
    async with asyncio.timeout(5):
        await server.flows.wait_empty()


async def test_a_paused_connection_waits_while_others_are_served(
    serve: Serve, upgrade: bytes
) -> None:
    # One message is a minute's worth.
    server, events = await serve(
        limits=Limits(max_chunks=0, inflate_rate=SIZE / 60), compression=True
    )
    loop = asyncio.get_running_loop()
    with await opened(server, upgrade) as greedy:
        await loop.sock_sendall(greedy, BOMB * 10)
        first = (await events.wait_for(MessageReceived)).connection
        for count in range(2, 7):
            with await opened(server, upgrade) as other:
                await loop.sock_sendall(other, compressed(b"OPTIONS"))
                await events.wait_for(MessageReceived, count)
    assert [x.connection for x in events.of(MessageReceived)].count(first) == 1


def test_the_rate_holds_behind_a_burst_and_after_a_quiet_time() -> None:
    limit = InflateLimit(1000.0)
    assert limit.add(1000, 50.0) == 0.0
    assert limit.add(500, 50.0) == pytest.approx(0.5)
    assert limit.add(0, 50.5) == pytest.approx(0.0)
    # Nothing is saved up for longer than the burst.
    assert limit.add(3000, 90.0) == pytest.approx(2.0)
