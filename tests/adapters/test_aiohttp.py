"""aiohttp servers: what is told of their connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sipws.adapters.aiohttp import TracedWebSocketResponse, tracing
from sipws.tracing.pipeline import Pipeline

from .support import UPGRADE, Homer, exchange, sip

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def echo(request: web.Request) -> web.StreamResponse:
    websocket = TracedWebSocketResponse(protocols=["sip"], max_msg_size=1024)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is web.WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is web.WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


@asynccontextmanager
async def serving(trace: Pipeline, handler: Handler = echo) -> AsyncIterator[int]:
    app = web.Application(middlewares=[tracing(trace)])
    app.router.add_get("/sip", handler)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


BINARY = sip(call_id="grüße").encode()


def client(port: int, path: str = "/sip") -> Any:
    return connect(f"ws://127.0.0.1:{port}{path}", subprotocols=["sip"], proxy=None)


async def test_a_connection_is_told_from_handshake_to_close(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port, client(port) as websocket:
        await websocket.send(sip())
        await websocket.recv()
        await websocket.send(BINARY)
        await websocket.recv()
        local = websocket.local_address
        await websocket.close(4001, "that is all")
        closed = await homer.closed()
    (accepted,) = homer.of("ACCEPTED")
    assert accepted["Status"] == "SUCCESS"
    assert (closed["Close_Code"], closed["Close_Reason"]) == ("4001", "that is all")
    assert (closed["Closed_By"], closed["Status"]) == ("peer", "SUCCESS")
    assert (closed["Messages_In"], closed["Messages_Out"]) == ("2", "2")
    assert int(closed["Bytes_In"]) == len(accepted["Ws-Request"]) + len(sip()) + len(BINARY)
    assert [packet.payload for packet in homer.messages[1:3]] == [sip().encode(), BINARY]
    assert (homer.messages[0].src_ip, homer.messages[0].src_port) == local
    assert homer.messages[0].dst_port == port


async def test_the_rebuilt_handshake_is_the_one_on_the_wire(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        reply = await exchange(port, UPGRADE)
        await homer.closed()
    (accepted,) = homer.of("ACCEPTED")
    # All but the spaces in front of a value.
    assert accepted["Ws-Request"].encode() == UPGRADE.replace(b":   Kept", b": Kept")
    assert accepted["Ws-Reply"].encode() == reply


async def refuse_with_exception(request: web.Request) -> web.StreamResponse:
    raise web.HTTPForbidden(text="not you\n")


async def refuse_with_response(request: web.Request) -> web.StreamResponse:
    return web.Response(status=403, text="not you\n")


@pytest.mark.parametrize("handler", [refuse_with_exception, refuse_with_response])
async def test_a_refusal_is_told(trace: Pipeline, homer: Homer, handler: Handler) -> None:
    async with serving(trace, handler) as port:
        with pytest.raises(InvalidStatus) as told:
            await client(port)
        closed = await homer.closed()
    assert told.value.response.status_code == 403
    (failed,) = homer.of("ACCEPTED")
    assert (failed["Error"], failed["Error_Detail"]) == ("refused", "HTTP 403 Forbidden")
    assert failed["Ws-Reply"].startswith("HTTP/1.1 403 Forbidden\r\n")
    assert failed["Ws-Reply"].endswith("\r\n\r\nnot you\n")
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "local")


async def test_a_path_that_is_not_there_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        with pytest.raises(InvalidStatus):
            await client(port, "/other")
        await homer.closed()
    assert homer.of("ACCEPTED")[0]["Error"] == "not-found"


async def test_what_is_no_upgrade_request_is_not_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        await exchange(port, b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(InvalidStatus):
            await client(port, "/other")
        await homer.closed()
    assert len(homer.of("CLOSED")) == 1


async def test_a_handler_that_raises_is_told_with_the_code_the_peer_sees(
    trace: Pipeline, homer: Homer
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        websocket = TracedWebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        raise LookupError("no such user")

    async with serving(trace, broken) as port, client(port) as websocket:
        await websocket.send(sip())
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        closed = await homer.closed()
    (error,) = homer.of("ERROR")
    assert (error["Error"], error["Message"]) == ("handler-failed", "LookupError: no such user")
    # aiohttp drops the connection.
    assert closed["Close_Code"] == str(websocket.close_code) == "1006"
    assert (closed["Closed_By"], closed["Status"]) == ("local", "FAILURE")


async def test_a_handler_that_raises_before_it_answers_is_told(
    trace: Pipeline, homer: Homer
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        raise LookupError("no such user")

    async with serving(trace, broken) as port:
        with pytest.raises(InvalidStatus):
            await client(port)
        await homer.closed()
    (failed,) = homer.of("ACCEPTED")
    assert (failed["Error"], failed["Error_Detail"]) == (
        "handler-failed",
        "LookupError: no such user",
    )
    assert failed["Ws-Reply"].startswith("HTTP/1.1 500 ")


async def test_a_handler_that_closes_is_told(trace: Pipeline, homer: Homer) -> None:
    async def brief(request: web.Request) -> web.StreamResponse:
        websocket = TracedWebSocketResponse()
        await websocket.prepare(request)
        await websocket.close(code=4000, message=b"enough")
        return websocket

    async with serving(trace, brief) as port, client(port) as websocket:
        await websocket.wait_closed()
        closed = await homer.closed()
    assert (closed["Close_Code"], closed["Close_Reason"]) == ("4000", "enough")
    assert (closed["Closed_By"], closed["Status"]) == ("local", "SUCCESS")


async def test_a_handler_that_just_returns_closes(trace: Pipeline, homer: Homer) -> None:
    async def brief(request: web.Request) -> web.StreamResponse:
        websocket = TracedWebSocketResponse()
        await websocket.prepare(request)
        return websocket

    async with serving(trace, brief) as port, client(port) as websocket:
        await websocket.wait_closed()
        closed = await homer.closed()
    assert closed["Close_Code"] == str(websocket.close_code) == "1000"
    assert closed["Closed_By"] == "local"


async def test_a_peer_that_vanishes_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        websocket = await client(port)
        websocket.transport.abort()
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == "connection-lost"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "peer")


async def sending(request: web.Request) -> web.StreamResponse:
    """Never reads."""
    websocket = TracedWebSocketResponse(protocols=["sip"], heartbeat=0.1)
    await websocket.prepare(request)
    while True:
        await websocket.send_str(sip())
        await asyncio.sleep(0.01)


async def reading(request: web.Request) -> web.StreamResponse:
    websocket = TracedWebSocketResponse(protocols=["sip"], heartbeat=0.1)
    await websocket.prepare(request)
    await websocket.receive()
    return websocket


async def test_sending_to_a_peer_that_is_gone_is_a_loss(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace, sending) as port:
        websocket = await client(port)
        websocket.transport.abort()
        closed = await homer.closed()
    (error,) = homer.of("ERROR")
    assert error["Error"] == "connection-lost"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "peer")


@pytest.mark.parametrize("handler", [reading, sending])
async def test_a_peer_that_answers_no_ping_is_told(
    trace: Pipeline, homer: Homer, handler: Handler
) -> None:
    async with serving(trace, handler) as port:
        websocket = await client(port)
        websocket.transport.pause_reading()
        closed = await homer.closed()
        websocket.transport.abort()
    (error,) = homer.of("ERROR")
    assert error["Error"] == "ping-timeout"
    assert error["Message"]
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "local")


@pytest.mark.parametrize(
    ("frame", "kind", "code"),
    [
        (b"\x83\x80\0\0\0\0", "protocol-error", "1002"),
        (b"\x81\x81\0\0\0\0\xff", "bad-utf8", "1007"),
        (b"\x81\xfe\x10\x00\0\0\0\0" + 4096 * b"a", "message-too-big", "1009"),
    ],
)
async def test_a_frame_that_breaks_the_rules_is_told(
    trace: Pipeline, homer: Homer, frame: bytes, kind: str, code: str
) -> None:
    async with serving(trace) as port:
        await exchange(port, UPGRADE, frame)
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == kind
    assert (closed["Close_Code"], closed["Closed_By"]) == (code, "local")
    assert not homer.messages


async def test_a_close_frame_without_a_code_is_no_loss(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        await exchange(port, UPGRADE, b"\x88\x80\0\0\0\0")
        closed = await homer.closed()
    assert (closed["Close_Code"], closed["Status"]) == ("1005", "SUCCESS")


async def test_an_untraced_response_is_told_without_its_messages(
    trace: Pipeline, homer: Homer
) -> None:
    async def plain(request: web.Request) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for _ in websocket:
            pass
        return websocket

    async with serving(trace, plain) as port:
        async with client(port) as websocket:
            await websocket.send(sip())
        closed = await homer.closed()
    assert homer.of("ACCEPTED")[0]["Status"] == "SUCCESS"
    assert closed["Close_Code"] == "1000"


async def test_without_the_middleware_a_response_is_a_plain_one(
    trace: Pipeline, homer: Homer
) -> None:
    app = web.Application()
    app.router.add_get("/sip", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with client(runner.addresses[0][1]) as websocket:
        await websocket.send(sip())
        assert await websocket.recv() == sip()
    await runner.cleanup()
    assert not homer.packets
