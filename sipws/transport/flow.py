"""One live connection as an asyncio protocol: the thin shell around a `Session`.

A flow (RFC 5626 section 3) is the connection that SIP answers go back on. Bytes from the peer go
into the session. Events from the session go to the bus, and messages also to the application's
handler. Bytes from the session go into the socket, all those of one read in one write.

Reading stops while the peer does not take what is sent to it (`sipws.transport.write_timeout`), and
after a read that is large or holds more frames than one time slice handles. Its backlog is handled
in later slices of the event loop, and the end of the connection waits for the backlog.

`sipws.liveness` decides when a ping is needed, `sipws.transport.ping_scheduler` when to check. The
flow sends the ping, drops a dead peer and closes an idle connection.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Sequence
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
from sipws.limits import LARGE_READ
from sipws.liveness import Finding, Liveness
from sipws.sip import LINE_ENDS, REGISTER
from sipws.sip_counts import S
from sipws.transport.deadlines import Line
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.transport.write_timeout import SlowPeer, bound_waiting, is_reset
from sipws.ws.frames import is_utf8
from sipws.ws.handshake import Refusal
from sipws.ws.phase import CLOSED, OPEN, Phase
from sipws.ws.server_session import ServerSession, let_in
from sipws.ws.session import Session

log = logging.getLogger(__name__)

KEEP_ALIVE: Final = b"\r\n\r\n"
"""The ping of RFC 5626 section 3.5.1, sent as a message of its own."""

KEEP_ALIVE_ANSWER: Final = b"\r\n"
"""The pong to it."""

Handler = Callable[["Flow", bytes], object]
"""The application's function: called with the flow and the message, for each SIP message."""

_R: Final = REGISTER[0]
_LAST_LINE_END: Final = max(LINE_ENDS)

_local_address: Final = lru_cache(64)(address_of_socket)
"""The local address of a socket. All connections share a few of them."""


class Flow(asyncio.Protocol):
    """A connection on which SIP messages arrive and are sent.

    All methods are called from the event loop's thread. None of them blocks.

    Args:
        listener: the listener that the connection belongs to.
        context: what all flows of the server or client share.
        accepted: what is known of the connection already, where a TLS handshake or a PROXY header
            came first; None for a connection that asyncio accepted.
    """

    __slots__ = (
        "_accepted",
        "_context",
        "_line",
        "_listener",
        "_liveness",
        "_lost",
        "_partner",
        "_receiving",
        "_session",
        "_slice_scheduled",
        "_slot",
        "_slow_peer",
        "_timed_phase",
        "_transport",
    )

    def __init__(
        self,
        listener: Listener,
        context: "FlowContext[Flow]",
        accepted: AcceptedSocket | None = None,
    ) -> None:
        # Both exist from `connection_made` on, and nothing is called before it.
        self._transport: asyncio.Transport
        self._session: Session
        self._listener = listener
        self._context = context
        self._accepted = accepted
        # The place among the counted connections; None for a connection that we opened.
        self._slot: AdmissionSlot | None = None
        # The flow that messages are relayed to.
        self._partner: Flow | None = None
        # While a read is handled, writes are collected.
        self._receiving = False
        # Whether the next time slice is scheduled.
        self._slice_scheduled = False
        # Whether the connection has ended while the backlog of its last read waits.
        self._lost = False
        # Set while the peer does not take what is sent to it.
        self._slow_peer: SlowPeer | None = None
        # The time limit of the session's phase.
        self._line: Line | None = None
        self._timed_phase: Phase | None = None
        # Made by the first check: a short connection never has one.
        self._liveness: Liveness | None = None

    # For the application.

    @property
    def connection(self) -> Connection:
        """The connection's identity: id, listener, both addresses, start."""
        return self._session.connection

    @property
    def phase(self) -> Phase:
        """The phase of the connection: handshake, open, closing or closed."""
        return self._session.phase

    @property
    def traffic(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out, until now."""
        return self._session.traffic

    @property
    def token(self) -> str:
        """The flow token (RFC 5626 section 5.2), which names this flow for other programs.

        `Registry.by_token` finds the flow by it, in this process and while the flow is alive.
        """
        return flow_token.make(self.connection.id)

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's verified certificate; None if the peer sent none.

        It has the form of `ssl.SSLSocket.getpeercert`.
        """
        return self._transport.get_extra_info("peercert") or None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._session.can_send

    @property
    def is_stalled(self) -> bool:
        """Whether the peer does not keep up (`sipws.transport.write_timeout`); it is not read."""
        return self._slow_peer is not None

    @property
    def is_reading(self) -> bool:
        """Whether the socket is read now."""
        return self._transport.is_reading()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the operating system has not taken yet."""
        return self._transport.get_write_buffer_size()

    def send(self, message: bytes, *, text: bool | None = None) -> None:
        """Send one SIP message as one WebSocket message, without waiting: see `drain`.

        Args:
            message: the whole message.
            text: True for a text message, which must be UTF-8, or the peer ends the connection with
                1007. False for a binary message (RFC 7118 section 5.1). By default a message in
                UTF-8 is sent as text, any other as binary.

        Raises:
            ConnectionClosedError: the connection is closing or closed.
        """
        if text is None:
            text = message.isascii() or is_utf8(message)
        self._session.send(message, text=text)
        hook = self._context.bus.message_sent
        if hook.subscribers:
            hook.publish(MessageSent(self.connection, self._context.clock(), message, text))
        # What a handler sends while a read is handled leaves in one write at its end.
        if not self._receiving:
            self._flush()

    async def drain(self) -> None:
        """Wait until the peer keeps up; returns at once if it does.

        A handler that only answers does not need this, because a peer that does not keep up is not
        read. Code that sends many messages on its own account awaits this between messages: nothing
        else limits the queue.

        Raises:
            ConnectionClosedError: the connection is closing or closed.
        """
        while self._slow_peer is not None:
            await self._slow_peer.wait()
        if self._transport.is_closing():
            # A loop that only sends and drains would keep the event loop from reporting the end.
            await asyncio.sleep(0)
        self._session.check_open()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; the peer has `Limits.close_timeout` to complete it.

        Args:
            code: a close code that an endpoint may send (RFC 6455 section 7.4).
            reason: at most 123 bytes of UTF-8.

        Raises:
            TransportError: the code or the reason is not of that kind.
        """
        try:
            events = self._session.close(self._context.clock(), code, reason)
        except ProtocolError as exc:
            raise TransportError(f"close code {code} with reason {reason!r}: {exc}") from exc
        self._act(events)

    def abort(self, kind: ErrorKind, detail: str) -> None:
        """Drop the connection at once, without a closing handshake.

        Args:
            kind: the kind of the error that is published.
            detail: the reason, for people.
        """
        self._act(self._session.abort(kind, detail, self._context.clock()))
        self._transport.abort()

    def turn_away(self, refusal: Refusal) -> None:
        """Refuse the upgrade request as soon as it arrives; no effect after the handshake."""
        if isinstance(session := self._session, ServerSession) and session.turn_away(refusal):
            self._context.admission.refused[refusal.kind] += 1

    # For asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the session, or publish why there is none."""
        # A cast would be a call.
        self._transport = transport  # type: ignore[assignment]
        context, now = self._context, self._context.clock()
        if self._accepted is not None:
            peer, started, started_monotonic, slot, refusal = self._accepted
            self._accepted = None
            bound_waiting(self._transport)
            if refusal is None and (refusal := context.admission.ending) is not None:
                # The server began to shut down during the PROXY header or TLS.
                context.admission.refused[refusal.kind] += 1
        else:
            started, started_monotonic = now, context.monotonic()
            peer = address_of_socket(transport.get_extra_info("peername"))
            slot = context.admission.enter(peer.ip, started_monotonic)
            refusal = slot.refusal
        self._slot = slot
        slot.used = True
        local = _local_address(transport.get_extra_info("sockname"))
        connection = Connection(
            context.registry.next_id(),
            self._listener,
            local,
            peer,
            started,
            started_monotonic=started_monotonic,
        )
        examine = slot.examine if context.admission.examines else let_in
        session = ServerSession(
            connection,
            context.limits,
            examine,
            subprotocols=context.subprotocols,
            compression=context.compression,
            health_path=context.health_path,
            monotonic=context.monotonic,
        )
        self._session = session
        context.registry.add(self)
        if refusal is not None and slot.is_answered:
            session.turn_away(refusal)
        context.bus.publish(ConnectionOpened(connection, now))
        self._limit_phase()
        if refusal is not None and not slot.is_answered:
            self._act(session.drop(refusal, now))
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Pass the bytes to the session."""
        session, partner = self._session, self._partner
        self._receiving = True
        if partner is not None:
            # What one read sends to the partner leaves in one write too.
            partner._receiving = True
        try:
            self._act(session.receive(data, self._context.clock()))
        finally:
            self._receiving = False
            if partner is not None:
                partner._end_receiving()
        self._flush()
        if session.is_more or len(data) >= LARGE_READ:
            if not self._transport.is_closing():
                self._transport.pause_reading()
            self._schedule_slice()

    def eof_received(self) -> bool:
        """End the session; asyncio closes the socket when everything is written."""
        # While a backlog waits nothing is read, but TLS may report the end already. The backlog
        # is handled first, and `connection_lost` ends the session.
        if not self._session.is_more:
            self._act(self._session.receive_eof(self._context.clock()))
            if self._transport.get_write_buffer_size():
                self._limit_last_writes()
        return False

    def pause_writing(self) -> None:
        """Start the timer of `Limits.send_timeout`: the peer does not keep up.

        Reading stops too. Otherwise a peer could make us queue answers that it does not take.
        """
        self._transport.pause_reading()
        timeout = self._context.limits.send_timeout
        self._slow_peer = SlowPeer(self._transport, timeout, self._send_timed_out)
        if self._partner is not None:
            self._partner.stop_reading()

    def resume_writing(self) -> None:
        """Read again: the peer has caught up."""
        self._end_slow_peer()
        if self._may_read:
            self.read_on()
        if (partner := self._partner) is not None and not partner.is_stalled:
            partner.read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session if it is not over, and remove the connection from the registry."""
        self._end_slow_peer()
        if self._session.is_more:
            if exc is None:
                # `_run_slice` calls this again after the backlog.
                self._lost = True
                self._schedule_slice()
                return
            self._act(self._session.receive_reset(self._context.clock(), str(exc)))
        self._act(self._session.receive_eof(self._context.clock(), str(exc or "")))
        if self._line is not None:
            self._line.leave(self)
        self._context.registry.remove(self)
        if self._context.registrations is not None:
            self._context.registrations.forget(self.connection.id)
        if self._slot is not None:
            self._slot.release()

    # Events and writes.

    def _act(self, events: Sequence[Event]) -> None:
        """Publish events, write what the session has to send, keep the time limit.

        Args:
            events: what happened, in order.
        """
        bus = self._context.bus
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
        """Call the handler, or answer a keep-alive."""
        message = sip = event.data
        context = self._context
        try:
            # Looking at a byte takes a third of the time of a call that looks for several.
            if not message or (first := message[0]) <= _LAST_LINE_END:
                if not (sip := message.lstrip(LINE_ENDS)):
                    if message == KEEP_ALIVE:
                        self.send(KEEP_ALIVE_ANSWER)
                    return
                first = sip[0]
            if (counts := context.sip_counts) is not None:
                try:
                    if first == S:
                        counts.statuses[sip[8]][sip[9]][sip[10]] += 1
                    else:
                        counts.methods[sip[:8]][0] += 1
                except LookupError:
                    counts.count_odd(sip)
            if first == _R and sip.startswith(REGISTER):
                context.note_registration(event)
            context.handler(self, message)
        except ConnectionClosedError as exc:
            # The peer closed right after its last message: an answer cannot be sent.
            log.debug("answer not sent: %s", exc)
        except (Exception, asyncio.CancelledError) as exc:
            # A handler is not a task that could be cancelled: it asked for the result of one.
            log.exception("the handler raised on a message from %s", self.connection.peer)
            kind, detail = ErrorKind.HANDLER_FAILED, f"{type(exc).__name__}: {exc}"
            self._context.bus.publish(ErrorOccurred(self.connection, event.time, kind, detail))

    def _flush(self) -> None:
        """Write what the session has to send."""
        writes, eof = self._session.take_writes()
        transport = self._transport
        # Answers to the backlog of a lost connection cannot be sent.
        if writes and not self._lost:
            transport.write(writes[0] if len(writes) == 1 else b"".join(writes))
        if eof and not transport.is_closing():
            # A half-close lets the peer read our last bytes even when more of its own are on
            # their way, which a close would answer with a reset. TLS has no half-close.
            if self._session.is_over or not transport.can_write_eof():
                transport.close()
            else:
                transport.write_eof()

    def _end_receiving(self) -> None:
        """Write what was collected during the partner's read."""
        self._receiving = False
        self._flush()

    # Flow control.

    def couple(self, partner: "Flow") -> None:
        """Relay to another flow and from it.

        A flow is not read while its partner does not keep up. What one read sends to the partner
        leaves in one write.
        """
        self._partner, partner._partner = partner, self
        if self.is_stalled:
            partner.stop_reading()

    def stop_reading(self) -> None:
        """Leave what the peer sends in the network."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def read_on(self) -> None:
        """Handle the backlog of the last read in time slices, or else read again."""
        if self._session.is_more:
            self._schedule_slice()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def _may_read(self) -> bool:
        """Whether neither the peer nor the partner is too slow for what would be read."""
        # Nothing of a closing connection is relayed.
        partner = self._partner
        takes = partner is None or not partner.is_stalled or self._session.phase is not OPEN
        return takes and self._slow_peer is None

    def _schedule_slice(self) -> None:
        if not self._slice_scheduled:
            self._slice_scheduled = True
            loop = asyncio.get_running_loop()
            if pause := self._session.pause:
                loop.call_later(pause, self._run_slice)
            else:
                loop.call_soon(self._run_slice)

    def _run_slice(self) -> None:
        """Handle a part of the backlog; after its end read again, or end a lost connection."""
        self._slice_scheduled = False
        if not self._may_read:
            # `resume_writing` calls `read_on`, here or on the partner.
            return
        if self._session.is_more:
            try:
                self._process_backlog()
            except BaseException:
                # Event loops drop a connection whose `data_received` raises, and here they do not.
                self._transport.abort()
                self._schedule_slice()
                raise
        if self._session.is_more:
            self._schedule_slice()
        elif self._lost:
            self._lost = False
            self.connection_lost(None)
        elif self._may_read:
            self.read_on()

    def _process_backlog(self) -> None:
        if not self._lost and is_reset(self._transport):
            # While it is not read the event loop does not notice.
            detail = os.strerror(errno.ECONNRESET)
            self._act(self._session.receive_reset(self._context.clock(), detail))
            self._transport.abort()
            return
        self._receiving = True
        if (partner := self._partner) is not None:
            partner._receiving = True
        try:
            self._act(self._session.process_backlog(self._context.clock()))
        finally:
            self._receiving = False
            if partner is not None:
                partner._end_receiving()
        if self._transport.is_closing():
            # Nothing can be sent any more, and event loops log an attempt.
            self._session.take_writes()
            return
        if self._may_read and not self._session.is_more:
            # Before a close: while reading is paused, asyncio does not close a connection with TLS
            # of which the peer has ended TCP.
            self._transport.resume_reading()
        self._flush()

    def _send_timed_out(self) -> None:
        milliseconds = self._context.limits.send_timeout * 1000
        self.abort(ErrorKind.SEND_TIMEOUT, f"the peer took no bytes for {milliseconds:g} ms")
        self._end_slow_peer()

    def _end_slow_peer(self) -> None:
        if self._slow_peer is not None:
            self._slow_peer.end()
            self._slow_peer = None

    # Time limits.

    def _limit_phase(self) -> None:
        """Start the time limit of the session's phase."""
        if self._line is not None:
            self._line.leave(self)
            self._line = None
        self._timed_phase = self._session.phase
        if (timeout := self._session.timeout) is not None:
            self._line = self._context.deadlines.line(timeout)
            self._line.enter(self)
        if self._lost:
            # The backlog may wait for a slow partner: the end of this connection does not.
            self._schedule_slice()

    def _limit_last_writes(self) -> None:
        # Otherwise a peer that has ended its side and reads nothing would keep the socket for ever.
        if self._line is None:
            self._line = self._context.deadlines.line(self._context.limits.close_timeout)
            self._line.enter(self)

    def time_is_up(self) -> None:
        """End a phase that took too long; `sipws.transport.deadlines` calls it."""
        self._act(self._session.handle_timeout(self._context.clock()))
        if self._session.phase is CLOSED:
            self._transport.abort()

    # Keep-alive.

    def probe(self) -> None:
        """Ping the peer now; it is dropped if nothing arrives in time (`look_after`)."""
        now = asyncio.get_running_loop().time()
        self._keep_alive(self._liveness_at(now).ask(now, self._session.traffic[2]))

    def look_after(self, now: float) -> None:
        """Ping a quiet peer, drop a dead one, close an idle connection.

        Args:
            now: the time of the event loop.
        """
        if self._session.phase is OPEN:
            messages_in, _, bytes_in, _ = self._session.traffic
            # The answer to a ping may be in the backlog, or behind it.
            is_read = self._may_read and not self._session.is_more
            self._keep_alive(self._liveness_at(now).look(now, bytes_in, messages_in, is_read))

    def _liveness_at(self, now: float) -> Liveness:
        if self._liveness is None:
            self._liveness = Liveness(self._context.limits.intervals, now)
        return self._liveness

    def _keep_alive(self, finding: Finding) -> None:
        match finding:
            case Finding.ASK:
                self._session.ping()
                self._flush()
            case Finding.GONE:
                waited = self._context.limits.intervals.patience
                self.abort(ErrorKind.PING_TIMEOUT, f"no answer to a ping within {waited:g} s")
            case Finding.IDLE:
                self.close(1000, f"idle for {self._context.limits.intervals.idle:g} s")
