"""The two connections of a relayed client, and what comes of one for the other."""

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
from sipws.relay.close_codes import End, Farewell, to_client, to_upstream
from sipws.request import UpgradeRequest
from sipws.transport.client_flow import ClientFlow
from sipws.transport.flow import Flow
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.ws.client_handshake import Offer
from sipws.ws.destination import Destination
from sipws.ws.handshake import Refusal
from sipws.ws.phase import OPEN

MOST_WAITING: Final = 32
"""Messages that may wait for the upstream: a phone sends a REGISTER and waits for its answer. In
bytes, as much may wait as a single message may have (`Limits.message_size`)."""


class Pair:
    """Two connections that are one: what comes on either goes out on the other.

    Args:
        client: the connection of the client.
        dial: begins to connect to the upstream.
    """

    __slots__ = (
        "_bye",
        "_client_ended",
        "_dial",
        "_dialling",
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
        """What was agreed on with the client."""
        self.is_text = True
        """Whether the message that is handled now came as text."""
        self._dial = dial
        self._dialling: asyncio.Task[None] | None = None
        self._waiting: list[tuple[bytes, bool]] = []
        self._waiting_bytes = 0
        self._client_ended = self._upstream_ended = False
        # What the upstream is told behind what waits for it, where the client has gone meanwhile.
        self._bye: Farewell | None = None

    def other(self, leg: "Leg") -> "Leg | None":
        """The connection beside this one."""
        return self.upstream if leg is self.client else self.client

    # Messages.

    def carry(self, leg: "Leg", message: bytes) -> None:
        """Take a message that came on one connection to the other.

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
        detail = "more came than may wait until the upstream is there"
        self._give_client_up(
            ErrorKind.UPSTREAM_QUEUE_FULL,
            f"{detail}: {MOST_WAITING} messages, {self.client.limits.message_size} bytes",
            Farewell(CloseCode.TRY_AGAIN_LATER, detail),
        )

    # From beginning to end.

    def begin(self, subprotocols: tuple[str, ...]) -> None:
        """The client's connection is open; a second call does nothing."""
        if self._dialling is None:
            self.subprotocols = subprotocols
            self._dialling = self._dial(self)

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._dialling is not None

    def opened(self, upstream: "UpstreamLeg") -> None:
        """The upstream's connection is open: what waits goes out first."""
        self.upstream = upstream
        waiting, self._waiting = self._waiting, []
        # It may have closed right behind its answer.
        with suppress(ConnectionClosedError):
            for message, is_text in waiting:
                upstream.send(message, text=is_text)
        if self._bye is not None:
            upstream.close(*self._bye)
        elif self.client.is_stalled:
            upstream.stop_reading()

    def failed(self, detail: str, told: Farewell) -> None:
        """There is no connection to the upstream."""
        self._give_client_up(ErrorKind.UPSTREAM_FAILED, detail, told)

    def _give_client_up(self, kind: ErrorKind, detail: str, told: Farewell) -> None:
        self._waiting.clear()
        if self.client.phase is OPEN:
            self.client.publish_error(kind, detail)
            self.client.close(*told)

    def client_ended(self, end: End) -> None:
        """The client's connection is closing or gone; only the first call counts."""
        if self._client_ended:
            return
        self._client_ended = True
        if self.upstream is not None:
            _close(self.upstream, to_upstream(end))
        elif self._waiting and end.by_peer and end.code is not None:
            # What was sent before an orderly end still arrives.
            self._bye = to_upstream(end)
        elif self._dialling is not None:
            self._waiting.clear()
            self._dialling.cancel()

    def upstream_ended(self, end: End) -> None:
        """The upstream's connection is closing or gone; only the first call counts."""
        if not self._upstream_ended:
            self._upstream_ended = True
            _close(self.client, to_client(end))

    # A peer that does not keep up.

    def stalled(self, leg: "Leg") -> None:
        """A connection takes no more: nothing more is read that would go there."""
        if (other := self.other(leg)) is not None:
            other.stop_reading()

    def flowing(self, leg: "Leg") -> None:
        """A connection takes bytes again: the other is read again, if it takes some itself."""
        other = self.other(leg)
        if other is not None and not other.is_stalled:
            other.go_on_reading()


def _close(leg: "Leg", told: Farewell) -> None:
    leg.close(*told)
    if not leg.is_stalled:
        # Its peer's close frame is to be read.
        leg.go_on_reading()


class Leg(Flow):
    """Either connection of a pair."""

    __slots__ = ()

    pair: Pair

    def stop_reading(self) -> None:
        """Let what the peer sends wait in the network."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read again, or first take what is left of what was read."""
        self._read_on()

    def pause_writing(self) -> None:
        """As any flow; what would go out here is read no more either."""
        super().pause_writing()
        self.pair.stalled(self)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        super().resume_writing()
        self.pair.flowing(self)

    @property
    def _is_read(self) -> bool:
        if not super()._is_read:
            return False
        # Of a connection that is closing nothing goes to the other any more.
        other = self.pair.other(self)
        return other is None or not other.is_stalled or self._session.phase is not OPEN

    def _deliver(self, event: MessageReceived) -> None:
        self.pair.is_text = event.is_text
        super()._deliver(event)

    def _act(self, events: Sequence[Event]) -> None:
        other = self.pair.other(self)
        if other is None or other._receiving or not events:
            super()._act(events)
            return
        # What comes of one read leaves on the other side in one write.
        other._receiving = True
        try:
            super()._act(events)
        finally:
            other._receiving = False
            other._flush()

    def _end(self, events: Sequence[Event]) -> End | None:
        """How the connection ends, as soon as it is closing; None while it is open."""
        if self._session.phase is OPEN:
            return None
        received, sent = self._session.close_frames
        if received is not None:
            return End(received.code, self._told(received.reason), by_peer=True)
        if sent is not None:
            return End(sent.code, self._told(sent.reason), by_peer=False)
        reason = next((event.reason for event in events if isinstance(event, Closed)), "")
        return End(None, self._told(reason), by_peer=True)

    def _told(self, reason: str) -> str:
        """What the other side is told: what this one logs in with is not its business."""
        return USUAL.about(self.connection, reason)


class ClientLeg(Leg):
    """The connection of a client.

    Args:
        listener: where it came.
        shared: what all flows of the server share.
        arrived: what is known of it before, where a gate let it in.
        dial: begins to connect to the upstream.
        refusal: why it is refused as soon as it has asked; None where it is let in.
    """

    __slots__ = ("_refusal", "pair")

    def __init__(
        self,
        listener: Listener,
        shared: FlowContext,
        arrived: AcceptedSocket | None = None,
        *,
        dial: Callable[[Pair], "asyncio.Task[None]"],
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(listener, shared, arrived)
        self.pair = Pair(self, dial)
        self._refusal = refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As any flow; a client that comes while the upstream wants none hears so in HTTP."""
        super().connection_made(transport)
        if self._refusal is not None:
            self.turn_away(self._refusal)

    @property
    def limits(self) -> Limits:
        """What it may take."""
        return self._shared.limits

    def publish_error(self, kind: ErrorKind, detail: str) -> None:
        """Tell that something went wrong on this connection."""
        self._shared.bus.publish(ErrorOccurred(self.connection, self._shared.clock(), kind, detail))

    def _act(self, events: Sequence[Event]) -> None:
        super()._act(events)
        if not self._session.accepted:
            return
        if not self.pair.has_begun:
            accepted = next(event for event in events if isinstance(event, Accepted))
            # One head of HTTP is as good as another for finding a header.
            chosen = UpgradeRequest(accepted.reply).header("sec-websocket-protocol")
            self.pair.begin(tuple(chosen))
        if (end := self._end(events)) is not None:
            self.pair.client_ended(end)


class UpstreamLeg(Leg, ClientFlow):
    """The connection to the upstream."""

    __slots__ = ("pair",)

    def __init__(
        self,
        pair: Pair,
        attempt: Connection,
        destination: Destination,
        offer: Offer,
        shared: FlowContext,
        listener: Listener | None,
    ) -> None:
        ClientFlow.__init__(self, attempt, destination, offer, shared, listener)
        self.pair = pair

    def _act(self, events: Sequence[Event]) -> None:
        super()._act(events)
        if not self._session.accepted:
            # How a handshake fails, whoever dialled hears.
            return
        if self.pair.upstream is None:
            self.pair.opened(self)
        if (end := self._end(events)) is not None:
            self.pair.upstream_ended(end)
