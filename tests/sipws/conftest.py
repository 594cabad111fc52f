"""Connections without sockets, and servers on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from sipws import Address, Limits, Listener, Relay, Server
from sipws.admission.admission import Rules
from sipws.events import Accepted, Connection, Event, Side
from sipws.transport.flow import Flow
from sipws.transport.tls import Certificates
from sipws.ws.server_session import ServerSession

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
        started_monotonic=1.0,
    )


@pytest.fixture
def session(connection: Connection) -> ServerSession:
    # In how many pieces messages come is for tests of its own to count.
    return ServerSession(connection, Limits(max_chunks=0), monotonic=lambda: 5.0)


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

    async def wait_for(
        self, event_type: type[Any], count: int = 1, opened_by: Side | None = None
    ) -> Any:
        """Wait until so many events of a type have come; returns the last of them.

        Those of connections that one side has opened, where that is said.
        """
        async with asyncio.timeout(10):
            while (
                len(
                    found := [
                        event
                        for event in self.of(event_type)
                        if opened_by in (None, event.connection.opened_by)
                    ]
                )
                < count
            ):
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
            health_path: str | None = None,
        ) -> tuple[Server, Recorder]:
            server = Server(
                [listen],
                handler,
                limits=limits,
                rules=rules,
                tls=tls,
                compression=compression,
                health_path=health_path,
            )
            recorder = Recorder()
            server.bus.subscribe(recorder)
            await stack.enter_async_context(server)
            return server, recorder

        yield start


@dataclass
class Relayed:
    """A server that relays, and mostly the one behind it; what happened on them."""

    front: Server
    relay: Relay
    told: Recorder
    stack: AsyncExitStack
    told_upstream: Recorder = field(default_factory=Recorder)
    flows: list[Flow] = field(default_factory=list)
    """The upstream's, in the order in which they opened."""

    async def phone(self, path: str = "/", **options: Any) -> ClientConnection:
        """A client that is connected, though not to the upstream yet."""
        return await self.stack.enter_async_context(
            connect(
                f"ws://127.0.0.1:{self.front.listeners[0].port}{path}",
                subprotocols=[Subprotocol("sip")],
                compression=None,
                ping_interval=None,
                **options,
            )
        )

    @staticmethod
    async def end_of(phone: ClientConnection) -> tuple[int, str]:
        """Read until a client's connection is closed; returns code and reason."""
        async with asyncio.timeout(10):
            with suppress(ConnectionClosed):
                while True:
                    await phone.recv()
        return phone.close_code or 0, phone.close_reason or ""


@pytest.fixture
async def relayed(serve: Serve) -> AsyncIterator[Callable[..., Awaitable[Relayed]]]:
    """Start both: ``both = await relayed(handler, limits=…)``.

    With ``upstream=`` it relays to a place of one's own.
    """
    async with AsyncExitStack() as stack:

        async def start(
            handler: Callable[[Flow, bytes], object] = lambda flow, message: flow.send(message),
            *,
            upstream: str | None = None,
            path: str = "",
            limits: Limits | None = None,
            upstream_limits: Limits | None = None,
            **relay_options: Any,
        ) -> Relayed:
            told_upstream, flows = Recorder(), []
            if upstream is None:
                behind, told_upstream = await serve(handler, limits=upstream_limits)
                upstream = f"ws://127.0.0.1:{behind.listeners[0].port}{path}"

                def came(event: Accepted) -> None:
                    flows.append(behind.flows.get(event.connection.id))

                behind.bus.accepted.subscribe(came)
            relay = Relay(upstream, **relay_options)
            front = Server(["ws:127.0.0.1:0"], relay=relay, limits=limits)
            told = Recorder()
            front.bus.subscribe(told)
            await stack.enter_async_context(front)
            clients = await stack.enter_async_context(AsyncExitStack())
            return Relayed(front, relay, told, clients, told_upstream, flows)

        yield start
