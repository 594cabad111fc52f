"""Connections without sockets, and servers on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sipws import Address, Limits, Listener, Server
from sipws.admission import Rules
from sipws.events import Connection, Event
from sipws.flow import Flow
from sipws.server_session import ServerSession
from sipws.tls import Certificates

UPGRADE = (
    b"GET / HTTP/1.1\r\n"
    b"Host: sip.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n"
    b"\r\n"
)


@pytest.fixture
def upgrade() -> bytes:
    """An upgrade request that is accepted; RFC 6455's sample key, so the answer is known."""
    return UPGRADE


@pytest.fixture
def connection() -> Connection:
    return Connection(
        id=7,
        listener=Listener.parse("ws:10.0.0.1:8080"),
        local=Address("10.0.0.1", 8080),
        peer=Address("192.0.2.5", 50123),
        started=1000.0,
    )


@pytest.fixture
def session(connection: Connection) -> ServerSession:
    # In how many pieces messages come is for tests of its own to count.
    return ServerSession(connection, Limits(max_chunks=0))


@pytest.fixture
def open_session(session: ServerSession, upgrade: bytes) -> ServerSession:
    """A session whose handshake is done and whose answer has been taken."""
    session.receive(upgrade, 1000.5)
    session.take_writes()
    return session


class Recorder:
    """Every event of a server's bus, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._arrived.set()

    def of(self, *event_types: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, event_types)]

    async def wait_for(self, event_type: type[Any], count: int = 1) -> Any:
        """Wait until so many events of a type have come; returns the last of them."""
        async with asyncio.timeout(5):
            while len(found := self.of(event_type)) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return found[count - 1]


Serve = Callable[..., Awaitable[tuple[Server, Recorder]]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers on free loopback ports: ``server, events = await serve(handler, …)``."""
    async with AsyncExitStack() as stack:

        async def start(
            handler: Callable[[Flow, bytes], object] = lambda flow, message: None,
            *,
            listen: str = "ws:127.0.0.1:0",
            limits: Limits | None = None,
            rules: Rules | None = None,
            tls: Certificates | None = None,
            compression: bool = False,
        ) -> tuple[Server, Recorder]:
            server = Server(
                [listen], handler, limits=limits, rules=rules, tls=tls, compression=compression
            )
            recorder = Recorder()
            server.bus.subscribe(recorder)
            await stack.enter_async_context(server)
            return server, recorder

        yield start
