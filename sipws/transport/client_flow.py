"""A connection that we opened, as an asyncio protocol."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

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


class ClientFlow(Flow):
    """A flow that we opened; an application gets it when its handshake is done.

    Args:
        attempt: the connection's identity, as far as it is known before there is a socket.
        destination: where to.
        offer: what the upgrade request holds.
        shared: what all flows of a client share.
        listener: what the connection is opened for; None for our end of the socket.
    """

    __slots__ = (
        "_attempt",
        "_ended",
        "_given_up",
        "_listener_of",
        "_offer",
        "answered",
        "destination",
        "made",
    )

    def __init__(
        self,
        attempt: Connection,
        destination: Destination,
        offer: Offer,
        shared: FlowContext,
        listener: Listener | None = None,
    ) -> None:
        super().__init__(attempt.listener, shared)
        self.destination = destination
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[HandshakeFailed | None] = loop.create_future()
        """Done when the handshake is: with how it failed, or with None."""
        self.made = False
        """Whether TCP, and TLS where it is used, stood."""
        self._given_up = False
        self._ended: asyncio.Future[Closed] = loop.create_future()
        self._attempt = attempt
        self._offer = offer
        self._listener_of = listener

    async def wait_closed(self) -> Closed:
        """Wait until the connection is gone; returns how it ended."""
        return await asyncio.shield(self._ended)

    def when_closed(self, callback: Callable[["ClientFlow"], object]) -> None:
        """Call back when the connection is gone."""
        self._ended.add_done_callback(lambda ended: callback(self))

    def give_up(self) -> None:
        """Drop the connection, or what may become of it."""
        self._given_up = True
        if self.made:
            self.abort(ErrorKind.CONNECT_CANCELLED, "the connect was given up")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the upgrade request."""
        self._transport = cast("asyncio.Transport", transport)
        if self._given_up:
            self._transport.abort()
            return
        self.made = True
        bound_waiting(self._transport)
        now = self._shared.clock()
        local = address_of_socket(transport.get_extra_info("sockname"))
        # A socket that the peer has reset meanwhile has no peer any more.
        peer = transport.get_extra_info("peername")
        connection = replace(
            self._attempt,
            listener=self._listener_of or Listener(self.destination.proto, *local),
            local=local,
            peer=address_of_socket(peer) if peer else self._attempt.peer,
            started=now,
            started_monotonic=self._shared.monotonic(),
        )
        session = ClientSession(
            connection,
            self._shared.limits,
            self.destination,
            self._offer,
            compression=self._shared.compression,
            monotonic=self._shared.monotonic,
        )
        self._session = session
        self._shared.registry.add(self)
        self._act([ConnectionOpened(connection, now), *session.start(now)])

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session where nothing else has, and forget the connection."""
        if self.made:
            super().connection_lost(exc)

    def _deliver(self, event: MessageReceived) -> None:
        if (seconds := flow_timer(event.data)) is not None:
            self._liveness_now(asyncio.get_running_loop().time()).expect(seconds)
        super()._deliver(event)

    def _act(self, events: Sequence[Event]) -> None:
        super()._act(events)
        if self.answered.done() and self._session.phase is not CLOSED:
            # Of messages nobody here wants to know.
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
            # Nothing of what is on the way matters any more, and no peer is to hold the socket.
            self._transport.abort()
