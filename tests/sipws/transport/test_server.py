"""The server over real sockets on loopback."""

import asyncio
import gc
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from sipws import Limits, Listener, Server, TransportError
from sipws.events import (
    Accepted,
    Closed,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    MessageReceived,
    MessageSent,
    Side,
)
from sipws.transport.flow import Flow
from sipws.ws.phase import Phase

Serve = Callable[..., Awaitable[tuple[Server, Any]]]

SIP = [Subprotocol("sip")]
MESSAGE = "OPTIONS sip:example.com SIP/2.0\r\nCall-ID: 1\r\n\r\n"


def url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.listeners[0].port}/"


def echo(flow: Flow, message: bytes) -> None:
    flow.send(message)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def raw(server: Server, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(data)
    return reader, writer


async def test_the_whole_life_of_a_connection_is_told_in_order(serve: Serve) -> None:
    server, events = await serve(echo)
    async with connect(url(server), subprotocols=SIP) as client:
        await client.send(MESSAGE)
        assert await client.recv() == MESSAGE
        local, peer = client.remote_address, client.local_address
    closed = await events.wait_for(Closed)
    assert [type(event) for event in events.events] == [
        ConnectionOpened,
        HandshakeRequest,
        HandshakeReply,
        Accepted,
        MessageReceived,
        MessageSent,
        Closed,
    ]
    assert {event.connection for event in events.events} == {closed.connection}
    assert (closed.connection.local, closed.connection.peer) == (local, peer)
    assert closed.connection.listener == server.listeners[0]
    assert (closed.code, closed.closed_by, closed.clean) == (1000, Side.PEER, True)
    assert len(server.flows) == 0


async def test_binary_messages_come_and_go_as_binary_where_they_must(serve: Serve) -> None:
    server, events = await serve(echo)
    async with connect(url(server), subprotocols=SIP) as client:
        await client.send(MESSAGE.encode())
        assert await client.recv() == MESSAGE, "what is UTF-8 is answered as text"
        await client.send(b"MESSAGE sip:a SIP/2.0\r\n\r\n\xff")
        assert await client.recv() == b"MESSAGE sip:a SIP/2.0\r\n\r\n\xff"
    assert [event.is_text for event in events.of(MessageReceived)] == [False, False]


async def test_a_double_crlf_is_answered_with_a_crlf_and_not_handed_on(serve: Serve) -> None:
    handled = []
    server, _ = await serve(lambda flow, message: handled.append(message))
    async with connect(url(server), subprotocols=SIP) as client:
        await client.send("\r\n\r\n")
        assert await client.recv() == "\r\n"
        await client.send("\r\n")
        await (await client.ping())
    assert handled == []


async def test_the_peers_ping_is_answered(serve: Serve) -> None:
    server, _ = await serve()
    async with connect(url(server), subprotocols=SIP) as client:
        async with asyncio.timeout(5):
            await (await client.ping(b"hello"))


async def test_a_client_without_the_subprotocol_is_refused_and_the_socket_closed(
    serve: Serve,
) -> None:
    server, events = await serve()
    with pytest.raises(InvalidStatus) as refused:
        await connect(url(server))
    assert refused.value.response.status_code == 400
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.NO_SUBPROTOCOL
    await events.wait_for(Closed)


async def test_a_slow_handshake_is_a_408_and_closed(serve: Serve) -> None:
    server, events = await serve(limits=Limits(handshake_timeout=0.05))
    reader, writer = await raw(server, b"GET / HTTP/1.1\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    writer.close()
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.HANDSHAKE_TIMEOUT
    await events.wait_for(Closed)


async def test_a_refused_peer_that_stays_is_dropped(serve: Serve) -> None:
    server, events = await serve(limits=Limits(close_timeout=0.05))
    _, writer = await raw(server, b"\0")
    await events.wait_for(Closed)
    await server.flows.wait_empty()
    writer.close()


async def test_a_refusal_is_readable_while_the_peer_still_sends(serve: Serve) -> None:
    # A close with unread bytes would make the system send a reset, which destroys our answer.
    server, _ = await serve()
    reader, writer = await raw(server, b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000)
    assert b"431" in await reader.readline()
    writer.close()


async def test_a_peer_that_resets_is_told_as_lost(serve: Serve) -> None:
    server, events = await serve()
    client = await connect(url(server), subprotocols=SIP)
    client.transport.abort()
    error = await events.wait_for(ErrorOccurred)
    closed = await events.wait_for(Closed)
    assert error.kind is ErrorKind.CONNECTION_LOST
    assert (closed.code, closed.closed_by) == (1006, Side.PEER)


@pytest.mark.parametrize("by_peer", [True, False])
async def test_what_waits_for_a_slow_peer_arrives_in_front_of_an_orderly_end(
    serve: Serve, upgrade: bytes, by_peer: bool
) -> None:
    server, events = await serve()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.listeners[0].port, limit=1024
    )
    writer.write(upgrade)
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    await events.wait_for(Accepted)
    [flow] = server.flows
    count = 0
    # More than the system takes, and less than makes the peer one that does not keep up.
    while not flow.unsent_bytes:
        flow.send(bytes(1000))
        count += 1
        await asyncio.sleep(0)
    assert not flow.is_stalled
    if not by_peer:
        flow.close(1000)
    writer.write(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    async with asyncio.timeout(5):
        while not flow._transport.is_closing():  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
        writer.transport.resume_reading()
        received = await reader.read()
    assert received.endswith(b"\x88\x02\x03\xe8")
    assert len(received) == count * 1004 + 4
    closed = await events.wait_for(Closed)
    assert (closed.code, closed.clean) == (1000, True)
    writer.close()


async def test_a_reset_before_anything_leaves_nothing_behind(serve: Serve) -> None:
    server, events = await serve()

    def come_and_reset() -> None:
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", server.listeners[0].port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    await asyncio.to_thread(come_and_reset)
    await events.wait_for(Closed, 100)
    async with asyncio.timeout(5):
        await server.flows.wait_empty()
    assert len(events.of(ConnectionOpened)) == len(events.of(Closed))


async def test_the_application_can_close_with_a_code_and_a_reason(serve: Serve) -> None:
    server, events = await serve(lambda flow, message: flow.close(4000, "enough"))
    async with connect(url(server), subprotocols=SIP) as client:
        await client.send(MESSAGE)
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "enough")
    assert (await events.wait_for(Closed)).closed_by is Side.LOCAL


async def test_a_close_code_that_may_not_be_sent_is_refused_by_name(serve: Serve) -> None:
    caught = []

    def handler(flow: Flow, message: bytes) -> None:
        with pytest.raises(TransportError, match="close code 1006") as refused:
            flow.close(1006)
        caught.append(refused)
        flow.send(b"still here")

    server, _ = await serve(handler)
    async with connect(url(server), subprotocols=SIP) as client:
        await client.send(MESSAGE)
        assert await client.recv() == "still here"
    assert caught


@pytest.mark.parametrize(
    # The latter is what the result of a task that was cancelled raises.
    "exception",
    [ValueError, asyncio.CancelledError],
)
async def test_a_handler_that_raises_is_logged_and_the_connection_lives_on(
    serve: Serve, caplog: pytest.LogCaptureFixture, exception: type[BaseException]
) -> None:
    def handler(flow: Flow, message: bytes) -> None:
        if b"bad" in message:
            raise exception("cannot cope")
        flow.send(message)

    server, events = await serve(handler)
    with caplog.at_level(logging.ERROR):
        async with connect(url(server), subprotocols=SIP) as client:
            await client.send("bad")
            await client.send("good")
            assert await client.recv() == "good"
    [error] = events.of(ErrorOccurred)
    assert error.kind is ErrorKind.HANDLER_FAILED
    assert error.detail == f"{exception.__name__}: cannot cope"
    assert "cannot cope" in caplog.text


async def test_a_subscriber_that_raises_disturbs_nobody(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server, events = await serve(echo)

    def broken(event: object) -> None:
        raise RuntimeError("broken subscriber")

    server.bus.message_received.subscribe(broken)
    with caplog.at_level(logging.ERROR):
        async with connect(url(server), subprotocols=SIP) as client:
            await client.send(MESSAGE)
            assert await client.recv() == MESSAGE
    assert "broken subscriber" in caplog.text
    assert server.bus.failed == 1
    assert events.of(MessageReceived)


async def test_answers_of_one_read_leave_in_one_write(serve: Serve, upgrade: bytes) -> None:
    server, _ = await serve(echo)
    stream = Frame(Opcode.TEXT, b"a").serialize(mask=True)
    reader, writer = await raw(server, upgrade + stream * 3)
    data = await reader.readuntil(b"\r\n\r\n")
    data = await reader.readexactly(9)
    assert data == b"\x81\x01a" * 3
    writer.close()


async def test_a_peer_that_takes_nothing_is_dropped_within_the_send_timeout(serve: Serve) -> None:
    def flood(flow: Flow, message: bytes) -> None:
        for _ in range(200):
            flow.send(b"x" * 60_000)

    server, events = await serve(flood, limits=Limits(send_timeout=0.05))
    client = await connect(url(server), subprotocols=SIP)
    client.transport.pause_reading()
    await client.send(MESSAGE)
    error = await events.wait_for(ErrorOccurred)
    assert error.kind is ErrorKind.SEND_TIMEOUT
    closed = await events.wait_for(Closed)
    assert (closed.code, closed.closed_by) == (1006, Side.LOCAL)
    client.transport.abort()


async def opened(
    server: Server, upgrade: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client whose handshake is done, and that closes nothing by itself."""
    reader, writer = await raw(server, upgrade)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8")


async def test_a_connection_is_over_with_its_closing_handshake(
    serve: Serve, upgrade: bytes
) -> None:
    # RFC 6455 section 7.1.1: the server closes TCP first; it waits for no end of the client's.
    server, events = await serve(echo)
    reader, writer = await opened(server, upgrade)
    writer.write(CLOSE.serialize(mask=True))
    closed = await events.wait_for(Closed)
    assert await reader.read() == CLOSE.serialize(mask=False)
    assert (closed.code, closed.closed_by, closed.clean) == (1000, Side.PEER, True)
    writer.close()


async def test_a_close_of_ours_is_over_with_the_answer_to_it(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(lambda flow, message: flow.close(1001))
    reader, writer = await opened(server, upgrade)
    writer.write(Frame(Opcode.TEXT, MESSAGE.encode()).serialize(mask=True))
    assert await reader.readexactly(4) == b"\x88\x02\x03\xe9"
    writer.write(CLOSE.serialize(mask=True))
    closed = await events.wait_for(Closed)
    assert await reader.read() == b""
    assert (closed.code, closed.closed_by, closed.clean) == (1001, Side.LOCAL, True)
    writer.close()


async def test_who_talks_on_behind_a_close_frame_can_still_read_ours(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve(echo)
    reader, writer = await opened(server, upgrade)
    writer.write(
        CLOSE.serialize(mask=True) + Frame(Opcode.PING, b"still here?").serialize(mask=True)
    )
    assert await reader.read() == CLOSE.serialize(mask=False)
    # What comes now would be answered with a reset, had the server closed more than its half.
    writer.write(Frame(Opcode.TEXT, b"and on").serialize(mask=True))
    assert [one.phase for one in server.flows] == [Phase.CLOSING]
    writer.close()
    assert (await events.wait_for(Closed)).clean


async def test_shutdown_says_1001_to_every_connection(serve: Serve) -> None:
    server, events = await serve()
    clients = [await connect(url(server), subprotocols=SIP) for _ in range(3)]
    await server.aclose()
    for client in clients:
        with pytest.raises(ConnectionClosedOK) as closed:
            await client.recv()
        assert closed.value.rcvd.code == 1001
    assert [event.clean for event in events.of(Closed)] == [True] * 3
    with pytest.raises(ConnectionRefusedError):
        await connect(url(server), subprotocols=SIP)


async def test_shutdown_does_not_wait_for_ever(serve: Serve) -> None:
    server, events = await serve()
    client = await connect(url(server), subprotocols=SIP)
    client.transport.pause_reading()
    half_open = await raw(server, b"GET /")
    await events.wait_for(ConnectionOpened, 2)
    await server.aclose(grace=0.05)
    assert len(server.flows) == 0
    assert len(events.of(Closed)) == 2
    client.transport.abort()
    half_open[1].close()


async def test_ipv6_is_served_and_told(serve: Serve) -> None:
    try:
        server, events = await serve(listen="ws:[::1]:0")
    except TransportError as exc:
        pytest.skip(f"no IPv6 on this machine: {exc}")
    async with connect(f"ws://[::1]:{server.listeners[0].port}/", subprotocols=SIP):
        pass
    closed = await events.wait_for(Closed)
    assert (closed.connection.local.ip, closed.connection.peer.ip) == ("::1", "::1")


async def test_every_address_is_served_with_a_star(serve: Serve) -> None:
    server, events = await serve(listen="ws:*:0")
    async with connect(url(server), subprotocols=SIP):
        pass
    assert (await events.wait_for(Closed)).connection.local.ip == "127.0.0.1"


async def test_a_taken_address_is_an_error_that_names_it(serve: Serve) -> None:
    server, _ = await serve()
    taken = Listener("ws", "127.0.0.1", server.listeners[0].port)
    with pytest.raises(TransportError, match=f"cannot listen on {taken}"):
        await Server([taken], echo).start()


async def test_nothing_is_left_after_a_thousand_connections(serve: Serve) -> None:
    server, events = await serve(echo)
    before, tasks = open_descriptors(), asyncio.all_tasks()
    for _ in range(10):
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(_come_and_go(server))
    await events.wait_for(Closed, 1000)
    async with asyncio.timeout(5):
        await server.flows.wait_empty()
    gc.collect()
    assert open_descriptors() <= before
    assert asyncio.all_tasks() == tasks


async def _come_and_go(server: Server) -> None:
    _, writer = await raw(server, b"GET / HTTP/1.1\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_at_the_end_connections_are_closed_one_after_the_other(serve: Serve) -> None:
    server, events = await serve(echo)
    url = f"ws://127.0.0.1:{server.listeners[0].port}/"
    subprotocols = [Subprotocol("sip")]
    clients = [await connect(url, subprotocols=subprotocols) for _ in range(5)]
    closing = asyncio.create_task(server.aclose(spread=0.25))
    await clients[0].wait_closed()
    assert clients[0].close_code == 1001
    assert clients[-1].close_code is None, "they do not all go at a time"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    refusal = await reader.read()
    assert refusal.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nRetry-After: " in refusal
    writer.close()
    await closing
    for client in clients:
        await client.wait_closed()
    assert [client.close_code for client in clients] == [1001] * 5
    times = [event.time for event in events.of(Closed) if event.accepted]  # type: ignore[attr-defined]
    assert max(times) - min(times) >= 0.15


async def test_compression_is_used_where_it_is_allowed(serve: Serve) -> None:
    server, _ = await serve(echo, compression=True)
    url = f"ws://127.0.0.1:{server.listeners[0].port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")]) as client:
        assert len(client.protocol.extensions) == 1
        await client.send("OPTIONS sip:a SIP/2.0\r\n" * 100)
        assert await client.recv() == "OPTIONS sip:a SIP/2.0\r\n" * 100
        [flow] = server.flows
        assert flow.traffic[2] < 1000


async def test_a_compressed_bomb_closes_with_1009(serve: Serve) -> None:
    server, events = await serve(echo, compression=True, limits=Limits(message_size=10_000))
    url = f"ws://127.0.0.1:{server.listeners[0].port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")]) as client:
        await client.send("x" * 1_000_000)
        await client.wait_closed()
        assert client.close_code == 1009
    [error] = events.of(ErrorOccurred)
    assert error.kind is ErrorKind.MESSAGE_TOO_BIG  # type: ignore[attr-defined]


async def test_compression_is_off_unless_allowed(serve: Serve) -> None:
    server, _ = await serve(echo)
    url = f"ws://127.0.0.1:{server.listeners[0].port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")]) as client:
        assert client.protocol.extensions == []


async def test_a_server_that_was_closed_can_be_started_again(serve: Serve) -> None:
    server, _ = await serve(echo)
    await server.aclose()
    await server.start()
    url = f"ws://127.0.0.1:{server.listeners[0].port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")]) as client:
        await client.send("OPTIONS sip:a SIP/2.0\r\n\r\n")
        assert await client.recv() == "OPTIONS sip:a SIP/2.0\r\n\r\n"
