"""A peer that sends thousands of tiny frames has its turn, and all others have theirs."""

import asyncio
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from sipws import Client, ConnectionClosedError, Limits, Server
from sipws.events import Accepted, Closed, ErrorKind, ErrorOccurred, MessageReceived
from sipws.limits import FRAMES_PER_SLICE, LARGE_READ
from sipws.transport.flow import Flow
from sipws.transport.tls import server_context

Serve = Callable[..., Awaitable[tuple[Server, Any]]]

MASK = bytes(4)
EMPTY = b"\x81\x80" + MASK
DEFLATED = b"\xc1\x83" + MASK + b"\xaa\x00\x00"
"""A text of one byte, through permessage-deflate."""
MANY = 5000


def text(number: int) -> bytes:
    return Frame(Opcode.TEXT, b"%d" % number).serialize(mask=True)


NUMBERED = b"".join(map(text, range(MANY)))


async def open_flow(server: Server, events: Any, upgrade: bytes) -> tuple[Flow, Any, Any]:
    """A connection whose handshake is done: its flow, and the peer's streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(upgrade)
    await reader.readuntil(b"\r\n\r\n")
    await events.wait_for(Accepted)
    [flow] = server.flows
    return flow, reader, writer


def done(flow: Flow) -> int:
    """Messages that were handled, and pongs that were sent."""
    messages_in, _, _, bytes_out = flow.traffic
    return messages_in + bytes_out // 2


async def most_in_a_turn(flow: Flow, count: int) -> int:
    """How much is done of it in a turn of the event loop, at the most."""
    before, begun, most = done(flow), done(flow), 0
    async with asyncio.timeout(10):
        while before - begun < count:
            await asyncio.sleep(0)
            most, before = max(most, done(flow) - before), done(flow)
    return most


@pytest.mark.parametrize(
    ("frame", "compression"),
    [
        (EMPTY, False),
        (b"\x82\x81" + MASK + b"x", False),
        (b"\x89\x80" + MASK, False),
        (EMPTY, True),
        (DEFLATED, True),
    ],
    ids=["empty", "one byte", "pings", "empty beside deflate", "deflated"],
)
async def test_tiny_frames_of_one_read_are_handled_in_turns(
    serve: Serve, upgrade: bytes, frame: bytes, compression: bool
) -> None:
    server, events = await serve(compression=compression)
    if compression:
        offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        upgrade = upgrade[:-2] + offer
    flow, _, writer = await open_flow(server, events, upgrade)
    flow.data_received(frame * MANY)
    assert done(flow) < MANY
    assert not flow.is_reading
    assert await most_in_a_turn(flow, MANY - 2 * FRAMES_PER_SLICE) <= 2 * FRAMES_PER_SLICE
    async with asyncio.timeout(5):
        while not flow.is_reading:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    assert not events.of(ErrorOccurred)
    writer.transport.abort()


@pytest.mark.parametrize("size", [LARGE_READ - 1, LARGE_READ])
async def test_behind_a_large_read_others_have_their_turn_first(
    serve: Serve, upgrade: bytes, size: int
) -> None:
    server, events = await serve()
    flow, _, writer = await open_flow(server, events, upgrade)
    # One message, and so nothing is left of the read.
    read = Frame(Opcode.BINARY, bytes(size - 8)).serialize(mask=True)
    assert len(read) == size
    flow.data_received(read)
    assert flow.traffic[0] == 1
    assert flow.is_reading is (size < LARGE_READ)
    async with asyncio.timeout(5):
        while not flow.is_reading:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    writer.close()


async def test_messages_that_become_long_are_fewer_in_a_turn(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(compression=True)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    flow, _, writer = await open_flow(server, events, upgrade[:-2] + offer)
    packer = zlib.compressobj(wbits=-12)
    packed = (packer.compress(bytes(60_000)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(packed) < 126
    flow.data_received((b"\xc2" + bytes([0x80 | len(packed)]) + MASK + packed) * 200)
    assert await most_in_a_turn(flow, 190) <= 4
    writer.transport.abort()


async def test_a_close_behind_many_messages_comes_behind_them(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(lambda flow, message: flow.send(message))
    _, reader, writer = await open_flow(server, events, upgrade)
    writer.write(NUMBERED + b"\x88\x82" + MASK + b"\x03\xe8")
    async with asyncio.timeout(10):
        answers = await reader.read()
    closed = await events.wait_for(Closed)
    assert (closed.clean, closed.messages_in, closed.messages_out) == (True, MANY, MANY)
    told = [event.data for event in events.of(MessageReceived)]
    assert told == [b"%d" % number for number in range(MANY)]
    assert (
        answers
        == b"".join(
            Frame(Opcode.TEXT, b"%d" % number).serialize(mask=False) for number in range(MANY)
        )
        + b"\x88\x02\x03\xe8"
    )
    writer.close()


@pytest.mark.parametrize("end", ["eof", "lost"])
async def test_an_end_that_comes_while_messages_wait_is_told_behind_them(
    serve: Serve, upgrade: bytes, end: str
) -> None:
    server, events = await serve(lambda flow, message: flow.send(message))
    flow, _, writer = await open_flow(server, events, upgrade)
    flow.data_received(NUMBERED)
    if end == "eof":
        # As TLS tells it, though nothing is read.
        assert not flow.eof_received()
    flow._transport.abort()
    closed = await events.wait_for(Closed)
    assert (closed.code, closed.messages_in) == (1006, MANY)
    [error] = events.of(ErrorOccurred)
    assert error.kind is ErrorKind.CONNECTION_LOST
    assert events.events[-2:] == [error, closed]
    assert len(server.flows) == server.admission.connections == 0
    writer.close()


async def test_a_lost_connection_can_be_sent_to_while_messages_wait(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    flow, _, writer = await open_flow(server, events, upgrade)
    flow.data_received(NUMBERED)
    flow._transport.abort()
    async with asyncio.timeout(10):
        while flow.is_open:
            flow.send(b"to nobody")
            flow.probe()
            await asyncio.sleep(0)
    assert (await events.wait_for(Closed)).messages_in == MANY
    writer.close()


@pytest.mark.parametrize("lost", [False, True])
async def test_shutting_down_while_messages_wait_leaves_nothing(
    serve: Serve, upgrade: bytes, lost: bool
) -> None:
    server, events = await serve()
    flow, _, writer = await open_flow(server, events, upgrade)
    flow.data_received(NUMBERED)
    if lost:
        flow._transport.abort()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await server.aclose(grace=0)
    assert len(server.flows) == server.admission.connections == 0
    assert len(events.of(Closed)) == 1
    handled = len(events.of(MessageReceived))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(events.of(MessageReceived)) == handled
    writer.close()


async def test_what_waits_goes_on_waiting_while_the_peer_does_not_keep_up(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    flow, _, writer = await open_flow(server, events, upgrade)
    flow.data_received(NUMBERED)
    flow.pause_writing()
    before = done(flow)
    for _ in range(5):
        await asyncio.sleep(0)
    assert done(flow) == before
    flow.resume_writing()
    await events.wait_for(MessageReceived, MANY)
    async with asyncio.timeout(5):
        while not flow.is_reading:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    writer.transport.abort()


async def test_a_turn_that_raises_drops_the_connection_and_loses_no_later_message(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    flow, _, writer = await open_flow(server, events, upgrade)
    seen: list[bytes] = []

    def cancelled(event: MessageReceived) -> None:
        seen.append(event.data)
        if len(seen) in (FRAMES_PER_SLICE + 10, 3 * FRAMES_PER_SLICE):
            raise asyncio.CancelledError

    server.bus.message_received.subscribe(cancelled)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    flow.data_received(NUMBERED)
    # Unlike the exception, its end is not a secret.
    closed = await events.wait_for(Closed)
    assert (closed.code, closed.messages_in) == (1006, MANY)
    assert seen[-1] == b"%d" % (MANY - 1)
    assert len(server.flows) == server.admission.connections == 0
    writer.close()


async def test_who_sends_and_drains_without_end_hears_of_it_when_the_connection_is_lost(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    flow, _, writer = await open_flow(server, events, upgrade)

    async def stream() -> None:
        # A loop that nothing ends is no way to fail a test.
        for _ in range(1000):
            flow.send(b"to nobody")
            await flow.drain()

    flow.data_received(NUMBERED)
    flow._transport.abort()
    with pytest.raises(ConnectionClosedError):
        await stream()
    assert (await events.wait_for(Closed)).messages_in == MANY
    writer.close()


async def test_over_tls_an_end_right_behind_many_messages_loses_none(
    serve: Serve, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server, events = await serve(listen="wss:127.0.0.1:0", tls=server_context(certificate))
    async with connect(
        f"wss://127.0.0.1:{server.listeners[0].port}/",
        subprotocols=[Subprotocol("sip")],
        ssl=context,
        compression=None,
    ) as peer:
        peer.transport.write(NUMBERED)
        # No close frame: TLS says that this was all.
        peer.transport.close()
        closed = await events.wait_for(Closed)
    assert (closed.code, closed.messages_in) == (1006, MANY)


async def test_over_tls_a_close_and_an_end_of_tcp_behind_many_messages_are_the_end(
    serve: Serve, upgrade: bytes, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    # The test fails where only this limit ends the connection.
    server, events = await serve(
        listen="wss:127.0.0.1:0",
        tls=server_context(certificate),
        limits=Limits(close_timeout=60),
    )
    with socket.socket() as connected:
        connected.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connected, ("127.0.0.1", server.listeners[0].port))
        _, writer = await asyncio.open_connection(
            sock=connected, ssl=context, server_hostname="127.0.0.1"
        )
        writer.write(upgrade)
        await events.wait_for(Accepted)
        [flow] = server.flows
        # In so many reads of TLS that its end comes while messages wait.
        writer.write(NUMBERED + b"\x88\x82" + MASK + b"\x03\xe8")
        connected.shutdown(socket.SHUT_WR)
        closed = await events.wait_for(Closed)
        assert (closed.clean, closed.messages_in) == (True, MANY)
        assert not flow.is_open
        writer.transport.abort()


async def test_a_server_that_sends_tiny_frames_leaves_a_client_others_turns() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = request.lower().partition(b"sec-websocket-key: ")[0]
        asked = request[len(key) + 19 :].split(b"\r\n")[0].decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Accept: "
            + accept_key(asked).encode() + b"\r\n\r\n"
        )  # fmt: skip
        await reader.read()
        writer.close()

    peer = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with peer, Client() as client:
        flow = await client.connect(f"ws://127.0.0.1:{peer.sockets[0].getsockname()[1]}/")
        flow.data_received(b"\x81\x00" * MANY)
        assert done(flow) < MANY
        assert await most_in_a_turn(flow, MANY - 2 * FRAMES_PER_SLICE) <= 2 * FRAMES_PER_SLICE
        flow.abort(ErrorKind.CONNECTION_LOST, "enough")
