"""One WebSocket connection without I/O: bytes in, events and bytes out (RFC 6455).

`Session` holds what both sides have in common. Each side has its own opening handshake, in
`sipws.ws.server_session` and `sipws.ws.client_session`.

A message passes `Session.receive`, `Session._receive_frames` and `sipws.ws.frames.client_messages`.
Other frames, such as fragments and compressed messages, go through websockets' sans-I/O engine,
one whole frame at a time. A server's connection gets an engine with the first frame that needs it:
an engine takes as much memory as the rest of an idle connection. A client has one from the start.

After every call the caller publishes the events that the call returned and writes what
`Session.take_writes` returns. In a new `Session.phase`, `Session.timeout` is the new time limit.
While `Session.is_more` is true, the caller stops reading and calls `Session.process_backlog` once
per time slice. A time slice is the work that one connection may do before the others get their turn
(`sipws.limits`). Nothing that the peer sends raises.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Protocol, State

from sipws.errors import ERROR_OF_CODE, ConnectionClosedError
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
    Probe,
    Side,
)
from sipws.limits import (
    BYTES_LIKE_A_FRAME,
    BYTES_PER_SLICE,
    FRAMES_PER_SLICE,
    REFUSED_LINGER,
    Limits,
)
from sipws.ws.engine import feed, is_plain, message_frame, read_close, take_output
from sipws.ws.failed_message import first_bytes, with_message
from sipws.ws.fragment_limit import FragmentLimit
from sipws.ws.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_frame,
    client_messages,
    length_problem,
    next_frame,
    server_frame,
    whole_control,
)
from sipws.ws.inflate_limit import InflateLimit
from sipws.ws.phase import CLOSED, CLOSING, HANDSHAKE, OPEN, Phase
from sipws.ws.reassembly import Reassembly

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

_SHORT_READ: Final = 2 * FRAMES_PER_SLICE - 1
"""Bytes that hold fewer frames than a time slice: the shortest frame has two bytes."""


class Session(ABC):
    """One side of a WebSocket connection: what the server's and the client's side share.

    The argument ``now`` of its methods is the time in seconds since the epoch. Durations come from
    a monotonic clock, because ``now`` can be set back. Methods that return events return them in
    the order in which they happened.

    Args:
        connection: the connection's identity.
        limits: bounds for its messages, handshake and phases.
        monotonic: the clock of `Connection.started_monotonic`, in seconds.
        engine: the connection's engine; None to make one when a frame needs it.
    """

    use_fast_path: ClassVar[bool] = True
    """Whether plain frames bypass the engine. Tests and benchmarks compare both ways."""

    take_messages = staticmethod(client_messages)
    """Takes the peer's plain messages: a client's, or `server_messages`."""

    __slots__ = (
        "_bytes_in", "_bytes_out", "_close_answer", "_close_received", "_close_waits", "_closed_by",
        "_data_after_close", "_engine", "_eof_to_send", "_fragment_limit", "_inflate_limit",
        "_limits", "_messages_in", "_messages_out", "_monotonic", "_probe", "_reason",
        "_reassembly", "_received", "_writes", "accepted", "connection", "is_more", "pause",
        "phase",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        monotonic: Callable[[], float] = time.monotonic,
        engine: Protocol | None = None,
    ) -> None:
        self.connection = connection
        self.phase: Phase = HANDSHAKE
        self.accepted = False
        """Whether the opening handshake succeeded."""
        self.is_more = False
        """Whether received frames, or the data behind them, wait for `process_backlog`."""
        self.pause = 0.0
        """Seconds that the caller waits before it calls `process_backlog`."""
        self._limits = limits
        self._monotonic = monotonic
        self._engine = engine
        # Bytes of the handshake, or of frames, that are not taken yet.
        self._received = bytearray()
        # The message under way where it comes in fragments.
        self._reassembly = Reassembly()
        self._fragment_limit = FragmentLimit(limits.max_chunks)
        # Made by the first compressed message.
        self._inflate_limit: InflateLimit | None = None
        self._writes: list[bytes] = []
        self._eof_to_send = False
        # A closing handshake without an engine: the peer's close frame, and the bytes of ours.
        self._close_received: Close | None = None
        self._close_answer: bytes | None = None
        # Our close frame waits for `take_writes`. Messages that are sent until then, as answers to
        # messages of the same read, go out before it.
        self._close_waits = False
        # The peer sent more behind its close frame.
        self._data_after_close = False
        self._closed_by: Side | None = None
        self._reason = ""
        # What the connection was where it was no attempt to open a WebSocket.
        self._probe: Probe | None = None
        self._messages_in = self._messages_out = self._bytes_in = self._bytes_out = 0

    # What the shell calls when bytes come in or time passes.

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take the bytes of one read, at most a time slice of them; returns what happened."""
        self._bytes_in += len(data)
        phase = self.phase
        # While it is closing, the peer's close frame may still come.
        if phase is OPEN or (phase is CLOSING and self.accepted):
            return self._receive_frames(data, now)
        return self._receive_handshake(data, now) if phase is HANDSHAKE else []

    def process_backlog(self, now: float) -> list[Event]:
        """Take a further time slice of what was received; returns nothing unless `is_more`."""
        if not self.is_more:
            return []
        self.is_more, self.pause = False, 0.0
        return self._receive_frames(b"", now)

    def receive_eof(self, now: float, detail: str = "") -> list[Event]:
        """End the session: the peer closed its side of TCP, or the connection broke.

        The whole backlog is taken first, in one call. A caller that serves other connections calls
        `process_backlog` before. ``detail`` is the system's text about a connection that broke.
        """
        events: list[Event] = []
        while self.is_more:
            events += self.process_backlog(now)
        return events + self._close(now, PEER, detail)

    def receive_reset(self, now: float, detail: str) -> list[Event]:
        """End the session without its backlog: the connection broke, and no answer can be sent."""
        self.is_more, self.pause = False, 0.0
        self._received.clear()
        return self._close(now, PEER, detail)

    def handle_timeout(self, now: float) -> list[Event]:
        """Act on the end of the phase's time limit (`timeout`)."""
        if self.phase is HANDSHAKE:
            return self._handshake_timed_out(now)
        if self.phase is CLOSING:
            if not self.accepted:
                return self._close(now, LOCAL)
            detail = f"the peer did not close within {self._limits.close_timeout:g} s"
            return self._abort(ErrorKind.CLOSE_TIMEOUT, detail, now)
        return []

    # What the shell calls to send and to close.

    def send(self, data: bytes, *, text: bool) -> None:
        """Send a message.

        Args:
            data: the whole message.
            text: whether it goes as text; then it must be UTF-8.

        Raises:
            ConnectionClosedError: the connection is not open.
        """
        if self.phase is not OPEN:
            self.check_open()
        self._messages_out += 1
        engine = self._engine
        if engine is None:
            self._writes.append(server_frame(TEXT if text else BINARY, data))
        elif self._close_waits:
            # The engine has closed already and sends no more messages.
            self._writes.append(message_frame(engine, data, text=text))
        elif self.use_fast_path and not engine.extensions:
            # The engine's own output came first, such as a ping.
            if engine.writes:
                self._collect_writes(engine)
            make = server_frame if engine.side is SERVER else client_frame
            self._writes.append(make(TEXT if text else BINARY, data))
        else:
            (engine.send_text if text else engine.send_binary)(data)
            self._collect_writes(engine)

    def ping(self) -> None:
        """Send a ping. Any byte of the peer counts as its answer."""
        if self.phase is not OPEN:
            return
        if self._engine is None:
            self._writes.append(server_frame(PING, b""))
        else:
            self._engine.send_ping(b"")

    def close(
        self, now: float, code: int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> list[Event]:
        """Start the closing handshake; in the opening handshake, end the connection at once.

        Args:
            now: see `Session`.
            code: 1000 to 4999, as far as an endpoint may send it (RFC 6455 section 7.4).
            reason: at most 123 bytes of UTF-8.

        Raises:
            ProtocolError: (of websockets) the code or the reason must not be sent.
        """
        if self.phase is HANDSHAKE:
            self._eof_to_send = True
            return self._close(now, LOCAL, reason)
        if self.phase is OPEN:
            self._need_engine().send_close(code, reason)
            self._start_closing(LOCAL, reason)
        return []

    def abort(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        """End the session at once with this error; the caller drops the socket.

        Args:
            kind: the kind of the error.
            detail: the reason, for people.
            now: see `Session`.
        """
        return [] if self.phase is CLOSED else self._abort(kind, detail, now)

    def take_writes(self) -> tuple[list[bytes], bool]:
        """Take what the caller writes to the socket.

        Returns:
            the bytes in order, and whether our side of the TCP connection ends behind them.
        """
        engine = self._engine
        if engine is not None:
            if self.accepted and engine.writes:
                self._collect_writes(engine)
        elif self._close_answer is not None:
            self._writes.append(self._close_answer)
            self._close_answer, self._eof_to_send = None, True
        writes, eof = self._writes, self._eof_to_send
        if writes:
            self._writes = []
            self._bytes_out += len(writes[0]) if len(writes) == 1 else sum(map(len, writes))
        self._eof_to_send = self._close_waits = False
        return writes, eof

    # What the shell asks.

    @property
    def can_send(self) -> bool:
        """Whether `send` is possible: after the handshake, until our close frame is written."""
        return self.phase is OPEN or self._close_waits

    def check_open(self) -> None:
        """Raise `ConnectionClosedError` unless `can_send`."""
        if not self.can_send:
            raise ConnectionClosedError(
                f"connection {self.connection.id} with {self.connection.peer} is"
                f" {self.phase.name.lower()}: nothing can be sent on it"
            )

    @property
    def timeout(self) -> float | None:
        """Seconds that this phase may last before `handle_timeout`; None without a limit."""
        phase = self.phase
        if phase is HANDSHAKE:
            return self._limits.handshake_timeout
        if phase is not CLOSING:
            return None
        timeout = self._limits.close_timeout
        return timeout if self.accepted else min(timeout, REFUSED_LINGER)

    @property
    def traffic(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out, until now."""
        return self._messages_in, self._messages_out, self._bytes_in, self._bytes_out

    @property
    def buffered(self) -> tuple[int, int]:
        """Bytes that the session holds: received and not taken; fragments of a message."""
        return len(self._received), len(self._reassembly)

    @property
    def close_frames(self) -> tuple[Close | None, Close | None]:
        """The close frame that has come, and ours; each None until it exists."""
        engine = self._engine
        if engine is None:
            return self._close_received, self._close_received
        return engine.close_rcvd, engine.close_sent

    @property
    def is_over(self) -> bool:
        """Whether the closing handshake is complete and the peer sent nothing behind it.

        Then the server closes TCP at once (RFC 6455 section 7.1.1).
        """
        return self._is_clean and not self._data_after_close

    @property
    def _is_clean(self) -> bool:
        received, sent = self.close_frames
        return received is not None and sent is not None

    # The opening handshake of each side.

    @abstractmethod
    def _receive_handshake(self, data: bytes, now: float) -> list[Event]:
        """Take bytes of the handshake; bytes behind its end are frames."""

    @abstractmethod
    def _handshake_timed_out(self, now: float) -> list[Event]:
        """Fail the handshake: it was not complete in time."""

    @abstractmethod
    def _handshake_lost(self, now: float, detail: str) -> list[Event]:
        """Fail the handshake: the connection ended before it was complete."""

    # Frames in.

    def _receive_frames(self, data: bytes, now: float) -> list[Event]:
        """Take all whole frames: plain messages at once, other frames one by one."""
        received, longest = self._received, self._limits.message_size
        if received:
            received += data
            self.is_more = False
        # Nearly every read starts and ends with a frame: then nothing is copied into the buffer.
        buffer = received or data
        events: list[Event] = []
        start = 0
        frames_left = FRAMES_PER_SLICE
        while not self._ignores_input:
            engine = self._engine
            plain = self.use_fast_path and (engine is None or is_plain(engine))
            if plain:
                messages, start = self.take_messages(buffer, start, longest, self.connection, now)
                self._messages_in += len(messages)
                events = events + messages if events else messages
                if start == len(data) and not (received or self._fragment_limit.count):
                    return events
            if start and not self._is_amid_fragments:
                # What has come until here, a ping included, is not part of the next message.
                self._fragment_limit.reset()
            if start == len(buffer) or (end := next_frame(buffer, start, longest)) is None:
                break
            if start > _SHORT_READ:
                frames_left -= 1
                if frames_left <= len(events) or start >= BYTES_PER_SLICE:
                    self._keep_backlog(data, start)
                    return events
            frame = bytes(buffer[start:end])
            frame_start, start = start, end
            if not (plain and self._take_control(frame)):
                held = len(self._reassembly)
                events += (found := self._receive_frame(frame, now))
                if found and type(failed := found[-1]) is ErrorOccurred:
                    # The engine got only the header of a frame that is too long.
                    events[-1] = self._with_message(failed, held, buffer, frame_start)
                if found and type(found[0]) is MessageReceived:
                    frames_left -= len(found[0].data) // BYTES_LIKE_A_FRAME
                if self.pause and not self._ignores_input:
                    self._keep_backlog(data, start)
                    return events
            elif self._close_received is not None:
                self._start_closing(PEER, self._close_received.reason)
        if self._ignores_input:
            self._data_after_close |= start < len(buffer)
            received.clear()
        elif received:
            del received[:start]
        elif start < len(data):
            received += data[start:]
        # A read that ended with a fragment is one piece with it, and counted already.
        if received and self.phase is OPEN:
            held = len(self._reassembly)
            for failed in self._count_piece(len(received) + held, now):
                events.append(self._with_message(failed, held, received, 0))
        return events

    @property
    def _ignores_input(self) -> bool:
        """Whether further bytes are dropped (RFC 6455 section 7.1.7)."""
        engine = self._engine
        return self._close_received is not None if engine is None else engine.eof_sent

    @property
    def _is_amid_fragments(self) -> bool:
        """Whether a fragmented message is under way."""
        return self._engine is not None and self._engine.current_size is not None

    def _keep_backlog(self, data: bytes, start: int) -> None:
        """Keep what was received, from ``start`` on, for `process_backlog`."""
        self.is_more = True
        if self._received:
            del self._received[:start]
        else:
            self._received += data[start:]

    def _take_control(self, frame_bytes: bytes) -> bool:
        """Take a control frame without an engine; False for a frame that needs one."""
        control = whole_control(frame_bytes) if self._engine is None else None
        if control is None:
            return False
        first, data = control
        if first == PING:
            self._writes.append(server_frame(PONG, data))
        elif first == CLOSE:
            try:
                self._close_received = read_close(data)
            except (ProtocolError, UnicodeDecodeError):
                return False
            self._close_answer = server_frame(CLOSE, data)
            self._close_waits = True
        return True

    def _receive_frame(self, frame_bytes: bytes, now: float) -> list[Event]:
        """Take a frame through the engine."""
        engine = self._need_engine()
        if problem := length_problem(frame_bytes):
            if self.phase is OPEN:
                kind, code = ErrorKind.PROTOCOL_ERROR, CloseCode.PROTOCOL_ERROR
                return [*self._fail(kind, code, problem, now)]
            # The engine treats a wrong frame behind our close frame in the same way.
            engine.fail(CloseCode.PROTOCOL_ERROR, problem)
            return []
        feed(engine, frame_bytes)
        if engine.writes and engine.state is State.OPEN:
            # A pong goes before the answers to what comes behind the ping.
            self._collect_writes(engine)
        events: list[Event] = []
        for frame in engine.events_received():
            if isinstance(frame, Frame) and self.phase is OPEN:
                events += self._take_frame(frame, now)
        if self.phase is OPEN and engine.state is not State.OPEN:
            events += self._engine_closed(engine, now)
        return events

    def _take_frame(self, frame: Frame, now: float) -> list[Event]:
        """Take a frame that the engine has read."""
        if frame.opcode not in _DATA:
            return []
        rate = self._limits.inflate_rate
        if rate and self._need_engine().extensions:
            limit = self._inflate_limit
            if limit is None:
                limit = self._inflate_limit = InflateLimit(rate)
            self.pause = limit.add(len(frame.data), self._monotonic())
        try:
            message = self._reassembly.add(frame)
        except UnicodeDecodeError as exc:
            detail = f"text that is not UTF-8: {exc.reason} at byte {exc.start}"
            return [*self._fail(ErrorKind.BAD_UTF8, CloseCode.INVALID_DATA, detail, now)]
        if message is None:
            return [*self._count_piece(len(self._reassembly), now)]
        self._fragment_limit.reset()
        self._messages_in += 1
        return [MessageReceived(self.connection, now, *message)]

    def _count_piece(self, size: int, now: float) -> list[ErrorOccurred]:
        """Count a piece of a message of which ``size`` bytes have come."""
        problem = self._fragment_limit.add(size)
        if problem is None:
            return []
        code = CloseCode.POLICY_VIOLATION
        return self._fail(ErrorKind.TOO_MANY_CHUNKS, code, problem, now)

    def _engine_closed(self, engine: Protocol, now: float) -> list[Event]:
        """Start closing: the engine answered a close frame, or failed the connection."""
        self._close_waits = True
        if engine.parser_exc is None:
            self._start_closing(PEER, engine.close_rcvd.reason if engine.close_rcvd else "")
            return []
        code = engine.close_sent.code if engine.close_sent else CloseCode.PROTOCOL_ERROR
        kind = ERROR_OF_CODE.get(code, ErrorKind.PROTOCOL_ERROR)
        self._start_closing(LOCAL, str(engine.parser_exc))
        return [ErrorOccurred(self.connection, now, kind, str(engine.parser_exc))]

    def _fail(
        self, kind: ErrorKind, code: CloseCode, detail: str, now: float
    ) -> list[ErrorOccurred]:
        """Fail the connection for a reason of our own (RFC 6455 section 7.1.7)."""
        self._need_engine().fail(code, detail)
        self._close_waits = True
        self._start_closing(LOCAL, detail)
        return [ErrorOccurred(self.connection, now, kind, detail)]

    def _with_message(
        self, failed: ErrorOccurred, held: int, buffer: bytes | bytearray, start: int
    ) -> ErrorOccurred:
        """Add to an error the message that it is about; see `sipws.ws.failed_message`."""
        compressed = bool(self._need_engine().extensions)
        earlier = self._reassembly.first_bytes(held)
        first = first_bytes(earlier, buffer, start, compressed=compressed)
        return with_message(failed, first, self._limits)

    # The engine.

    def _need_engine(self) -> Protocol:
        """The connection's engine, made now unless there is one."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    @abstractmethod
    def _make_engine(self) -> Protocol:
        """Make an engine in the state that the connection has now."""

    def _collect_writes(self, engine: Protocol) -> None:
        """Take over what the engine sends."""
        if take_output(engine, self._writes):
            self._eof_to_send = True

    # The end.

    def _start_closing(self, closed_by: Side, reason: str) -> None:
        self.phase = CLOSING
        self._closed_by = closed_by
        self._reason = reason

    def _abort(self, kind: ErrorKind, detail: str, now: float) -> list[Event]:
        events: list[Event] = []
        # A handshake that failed has been reported as such.
        if self.accepted and not self._is_clean:
            events.append(ErrorOccurred(self.connection, now, kind, detail))
        return events + self._close(now, LOCAL, detail)

    def _close(self, now: float, closed_by: Side, detail: str = "") -> list[Event]:
        """End the session, as the TCP connection ends; a second call does nothing."""
        if self.phase is CLOSED:
            return []
        self.is_more = False
        events: list[Event] = []
        if self.phase is OPEN and closed_by is PEER:
            detail = detail or "the connection ended without a close frame"
            events.append(ErrorOccurred(self.connection, now, ErrorKind.CONNECTION_LOST, detail))
        elif self.phase is HANDSHAKE:
            events += self._handshake_lost(now, detail)
        closed_by = self._closed_by or closed_by
        received, sent = self.close_frames
        # The close frame of the side that closed first.
        first = received if closed_by is PEER else sent
        self.phase = CLOSED
        self._close_waits = False
        if self._engine is not None:
            # Engine and parser refer to each other. Unless the parser is closed, each connection
            # leaves a cycle to the garbage collector.
            self._engine.parser.close()
        events.append(
            Closed(
                self.connection,
                now,
                code=int(first.code) if first else ABNORMAL,
                reason=first.reason if first else self._reason or detail,
                closed_by=closed_by,
                clean=received is not None and sent is not None,
                accepted=self.accepted,
                duration=self._monotonic() - self.connection.started_monotonic,
                messages_in=self._messages_in,
                messages_out=self._messages_out,
                bytes_in=self._bytes_in,
                bytes_out=self._bytes_out,
                probe=self._probe,
            )
        )
        return events
