"""The client over real sockets on loopback, against our own server and another."""

import asyncio
import gc
import os
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.typing import Subprotocol

from sipws import (
    Client,
    ConfigurationError,
    ConnectError,
    ConnectionClosedError,
    Limits,
    Server,
    TransportError,
)
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    ConnectionOpened,
    ConnectStarted,
    ErrorKind,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    MessageReceived,
    MessageSent,
    Side,
)
from sipws.transport.flow import Flow
from sipws.transport.tls import client_context, server_context

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
MESSAGE = b"OPTIONS sip:example.com SIP/2.0\r\nCall-ID: 1\r\n\r\n"


def url(server: Server, path: str = "/") -> str:
    return f"ws://127.0.0.1:{server.listeners[0].port}{path}"


def echo(flow: Flow, message: bytes) -> None:
    flow.send(message)


class Received:
    """A handler that keeps what it is called with."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[Flow, bytes]] = asyncio.Queue()

    def __call__(self, flow: Flow, message: bytes) -> None:
        self.messages.put_nowait((flow, message))

    async def next(self) -> tuple[Flow, bytes]:
        async with asyncio.timeout(5):
            return await self.messages.get()


Open = Callable[..., Awaitable[tuple[Client, Received, list[Any]]]]


@pytest.fixture
async def open_client() -> AsyncIterator[Open]:
    """Clients: ``client, received, events = await open_client(limits=…)``."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> tuple[Client, Received, list[Any]]:
            received, events = Received(), []
            client = Client(received, **options)
            client.bus.subscribe(events.append)
            await stack.enter_async_context(client)
            return client, received, events

        yield start


async def test_the_whole_life_of_a_connection_that_we_open_is_told_in_order(
    serve: Serve, open_client: Open
) -> None:
    server, at_server = await serve(echo)
    client, received, events = await open_client()
    flow = await client.send(url(server, "/ws"), MESSAGE)
    assert await received.next() == (flow, MESSAGE)
    flow.close(1000, "done")
    closed = await flow.wait_closed()
    assert [type(event) for event in events] == [
        ConnectStarted,
        ConnectionOpened,
        HandshakeRequest,
        HandshakeReply,
        Connected,
        MessageSent,
        MessageReceived,
        Closed,
    ]
    assert len({event.connection.id for event in events}) == 1
    assert {event.connection for event in events[1:]} == {flow.connection}
    connection, accepted = flow.connection, await at_server.wait_for(Accepted)
    assert (connection.local, connection.peer) == (
        accepted.connection.peer,
        accepted.connection.local,
    )
    assert (connection.opened_by, accepted.connection.opened_by) == (Side.LOCAL, Side.PEER)
    assert connection.destination == url(server, "/ws")
    assert (events[4].request, events[4].reply) == (accepted.request, accepted.reply)
    assert (closed.code, closed.reason, closed.closed_by, closed.clean) == (
        *(1000, "done"),
        *(Side.LOCAL, True),
    )
    assert (closed.messages_in, closed.messages_out) == (1, 1)


async def test_the_websockets_library_serves_us_too(open_client: Open) -> None:
    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    client, received, _ = await open_client()
    async with serve_websockets(answer, "127.0.0.1", 0, subprotocols=[Subprotocol("sip")]) as other:
        port = next(iter(other.sockets)).getsockname()[1]
        flow = await client.send(f"ws://127.0.0.1:{port}/", MESSAGE)
        assert await received.next() == (flow, MESSAGE)
        flow.send(b"\xff")
        assert await received.next() == (flow, b"\xff")
        flow.close()
        assert (await flow.wait_closed()).clean


async def test_calls_during_a_connect_share_it_and_later_ones_the_connection(
    serve: Serve, open_client: Open
) -> None:
    server, at_server = await serve(echo)
    client, received, _ = await open_client()
    flows = await asyncio.gather(*(client.send(url(server), MESSAGE) for _ in range(5)))
    flows.append(await client.connect(f"sip:127.0.0.1:{server.listeners[0].port};transport=ws"))
    assert {flow.connection for flow in flows} == {flows[0].connection}
    for _ in range(5):
        assert await received.next() == (flows[0], MESSAGE)
    assert len(at_server.of(Accepted)) == 1


async def test_another_path_is_another_connection(serve: Serve, open_client: Open) -> None:
    server, _ = await serve()
    client, _, _ = await open_client()
    one, other = await asyncio.gather(
        client.connect(url(server, "/a")), client.connect(url(server, "/b"))
    )
    assert one is not other
    assert len(client.flows) == 2


async def test_to_one_place_one_connection_is_in_the_making_at_a_time(
    serve: Serve, open_client: Open
) -> None:
    # RFC 6455 section 4.1, where it tells of the handshake's step 2.
    server, _ = await serve()
    client, _, events = await open_client()
    await asyncio.gather(*(client.connect(url(server, f"/{n}")) for n in range(4)))
    steps = [type(e) for e in events if isinstance(e, ConnectStarted | Connected)]
    assert steps == [ConnectStarted, Connected] * 4


async def test_a_lost_connection_is_opened_again_on_demand(serve: Serve, open_client: Open) -> None:
    server, _ = await serve(echo)
    client, received, _ = await open_client()
    flow = await client.connect(url(server))
    [at_the_server] = server.flows
    at_the_server.abort(ErrorKind.CONNECTION_LOST, "the test cuts the connection")
    assert (await flow.wait_closed()).code == 1006
    with pytest.raises(ConnectionClosedError):
        flow.send(MESSAGE)
    again = await client.send(url(server), MESSAGE)
    assert again is not flow
    assert await received.next() == (again, MESSAGE)


async def test_the_server_can_send_to_a_connection_and_to_a_flow_token(
    serve: Serve, open_client: Open
) -> None:
    server, _ = await serve()
    client, received, _ = await open_client()
    flow = await client.connect(url(server))
    [at_the_server] = server.flows
    server.send(at_the_server.connection.id, MESSAGE)
    assert await received.next() == (flow, MESSAGE)
    server.send(at_the_server.token, MESSAGE)
    assert await received.next() == (flow, MESSAGE)
    assert client.flows.by_token(flow.token) is flow
    for target in (flow.connection.id, "made-up", at_the_server.token[:-1]):
        with pytest.raises(ConnectionClosedError, match="no connection is alive"):
            server.send(target, MESSAGE)


async def test_headers_origin_and_subprotocols_go_out(serve: Serve, open_client: Open) -> None:
    server, at_server = await serve()
    client, _, _ = await open_client(
        origin="https://a.example", headers=[("X-Token", "t")], subprotocols=["sip", "other"]
    )
    await client.connect(url(server))
    request = (await at_server.wait_for(Accepted)).request
    assert b"\r\nOrigin: https://a.example\r\n" in request
    assert b"\r\nX-Token: t\r\n" in request
    assert b"\r\nSec-WebSocket-Protocol: sip, other\r\n" in request


async def test_ipv6_is_spoken(serve: Serve, open_client: Open) -> None:
    try:
        server, _ = await serve(echo, listen="ws:[::1]:0")
    except TransportError as exc:
        pytest.skip(f"no IPv6 here: {exc}")
    client, received, _ = await open_client()
    flow = await client.send(f"ws://[::1]:{server.listeners[0].port}/", MESSAGE)
    assert await received.next() == (flow, MESSAGE)
    assert flow.connection.peer == ("::1", server.listeners[0].port)


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_server(authority: trustme.CA, tmp_path: Path) -> Callable[[str], Server]:
    def make(name: str) -> Server:
        path = tmp_path / "server.pem"
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(path)
        return Server(["wss:127.0.0.1:0"], echo, tls=server_context(path))

    return make


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


async def test_wss_works_with_an_authority_of_our_own(
    tls_server: Callable[[str], Server], authority_file: Path, open_client: Open
) -> None:
    client, received, _ = await open_client(tls=client_context(authority_file))
    async with tls_server("127.0.0.1") as server:
        port = server.listeners[0].port
        flow = await client.send(f"sips:127.0.0.1:{port};transport=ws", MESSAGE)
        assert await received.next() == (flow, MESSAGE)
        assert flow.connection.destination == f"wss://127.0.0.1:{port}/"
        assert flow.connection.listener.proto == "wss"
        flow.close()
        await flow.wait_closed()


async def test_a_certificate_of_an_unknown_authority_is_refused(
    tls_server: Callable[[str], Server], open_client: Open
) -> None:
    client, _, events = await open_client()
    async with tls_server("127.0.0.1") as server:
        with pytest.raises(ConnectError) as failed:
            await client.connect(f"wss://127.0.0.1:{server.listeners[0].port}/")
    assert failed.value.kind is ErrorKind.TLS_FAILURE
    assert "certificate is not accepted" in str(failed.value)
    assert "sipws.tls.client_context" in failed.value.remedy
    assert isinstance(failed.value.__cause__, ssl.SSLCertVerificationError)
    assert [type(event) for event in events] == [ConnectStarted, ConnectFailed]
    assert events[1].connection.local.port != 0
    assert events[1].connection.peer.port == server.listeners[0].port


async def test_reading_the_systems_authorities_holds_nobody_up(
    tls_server: Callable[[str], Server],
    authority_file: Path,
    open_client: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []

    def read() -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return client_context(authority_file)

    monkeypatch.setattr("sipws.transport.dialer.client_context", read)
    client, _, _ = await open_client()
    async with tls_server("127.0.0.1") as server:
        for path in ("a", "b"):
            await client.connect(f"wss://127.0.0.1:{server.listeners[0].port}/{path}")
    [thread] = threads
    assert thread is not threading.current_thread()


async def test_a_certificate_for_another_name_is_refused(
    tls_server: Callable[[str], Server], authority_file: Path, open_client: Open
) -> None:
    client, _, _ = await open_client(tls=client_context(authority_file))
    async with tls_server("sip.example.com") as server:
        with pytest.raises(ConnectError, match=r"certificate is not accepted.*not valid for"):
            await client.connect(f"wss://127.0.0.1:{server.listeners[0].port}/")


async def test_a_port_without_tls_is_told_as_that(serve: Serve, open_client: Open) -> None:
    server, _ = await serve()
    client, _, _ = await open_client()
    with pytest.raises(ConnectError, match=r"TLS: .*check that the port speaks TLS") as failed:
        await client.connect(url(server).replace("ws:", "wss:"))
    assert failed.value.kind is ErrorKind.TLS_FAILURE


async def test_an_authority_that_cannot_be_read_is_a_clear_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigurationError, match=name):
            client_context(tmp_path / name)


# The end.


async def test_closing_says_goodbye_to_every_server(serve: Serve) -> None:
    server, at_server = await serve()
    async with Client() as client:
        flow = await client.connect(url(server))
    assert (await flow.wait_closed()).clean
    closed = await at_server.wait_for(Closed)
    assert (closed.code, closed.reason, closed.closed_by) == (1000, "client shutdown", Side.PEER)
    for call in (client.connect(url(server)), client.send(url(server), MESSAGE)):
        with pytest.raises(TransportError, match="this client is closed"):
            await call


async def test_a_server_that_does_not_close_is_dropped(open_client: Open) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from websockets.server import ServerProtocol

        engine = ServerProtocol(subprotocols=[Subprotocol("sip")])
        engine.receive_data(await reader.readuntil(b"\r\n\r\n"))
        [request] = engine.events_received()
        engine.send_response(engine.accept(request))
        writer.writelines(engine.data_to_send())
        await reader.read()
        writer.close()

    bad = await asyncio.start_server(answer, "127.0.0.1", 0)
    client, _, _ = await open_client()
    async with bad:
        flow = await client.connect(f"ws://127.0.0.1:{bad.sockets[0].getsockname()[1]}/")
        await client.aclose(grace=0.01)
        closed = await flow.wait_closed()
    assert (closed.code, closed.clean, closed.closed_by) == (1000, False, Side.LOCAL)


async def test_nothing_is_left_behind(serve: Serve) -> None:
    server, _ = await serve(echo)
    gc.collect()
    tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        async with Client() as client:
            await client.send(url(server), MESSAGE)
    async with Client() as client:
        for _ in range(20):
            with pytest.raises(ConnectError):
                await client.connect("ws://127.0.0.1:1/")
    await server.flows.wait_empty()
    assert len(asyncio.all_tasks()) == tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_the_limits_hold_for_a_client_too(serve: Serve, open_client: Open) -> None:
    server, _ = await serve()
    client, _, _ = await open_client(limits=Limits(message_size=10))
    flow = await client.connect(url(server))
    [at_the_server] = server.flows
    at_the_server.send(MESSAGE)
    assert (await flow.wait_closed()).code == 1009


async def test_a_refusal_of_our_own_server_is_understood(serve: Serve, open_client: Open) -> None:
    server, _ = await serve()
    client, _, events = await open_client(subprotocols=["other"])
    with pytest.raises(ConnectError) as failed:
        await client.connect(url(server))
    assert (failed.value.kind, failed.value.status) == (ErrorKind.HANDSHAKE_REFUSED, 400)
    assert "400 Bad Request: the WebSocket subprotocol 'sip' must be offered" in str(failed.value)
    assert failed.value.reply == next(e.reply for e in events if isinstance(e, HandshakeFailed))
