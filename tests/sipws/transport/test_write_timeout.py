"""Peers that take what is sent to them slowly, or not at all."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.frames import Frame, Opcode

from sipws import ConnectionClosedError, Limits, Server
from sipws.events import ErrorKind, ErrorOccurred, MessageReceived
from sipws.transport.flow import Flow
from sipws.transport.tls import Certificate, Certificates
from sipws.transport.write_timeout import MOST_WAITING

Serve = Callable[..., Awaitable[tuple[Server, Any]]]

PATIENCE = 0.3
"""What the tests' servers have for a send timeout: with OpenSIPS' default, a processor that is busy
elsewhere is taken for a peer that takes nothing."""

CHUNK = bytes(50_000)


class Peer:
    """A client that reads no more than it is told to, and a flow to it that stalls early."""

    def __init__(self, connected: socket.socket, flow: Flow, events: Any) -> None:
        self.connected = connected
        self.flow = flow
        self.events = events

    async def read(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        while size > 0:
            size -= len(await loop.sock_recv(self.connected, min(size, 1 << 16)))


Connect = Callable[[], Awaitable[Peer]]


@pytest.fixture(params=["ws", "wss"])
async def connect(
    serve: Serve, upgrade: bytes, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Connect]:
    """Over TLS the bytes are not decrypted: how fast they are taken is what matters."""
    authority = trustme.CA()
    pem, trust = tmp_path / "server.pem", ssl.create_default_context()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.configure_trust(trust)
    sockets: list[socket.socket] = []

    async def start() -> Peer:
        flows: list[Flow] = []
        server, events = await serve(
            lambda flow, message: flows.append(flow),
            listen=f"{request.param}:127.0.0.1:0",
            limits=Limits(send_timeout=PATIENCE),
            tls=Certificates([Certificate(pem)]) if request.param == "wss" else None,
        )
        connected = socket.socket()
        sockets.append(connected)
        # Or the system takes megabytes for a peer that reads nothing.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hello = upgrade + Frame(Opcode.TEXT, b"OPTIONS sip:x SIP/2.0\r\n\r\n").serialize(mask=True)

        def greet() -> socket.socket:
            connected.connect(server.listeners[0].address)
            if request.param == "ws":
                connected.sendall(hello)
                return connected
            secure = trust.wrap_socket(connected, server_hostname="127.0.0.1")
            secure.sendall(hello)
            # What comes is read as it is.
            return socket.socket(fileno=secure.detach())

        plain = await asyncio.to_thread(greet)
        sockets.append(plain)
        plain.setblocking(False)
        await events.wait_for(MessageReceived)
        return Peer(plain, flows[0], events)

    yield start
    for each in sockets:
        each.close()


async def test_a_slow_peer_is_waited_for_and_not_dropped(connect: Connect) -> None:
    peer = await connect()
    while not peer.flow.is_stalled:
        peer.flow.send(CHUNK)
    # With TLS as without it.
    assert peer.flow.unsent_bytes < MOST_WAITING + 2 * len(CHUNK)
    drained = asyncio.create_task(peer.flow.drain())
    # It takes a little at a time, and never so much that all that waits is gone in time.
    for _ in range(20):
        await asyncio.wait([drained], timeout=PATIENCE / 6)
        await peer.read(2000)
    assert not drained.done()
    assert peer.flow.is_open
    drained.cancel()


async def test_a_peer_that_takes_nothing_is_dropped_and_who_waits_is_told(
    connect: Connect,
) -> None:
    peer = await connect()
    await peer.flow.drain()
    while not peer.flow.is_stalled:
        peer.flow.send(CHUNK)
    stalled_at = asyncio.get_running_loop().time()
    waiting = [asyncio.create_task(peer.flow.drain()) for _ in range(2)]
    given_up = asyncio.create_task(peer.flow.drain())
    await asyncio.wait([given_up], timeout=0)
    given_up.cancel()
    for each in waiting:
        with pytest.raises(ConnectionClosedError, match="nothing can be sent"):
            await each
    assert PATIENCE <= asyncio.get_running_loop().time() - stalled_at < 10 * PATIENCE
    error = await peer.events.wait_for(ErrorOccurred)
    assert error.kind is ErrorKind.SEND_TIMEOUT
    assert error.detail == "the peer took no bytes for 300 ms"


async def test_a_peer_that_has_caught_up_is_read_again(connect: Connect) -> None:
    peer = await connect()
    while not peer.flow.is_stalled:
        peer.flow.send(CHUNK)
    reading = asyncio.create_task(peer.read(1 << 40))
    await peer.flow.drain()
    reading.cancel()
    await asyncio.wait([reading])
    assert not peer.flow.is_stalled
    peer.flow.send(b"more")
    assert not peer.events.of(ErrorOccurred)
