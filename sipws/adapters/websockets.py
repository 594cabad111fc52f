"""Tracing for servers on the ``websockets`` library (``websockets.asyncio.server``).

Example::

    async with Pipeline("10.0.0.2:9060;transport=udp", trace_sip=True) as trace:
        async with serve(handler, "127.0.0.1", 8080, create_connection=traced(trace)):
            await asyncio.sleep(3600)

Everything is recorded where it happens: the request as it arrives, the answer and every message as
they are written to the socket (by ``send``, ``broadcast`` or the library itself), and close frames
in both directions.
"""

import asyncio
import sys
from typing import Any, ClassVar, Final

try:
    from websockets.asyncio.server import ServerConnection
    from websockets.exceptions import (
        ConnectionClosed,
        InvalidMessage,
        InvalidOrigin,
        InvalidStatus,
        InvalidUpgrade,
        NegotiationError,
        SecurityError,
    )
    from websockets.frames import CloseCode, Frame, Opcode
    from websockets.http11 import Request, Response
    from websockets.protocol import State
    from websockets.server import ServerProtocol
except ImportError as exc:  # pragma: no cover  websockets is among our own requirements
    raise ImportError(
        f"sipws.adapters.websockets needs websockets 17 or later (pip install websockets): {exc}"
    ) from exc

from sipws.adapters.reporter import Reporter, harmless, kind_of_failure, kind_of_status
from sipws.events import ErrorKind, Side
from sipws.tracing.pipeline import Pipeline
from sipws.ws.handshake import end_of_request
from sipws.ws.http_head import END, HeadError, headers_of, lines_of

REQUEST_SHOWN: Final = 65_536
"""Bytes of an upgrade request that are kept: the library accepts up to a megabyte of headers, and a
HEP packet takes 64 KB."""

MESSAGE_SHOWN: Final = 131_072
"""Bytes of a fragmented message that are kept. No HEP packet takes more than 65,535: the rest would
be cut anyway, and that is counted (`Tracer.counters`, ``too_long``)."""

EARLY_MESSAGES: Final = 16
"""Messages that are kept until the request is answered: as many as the library itself queues."""

_KIND_OF_EXCEPTION: Final = {
    InvalidUpgrade: ErrorKind.NO_UPGRADE,
    InvalidOrigin: ErrorKind.ORIGIN_REFUSED,
    NegotiationError: ErrorKind.NO_SUBPROTOCOL,
    SecurityError: ErrorKind.REQUEST_TOO_LARGE,
    InvalidMessage: ErrorKind.BAD_REQUEST,
}
_TAPPED: Final = ("send_response", "send_text", "send_binary", "send_continuation", "data_to_send")


class TracedConnection(ServerConnection):
    """A connection that reports its events; made by `traced`."""

    trace: ClassVar[Pipeline]
    tag: ClassVar[str | None] = None
    _watch: "_Watch | None" = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start watching the connection."""
        super().connection_made(transport)
        _begin(self, transport)

    def data_received(self, data: bytes) -> None:
        """Watch received bytes before the library processes them."""
        if self._watch is not None:
            self._watch.bytes_came(data)
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        """Report each message as it arrives, before the handler reads it."""
        if self._watch is not None and not isinstance(event, Request):
            self._watch.frame_came(event)
        super().process_event(event)

    def eof_received(self) -> None:
        """Note that the peer ended the stream."""
        if self._watch is not None:
            self._watch.peer_left = True
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.connection_ended(exc)
            self._watch = None

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Report an exception of the handler: the library then closes with 1011."""
        exc = sys.exc_info()[1]
        if (
            code == CloseCode.INTERNAL_ERROR
            and isinstance(exc, Exception)
            and not isinstance(exc, ConnectionClosed)
            and self._watch is not None
            and self.state is State.OPEN
        ):
            self._watch.reporter.failed(exc)
        await super().close(code, reason)


def traced(
    trace: Pipeline,
    connection_class: type[ServerConnection] = ServerConnection,
    *,
    tag: str | None = None,
) -> type[ServerConnection]:
    """Make the class to pass to ``serve`` as ``create_connection``.

    Args:
        trace: the pipeline.
        connection_class: your own connection class, if you have one.
        tag: a name for the listener, for filters (``$socket_in(tag)``).
    """
    bases: tuple[type[ServerConnection], ...] = (TracedConnection,)
    if connection_class is not ServerConnection:
        bases = (TracedConnection, connection_class)
    return type("TracedConnection", bases, {"trace": trace, "tag": tag})


@harmless
def _begin(connection: TracedConnection, transport: asyncio.BaseTransport) -> None:
    reporter = Reporter(
        connection.trace,
        "ws" if transport.get_extra_info("ssl_object") is None else "wss",
        transport.get_extra_info("sockname"),
        transport.get_extra_info("peername"),
        tag=connection.tag,
    )
    connection._watch = _Watch(connection, reporter)


class _Watch:
    """Watches a connection by the calls of the library's sans-I/O protocol.

    Not all messages pass the library's ``send``: ``broadcast`` bypasses it.

    Args:
        connection: the connection.
        reporter: publishes its events.
    """

    def __init__(self, connection: TracedConnection, reporter: Reporter) -> None:
        self.reporter = reporter
        self.peer_left = False
        """Whether the peer's end of the stream was seen."""
        self._protocol: ServerProtocol = connection.protocol
        self._received: bytearray | None = bytearray()
        """The received part of the request; None once it is complete."""
        self._early: list[tuple[bytes, bool]] = []
        """Messages sent directly after the request; they are reported after the answer."""
        self._message = bytearray()
        self._message_is_text = False
        self._outgoing = bytearray()
        self._outgoing_is_text = False
        self._response: Response | None = None
        """The answer that is written next."""
        self._refusal = ""
        protocol = self._protocol
        self._send_response = protocol.send_response
        self._send_text = protocol.send_text
        self._send_binary = protocol.send_binary
        self._send_continuation = protocol.send_continuation
        self._data_to_send = protocol.data_to_send
        for name in _TAPPED:
            setattr(protocol, name, getattr(self, name))

    # In.

    @harmless
    def bytes_came(self, data: bytes) -> None:
        self.reporter.bytes_in += len(data)
        received = self._received
        if received is None:
            return
        received += data[: REQUEST_SHOWN - len(received)]
        if (end := end_of_request(received)) is not None:
            self._received = None
            self.reporter.request(bytes(received[:end]))

    @harmless
    def frame_came(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._message_is_text = opcode is Opcode.TEXT
            if frame.fin:
                self._message_came(bytes(frame.data))
                return
            self._message = bytearray(frame.data[:MESSAGE_SHOWN])
        elif opcode is Opcode.CONT:
            self._message += frame.data[: MESSAGE_SHOWN - len(self._message)]
            if frame.fin:
                message, self._message = bytes(self._message), bytearray()
                self._message_came(message)

    def _message_came(self, message: bytes) -> None:
        # Text that is not UTF-8 is not a message: the library closes with 1007.
        if self._message_is_text and not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                return
        if self.reporter.accepted:
            self.reporter.message_received(message, text=self._message_is_text)
        elif len(self._early) < EARLY_MESSAGES:
            self._early.append((message, self._message_is_text))

    # Out: the calls of the protocol.

    def send_response(self, response: Response) -> None:
        self._send_response(response)
        self._response = response

    def send_text(self, data: Any, fin: bool = True) -> None:
        self._send_text(data, fin)
        self._message_went(data, fin, text=True)

    def send_binary(self, data: Any, fin: bool = True) -> None:
        self._send_binary(data, fin)
        self._message_went(data, fin, text=False)

    def send_continuation(self, data: Any, fin: bool) -> None:
        self._send_continuation(data, fin)
        self._fragment_went(data, fin)

    def data_to_send(self) -> list[bytes]:
        writes = self._data_to_send()
        for data in writes:
            self.reporter.bytes_out += len(data)
        if self._response is not None:
            self._answered(writes)
        return writes

    def _message_went(self, data: Any, fin: bool, *, text: bool) -> None:
        if fin:
            self.reporter.message_sent(data, text=text)
        else:
            self._outgoing_is_text = text
            self._outgoing = bytearray()
            self._fragment_went(data, fin)

    @harmless
    def _fragment_went(self, data: Any, fin: bool) -> None:
        self._outgoing += data[: MESSAGE_SHOWN - len(self._outgoing)]
        if fin:
            message, self._outgoing = bytes(self._outgoing), bytearray()
            self.reporter.message_sent(message, text=self._outgoing_is_text)

    @harmless
    def _answered(self, writes: list[bytes]) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        status, reporter = response.status_code, self.reporter
        request = None
        if self._received is not None:
            # Refused before its end.
            request, self._received = bytes(self._received), None
        reporter.reply(status, b"".join(writes))
        if reporter.accepted:
            early, self._early = self._early, []
            for message, is_text in early:
                reporter.message_received(message, text=is_text)
            return
        exc = self._protocol.handshake_exc
        kind = _kind_of(exc) or kind_of_status(status)
        if isinstance(exc, InvalidStatus) or exc is None:
            self._refusal = f"HTTP {status} {response.reason_phrase}"
        else:
            self._refusal = str(exc)
        reporter.refused(kind, self._refusal, request)

    # The end.

    @harmless
    def connection_ended(self, exc: Exception | None) -> None:
        """Report the end, once the library has all the facts."""
        for name in _TAPPED:
            # Also breaks a reference cycle.
            delattr(self._protocol, name)
        by_peer = self.peer_left or exc is not None
        if self.reporter.accepted:
            self._open_connection_ended(exc, Side.PEER if by_peer else Side.LOCAL)
        else:
            self._handshake_ended(by_peer)

    def _handshake_ended(self, by_peer: bool) -> None:
        reporter, detail = self.reporter, self._refusal
        if not detail:
            problem = self._protocol.handshake_exc
            request = None if self._received is None else bytes(self._received)
            kind = _kind_of(problem)
            # To the library, an end in the middle of the request is a bad request, whichever side
            # ended it.
            unfinished = problem is None or isinstance(problem.__cause__, EOFError)
            if problem is not None and kind is not None and not unfinished:
                detail = _what_is_wrong(problem, request or b"")
                by_peer = False
            elif by_peer:
                kind = ErrorKind.HANDSHAKE_ABORTED
                detail = "the peer left before its upgrade request was answered"
            else:
                kind, detail = ErrorKind.HANDSHAKE_TIMEOUT, "the handshake took too long"
            # A peer that sent nothing and left did not fail a handshake.
            if request != b"" or not by_peer:
                reporter.refused(kind, detail, request)
        else:
            by_peer = False
        reporter.closed(1006, detail, Side.PEER if by_peer else Side.LOCAL, clean=False)

    def _open_connection_ended(self, exc: Exception | None, dropped_by: Side) -> None:
        reporter, protocol = self.reporter, self._protocol
        rcvd, sent = protocol.close_rcvd, protocol.close_sent
        by_peer = rcvd is not None and (sent is None or bool(protocol.close_rcvd_then_sent))
        first = rcvd if by_peer else sent
        # The library's parser raises EOFError at every end of the stream.
        parser_exc = protocol.parser_exc
        problem = "" if isinstance(parser_exc, EOFError) else str(parser_exc or "")
        if first is None:
            if problem:
                # The library fails on frames directly after the request before it has answered.
                reporter.error(ErrorKind.PROTOCOL_ERROR, problem)
                reporter.closed(1006, problem, Side.LOCAL, clean=False)
            elif dropped_by is Side.PEER:
                reporter.lost(str(exc or "") or "the connection ended without a close frame")
            else:
                reporter.closed(1006, "the server dropped the connection", dropped_by, clean=False)
            return
        clean = rcvd is not None and sent is not None
        if not by_peer and (kind := kind_of_failure(first.code, first.reason)):
            reporter.error(kind, problem or first.reason)
        elif not clean and not by_peer and dropped_by is Side.LOCAL:
            detail = "the peer did not answer the close frame in time"
            reporter.error(ErrorKind.CLOSE_TIMEOUT, detail)
        side = Side.PEER if by_peer else Side.LOCAL
        reporter.closed(first.code, first.reason, side, clean=clean)


def _what_is_wrong(exc: Exception, raw: bytes) -> str:
    """Describe what is wrong with a request, for a person to read.

    The library quotes what it could not read. That may be a credential: the place is named instead.

    Args:
        exc: the library's exception.
        raw: the request.
    """
    if not isinstance(exc, InvalidMessage) or exc.__cause__ is None:
        return str(exc)
    try:
        headers_of(lines_of(raw.partition(END)[0] + END))
    except HeadError as problem:
        return str(problem)
    return str(exc.__cause__).partition(": ")[0]


def _kind_of(exc: Exception | None) -> ErrorKind | None:
    """Return the error of an exception of the library's handshake; None if it names none."""
    for kind_of_exception, kind in _KIND_OF_EXCEPTION.items():
        if isinstance(exc, kind_of_exception):
            return kind
    return None
