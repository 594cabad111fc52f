"""The two connections of a relayed client, and what one passes to the other."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from websockets.frames import CloseCode

from sipws.address import Listener
from sipws.errors import ConnectionClosedError
from sipws.events import (
    Accepted,
    Closed,
    Connection,
    ErrorKind,
    ErrorOccurred,
    Event,
    MessageReceived,
)
from sipws.limits import Limits
from sipws.masking.handshakes import USUAL
from sipws.relay.close_codes import CloseReason, End, to_client, to_upstream
from sipws.request import UpgradeRequest
from sipws.transport.client_flow import ClientFlow
from sipws.transport.flow import Flow
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.ws.client_handshake import Offer
from sipws.ws.destination import Destination
from sipws.ws.handshake import Refusal
from sipws.ws.phase import OPEN
from sipws.ws.session import Session

MOST_WAITING: Final = 32
"""Messages that may wait for the upstream: a phone sends a REGISTER and waits for its answer. Their
total size is limited to that of a single message (`Limits.message_size`)."""


class Pair:
    """A client's connection and its upstream connection: messages of one are sent on the other.

    Args:
        client: the connection of the client.
        dial: starts to connect to the upstream.
    """

    __slots__ = (
        "_client_ended",
        "_dial",
        "_dialling",
        "_upstream_close",
        "_upstream_ended",
        "_waiting",
        "_waiting_bytes",
        "client",
        "is_text",
        "subprotocols",
        "upstream",
    )

    def __init__(self, client: "ClientLeg", dial: "Callable[[Pair], asyncio.Task[None]]") -> None:
        self.client = client
        self.upstream: UpstreamLeg | None = None
        """None until its handshake is done."""
        self.subprotocols: tuple[str, ...] = ()
        """The subprotocols that were agreed on with the client."""
        self.is_text = True
        """Whether the message that is handled now is a text message."""
        self._dial = dial
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: list[tuple[bytes, bool]] = []
        self._waiting_bytes = 0
        self._client_ended = self._upstream_ended = False
        # How to close the upstream after the waiting messages, if the client has left meanwhile.
        self._upstream_close: CloseReason | None = None

    def other(self, leg: "Leg") -> "Leg | None":
        """The other connection of the pair."""
        return self.upstream if leg is self.client else self.client

    # Messages.

    def carry(self, leg: "Leg", message: bytes) -> None:
        """Send a message that arrived on one connection on the other.

        Raises:
            ConnectionClosedError: the other is closing or closed.
        """
        if (other := self.other(leg)) is not None:
            other.send(message, text=self.is_text)
        elif self.client.is_open:
            self._wait(message)

    def _wait(self, message: bytes) -> None:
        size = self._waiting_bytes + len(message)
        if len(self._waiting) < MOST_WAITING and size <= self.client.limits.message_size:
            self._waiting.append((message, self.is_text))
            self._waiting_bytes = size
            return
        detail = "too many messages wait for the upstream"
        self._drop_client(
            ErrorKind.UPSTREAM_QUEUE_FULL,
            f"{detail}: {MOST_WAITING} messages, {self.client.limits.message_size} bytes",
            CloseReason(CloseCode.TRY_AGAIN_LATER, detail),
        )

    # From start to end.

    def begin(self, subprotocols: tuple[str, ...]) -> None:
        """Connect to the upstream, now that the client's connection is open.

        A second call does nothing.

        Args:
            subprotocols: the subprotocols that were agreed on with the client.
        """
        if self._dialling is None:
            self.subprotocols = subprotocols
            self._dialling = self._dial(self)

    @property
    def has_started(self) -> bool:
        """Whether `begin` was called."""
        return self._dialling is not None

    def opened(self, upstream: "UpstreamLeg") -> None:
        """Send the waiting messages, now that the upstream's connection is open."""
        self.upstream = upstream
        self.client.couple(upstream)
        waiting, self._waiting = self._waiting, []
        # The upstream may have closed right after its answer.
        with suppress(ConnectionClosedError):
            for message, is_text in waiting:
                upstream.send(message, text=is_text)
        if self._upstream_close is not None:
            _close(upstream, self._upstream_close)

    def failed(self, detail: str, close: CloseReason) -> None:
        """Close the client: there is no connection to the upstream.

        Args:
            detail: the reason, for the published error.
            close: the close code and reason for the client.
        """
        self._drop_client(ErrorKind.UPSTREAM_FAILED, detail, close)

    def _drop_client(self, kind: ErrorKind, detail: str, close: CloseReason) -> None:
        self._waiting.clear()
        if self.client.phase is OPEN:
            self.client.publish_error(kind, detail)
            self.client.close(*close)

    def client_ended(self, end: End) -> None:
        """Close the upstream: the client's connection is closing or gone.

        Only the first call has an effect.
        """
        if self._client_ended:
            return
        self._client_ended = True
        if self.upstream is not None:
            _close(self.upstream, to_upstream(end))
        elif self._waiting and end.by_peer and end.code is not None:
            # What was sent before an orderly end still arrives.
            self._upstream_close = to_upstream(end)
        elif self._dialling is not None:
            self._waiting.clear()
            self._dialling.cancel()

    def upstream_ended(self, end: End) -> None:
        """Close the client: the upstream's connection is closing or gone.

        Only the first call has an effect.
        """
        if not self._upstream_ended:
            self._upstream_ended = True
            _close(self.client, to_client(end))


def _close(flow: Flow, close: CloseReason) -> None:
    flow.close(*close)
    if not flow.is_stalled:
        # The peer's close frame is to arrive, also where reading had stopped.
        flow.read_on()


def _end_of(session: Session, events: Sequence[Event]) -> End:
    """How a connection ends, from the first sign of its end on.

    Credentials of this connection are masked in the reason: the other side may not learn them.

    Args:
        session: the connection, which is closing or closed.
        events: what happened last.
    """
    received, sent = session.close_frames
    frame = received or sent
    if frame is not None:
        code, reason = frame.code, frame.reason
    else:
        code = None
        reason = next((event.reason for event in events if isinstance(event, Closed)), "")
    by_peer = received is not None or sent is None
    return End(code, USUAL.about(session.connection, reason), by_peer)


class ClientLeg(Flow):
    """The connection of a client.

    Args:
        listener: the listener that the client connected to.
        context: what all flows of the server share.
        accepted: what is known already, after a TLS handshake or a PROXY header; else None.
        dial: starts to connect to the upstream.
        refusal: why the upgrade request is refused; None if it is accepted.
    """

    __slots__ = ("_refusal", "pair")

    def __init__(
        self,
        listener: Listener,
        context: FlowContext[Flow],
        accepted: AcceptedSocket | None = None,
        *,
        dial: Callable[[Pair], "asyncio.Task[None]"],
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(listener, context, accepted)
        self.pair = Pair(self, dial)
        self._refusal = refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session; while the upstream accepts no clients, refuse the request in HTTP."""
        super().connection_made(transport)
        if self._refusal is not None:
            self.turn_away(self._refusal)

    @property
    def limits(self) -> Limits:
        """The bounds of the connection."""
        return self._context.limits

    def relay_with(self, upstream: int) -> None:
        """Name the connection to the upstream in the events of this one from now on.

        Args:
            upstream: its id.
        """
        self._session.connection = self._session.connection.with_relay(upstream)

    def publish_error(self, kind: ErrorKind, detail: str) -> None:
        """Publish an error of this connection.

        Args:
            kind: its kind.
            detail: the reason, for people.
        """
        now = self._context.clock()
        self._context.bus.publish(ErrorOccurred(self.connection, now, kind, detail))

    def _deliver(self, event: MessageReceived) -> None:
        self.pair.is_text = event.is_text
        super()._deliver(event)

    def _act(self, events: Sequence[Event]) -> None:
        super()._act(events)
        session = self._session
        if not session.accepted:
            return
        if not self.pair.has_started:
            accepted = next(event for event in events if isinstance(event, Accepted))
            # `UpgradeRequest` finds headers in the head of an answer too.
            chosen = UpgradeRequest(accepted.reply).header("sec-websocket-protocol")
            self.pair.begin(tuple(chosen))
        if session.phase is not OPEN:
            self.pair.client_ended(_end_of(session, events))


class UpstreamLeg(ClientFlow):
    """The connection to the upstream.

    Args:
        pair: the pair that it belongs to.
        attempt: the connection's identity, as far as it is known before there is a socket.
        destination: the upstream.
        offer: the contents of the upgrade request.
        context: what all flows to the upstream share.
        listener: the listener that the client connected to.
    """

    __slots__ = ("pair",)

    def __init__(
        self,
        pair: Pair,
        attempt: Connection,
        destination: Destination,
        offer: Offer,
        context: FlowContext[Flow],
        listener: Listener | None,
    ) -> None:
        super().__init__(attempt, destination, offer, context, listener)
        self.pair = pair
        pair.client.relay_with(attempt.id)

    def _deliver(self, event: MessageReceived) -> None:
        self.pair.is_text = event.is_text
        super()._deliver(event)

    def _act(self, events: Sequence[Event]) -> None:
        super()._act(events)
        session = self._session
        if not session.accepted:
            # The dialer reports how a handshake fails.
            return
        if self.pair.upstream is None:
            self.pair.opened(self)
        if session.phase is not OPEN:
            self.pair.upstream_ended(_end_of(session, events))


Leg = ClientLeg | UpstreamLeg
"""Either connection of a pair."""
