"""One WebSocket connection, without I/O: bytes in, events and bytes out.

A `Session` owns the bytes that come in and takes them frame by frame, those with anything unusual
through websockets' sans-I/O engine. It has no socket: time comes in as ``now`` (seconds since the
epoch), what happened comes out as events, what is to be written as bytes from
`Session.take_writes`. Only how long it lasted is asked of a clock that nobody sets, as ``now`` may
be set back. How a connection opens depends on the side: `sipws.ws.server_session` has the server's.

After every call the caller publishes the events, writes what `take_writes` returns, and looks at
`Session.phase`: when it changed, `Session.timeout` is the new time limit. What is received may hold
more frames than are taken at once. While there `Session.is_more` the caller reads no more and has
it taken by `Session.process_backlog`, with others' turns between. Nothing the peer sends raises.
"""

import time
from abc import abstractmethod
from collections.abc import Callable

from websockets.frames import CloseCode

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
    Probe,
    Side,
)
from sipws.limits import REFUSED_LINGER, Limits
from sipws.ws.fragment_limit import Pieces
from sipws.ws.frames import BINARY, TEXT, server_frame
from sipws.ws.intake import Intake
from sipws.ws.phase import CLOSED, CLOSING, HANDSHAKE, OPEN
from sipws.ws.reassembly import Assembly


class Session(Intake):
    """One side of a connection: what both sides have in common.

    Args:
        connection: who it is.
        limits: what it may take.
        monotonic: the clock of `Connection.started_monotonic`.
    """

    __slots__ = (
        "_bytes_in",
        "_closed_by",
        "_messages_out",
        "_monotonic",
        "_probe",
        "_reason",
    )

    def __init__(
        self,
        connection: Connection,
        limits: Limits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.phase = HANDSHAKE
        self.is_more = False
        self.pause = self._inflated_until = 0.0
        self._limits = limits
        self._monotonic = monotonic
        self._received = bytearray()
        self._assembly = Assembly()
        self._pieces = Pieces(limits.max_chunks)
        self._closed_by: Side | None = None
        self._reason = ""
        # What the connection was where it was no attempt to connect.
        self._probe: Probe | None = None
        self._messages_in = self._messages_out = self._bytes_in = 0

    # What comes in.

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes that the peer sent, as much of them as one turn is for (`sipws.limits`).

        Returns:
            what happened, in order.
        """
        self._bytes_in += len(data)
        phase = self.phase
        # While it is closing, the peer's close frame may still come.
        if phase is OPEN or (phase is CLOSING and self.accepted):
            return self._receive_frames(data, now)
        return self._receive_handshake(data, now) if phase is HANDSHAKE else []

    def receive_eof(self, now: float, detail: str = "") -> list[Event]:
        """The peer closed its side of the TCP connection, or the connection broke.

        What waits is taken first, all at once: who has others to think of takes it before.

        Args:
            now: the time, in seconds since the epoch.
            detail: what the system said of it, for a connection that broke.
        """
        if not self.is_more:
            return self._close(now, PEER, detail)
        happened: list[Event] = []
        while self.is_more:
            happened += self.process_backlog(now)
        return happened + self._close(now, PEER, detail)

    def receive_reset(self, now: float, detail: str) -> list[Event]:
        """The connection broke: nobody waits for what would come of what is left.

        Args:
            now: the time, in seconds since the epoch.
            detail: what the system said of it.
        """
        self._drop_rest()
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
        if phase is not CLOSING:
            return None
        timeout = self._limits.close_timeout
        return timeout if self.accepted else min(timeout, REFUSED_LINGER)

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
        self.is_more = False
        happened: list[Event] = []
        if self.phase is OPEN and closed_by is PEER:
            detail = detail or "the connection ended without a close frame"
            happened.append(ErrorOccurred(self.connection, now, ErrorKind.CONNECTION_LOST, detail))
        elif self.phase is HANDSHAKE:
            happened += self._handshake_lost(now, detail)
        closed_by = self._closed_by or closed_by
        received, sent = self.close_frames
        # What the side that closed first has sent.
        first = received if closed_by is PEER else sent
        self.phase = CLOSED
        self._last_answers = False
        if self._engine_made is not None:
            self._drop_engine(self._engine_made)
        happened.append(
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
        return happened
