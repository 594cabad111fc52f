"""Starting and ending, cancelled anywhere: nothing is left behind, and nobody listens any more."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from sipws import Client, Listener, Server, TransportError
from sipws.events import Accepted, Closed
from sipws.transport.flow import Flow
from sipws.transport.tls import server_context
from sipws.ws.phase import Phase

Serve = Callable[..., Awaitable[tuple[Server, Any]]]


def open_sockets() -> int:
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(link) and "socket:" in os.readlink(link) for link in links)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled_after(count: int, action: Awaitable[object]) -> bool:
    """Begin something, cancel it after some turns of the event loop; whether it was in time."""
    task = asyncio.ensure_future(action)
    await turns(count)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    return server_context(pem)


@pytest.mark.parametrize("count", range(12))
async def test_a_start_that_is_cancelled_leaves_no_listener(
    count: int, tls: ssl.SSLContext
) -> None:
    # Whatever the event loop makes for itself is there.
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
    before = open_sockets()
    server = Server(["ws:127.0.0.1:0", "wss:127.0.0.1:0", "ws:127.0.0.1:0"], tls=tls)
    if not await cancelled_after(count, server.start()):
        await server.aclose()
    await turns(3)
    assert open_sockets() == before


async def dial(address: tuple[str, int], data: bytes) -> socket.socket:
    """A connection that has sent this, and is read by nobody."""
    loop, sock = asyncio.get_running_loop(), socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, data)
    except OSError:
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("spread", [0, 30])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
async def test_an_end_that_is_cancelled_is_an_end(
    serve: Serve, upgrade: bytes, spread: float, count: int
) -> None:
    server, events = await serve()
    address = server.listeners[0].address
    clients = [await dial(address, upgrade) for _ in range(3)]
    await events.wait_for(Accepted, 3)
    cancelled = await cancelled_after(count, server.aclose(grace=30, spread=spread))
    # One that had not begun is asked once more.
    assert cancelled
    if count == 0:
        assert len(server.flows) == 3
        await cancelled_after(1, server.aclose(grace=30, spread=spread))
    await events.wait_for(Closed, 3)
    await turns(3)
    assert len(server.flows) == server.admission.connections == 0
    with pytest.raises(ConnectionRefusedError):
        await dial(address, upgrade)
    await server.aclose()
    for client in clients:
        client.close()


async def test_a_client_whose_end_is_cancelled_drops_its_connections() -> None:
    async with Server(["ws:127.0.0.1:0"]) as server:
        client = Client()
        flow = await client.connect(f"ws://127.0.0.1:{server.listeners[0].port}")
        # A server that does not answer a close.
        for each in server.flows:
            each._transport.pause_reading()
        assert await cancelled_after(5, client.aclose(grace=30))
        assert flow.phase is Phase.CLOSED
        assert len(client.flows) == 0
        with pytest.raises(TransportError, match="this client is closed"):
            await client.connect("ws://127.0.0.1:1")
        await client.aclose()


async def test_ending_twice_at_a_time_does_no_harm(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve()
    client = await dial(server.listeners[0].address, upgrade)
    await events.wait_for(Accepted)
    ends = [asyncio.create_task(server.aclose(grace=0.05)) for _ in range(2)]
    await asyncio.gather(*ends)
    await server.aclose()
    assert len(server.flows) == 0
    client.close()


async def test_serving_ends_with_a_cancellation_that_closes_all(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    client = await dial(server.listeners[0].address, upgrade)
    await events.wait_for(Accepted)
    serving = asyncio.create_task(server.serve_forever(grace=0.05))
    await turns(3)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert len(server.flows) == 0
    assert (await events.wait_for(Closed)).code == 1001
    with pytest.raises(ConnectionRefusedError):
        await dial(server.listeners[0].address, upgrade)
    client.close()


async def test_serving_starts_a_server_and_ends_when_another_task_closes_it() -> None:
    server = Server(["ws:127.0.0.1:0"])
    async with asyncio.timeout(5):
        for _ in range(2):
            serving = asyncio.create_task(server.serve_forever())
            other = asyncio.create_task(server.serve_forever())
            while not server.listeners[0].port or not server._servers:
                await turns(1)
            _, writer = await asyncio.open_connection(*server.listeners[0].address)
            writer.close()
            await server.aclose(grace=0)
            await asyncio.gather(serving, other)


async def test_serving_where_nothing_can_listen_says_so(tls: ssl.SSLContext) -> None:
    async with Server(["ws:127.0.0.1:0"]) as server:
        with pytest.raises(TransportError, match="cannot listen"):
            await Server([server.listeners[0]]).serve_forever()


@pytest.mark.parametrize(
    ("listeners", "problem"),
    [
        ("ws:127.0.0.1:8080", r"is one listener; write Server\(\['ws:127.0.0.1:8080'\], ...\)"),
        (Listener.parse("ws:a:80"), r"write Server\(\['ws:a:80'\], ...\)"),
        (b"ws:a", "is one listener"),
        ([8080], "8080 is not a listener: use a text such as"),
        ([b"ws:a"], "b'ws:a' is not a listener"),
    ],
)
def test_listeners_are_a_list_of_definitions(listeners: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        Server(listeners)


@pytest.mark.parametrize("make", [lambda each: Server([], each), Client])
def test_a_handler_is_callable(make: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="the handler 3 is not callable: a handler is a function"):
        make(3)
    with pytest.raises(TypeError, match=r"'http://a' is not callable.* in connect\(\) or send\(\)"):
        make("http://a")


class Asynchronous:
    async def __call__(self, flow: Flow, message: bytes) -> None: ...


@pytest.mark.parametrize(
    "make", [lambda: Server([], Asynchronous()), lambda: Client(Asynchronous())]
)
def test_an_object_that_would_never_run_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="is a coroutine function: a handler is called"):
        make()


async def never_run(flow: Flow, message: bytes) -> None:
    """A handler as it must not be."""


@pytest.mark.parametrize("make", [lambda: Server([], never_run), lambda: Client(never_run)])
def test_a_handler_that_would_never_run_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="never_run is a coroutine function: a handler is called"):
        make()
