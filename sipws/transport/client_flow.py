"""A connection that we opened, as an asyncio protocol."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sipws.address import Listener, address_of_socket
from sipws.events import (
    Closed,
    Connected,
    Connection,
    ConnectionOpened,
    ErrorKind,
    Event,
    HandshakeFailed,
    MessageReceived,
)
from sipws.sip import flow_timer
from sipws.transport.flow import Flow
from sipws.transport.flow_context import FlowContext
from sipws.transport.write_timeout import bound_waiting
from sipws.ws.client_handshake import Offer
from sipws.ws.client_session import ClientSession
from sipws.ws.destination import Destination
from sipws.ws.phase import CLOSED


class _Opening(NamedTuple):
    """What is needed until there is a socket."""

    attempt: Connection
    offer: Offer
    listener: Listener | None


class ClientFlow(Flow):
    """A flow that we opened; the application gets it after its handshake.

    Args:
        attempt: the connection's identity, as far as it is known before there is a socket.
        destination: the server to connect to.
        offer: the contents of the upgrade request.
        context: what all flows of the client share.
        listener: the listener that the connection is opened for; None for the local address of the
            socket.
    """

    __slots__ = (
        "_cancelled",
        "_ended",
        "_opening",
        "answered",
        "destination",
        "made",
    )

    def __init__(
        self,
        attempt: Connection,
        destination: Destination,
        offer: Offer,
        context: FlowContext[Flow],
        listener: Listener | None = None,
    ) -> None:
        super().__init__(attempt.listener, context)
        self.destination = destination
        """The server that the connection goes to."""
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[HandshakeFailed | None] = loop.create_future()
        """Done when the handshake is: None on success, otherwise the failure."""
        self.made = False
        """Whether TCP, and TLS if used, were established."""
        self._cancelled = False
        self._ended: asyncio.Future[Closed] = loop.create_future()
        self._opening: _Opening | None = _Opening(attempt, offer, listener)

    async def wait_closed(self) -> Closed:
        """Wait until the connection is gone.

        Returns:
            how it ended.
        """
        return await asyncio.shield(self._ended)

    def when_closed(self, callback: Callable[["ClientFlow"], object]) -> None:
        """Call a function with this flow when the connection is gone."""
        self._ended.add_done_callback(lambda ended: callback(self))

    def cancel(self) -> None:
        """Drop the connection, also one that is established later."""
        self._cancelled = True
        if self.made:
            self.abort(ErrorKind.CONNECT_CANCELLED, "the connect was cancelled")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the upgrade request."""
        # A cast would be a call.
        self._transport = transport  # type: ignore[assignment]
        opening, self._opening = self._opening, None
        if self._cancelled or opening is None:
            self._transport.abort()
            return
        self.made = True
        bound_waiting(self._transport)
        context, now = self._context, self._context.clock()
        local = address_of_socket(transport.get_extra_info("sockname"))
        # A socket that the peer has reset meanwhile has no peer any more.
        peer = transport.get_extra_info("peername")
        connection = replace(
            opening.attempt,
            listener=opening.listener or Listener(self.destination.proto, *local),
            local=local,
            peer=address_of_socket(peer) if peer else opening.attempt.peer,
            started=now,
            started_monotonic=context.monotonic(),
        )
        session = ClientSession(
            connection,
            context.limits,
            self.destination,
            opening.offer,
            compression=context.compression,
            monotonic=context.monotonic,
        )
        self._session = session
        context.registry.add(self)
        self._act([ConnectionOpened(connection, now), *session.start(now)])

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session if it is not over, and remove the connection from the registry."""
        if self.made:
            super().connection_lost(exc)

    def _deliver(self, event: MessageReceived) -> None:
        if (seconds := flow_timer(event.data)) is not None:
            self._liveness_at(asyncio.get_running_loop().time()).expect(seconds)
        super()._deliver(event)

    def _act(self, events: Sequence[Event]) -> None:
        super()._act(events)
        if self.answered.done() and self._session.phase is not CLOSED:
            # The rest is about the handshake and the end.
            return
        for event in events:
            match event:
                case Connected() if not self.answered.done():
                    self.answered.set_result(None)
                case HandshakeFailed() if not self.answered.done():
                    self.answered.set_result(event)
                case Closed():
                    self._ended.set_result(event)
        if self._session.phase is CLOSED and not self._session.accepted:
            # Nothing else of a failed handshake is read, and no peer may hold the socket.
            self._transport.abort()
