"""Peers that leave a connection half open: none holds its descriptor for longer than it may."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from sipws import Limits, Server
from sipws.events import Accepted, Closed, ErrorKind, HandshakeFailed
from sipws.limits import REFUSED_LINGER
from sipws.transport.tls import Certificate, Certificates

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
PATIENT = Limits(handshake_timeout=0.2, close_timeout=60.0)
"""With these a peer that holds its connection as long as `close_timeout` fails its test."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Certificates:
    path = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return Certificates([Certificate(path)])


@pytest.fixture
async def held() -> AsyncIterator[Callable[..., Awaitable[socket.socket]]]:
    """Connections that their clients never close: ``await held(server, data)``."""
    sockets: list[socket.socket] = []

    async def hold(server: Server, data: bytes = b"", room: int | None = None) -> socket.socket:
        loop = asyncio.get_running_loop()
        sockets.append(connected := socket.socket())
        if room is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", server.listeners[0].port))
        await loop.sock_sendall(connected, data)
        return connected

    yield hold
    for each in sockets:
        each.close()


async def all_gone(server: Server) -> None:
    """Wait until the server holds no connection."""
    async with asyncio.timeout(10):
        await server.flows.wait_empty()
    assert server.admission.connections == 0


@pytest.mark.parametrize(
    ("begun", "kind"),
    [
        (b"", ErrorKind.HANDSHAKE_TIMEOUT),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", ErrorKind.HANDSHAKE_TIMEOUT),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ErrorKind.NO_UPGRADE),
        (b"\0", ErrorKind.NOT_HTTP),
    ],
    ids=["silent", "half a request", "no upgrade", "no HTTP"],
)
async def test_a_refused_peer_that_never_closes_is_gone(
    serve: Serve, held: Any, begun: bytes, kind: ErrorKind
) -> None:
    server, events = await serve(limits=PATIENT)
    await held(server, begun)
    assert (await events.wait_for(HandshakeFailed)).kind is kind
    await all_gone(server)


async def test_a_refused_peer_that_talks_on_is_gone(serve: Serve, held: Any) -> None:
    server, events = await serve(limits=PATIENT)
    peer = await held(server, b"GET / HTTP/1.1\r\n")
    gone = asyncio.create_task(all_gone(server))
    while not gone.done():
        try:
            peer.send(b"X")
        except ConnectionError:
            break
        await asyncio.wait([gone], timeout=0.01)
    await gone
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.HANDSHAKE_TIMEOUT


async def test_a_refused_peer_within_tls_is_gone(
    serve: Serve, tls: Certificates, authority: trustme.CA
) -> None:
    server, events = await serve(limits=PATIENT, listen="wss:127.0.0.1:0", tls=tls)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    # What the server writes is read, and its end of TLS never answered.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    port = server.listeners[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write(outgoing.read())
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.NO_UPGRADE
    await all_gone(server)
    writer.close()


async def test_a_refused_peer_may_read_why_before_it_closes(serve: Serve, held: Any) -> None:
    server, events = await serve(limits=PATIENT)
    peer = await held(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await events.wait_for(HandshakeFailed)
    # Bytes on their way to us do not take the answer with them.
    peer.send(b"X" * 1000)
    async with asyncio.timeout(5):
        answer = await asyncio.get_running_loop().sock_recv(peer, 65536)
    assert answer.startswith(b"HTTP/1.1 426 ")


async def test_a_peer_that_ends_its_side_and_reads_nothing_is_gone(
    serve: Serve, held: Any, upgrade: bytes
) -> None:
    # Below 64 KiB that wait no peer counts as one that does not keep up.
    server, events = await serve(limits=Limits(close_timeout=0.2, send_timeout=60.0))
    peer = await held(server, upgrade, room=4096)
    await events.wait_for(Accepted)
    flow = next(iter(server.flows))
    while not flow.unsent_bytes:
        flow.send(b"x" * 4096)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not flow.is_stalled
    peer.shutdown(socket.SHUT_WR)
    await events.wait_for(Closed)
    await all_gone(server)


def test_a_refused_peer_has_less_than_a_second() -> None:
    assert 0 < REFUSED_LINGER < 1
