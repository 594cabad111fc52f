"""ASGI applications under uvicorn: what is told of their connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sipws.adapters.asgi import TraceMiddleware
from sipws.tracing.pipeline import Pipeline

from .support import UPGRADE, Homer, exchange, sip

Application = Callable[[Any, Any, Any], Awaitable[None]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "sip"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


@asynccontextmanager
async def serving(trace: Pipeline, application: Application = echo) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await application(scope, receive, send)

    config = uvicorn.Config(
        TraceMiddleware(app, trace),
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_config=None,
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


BINARY = sip(call_id="grüße").encode()


def client(port: int) -> Any:
    return connect(f"ws://127.0.0.1:{port}/sip?a=b", subprotocols=["sip"], proxy=None)


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
    assert accepted["Ws-Request"].startswith("GET /sip?a=b HTTP/1.1\r\n")
    assert "\r\nSec-WebSocket-Protocol: sip\r\n" in accepted["Ws-Reply"]
    assert (closed["Close_Code"], closed["Close_Reason"]) == ("4001", "that is all")
    assert (closed["Closed_By"], closed["Status"]) == ("peer", "SUCCESS")
    assert (closed["Messages_In"], closed["Messages_Out"]) == ("2", "2")
    assert int(closed["Bytes_In"]) == len(accepted["Ws-Request"]) + len(sip()) + len(BINARY)
    assert homer.messages[0].payload == sip().encode()
    assert homer.messages[2].payload == BINARY
    assert (homer.messages[0].src_ip, homer.messages[0].src_port) == local
    assert homer.messages[0].dst_port == port


async def test_the_rebuilt_handshake_says_what_was_on_the_wire(
    trace: Pipeline, homer: Homer
) -> None:
    async with serving(trace) as port:
        reply = await exchange(port, UPGRADE)
        await homer.closed()
    (accepted,) = homer.of("ACCEPTED")

    def lines(head: str) -> set[str]:
        return {" ".join(line.lower().split()) for line in head.splitlines()}

    assert lines(accepted["Ws-Request"]) == lines(UPGRADE.decode())
    # What the server adds of its own, ASGI does not tell.
    added = lines(reply.decode()) - lines(accepted["Ws-Reply"])
    assert {line.partition(":")[0] for line in added} <= {"server", "date"}
    assert lines(accepted["Ws-Reply"]) <= lines(reply.decode())


async def test_a_refusal_is_told_with_the_status_it_has(trace: Pipeline, homer: Homer) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})

    async with serving(trace, refuse) as port:
        with pytest.raises(InvalidStatus) as told:
            await client(port)
        closed = await homer.closed()
    assert told.value.response.status_code == 403
    (failed,) = homer.of("ACCEPTED")
    assert (failed["Status"], failed["Error"]) == ("FAILURE", "refused")
    assert failed["Ws-Reply"].startswith("HTTP/1.1 403 Forbidden\r\n")
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "local")


async def test_a_refusal_with_a_response_of_its_own_is_told(trace: Pipeline, homer: Homer) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"x-why", b"because")]
        await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"here"})

    async with serving(trace, refuse) as port:
        with pytest.raises(InvalidStatus):
            await client(port)
        await homer.closed()
    (failed,) = homer.of("ACCEPTED")
    assert failed["Error"] == "not-found"
    assert failed["Ws-Reply"] == "HTTP/1.1 404 Not Found\r\nx-why: because\r\n\r\nnot here"


async def test_an_application_that_raises_is_told_with_the_code_the_peer_sees(
    trace: Pipeline, homer: Homer
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        raise LookupError("no such user")

    async with serving(trace, broken) as port, client(port) as websocket:
        await websocket.send(sip())
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        closed = await homer.closed()
    (error,) = homer.of("ERROR")
    assert (error["Error"], error["Message"]) == ("handler-failed", "LookupError: no such user")
    # uvicorn drops the connection; a server that closes with 1011 does not say so either.
    assert closed["Close_Code"] == str(websocket.close_code) == "1006"
    assert (closed["Closed_By"], closed["Status"]) == ("local", "FAILURE")


async def test_an_application_that_raises_before_it_answers_is_told(
    trace: Pipeline, homer: Homer
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no such user")

    async with serving(trace, broken) as port:
        with pytest.raises(InvalidStatus) as told:
            await client(port)
        await homer.closed()
    assert told.value.response.status_code == 500
    (failed,) = homer.of("ACCEPTED")
    assert failed["Error"] == "handler-failed"
    assert failed["Ws-Reply"].startswith("HTTP/1.1 500 ")


async def test_an_application_that_raises_because_its_peer_left_has_not_failed(
    trace: Pipeline, homer: Homer
) -> None:
    async def raising(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ConnectionError(await receive())

    async with serving(trace, raising) as port:
        async with client(port):
            pass
        closed = await homer.closed()
    assert not homer.of("ERROR")
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1000", "peer")


async def test_sending_to_a_peer_that_is_gone_is_a_loss(trace: Pipeline, homer: Homer) -> None:
    gone = asyncio.Event()

    async def sending(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await gone.wait()
        while True:
            await send({"type": "websocket.send", "text": sip()})
            await asyncio.sleep(0)

    async with serving(trace, sending) as port:
        websocket = await client(port)
        websocket.transport.abort()
        gone.set()
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == "connection-lost"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "peer")


async def only_sending(send: Any) -> None:
    while True:
        await send({"type": "websocket.send", "text": sip()})
        await asyncio.sleep(0)


async def busy(send: Any) -> None:
    """Is done some time after the close."""
    with suppress(OSError):
        await only_sending(send)


@pytest.mark.parametrize("work", [only_sending, busy])
async def test_an_application_that_does_not_read_is_told_with_the_code_of_its_peer(
    trace: Pipeline, homer: Homer, work: Callable[[Any], Awaitable[None]]
) -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await work(send)

    async with serving(trace, deaf) as port:
        async with client(port) as websocket:
            await websocket.send(sip())
            await websocket.close(1001, "leaving")
        closed = await homer.closed()
    assert not homer.of("ERROR")
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1001", "peer")
    assert closed["Close_Reason"] == "leaving"


async def test_an_application_that_closes_is_told(trace: Pipeline, homer: Homer) -> None:
    async def brief(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})

    async with serving(trace, brief) as port, client(port) as websocket:
        await websocket.wait_closed()
        closed = await homer.closed()
    assert websocket.close_code == 4000
    assert (closed["Close_Code"], closed["Close_Reason"]) == ("4000", "enough")
    assert closed["Closed_By"] == "local"


async def test_a_peer_that_vanishes_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        websocket = await client(port)
        websocket.transport.abort()
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == "connection-lost"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "peer")


async def test_a_close_frame_without_a_code_is_no_loss(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        await exchange(port, UPGRADE, b"\x88\x80\0\0\0\0")
        closed = await homer.closed()
    assert (closed["Close_Code"], closed["Status"]) == ("1005", "SUCCESS")


async def test_a_server_that_ends_tells_how(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        websocket = await client(port)
    await websocket.wait_closed()
    closed = await homer.closed()
    assert closed["Close_Code"] == str(websocket.close_code) == "1012"
    assert closed["Closed_By"] == "local"
    assert len(trace.connections) == 0


async def test_the_pipeline_lives_as_long_as_the_application(homer: Homer) -> None:
    trace = Pipeline(homer.destination)
    alive: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            alive.append(trace.sender is not None)
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    received: asyncio.Queue[Any] = asyncio.Queue()
    for name in ("startup", "shutdown"):
        received.put_nowait({"type": f"lifespan.{name}"})
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await TraceMiddleware(app, trace)({"type": "lifespan"}, received.get, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert alive == [True]
    assert trace.sender is None


async def test_other_scopes_pass_untouched(trace: Pipeline) -> None:
    seen: list[Any] = []

    async def app(*args: Any) -> None:
        seen.extend(args)

    given: list[Any] = [{"type": "http"}, object(), object()]
    await TraceMiddleware(app, trace)(*given)
    assert all(one is other for one, other in zip(seen, given, strict=True))
