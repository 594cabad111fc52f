"""Servers on the websockets library: what is told of their connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from sipws.adapters.websockets import traced
from sipws.tracing.pipeline import Pipeline

from .support import NETWORK, UPGRADE, Homer, exchange, sip

Handler = Callable[[ServerConnection], Awaitable[None]]


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


@asynccontextmanager
async def serving(trace: Pipeline, handler: Handler = echo, **options: Any) -> AsyncIterator[int]:
    options = {"subprotocols": ["sip"], "create_connection": traced(trace), **options}
    server: Server
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield server.sockets[0].getsockname()[1]


def client(port: int, **options: Any) -> Any:
    return connect(f"ws://127.0.0.1:{port}/sip", subprotocols=["sip"], proxy=None, **options)


async def test_a_connection_is_told_from_handshake_to_close(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port, client(port) as websocket:
        await websocket.send(sip())
        await websocket.recv()
        local = websocket.local_address
        await websocket.close(4001, "that is all")
    closed = await homer.closed()
    (accepted,) = homer.of("ACCEPTED")
    assert accepted["Status"] == "SUCCESS"
    assert accepted["Ws-Request"].startswith("GET /sip HTTP/1.1\r\nHost: 127.0.0.1")
    assert accepted["Ws-Reply"].startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert (closed["Close_Code"], closed["Close_Reason"]) == ("4001", "that is all")
    assert (closed["Closed_By"], closed["Status"]) == ("peer", "SUCCESS")
    assert (closed["Messages_In"], closed["Messages_Out"]) == ("1", "1")
    assert float(closed["Duration"]) > 0
    incoming, outgoing = homer.messages
    assert incoming.payload == outgoing.payload == sip().encode()
    assert incoming.correlation_id == b"call-1"
    assert (incoming.src_ip, incoming.src_port) == (outgoing.dst_ip, outgoing.dst_port) == local
    assert incoming.dst_port == port
    network = {p.correlation_id for p in homer.packets if p.protocol_type == 0x59}
    assert len(network) == 1


async def test_request_and_reply_are_those_on_the_wire(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        reply = await exchange(port, UPGRADE)
    await homer.closed()
    (accepted,) = homer.of("ACCEPTED")
    assert accepted["Ws-Request"].encode() == UPGRADE
    assert accepted["Ws-Reply"].encode() == reply


async def test_bytes_are_counted_as_they_pass_the_socket(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace, compression=None) as port, client(port) as websocket:
        await websocket.send(sip())
        await websocket.recv()
    closed = await homer.closed()
    (accepted,) = homer.of("ACCEPTED")
    # A masked frame of more than 125 bytes has 8 bytes of header; a close frame with a code 8.
    frames_in = 8 + len(sip()) + 8
    assert int(closed["Bytes_In"]) == len(accepted["Ws-Request"]) + frames_in
    # The same frames without masks.
    assert int(closed["Bytes_Out"]) == len(accepted["Ws-Reply"]) + frames_in - 8


@pytest.mark.parametrize(
    ("options", "request_headers", "kind", "status"),
    [
        ({"subprotocols": ["sip"]}, {}, "no-subprotocol", 400),
        (
            {"origins": ["https://a.example"]},
            {"origin": "https://b.example"},
            "origin-refused",
            403,
        ),
    ],
)
async def test_a_refusal_of_the_library_is_told(
    trace: Pipeline,
    homer: Homer,
    options: dict[str, Any],
    request_headers: dict[str, str],
    kind: str,
    status: int,
) -> None:
    async with serving(trace, **{"subprotocols": None, **options}) as port:
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{port}", proxy=None, **request_headers)  # type: ignore[arg-type]
        closed = await homer.closed()
    (failed,) = homer.of("ACCEPTED")
    assert (failed["Status"], failed["Error"]) == ("FAILURE", kind)
    assert failed["Ws-Request"].startswith("GET / HTTP/1.1\r\n")
    assert failed["Ws-Reply"].startswith(f"HTTP/1.1 {status} ")
    assert (closed["Close_Code"], closed["Status"]) == ("1006", "FAILURE")


async def test_a_refusal_of_the_application_is_told(trace: Pipeline, homer: Homer) -> None:
    def refuse(websocket: ServerConnection, request: Request) -> Response:
        return websocket.respond(HTTPStatus.FORBIDDEN, "not you\n")

    async with serving(trace, process_request=refuse) as port:
        with pytest.raises(InvalidStatus):
            await client(port)
        await homer.closed()
    (failed,) = homer.of("ACCEPTED")
    assert (failed["Error"], failed["Error_Detail"]) == ("refused", "HTTP 403 Forbidden")
    assert failed["Ws-Reply"].endswith("\r\n\r\nnot you\n")


async def test_what_is_no_http_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        await exchange(port, b"OPTIONS sip:example.com SIP/2.0\r\n\r\n")
        await homer.closed()
    (failed,) = homer.of("ACCEPTED")
    assert (failed["Error"], failed["Ws-Reply"]) == ("bad-request", "")
    assert failed["Ws-Request"] == "OPTIONS sip:example.com SIP/2.0\r\n\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer\r\n s3cr3t-token",
        b"Cookie: sid=s3cr3t-token\0",
        b"Origin: https://alice:s3cr3t-token@b.example",
    ],
)
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\r\n"])
async def test_a_refusal_quotes_no_credential(
    trace: Pipeline, homer: Homer, line: bytes, end: bytes
) -> None:
    request = UPGRADE[:-4] + b"\r\n" + line + end
    async with serving(trace, origins=["https://a.example"], open_timeout=0.2) as port:
        await exchange(port, request)
        await homer.closed()
    (failed,) = homer.of("ACCEPTED")
    assert failed["Ws-Request"].startswith("GET /sip?room=7 HTTP/1.1\r\n")
    assert not [packet for packet in homer.packets if b"s3cr3t" in packet.payload]


async def test_a_handshake_that_is_not_finished_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace, open_timeout=0.05) as port:
        await exchange(port, b"GET / HTTP/1.1\r\nHost:")
        await homer.closed()
        assert homer.of("ACCEPTED")[0]["Error"] == "handshake-timeout"
    async with serving(trace) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost:")
        writer.write_eof()
        await homer.closed(2)
        writer.close()
        assert homer.of("ACCEPTED")[1]["Error"] == "handshake-aborted"


async def test_a_handler_that_raises_is_told_and_closes_with_1011(
    trace: Pipeline, homer: Homer
) -> None:
    async def broken(websocket: ServerConnection) -> None:
        await websocket.recv()
        raise LookupError("no such user")

    async with serving(trace, broken) as port, client(port) as websocket:
        await websocket.send(sip())
        with pytest.raises(ConnectionClosed) as told:
            await websocket.recv()
    assert told.value.rcvd is not None
    assert told.value.rcvd.code == 1011
    closed = await homer.closed()
    (error,) = homer.of("ERROR")
    assert (error["Error"], error["Message"]) == ("handler-failed", "LookupError: no such user")
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1011", "local")


async def test_a_peer_that_vanishes_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        websocket: ClientConnection = await client(port)
        websocket.transport.abort()
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == "connection-lost"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1006", "peer")


@pytest.mark.parametrize(
    ("frame", "kind", "code"),
    [
        (b"\x83\x80\0\0\0\0", "protocol-error", "1002"),
        (b"\x81\x81\0\0\0\0\xff", "bad-utf8", "1007"),
        (b"\x81\xfe\x10\x00\0\0\0\0", "message-too-big", "1009"),
    ],
)
async def test_a_frame_that_breaks_the_rules_is_told(
    trace: Pipeline, homer: Homer, frame: bytes, kind: str, code: str
) -> None:
    async with serving(trace, max_size=1024) as port:
        await exchange(port, UPGRADE, frame)
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == kind
    assert (closed["Close_Code"], closed["Closed_By"]) == (code, "local")
    assert not homer.messages


async def test_messages_in_fragments_and_broadcasts_are_told_whole(
    trace: Pipeline, homer: Homer
) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.recv()
        message = sip("NOTIFY")
        await websocket.send([message[:20], message[20:]])
        broadcast([websocket], sip("MESSAGE"))
        await websocket.wait_closed()

    async with serving(trace, handler) as port, client(port) as websocket:
        message = sip("REGISTER")
        await websocket.send([message[:9], message[9:]])
        await websocket.recv()
        await websocket.recv()
    await homer.closed()
    told = [message.payload.decode() for message in homer.messages]
    assert told == [sip("REGISTER"), sip("NOTIFY"), sip("MESSAGE")]


async def test_messages_right_behind_the_request_are_told_behind_the_answer(
    trace: Pipeline, homer: Homer
) -> None:
    message = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    frame = bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message
    async with serving(trace) as port:
        await exchange(port, UPGRADE + 2 * frame)
        closed = await homer.closed()
    first, *packets = homer.packets[:3]
    assert first.protocol_type == NETWORK
    assert [packet.payload for packet in packets] == [message, message]
    assert closed["Messages_In"] == "2"


async def test_a_bad_frame_right_behind_the_request_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        await exchange(port, UPGRADE + b"\x83\x80\0\0\0\0")
        closed = await homer.closed()
    assert homer.of("ERROR")[0]["Error"] == "protocol-error"
    assert closed["Closed_By"] == "local"


async def test_a_server_that_ends_tells_how(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace) as port:
        websocket = await client(port)
    assert websocket.close_code == 1001
    closed = await homer.closed()
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1001", "local")
    assert closed["Status"] == "SUCCESS"
    assert len(trace.connections) == 0


async def test_a_peer_that_answers_no_ping_is_told(trace: Pipeline, homer: Homer) -> None:
    async with serving(trace, ping_interval=0.05, ping_timeout=0.05, close_timeout=0.05) as port:
        websocket: ClientConnection = await client(port, ping_interval=None)
        websocket.transport.pause_reading()
        closed = await homer.closed()
        websocket.transport.abort()
    (error,) = homer.of("ERROR")
    assert error["Error"] == "ping-timeout"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("1011", "local")


async def test_a_peer_that_answers_no_close_frame_is_told(trace: Pipeline, homer: Homer) -> None:
    async def closing(websocket: ServerConnection) -> None:
        await websocket.recv()
        await websocket.close(4000, "bye")

    async with serving(trace, closing, close_timeout=0.05) as port:
        websocket: ClientConnection = await client(port, ping_interval=None)
        websocket.transport.pause_reading()
        await websocket.send(sip())
        closed = await homer.closed()
        websocket.transport.abort()
    assert homer.of("ERROR")[0]["Error"] == "close-timeout"
    assert (closed["Close_Code"], closed["Closed_By"]) == ("4000", "local")
    assert closed["Status"] == "FAILURE"
    assert len(trace.connections) == 0


async def test_a_connection_class_of_ones_own_is_kept(trace: Pipeline, homer: Homer) -> None:
    class Mine(ServerConnection):
        async def recv(self, decode: bool | None = None) -> Any:
            return f"{await super().recv(decode)}!"

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(await websocket.recv())

    own = traced(trace, Mine, tag="mine")
    async with serving(trace, handler, create_connection=own) as port, client(port) as websocket:
        await websocket.send("x")
        assert await websocket.recv() == "x!"
    await homer.closed()


async def test_a_connection_over_tls_is_told_as_wss(trace: Pipeline, homer: Homer) -> None:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_tls)
    filtered: list[str] = []
    trace.bus.accepted.subscribe(lambda event: filtered.append(str(event.connection.listener)))
    own = traced(trace, tag="edge")
    async with serving(trace, ssl=server_tls, create_connection=own, subprotocols=None) as port:
        url = f"wss://127.0.0.1:{port}"
        async with connect(url, ssl=client_tls, server_hostname="localhost", proxy=None) as one:
            await one.send(sip())
            await one.recv()
        closed = await homer.closed()
    assert (closed["Protocol"], closed["Status"]) == ("WSS", "SUCCESS")
    assert filtered == [f"wss:127.0.0.1:{port} tag edge"]
