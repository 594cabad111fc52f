"""Peers that mean harm, or are broken as if they did: the right close code, and nothing left."""

import asyncio
import gc
import os
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from sipws import Limits, Server
from sipws.events import (
    Accepted,
    Closed,
    Connection,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
)
from sipws.ws.server_session import ServerSession

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
MASK = bytes(4)
BEGIN = b"\x01\x80" + MASK
"""The first fragment of a text, empty."""
GO_ON = b"\x00\x80" + MASK
"""A further fragment, empty."""
END = b"\x80\x80" + MASK
"""The last fragment, empty."""


async def dial(server: Server, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(data)
    return reader, writer


async def close_code(reader: asyncio.StreamReader) -> int:
    """The code in the close frame that a connection ends with."""
    async with asyncio.timeout(5):
        told = await reader.read()
    _, _, frames = told.partition(b"\r\n\r\n")
    assert frames[0] == 0x88
    return int.from_bytes(frames[2:4], "big")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_handshake_byte_by_byte_gets_no_longer_than_any(serve: Serve) -> None:
    server, events = await serve(limits=Limits(handshake_timeout=0.2))
    reader, writer = await dial(server, b"GET / HTTP/1.1\r\nX: ")
    answer = asyncio.ensure_future(reader.read())
    async with asyncio.timeout(5):
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.01)
    writer.close()
    assert (await answer).startswith(b"HTTP/1.1 408 ")
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.HANDSHAKE_TIMEOUT


def test_a_request_byte_by_byte_costs_hardly_more_than_at_once(connection: Connection) -> None:
    session = ServerSession(connection, Limits())
    line = b"X-Padding: nothing at all\r\n"
    stream = b"GET / HTTP/1.1\r\n" + line * (Limits().request_size // len(line) + 1)
    began = time.process_time()
    events = []
    for byte in stream:
        events += session.receive(bytes([byte]), 1.0)
    # Read from its start for each byte it was 4 s.
    assert time.process_time() - began < 1.0
    assert any(
        isinstance(event, HandshakeFailed) and event.kind is ErrorKind.REQUEST_TOO_LARGE
        for event in events
    )


def test_a_hundred_thousand_fragments_make_one_message(open_session: ServerSession) -> None:
    stream = BEGIN + GO_ON * 100_000 + frame(Opcode.CONT, b"at last")
    events = []
    for start in range(0, len(stream), 65536):
        events += open_session.receive(stream[start : start + 65536], 1001.0)
        while open_session.is_more:
            events += open_session.process_backlog(1001.0)
        assert open_session.buffered[0] < 16
        assert open_session.buffered[1] == 0
    [event] = events
    assert isinstance(event, MessageReceived)
    assert event.data == b"at last"


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def test_many_fragments_hold_no_more_than_a_message_may(open_session: ServerSession) -> None:
    open_session.receive(BEGIN, 1001.0)
    piece = frame(Opcode.CONT, b"x" * 7, fin=False)
    for _ in range(100_000):
        events = open_session.receive(piece, 1001.0)
        assert open_session.buffered[1] <= Limits().message_size
        if events:
            break
    [error] = events
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.MESSAGE_TOO_BIG


@pytest.mark.parametrize(
    ("length", "code", "kind"),
    [
        (65537, 1009, ErrorKind.MESSAGE_TOO_BIG),
        (2**32, 1009, ErrorKind.MESSAGE_TOO_BIG),
        (2**63 - 1, 1009, ErrorKind.MESSAGE_TOO_BIG),
        (2**63, 1002, ErrorKind.PROTOCOL_ERROR),
        (2**64 - 1, 1002, ErrorKind.PROTOCOL_ERROR),
        (65535, 1002, ErrorKind.PROTOCOL_ERROR),
        (5, 1002, ErrorKind.PROTOCOL_ERROR),
    ],
)
async def test_a_huge_or_a_wrong_length_is_refused_by_its_header(
    serve: Serve, upgrade: bytes, length: int, code: int, kind: ErrorKind
) -> None:
    server, events = await serve()
    reader, writer = await dial(server, upgrade + b"\x82\xff" + length.to_bytes(8, "big"))
    assert await close_code(reader) == code
    writer.close()
    assert (await events.wait_for(ErrorOccurred)).kind is kind
    assert (await events.wait_for(Closed)).code == code


@pytest.mark.parametrize("first", [0x88, 0x89, 0x8A], ids=["close", "ping", "pong"])
@pytest.mark.parametrize("under_way", [b"", BEGIN], ids=["alone", "in a message"])
async def test_a_control_frame_of_126_bytes_is_a_protocol_error(
    serve: Serve, upgrade: bytes, first: int, under_way: bytes
) -> None:
    server, events = await serve()
    control = bytes([first, 0xFE]) + (126).to_bytes(2, "big") + MASK + bytes(126)
    reader, writer = await dial(server, upgrade + under_way + control)
    assert await close_code(reader) == 1002
    writer.close()
    assert (await events.wait_for(ErrorOccurred)).kind is ErrorKind.PROTOCOL_ERROR


@pytest.mark.parametrize("length", [126, 65535, 65536, 2**63])
@pytest.mark.parametrize("under_way", [b"", BEGIN], ids=["alone", "in a message"])
def test_a_control_frame_is_not_waited_for_when_it_is_to_be_too_long(
    open_session: ServerSession, under_way: bytes, length: int
) -> None:
    stated = length.to_bytes(2, "big") if length < 65536 else length.to_bytes(8, "big")
    header = bytes([0x89, 0xFE if length < 65536 else 0xFF]) + stated
    [error] = open_session.receive(under_way + header, 1001.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.PROTOCOL_ERROR
    # What comes of it is not looked at.
    assert open_session.receive(MASK + bytes(1000), 1002.0) == []
    writes, eof = open_session.take_writes()
    assert (writes[-1][2:4], eof) == ((1002).to_bytes(2, "big"), True)


async def test_a_peer_that_closes_its_half_without_a_word_is_lost(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    reader, writer = await dial(server, upgrade)
    await events.wait_for(Accepted)
    writer.write_eof()
    closed = await events.wait_for(Closed)
    assert (closed.code, closed.clean) == (1006, False)
    async with asyncio.timeout(5):
        await reader.read()
        await server.flows.wait_empty()
    writer.close()


async def test_a_peer_that_is_silent_after_our_close_is_dropped(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve(limits=Limits(close_timeout=0.1))
    _, writer = await dial(server, upgrade)
    await events.wait_for(Accepted)
    [flow] = server.flows
    flow.close(1000)
    assert (await events.wait_for(ErrorOccurred)).kind is ErrorKind.CLOSE_TIMEOUT
    assert not (await events.wait_for(Closed)).clean
    async with asyncio.timeout(5):
        await server.flows.wait_empty()
    writer.close()


def send_and_reset(address: tuple[str, int], parts: list[bytes]) -> None:
    """A connection for each of these, which ends with a reset behind it."""
    for part in parts:
        with socket.create_connection(address) as one:
            one.sendall(part)
            # No time to linger: the system sends a reset.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_a_thousand_connects_and_aborts_leave_nothing(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve()
    address = ("127.0.0.1", server.listeners[0].port)
    message = frame(Opcode.TEXT, b"REGISTER sip:a SIP/2.0\r\n\r\n")
    stream = upgrade + message + b"\x89\x84" + MASK + b"ping" + message
    chance = random.Random(5)
    tasks, before = len(asyncio.all_tasks()), descriptors()
    for count in range(0, 1000, 50):
        parts = [stream[: chance.randrange(len(stream) + 1)] for _ in range(50)]
        await asyncio.to_thread(send_and_reset, address, parts)
        await events.wait_for(Closed, count + 50)
    async with asyncio.timeout(5):
        await server.flows.wait_empty()
    assert len(events.of(ConnectionOpened)) == len(events.of(Closed)) == 1000
    gc.collect()
    assert len(asyncio.all_tasks()) == tasks
    assert descriptors() == before


async def test_a_connection_that_sends_without_end_leaves_others_their_turn(
    serve: Serve, upgrade: bytes
) -> None:
    handled = most = before = 0

    def count(flow: object, message: bytes) -> None:
        nonlocal handled
        handled += len(message)

    server, events = await serve(count)
    reader, writer = await dial(server, upgrade)
    await reader.readuntil(b"\r\n\r\n")
    await events.wait_for(Accepted)
    connected = writer.get_extra_info("socket")
    with socket.socket(fileno=os.dup(connected.fileno())) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        stream = memoryview(frame(Opcode.BINARY, bytes(1000)) * 2000)
        # The event loop has not seen any of it before it sees all that the system takes.
        sent = sender.send(stream)
    whole = sent // 1008 * 1000
    assert whole > 2 * 256 * 1024
    loop = asyncio.get_running_loop()
    turns = asyncio.Event()

    def turn() -> None:
        nonlocal most, before
        most, before = max(most, handled - before), handled
        if handled < whole:
            loop.call_soon(turn)
        else:
            turns.set()

    loop.call_soon(turn)
    async with asyncio.timeout(5):
        await turns.wait()
    writer.transport.abort()
    await events.wait_for(Closed)
    assert most <= 256 * 1024
