"""A SIP over WebSocket client: connects on demand, one connection for each destination."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakValueDictionary

from websockets.frames import CloseCode

from sipws.address import Listener
from sipws.bus import Bus
from sipws.errors import TransportError
from sipws.events import ErrorKind
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.transport.client_flow import ClientFlow
from sipws.transport.dialer import Dialer, connect_error
from sipws.transport.flow import Flow, Handler
from sipws.transport.flow_context import FlowContext
from sipws.transport.ping_scheduler import PingScheduler
from sipws.transport.reconnect import Backoff, KeptConnection
from sipws.transport.shutdown import orderly_end
from sipws.ws.client_handshake import Offer
from sipws.ws.destination import Destination
from sipws.ws.handshake import SUBPROTOCOL


@dataclass(slots=True)
class _Attempt:
    """A connect in progress, and the number of calls that wait for it."""

    task: "asyncio.Task[ClientFlow]"
    waiters: int = 0


class Client:
    """Opens connections and hands each SIP message that comes in on them to a handler.

    Example::

        def answered(flow: Flow, message: bytes) -> None:
            print(message.decode())

        async with Client(answered) as client:
            await client.send("wss://sip.example.com/ws", b"OPTIONS sip:example.com SIP/2.0…")
            await asyncio.sleep(1)

    Args:
        handler: called with the flow and the message, for each message except keep-alives. It must
            not block. An exception is logged and published as `ErrorOccurred`.
        bus: takes the events. Default: a bus of its own.
        limits: the bounds of each connection.
        tls: the context for ``wss`` destinations. Default: one that trusts the system's authorities
            and checks certificate and name. See `sipws.transport.tls.client_context`.
        subprotocols: the offered ones, in order of preference. Empty offers and requires none, for
            peers that are not SIP servers.
        origin: an ``Origin`` header, for servers that require one, as OpenSIPS and `sipws run` do
            by default.
        headers: more headers for upgrade requests, such as ``Authorization``.
        listener: the listener that connections are opened for, as a definition. A trace filter sees
            it as ``$socket_in``. Default: the local address of the socket.
        compression: whether permessage-deflate is offered (RFC 7692).

    Raises:
        ConfigurationError: a header or a subprotocol must not be sent, or the listener does not
            parse.
        TypeError: the handler cannot be called, or is a coroutine function, which would never run.
    """

    def __init__(
        self,
        handler: Handler = lambda flow, message: None,
        *,
        bus: Bus | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        subprotocols: Sequence[str] = (SUBPROTOCOL,),
        origin: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        listener: Listener | str | None = None,
        compression: bool = False,
    ) -> None:
        self.bus = bus or Bus()
        self.flows: Registry[Flow] = Registry()
        """The connections that are alive."""
        self._context = FlowContext(
            self.bus, handler, limits or Limits(), self.flows, compression=compression
        )
        self._ping_scheduler = PingScheduler(self.flows, self._context.limits.intervals)
        self._dialer = Dialer(self._context, tls)
        self._offer = Offer(tuple(subprotocols), origin, tuple(headers))
        self._listener = Listener.parse(listener) if isinstance(listener, str) else listener
        self._open: dict[Destination, ClientFlow] = {}
        self._attempts: dict[Destination, _Attempt] = {}
        self._locks: WeakValueDictionary[tuple[str, int], asyncio.Lock] = WeakValueDictionary()
        self._kept: set[KeptConnection] = set()
        self._closed = False

    async def connect(self, destination: Destination | str) -> ClientFlow:
        """Return the open connection to a destination, or open a new one.

        Calls during a connect share it. The connect is cancelled with the last of them.

        Args:
            destination: a ``ws:`` or ``wss:`` URL, or a SIP URI with ``transport=ws``.

        Raises:
            AddressError: the destination does not parse.
            ConnectError: the connect failed, which is also published.
            TransportError: the client is closed.
        """
        where = Destination.parse(destination) if isinstance(destination, str) else destination
        if self._closed:
            raise TransportError(f"cannot connect to {where.shown}: this client is closed")
        flow = self._open.get(where)
        if flow is not None and flow.is_open:
            return flow
        attempt = self._attempts.get(where)
        if attempt is None:
            attempt = _Attempt(asyncio.create_task(self._connect(where)))
            self._attempts[where] = attempt
        attempt.waiters += 1
        try:
            return await asyncio.shield(attempt.task)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if attempt.task.cancelled() and not (task and task.cancelling()):
                # The attempt was cancelled, not the caller: this client is being closed.
                kind = ErrorKind.CONNECT_CANCELLED
                raise connect_error(where, kind, "the client was closed meanwhile") from None
            raise
        finally:
            attempt.waiters -= 1
            if not attempt.waiters:
                attempt.task.cancel()
                if self._attempts.get(where) is attempt:
                    del self._attempts[where]

    async def send(
        self, destination: Destination | str, message: bytes, *, text: bool | None = None
    ) -> ClientFlow:
        """Send one SIP message to a destination, over a new connection where none is open.

        Args:
            destination: see `connect`.
            message: the whole message.
            text: as text or as binary; see `Flow.send`.

        Returns:
            the flow of the message, on which the answer will arrive.

        Raises:
            AddressError: the destination does not parse.
            ConnectError: the connect failed.
            TransportError: the client is closed, or the connection is closing.
        """
        flow = await self.connect(destination)
        flow.send(message, text=text)
        return flow

    def keep_connected(
        self, destination: Destination | str, backoff: Backoff | None = None
    ) -> KeptConnection:
        """Connect to a destination, and again after each lost connection and failed connect.

        Args:
            destination: see `connect`.
            backoff: the delay before each try (RFC 6455 section 7.2.3).

        Raises:
            AddressError: the destination does not parse.
            TransportError: the client is closed.
        """
        where = Destination.parse(destination) if isinstance(destination, str) else destination
        if self._closed:
            raise TransportError(f"cannot keep connected to {where.shown}: this client is closed")
        kept = KeptConnection(lambda: self.connect(where), where, backoff or Backoff())
        self._kept.add(kept)
        kept.task.add_done_callback(lambda task: self._kept.discard(kept))
        return kept

    async def aclose(self, grace: float = 5.0) -> None:
        """Cancel connects in progress, and close every connection with 1000.

        Args:
            grace: seconds that servers have to complete the closing handshake. Connections that are
                left then are dropped.

        Cancelling it drops all connections at once. A second call has no effect.
        """
        self._closed = True
        async with orderly_end(self._context, CloseCode.NORMAL_CLOSURE, "client shutdown", grace):
            tasks: list[asyncio.Task[Any]] = [kept.task for kept in self._kept]
            tasks += [attempt.task for attempt in self._attempts.values()]
            for task in tasks:
                task.cancel()
            await self._ping_scheduler.aclose()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _connect(self, where: Destination) -> ClientFlow:
        # RFC 6455 section 4.1: at most one connect to a host and port is in progress.
        self._ping_scheduler.start()
        place = where.host, where.port
        lock = self._locks.setdefault(place, asyncio.Lock())
        async with lock:
            flow = await self._dialer.connect(where, self._offer, self._listener)
        self._open[where] = flow
        flow.when_closed(self._forget)
        return flow

    def _forget(self, flow: ClientFlow) -> None:
        if self._open.get(flow.destination) is flow:
            del self._open[flow.destination]
