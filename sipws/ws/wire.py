"""What a connection says: frames, and what the engine says, in the order in which it goes out.

A server's connection has an engine when something needs one: a fragment, a wrong frame, a close of
ours. What nearly all peers send and are sent needs none, as `sipws.ws.frames` says, and an engine
costs as much memory as all the rest of an idle connection. A client has one from its upgrade
request on.
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, SEND_EOF, SERVER, Protocol

from sipws.ws.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    client_frame,
    server_frame,
    whole_control,
)


@lru_cache(maxsize=32)
def _read_close(data: bytes) -> Close:
    """What a close frame says; nearly all of them say one of a few things.

    Raises:
        ProtocolError: (of websockets) it breaks RFC 6455 section 5.5.1.
        UnicodeDecodeError: its reason is not UTF-8.
    """
    return Close.parse(data)


class Wire(ABC):
    """The outgoing half of a connection, and its engine."""

    use_fast_path: ClassVar[bool] = True
    """Whether plain frames are taken and made without the engine; tests look at both ways."""

    __slots__ = (
        "_bytes_out",
        "_engine_made",
        "_eof_to_send",
        "_farewell",
        "_last_answers",
        "_parting",
        "_talks_on",
        "_writes",
        "accepted",
    )

    def __init__(self) -> None:
        self.accepted = False
        """Whether the opening handshake succeeded."""
        self._writes: list[bytes] = []
        self._bytes_out = 0
        self._eof_to_send = False
        # The peer ended the connection behind messages of the same read: what they are answered
        # goes out in front of the close frame, which is still here.
        self._last_answers = False
        self._engine_made: Protocol | None = None
        # A closing handshake that needed no engine: the peer's close frame, and our answer to it.
        self._farewell: Close | None = None
        self._parting: bytes | None = None
        # Whether the peer said more behind its close frame.
        self._talks_on = False

    def take_writes(self) -> tuple[list[bytes], bool]:
        """What is to be written.

        Returns:
            the bytes in order, and whether our side of the TCP connection ends behind them.
        """
        engine = self._engine_made
        if engine is not None:
            if self.accepted and engine.writes:
                self._collect_writes(engine)
        elif self._parting is not None:
            self._writes.append(self._parting)
            self._parting, self._eof_to_send = None, True
        writes, eof = self._writes, self._eof_to_send
        if writes:
            self._writes = []
            self._bytes_out += len(writes[0]) if len(writes) == 1 else sum(map(len, writes))
        self._eof_to_send = self._last_answers = False
        return writes, eof

    @property
    def is_over(self) -> bool:
        """Whether the closing handshake is complete, and the peer has sent nothing behind it.

        Then there is nothing to wait for (RFC 6455 section 7.1.1: the server closes TCP first).
        """
        return self._clean and not self._talks_on

    def _collect_writes(self, engine: Protocol) -> None:
        for data in engine.data_to_send():
            # The engine's sentinel for the end is an empty string: joining would swallow it.
            if data == SEND_EOF:
                self._eof_to_send = True
            else:
                self._writes.append(bytes(data))

    def _say(self, engine: Protocol, data: bytes, *, text: bool) -> None:
        """Send a message on a connection that has an engine."""
        if self._last_answers:
            frame = Frame(Opcode.TEXT if text else Opcode.BINARY, data)
            masked = engine.side is CLIENT
            self._writes.append(frame.serialize(mask=masked, extensions=engine.extensions))
            return
        use_fast_path = self.use_fast_path and not engine.extensions
        if not use_fast_path:
            (engine.send_text if text else engine.send_binary)(data)
        # What the engine has to send was there first: this message itself, or a ping before it.
        if engine.writes:
            self._collect_writes(engine)
        if use_fast_path:
            make = server_frame if engine.side is SERVER else client_frame
            self._writes.append(make(TEXT if text else BINARY, data))

    def _say_ping(self) -> None:
        if self._engine_made is None:
            self._writes.append(server_frame(PING, b""))
        else:
            self._engine_made.send_ping(b"")

    def _take_control(self, frame_bytes: bytes) -> bool:
        """Take a control frame without the engine; False where that is to judge it."""
        control = whole_control(frame_bytes) if self._engine_made is None else None
        if control is None:
            return False
        first, data = control
        if first == PING:
            self._writes.append(server_frame(PONG, data))
        elif first == CLOSE:
            try:
                self._farewell = _read_close(data)
            except (ProtocolError, UnicodeDecodeError):
                return False
            self._parting = server_frame(CLOSE, data)
            self._last_answers = True
        return True

    @property
    def close_frames(self) -> tuple[Close | None, Close | None]:
        """The close frame that has come, and ours, which an engine makes as soon as it answers.

        When a closing handshake has just begun, the peer's is there if the peer began it.
        """
        engine = self._engine_made
        if engine is None:
            return self._farewell, self._farewell
        return engine.close_rcvd, engine.close_sent

    @property
    def _clean(self) -> bool:
        received, sent = self.close_frames
        return received is not None and sent is not None

    # The engine.

    @property
    def _engine(self) -> Protocol:
        if self._engine_made is None:
            self._engine_made = self._make_engine()
        return self._engine_made

    def _drop_engine(self, engine: Protocol) -> None:
        # Engine and parser hold each other: thousands of connections a second that come and go
        # would be left to the garbage collector.
        engine.parser.close()

    @abstractmethod
    def _make_engine(self) -> Protocol:
        """An engine for a connection that stands here in its life."""

    @property
    def _eof_sent(self) -> bool:
        """Whether what comes now is not looked at any more (RFC 6455 section 7.1.7)."""
        engine = self._engine_made
        return self._farewell is not None if engine is None else engine.eof_sent

    @property
    def _is_midway(self) -> bool:
        """Whether a fragmented message is under way."""
        return self._engine_made is not None and self._engine_made.current_size is not None
