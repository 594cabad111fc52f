"""One live connection as an asyncio protocol: the thin shell around a `Session`.

A flow (RFC 5626 section 3) is the connection that SIP answers go back on. What the peer sends goes
into the session; the events that come out go on the bus and to the application's handler; the
bytes that come out go into the socket, all those of one read in one write.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from websockets.exceptions import ProtocolError

from sipws import flow_token
from sipws.address import Listener, address_of_socket
from sipws.admission.admission import AdmissionSlot
from sipws.errors import ConnectionClosedError, TransportError
from sipws.events import (
    Connection,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    Event,
    MessageReceived,
    MessageSent,
)
from sipws.sip import LINE_ENDS
from sipws.transport.deadlines import Line
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.transport.keepalive import KEEP_ALIVE, KEEP_ALIVE_ANSWER, KeptAlive
from sipws.transport.registrations import REGISTER
from sipws.transport.write_timeout import bound_waiting
from sipws.ws.frames import is_utf8
from sipws.ws.handshake import Refusal
from sipws.ws.phase import CLOSED, Phase
from sipws.ws.server_session import ServerSession, let_in

log = logging.getLogger(__name__)

_R: Final = REGISTER[0]

_address_of_ours: Final = lru_cache(64)(address_of_socket)
"""Our end of all connections is the same few addresses."""


class Flow(KeptAlive):
    """A connection that SIP messages come in on and go out on.

    Everything here is to be called from the event loop's thread, and nothing blocks.
    """

    __slots__ = (
        "_arrived",
        "_line",
        "_listener",
        "_slot",
        "_timed_phase",
    )

    def __init__(
        self, listener: Listener, shared: FlowContext, arrived: AcceptedSocket | None = None
    ) -> None:
        self._listener = listener
        self._arrived = arrived
        self._shared = shared
        self._line: Line | None = None
        self._timed_phase: Phase | None = None
        self._stalled = self._lost = None
        self._receiving = self._slice_awaited = False
        # Made by the first look: a connection that comes and goes sees none.
        self._liveness = None
        # One that we opened ourselves has none.
        self._slot: AdmissionSlot | None = None

    # For the application.

    @property
    def connection(self) -> Connection:
        """Who this is: id, listener, both addresses, start."""
        return self._session.connection

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        return self._session.phase

    @property
    def traffic(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out, until now."""
        return self._session.traffic

    @property
    def token(self) -> str:
        """What others may be given to name this flow by (RFC 5626 section 5.2).

        `Registry.by_token` finds the flow again, in this process and while it lives.
        """
        return flow_token.make(self.connection.id)

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The verified certificate of the peer; None where it has shown none.

        It is as `ssl.SSLSocket.getpeercert` gives it.
        """
        return self._transport.get_extra_info("peercert") or None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._session.can_send

    def send(self, message: bytes, *, text: bool | None = None) -> None:
        """Send one SIP message as one WebSocket message, without waiting: see `drain`.

        Args:
            message: the whole message.
            text: as text, which must be UTF-8 or the peer ends the connection with 1007, or as
                binary (RFC 7118 section 5.1). Unless told, what is UTF-8 goes as text.

        Raises:
            ConnectionClosedError: the connection is closing or closed.
        """
        if text is None:
            text = message.isascii() or is_utf8(message)
        self._session.send(message, text=text)
        hook = self._shared.bus.message_sent
        if hook.subscribers:
            hook.publish(MessageSent(self.connection, self._shared.clock(), message, text))
        # What a handler sends while a read is being handled leaves together at its end.
        if not self._receiving:
            self._flush()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the peer has `Limits.close_timeout` to complete it.

        Args:
            code: a close code that an endpoint may send (RFC 6455 section 7.4).
            reason: at most 123 bytes of UTF-8.

        Raises:
            TransportError: the code or the reason is not of that kind.
        """
        try:
            events = self._session.close(self._shared.clock(), code, reason)
        except ProtocolError as exc:
            raise TransportError(f"close code {code} with reason {reason!r}: {exc}") from exc
        self._act(events)

    def abort(self, kind: ErrorKind, detail: str) -> None:
        """Drop the connection at once, without a closing handshake."""
        self._act(self._session.abort(kind, detail, self._shared.clock()))
        self._transport.abort()

    def turn_away(self, refusal: Refusal) -> None:
        """Refuse a peer that has not asked yet as soon as it does; others are not concerned."""
        session = self._session
        if isinstance(session, ServerSession) and session.turn_away(refusal):
            self._shared.admission.refused[refusal.kind] += 1

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session, or only say why there is none."""
        # A cast would be a call.
        self._transport = transport  # type: ignore[assignment]
        shared, now = self._shared, self._shared.clock()
        if self._arrived is not None:
            peer, started, started_monotonic, slot, refusal = self._arrived
            self._arrived = None
            bound_waiting(self._transport)
            if refusal is None and (refusal := shared.admission.ending) is not None:
                # The server began to end within a PROXY header or TLS.
                shared.admission.refused[refusal.kind] += 1
        else:
            started, started_monotonic = now, shared.monotonic()
            peer = address_of_socket(transport.get_extra_info("peername"))
            slot = shared.admission.enter(peer.ip, started_monotonic)
            refusal = slot.refusal
        self._slot = slot
        slot.used = True
        local = _address_of_ours(transport.get_extra_info("sockname"))
        connection = Connection(
            shared.registry.next_id(),
            self._listener,
            local,
            peer,
            started,
            started_monotonic=started_monotonic,
        )
        examine = slot.examine if shared.admission.examines else let_in
        session = ServerSession(
            connection,
            shared.limits,
            examine,
            subprotocols=shared.subprotocols,
            compression=shared.compression,
            health_path=shared.health_path,
            monotonic=shared.monotonic,
        )
        self._session = session
        shared.registry.add(self)
        if refusal is not None and slot.told:
            session.turn_away(refusal)
        shared.bus.publish(ConnectionOpened(connection, now))
        self._limit_phase()
        if refusal is not None and not slot.told:
            self._act(session.drop(refusal, now))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session where nothing else has, and forget the connection."""
        if self._stalled is not None:
            self._end_stall()
        if self._session.is_more:
            if exc is None:
                self._end_behind_rest(exc)
                return
            self._act(self._session.receive_reset(self._shared.clock(), str(exc)))
        self._act(self._session.receive_eof(self._shared.clock(), str(exc or "")))
        if self._line is not None:
            self._line.leave(self)
        self._shared.registry.remove(self)
        if self._shared.registrations is not None:
            self._shared.registrations.forget(self.connection.id)
        if self._slot is not None:
            self._slot.release()

    # Between the two.

    def _act(self, events: Sequence[Event]) -> None:
        """Publish what happened, write what is to be written, keep the time limit."""
        bus = self._shared.bus
        for event in events:
            if type(event) is MessageReceived:
                if bus.message_received.subscribers:
                    bus.message_received.publish(event)
                self._deliver(event)
            else:
                bus.publish(event)
        if not self._receiving:
            self._flush()
        if self._session.phase is not self._timed_phase:
            self._limit_phase()

    def _deliver(self, event: MessageReceived) -> None:
        message = event.data
        try:
            # Unlike a strip of both ends this copies nothing of a message that starts with text.
            if sip := message.lstrip(LINE_ENDS):
                # A byte is compared in a third of the time.
                if sip[0] == _R and sip.startswith(REGISTER):
                    self._registered(event)
                self._shared.handler(self, message)
            elif message == KEEP_ALIVE:
                self.send(KEEP_ALIVE_ANSWER)
        except ConnectionClosedError as exc:
            # The peer closed behind its last message: nothing is left to answer on.
            log.debug("answer not sent: %s", exc)
        except (Exception, asyncio.CancelledError) as exc:
            # A handler is no task that could be cancelled: it asked for the result of one.
            log.exception("the handler raised on a message from %s", self.connection.peer)
            kind, detail = ErrorKind.HANDLER_FAILED, f"{type(exc).__name__}: {exc}"
            self._shared.bus.publish(ErrorOccurred(self.connection, event.time, kind, detail))

    def _registered(self, event: MessageReceived) -> None:
        """A phone registers: the connection that it left, if there is one, is asked and told."""
        if (registrations := self._shared.registrations) is None:
            return
        if (left := registrations.registered(self.connection.id, event.data)) is not None:
            self._shared.supersede(*left, event.time, self.connection.id)

    def _flush(self) -> None:
        writes, eof = self._session.take_writes()
        transport = self._transport
        # What was read before the connection was lost may still be answered.
        if writes and self._lost is None:
            transport.write(writes[0] if len(writes) == 1 else b"".join(writes))
        if eof and not transport.is_closing():
            # A half-close lets the peer read our last bytes even when more of its own are on
            # their way, which a close would answer with a reset. TLS has no half-close.
            if self._session.is_over or not transport.can_write_eof():
                transport.close()
            else:
                transport.write_eof()

    def _limit_phase(self) -> None:
        """Begin the time limit of the session's phase."""
        if self._line is not None:
            self._line.leave(self)
            self._line = None
        self._timed_phase = self._session.phase
        if (timeout := self._session.timeout) is not None:
            self._line = self._shared.deadlines.line(timeout)
            self._line.enter(self)
        if self._lost is not None:
            # What kept the rest waiting need not be over: its end is not to wait for that.
            self._await_slice()

    def _limit_rest(self) -> None:
        # Else a peer that has ended its side and reads nothing would keep the socket for ever.
        if self._line is None:
            self._line = self._shared.deadlines.line(self._shared.limits.close_timeout)
            self._line.enter(self)

    def time_is_up(self) -> None:
        """The time that this phase may last has passed; `sipws.transport.deadlines` calls it."""
        self._act(self._session.handle_timeout(self._shared.clock()))
        if self._session.phase is CLOSED:
            self._transport.abort()
