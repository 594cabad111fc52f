"""The incoming half of a connection: frames become events, as many at once as one turn is for.

Plain messages and control frames are taken by hand, all others through the engine, each whole and
settled before the next. What is received may hold thousands of frames: those that are more than
others should have to wait for are left to `Intake.process_backlog`.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from sipws.events import (
    LOCAL,
    LONGEST_CALL_ID,
    LONGEST_EXCERPT,
    PEER,
    Connection,
    ErrorKind,
    ErrorOccurred,
    Event,
    MessageReceived,
    Side,
)
from sipws.limits import (
    BYTES_LIKE_A_FRAME,
    BYTES_PER_SLICE,
    FRAMES_PER_SLICE,
    INFLATE_BURST,
    Limits,
)
from sipws.sip import call_id
from sipws.ws.engine import feed, is_plain
from sipws.ws.fragment_limit import PIECE_SIZE, Pieces
from sipws.ws.frames import length_problem, next_frame, payload_begun, whole_messages
from sipws.ws.phase import OPEN, Phase
from sipws.ws.reassembly import Assembly
from sipws.ws.wire import Wire

_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

_FEW: Final = 2 * FRAMES_PER_SLICE - 1
"""Bytes that hold fewer frames than are taken at once: the shortest frame has two."""

_LOOKED_AT: Final = 4096
"""Bytes in which the Call-ID is looked for of a message that fails its connection."""

_OPCODE: Final = 0x0F

_ERROR_OF_CODE: Final = {
    1002: ErrorKind.PROTOCOL_ERROR,
    1007: ErrorKind.BAD_UTF8,
    1009: ErrorKind.MESSAGE_TOO_BIG,
}
"""What the engine's close codes mean when it fails a connection (RFC 6455 section 7.4.1)."""


class Intake(Wire):
    """What is done with the bytes that come behind the opening handshake."""

    __slots__ = (
        "_assembly",
        "_inflated_until",
        "_limits",
        "_messages_in",
        "_pieces",
        "_received",
        "connection",
        "is_more",
        "pause",
        "phase",
    )

    take_whole = staticmethod(whole_messages)
    """Takes the peer's plain messages; `sipws.ws.frames.unmasked_messages` where that is a
    server."""

    # Set by the session.
    connection: Connection
    phase: Phase
    is_more: bool
    """Whether frames, or what would follow them, wait for `process_backlog`."""
    pause: float
    """Seconds that the caller is to wait before it calls `process_backlog`."""
    _limits: Limits
    _received: bytearray
    _assembly: Assembly
    _pieces: Pieces
    _messages_in: int
    _inflated_until: float
    """When what was inflated will be paid for, at `Limits.inflate_rate`, by `_monotonic`."""
    _monotonic: Callable[[], float]

    def process_backlog(self, now: float) -> list[Event]:
        """Take more of what was received, as much as one turn is for, where there `is_more`."""
        if not self.is_more:
            return []
        self.is_more, self.pause = False, 0.0
        return self._receive_frames(b"", now)

    def _drop_rest(self) -> None:
        """Nothing more of what was received is wanted."""
        self.is_more, self.pause = False, 0.0
        self._received.clear()

    def _receive_frames(self, data: bytes, now: float) -> list[Event]:
        """Take what is all there: plain messages at once, anything else through the engine."""
        received, longest = self._received, self._limits.message_size
        if received:
            received += data
            self.is_more = False
        # Nearly every read starts and ends with a frame: then nothing is copied into the buffer.
        buffer = received or data
        happened: list[Event] = []
        start = 0
        more = FRAMES_PER_SLICE
        while not self._eof_sent:
            engine = self._engine_made
            plain = self.use_fast_path and (engine is None or is_plain(engine))
            if plain:
                messages, start = self.take_whole(buffer, start, longest, self.connection, now)
                self._messages_in += len(messages)
                happened = happened + messages if happened else messages
                if start == len(data) and not (received or self._pieces.count):
                    return happened
            if start and not self._is_midway:
                # What has come until here, be it a ping, is no part of the message that comes.
                self._pieces.start_anew()
            if start == len(buffer) or (end := next_frame(buffer, start, longest)) is None:
                break
            if start > _FEW:
                more -= 1
                if more <= len(happened) or start >= BYTES_PER_SLICE:
                    self._leave(data, start)
                    return happened
            frame = bytes(buffer[start:end])
            begin, start = start, end
            if not (plain and self._take_control(frame)):
                held = len(self._assembly)
                told = self._receive_frame(frame, now)
                if told and type(told[-1]) is ErrorOccurred:
                    # Of a frame that is too long, only the header was handed over.
                    told[-1] = self._quoting(told[-1], held, buffer, begin)
                happened += told
                if told and type(told[0]) is MessageReceived:
                    more -= len(told[0].data) // BYTES_LIKE_A_FRAME
                if self.pause and not self._eof_sent:
                    self._leave(data, start)
                    return happened
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
            held = len(self._assembly)
            for failed in self._count_piece(len(received) + held, now):
                happened.append(self._quoting(failed, held, received, 0))
        return happened

    def _quoting(
        self, failed: ErrorOccurred, held: int, buffer: bytes | bytearray, start: int
    ) -> ErrorOccurred:
        """An error with what can be read of the message that it is about, and the setting's name.

        Args:
            failed: the error.
            held: bytes of the message that had come before the frame.
            buffer: what has been received.
            start: where the frame starts in it that it went wrong with.
        """
        detail = failed.detail
        match failed.kind:
            case ErrorKind.MESSAGE_TOO_BIG:
                detail += f" (max_message_size = {self._limits.message_size})"
            case ErrorKind.TOO_MANY_CHUNKS:
                detail += (
                    f" (ws_max_msg_chunks = {self._limits.max_chunks}, and one piece more for each"
                    f" {PIECE_SIZE} bytes)"
                )
            case ErrorKind.BAD_UTF8:
                pass
            case _:
                return failed
        is_next = buffer[start] & _OPCODE == Opcode.CONT
        begun = self._assembly.begun(min(held, _LOOKED_AT)) if is_next else b""
        if not self._engine.extensions:
            # Else it may be compressed.
            begun += payload_begun(buffer, start, _LOOKED_AT - len(begun))
        # The last line may not be all there.
        named = call_id(begun[: begun.rfind(b"\n") + 1])
        if named is not None and len(named) > LONGEST_CALL_ID:
            named = None
        return replace(failed, detail=detail, excerpt=begun[:LONGEST_EXCERPT], call_id=named)

    def _leave(self, data: bytes, start: int) -> None:
        """Leave what has been received, from there on, to `process_backlog`."""
        self.is_more = True
        if self._received:
            del self._received[:start]
        else:
            self._received += data[start:]

    def _count_inflated(self, size: int) -> None:
        """Count what a frame became, and find how long that is to last."""
        now = self._monotonic()
        until = max(self._inflated_until, now) + size / self._limits.inflate_rate
        self._inflated_until = until
        self.pause = max(0.0, until - now - INFLATE_BURST)

    def _count_piece(self, size: int, now: float) -> list[ErrorOccurred]:
        """Count a cut in a message of which so many bytes have come."""
        problem = self._pieces.add(size)
        if problem is None:
            return []
        code = CloseCode.POLICY_VIOLATION
        return self._fail(ErrorKind.TOO_MANY_CHUNKS, code, problem, now)

    def _receive_frame(self, frame_bytes: bytes, now: float) -> list[Event]:
        """Take a frame through the engine."""
        engine = self._engine
        if problem := length_problem(frame_bytes):
            if self.phase is OPEN:
                kind, code = ErrorKind.PROTOCOL_ERROR, CloseCode.PROTOCOL_ERROR
                return [*self._fail(kind, code, problem, now)]
            # As the engine does with a wrong frame behind our close frame.
            engine.fail(CloseCode.PROTOCOL_ERROR, problem)
            return []
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
        if self._engine.extensions and self._limits.inflate_rate:
            self._count_inflated(len(frame.data))
        try:
            message = self._assembly.add(frame)
        except UnicodeDecodeError as exc:
            detail = f"text that is not UTF-8: {exc.reason} at byte {exc.start}"
            return [*self._fail(ErrorKind.BAD_UTF8, CloseCode.INVALID_DATA, detail, now)]
        if message is None:
            return [*self._count_piece(len(self._assembly), now)]
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

    def _fail(
        self, kind: ErrorKind, code: CloseCode, detail: str, now: float
    ) -> list[ErrorOccurred]:
        """Fail the connection (RFC 6455 section 7.1.7) for a reason that the engine did not see."""
        self._engine.fail(code, detail)
        self._last_answers = True
        self._start_closing(LOCAL, detail)
        return [ErrorOccurred(self.connection, now, kind, detail)]

    @abstractmethod
    def _start_closing(self, closed_by: Side, reason: str) -> None:
        """The closing handshake has begun."""
