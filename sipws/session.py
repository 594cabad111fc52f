"""One WebSocket connection, without I/O: bytes in, events and bytes out.

A `Session` owns the bytes that come in and takes them frame by frame, those with anything unusual
through websockets' sans-I/O engine. It has no socket: time comes in as ``now`` (seconds since the
epoch), what happened comes out as events, what is to be written as bytes from
`Session.take_writes`. Only how long it lasted is asked of a clock that nobody sets, as ``now`` may
be set back. How a connection opens depends on the side: `sipws.server_session` has the server's.

After every call the caller publishes the events, writes what `take_writes` returns, and looks at
`Session.phase`: when it changed, `Session.timeout` is the new time limit. Nothing the peer sends
raises.
"""

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from sipws.assembly import Assembly
from sipws.engine import feed, is_plain
from sipws.errors import ConnectionClosedError
from sipws.events import (
    ABNORMAL,
    LOCAL,
    PEER,
    Closed,
    Connection,
    ErrorKind,
    ErrorOccurred,
    Event,
    MessageReceived,
    Side,
)
from sipws.frames import BINARY, TEXT, next_frame, server_frame, whole_messages
from sipws.limits import Limits
from sipws.phase import CLOSED, CLOSING, HANDSHAKE, OPEN, Phase
from sipws.pieces import Pieces
from sipws.wire import Wire

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

_ERROR_OF_CODE: Final = {
    1002: ErrorKind.PROTOCOL_ERROR,
    1007: ErrorKind.BAD_UTF8,
    1009: ErrorKind.MESSAGE_TOO_BIG,
}
"""What the engine's close codes mean when it fails a connection (RFC 6455 section 7.4.1)."""


class Session(Wire):
    """One side of a connection: what both sides have in common.

    Args:
        connection: who it is.
        limits: what it may take.
        steady: the clock of `Connection.begun`.
    """

    __slots__ = (
        "_assembly",
        "_bytes_in",
        "_closed_by",
        "_limits",
        "_messages_in",
        "_messages_out",
        "_pieces",
        "_reason",
        "_received",
        "_steady",
        "connection",
        "phase",
    )

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.phase: Phase = HANDSHAKE
        self._limits = limits
        self._steady = steady
        self._received = bytearray()
        self._assembly = Assembly()
        self._pieces = Pieces(limits.max_chunks)
        self._closed_by: Side | None = None
        self._reason = ""
        self._messages_in = self._messages_out = self._bytes_in = 0

    # What comes in.

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes that the peer sent.

        Returns:
            what happened, in order.
        """
        self._bytes_in += len(data)
        phase = self.phase
        if phase is HANDSHAKE:
            return self._receive_handshake(data, now)
        # While it is closing, the peer's close frame may still come.
        if phase is OPEN or (phase is CLOSING and self.accepted):
            return self._receive_frames(data, now)
        return []

    def receive_eof(self, now: float, detail: str = "") -> list[Event]:
        """The peer closed its side of the TCP connection, or the connection broke.

        Args:
            now: the time, in seconds since the epoch.
            detail: what the system said of it, for a connection that broke.
        """
        return self._close(now, PEER, detail)

    def handle_timeout(self, now: float) -> list[Event]:
        """The time limit of this phase has passed."""
        if self.phase is HANDSHAKE:
            return self._handshake_timed_out(now)
        if self.phase is CLOSING:
            if not self.accepted:
                return self._close(now, LOCAL)
            detail = f"the peer did not close within {self._limits.close_timeout:g} s"
            return self._abort(ErrorKind.CLOSE_TIMEOUT, detail, now)
        return []

    # What goes out.

    def send(self, data: bytes, *, text: bool) -> None:
        """Send a message.

        Raises:
            ConnectionClosedError: the connection is not open.
        """
        if self.phase is not OPEN:
            self.check_open()
        self._messages_out += 1
        if self._engine_made is None:
            self._writes.append(server_frame(TEXT if text else BINARY, data))
        else:
            self._say(self._engine_made, data, text=text)

    def check_open(self) -> None:
        """Refuse to go on where `send` is not possible.

        Raises:
            ConnectionClosedError: the connection is not open.
        """
        if not self.can_send:
            raise ConnectionClosedError(
                f"connection {self.connection.id} with {self.connection.peer} is"
                f" {self.phase.name.lower()}: nothing can be sent on it"
            )

    @property
    def can_send(self) -> bool:
        """Whether `send` is possible: from the handshake on until a close frame has gone out."""
        return self.phase is OPEN or self._last_answers

    def ping(self) -> None:
        """Ask the peer whether it is there; any byte of it is the answer."""
        if self.phase is OPEN:
            self._say_ping()

    def close(
        self, now: float, code: int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> list[Event]:
        """Start the closing handshake; before the opening handshake, just end the connection.

        Args:
            now: the time, in seconds since the epoch.
            code: 1000 to 4999, as far as RFC 6455 section 7.4 lets an endpoint send it.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ProtocolError: (of websockets) the code or the reason may not be sent.
        """
        if self.phase is HANDSHAKE:
            self._eof_to_send = True
            return self._close(now, LOCAL, reason)
        if self.phase is OPEN:
            self._engine.send_close(code, reason)
            self._start_closing(LOCAL, reason)
        return []

    def abort(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        """Give the connection up; the caller drops the socket."""
        return [] if self.phase is CLOSED else self._abort(kind, detail, now)

    @property
    def timeout(self) -> float | None:
        """Seconds that this phase may last before `handle_timeout` is due; None for ever."""
        phase = self.phase
        if phase is HANDSHAKE:
            return self._limits.handshake_timeout
        return self._limits.close_timeout if phase is CLOSING else None

    @property
    def traffic(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out, until now."""
        return self._messages_in, self._messages_out, self._bytes_in, self._bytes_out

    # The opening handshake, which each side has its own of.

    @abstractmethod
    def _receive_handshake(self, data: bytes, now: float) -> list[Event]:
        """Take bytes that may complete the handshake; what comes behind it is frames."""

    @abstractmethod
    def _handshake_timed_out(self, now: float) -> list[Event]:
        """The handshake did not complete in time."""

    @abstractmethod
    def _handshake_lost(self, now: float, detail: str) -> list[Event]:
        """The connection ended before the handshake was complete."""

    # Frames.

    def _receive_frames(self, data: bytes, now: float) -> list[Event]:
        """Take what is all there: plain messages at once, anything else through the engine."""
        received, longest = self._received, self._limits.message_size
        if received:
            received += data
        # Nearly every read starts and ends with a frame: then nothing is copied into the buffer.
        buffer = received or data
        happened: list[Event] = []
        start = 0
        while not self._eof_sent:
            engine = self._engine_made
            plain = self.by_hand and (engine is None or is_plain(engine))
            if plain:
                messages, start = whole_messages(buffer, start, longest, self.connection, now)
                self._messages_in += len(messages)
                happened += messages
                if start == len(data) and not (received or self._pieces.count):
                    return happened
            if start and not self._is_midway:
                # What has come until here, be it a ping, is no part of the message that comes.
                self._pieces.start_anew()
            if start == len(buffer) or (end := next_frame(buffer, start, longest)) is None:
                break
            frame = bytes(buffer[start:end])
            start = end
            if not (plain and self._take_control(frame)):
                happened += self._receive_frame(frame, now)
            elif self._farewell is not None:
                self._start_closing(PEER, self._farewell.reason)
        if self._eof_sent:
            self._talks_on |= start < len(buffer)
            received.clear()
        elif received:
            del received[:start]
        elif start < len(data):
            received += data[start:]
        # A read that ended with a fragment is that one piece, and counted.
        if received and self.phase is OPEN:
            happened += self._count_piece(now)
        return happened

    def _count_piece(self, now: float) -> list[Event]:
        problem = self._pieces.add(len(self._received) + len(self._assembly))
        if problem is None:
            return []
        code = CloseCode.POLICY_VIOLATION
        return self._fail(ErrorKind.TOO_MANY_CHUNKS, code, problem, now)

    def _receive_frame(self, frame_bytes: bytes, now: float) -> list[Event]:
        """Take a frame through the engine."""
        engine = self._engine
        feed(engine, frame_bytes)
        if engine.writes and engine.state is State.OPEN:
            # A pong: it goes before the answers to what comes behind the ping.
            self._collect_writes(engine)
        happened: list[Event] = []
        for frame in engine.events_received():
            if isinstance(frame, Frame) and self.phase is OPEN:
                happened += self._take_frame(frame, now)
        if self.phase is OPEN and engine.state is not State.OPEN:
            happened += self._leave_open(now)
        return happened

    def _take_frame(self, frame: Frame, now: float) -> list[Event]:
        if frame.opcode not in _DATA:
            return []
        try:
            message = self._assembly.add(frame)
        except UnicodeDecodeError as exc:
            detail = f"text that is not UTF-8: {exc.reason} at byte {exc.start}"
            return self._fail(ErrorKind.BAD_UTF8, CloseCode.INVALID_DATA, detail, now)
        if message is None:
            return self._count_piece(now)
        self._pieces.start_anew()
        self._messages_in += 1
        return [MessageReceived(self.connection, now, *message)]

    def _leave_open(self, now: float) -> list[Event]:
        """The engine answered a close frame, or gave up on what the peer sent."""
        engine = self._engine
        self._last_answers = True
        if engine.parser_exc is None:
            self._start_closing(PEER, engine.close_rcvd.reason if engine.close_rcvd else "")
            return []
        code = engine.close_sent.code if engine.close_sent else CloseCode.PROTOCOL_ERROR
        kind = _ERROR_OF_CODE.get(code, ErrorKind.PROTOCOL_ERROR)
        self._start_closing(LOCAL, str(engine.parser_exc))
        return [ErrorOccurred(self.connection, now, kind, str(engine.parser_exc))]

    def _fail(self, kind: ErrorKind, code: CloseCode, detail: str, now: float) -> list[Event]:
        """Fail the connection (RFC 6455 section 7.1.7) for a reason that the engine did not see."""
        self._engine.fail(code, detail)
        self._last_answers = True
        self._start_closing(LOCAL, detail)
        return [ErrorOccurred(self.connection, now, kind, detail)]

    # The end.

    def _start_closing(self, closed_by: Side, reason: str) -> None:
        self.phase = CLOSING
        self._closed_by = closed_by
        self._reason = reason

    def _abort(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        happened: list[Event] = []
        # Of a handshake that came to nothing, that is told.
        if self.accepted and not self._clean:
            happened.append(ErrorOccurred(self.connection, now, kind, detail))
        return happened + self._close(now, LOCAL, detail)

    def _close(self, now: float, closed_by: Side, detail: str = "") -> list[Event]:
        """The TCP connection is over, or is to be dropped; a second call does nothing."""
        if self.phase is CLOSED:
            return []
        happened: list[Event] = []
        if self.phase is OPEN and closed_by is PEER:
            detail = detail or "the connection ended without a close frame"
            happened.append(ErrorOccurred(self.connection, now, ErrorKind.CONNECTION_LOST, detail))
        elif self.phase is HANDSHAKE:
            happened += self._handshake_lost(now, detail)
        closed_by = self._closed_by or closed_by
        first = self._close_frame(closed_by)
        self.phase = CLOSED
        self._last_answers = False
        self._drop_engine()
        happened.append(
            Closed(
                self.connection,
                now,
                code=int(first.code) if first else ABNORMAL,
                reason=first.reason if first else self._reason or detail,
                closed_by=closed_by,
                clean=self._clean,
                accepted=self.accepted,
                duration=self._steady() - self.connection.begun,
                messages_in=self._messages_in,
                messages_out=self._messages_out,
                bytes_in=self._bytes_in,
                bytes_out=self._bytes_out,
            )
        )
        return happened
