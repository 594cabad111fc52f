"""Publishes the events of one connection of another server, as our own transport does.

An adapter calls a method for each thing that happens. The reporter publishes the events of
`sipws.events` in their documented order, whatever the order of the calls: nothing follows a
`Closed`, and a connection that ends in its handshake fails it first.
"""

import functools
import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, ParamSpec

from sipws.address import Address, Listener, Proto, unmapped
from sipws.errors import ERROR_OF_CODE
from sipws.events import (
    ABNORMAL,
    Accepted,
    Closed,
    Connection,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    MessageReceived,
    MessageSent,
    Side,
)
from sipws.request import UpgradeRequest
from sipws.tracing.pipeline import Pipeline

log = logging.getLogger(__name__)

P = ParamSpec("P")

UNKNOWN: Final = Address("0.0.0.0", 0)
"""An end without an internet address: a Unix socket, or a peer that left too early."""

_PING_UNANSWERED: Final = (1011, "keepalive ping timeout")
"""The close frame of websockets, and of uvicorn with it, after a ping without an answer."""

_KIND_OF_STATUS: Final[dict[int, ErrorKind]] = {
    HTTPStatus.NOT_FOUND: ErrorKind.NOT_FOUND,
    HTTPStatus.MISDIRECTED_REQUEST: ErrorKind.HOST_REFUSED,
    HTTPStatus.UPGRADE_REQUIRED: ErrorKind.NO_UPGRADE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ErrorKind.REQUEST_TOO_LARGE,
    HTTPStatus.REQUEST_URI_TOO_LONG: ErrorKind.REQUEST_TOO_LARGE,
    HTTPStatus.REQUEST_TIMEOUT: ErrorKind.HANDSHAKE_TIMEOUT,
    HTTPStatus.INTERNAL_SERVER_ERROR: ErrorKind.HANDLER_FAILED,
}


def kind_of_status(status: int) -> ErrorKind:
    """Return the error of a refusal, if only its HTTP status is known."""
    return _KIND_OF_STATUS.get(status, ErrorKind.REFUSED)


def kind_of_failure(code: int, reason: str) -> ErrorKind | None:
    """Return the error for which a server failed a connection; None if it did not fail it.

    Args:
        code: of the server's close frame.
        reason: of the server's close frame.
    """
    if (code, reason) == _PING_UNANSWERED:
        return ErrorKind.PING_TIMEOUT
    return ERROR_OF_CODE.get(code)


def address_or_unknown(host_and_port: Any) -> Address:
    """Convert a socket address of a server; `UNKNOWN` if it is not an internet address."""
    try:
        host, port = host_and_port[:2]
        ip = ipaddress.ip_address(host.partition("%")[0])
    except (TypeError, ValueError, AttributeError):
        return UNKNOWN
    return Address(str(unmapped(ip)), port or 0)


def size_of(data: bytes | str) -> int:
    """Return the bytes of a message on the wire, without frame headers."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())


def harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Make a method that logs exceptions: the server that is traced never sees them."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            log.exception("%s failed: something of a connection is not traced", method.__qualname__)

    return call


class Reporter:
    """Publishes the events of one connection. No method raises or blocks.

    Args:
        trace: the pipeline with the bus to publish on.
        proto: ``ws`` or ``wss``.
        local: our end of the socket, as `address_or_unknown` takes it.
        peer: the other end.
        tag: a name for the listener, for filters (``$socket_in(tag)``).
        clock: seconds since the epoch.
        monotonic: seconds on a monotonic clock, for the duration of the connection.
    """

    __slots__ = (
        "_bus",
        "_clock",
        "_ended",
        "_monotonic",
        "_reply",
        "_request",
        "_trace",
        "accepted",
        "bytes_in",
        "bytes_out",
        "connection",
        "messages_in",
        "messages_out",
    )

    def __init__(
        self,
        trace: Pipeline,
        proto: Proto,
        local: Any,
        peer: Any,
        *,
        tag: str | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        ours = address_or_unknown(local)
        listener = Listener(proto, ours.ip, ours.port, tag)
        now = clock()
        self.connection = Connection(
            trace.connections.next_id(),
            listener,
            ours,
            address_or_unknown(peer),
            now,
            started_monotonic=monotonic(),
        )
        self.accepted = False
        """Whether the opening handshake succeeded."""
        self.bytes_in = self.bytes_out = 0
        """Bytes that the adapter counted; each adapter documents what it counts."""
        self.messages_in = self.messages_out = 0
        self._trace = trace
        self._bus = trace.bus
        self._clock = clock
        self._monotonic = monotonic
        self._request = self._reply = b""
        self._ended = False
        trace.connections.add(self)
        self._bus.publish(ConnectionOpened(self.connection, now))

    @property
    def ended(self) -> bool:
        """Whether `closed` has been called."""
        return self._ended

    # The handshake.

    @harmless
    def request(self, raw: bytes) -> None:
        """Report the upgrade request."""
        self._request = raw
        self.connection = replace(self.connection, request=UpgradeRequest(raw))
        self._bus.publish(HandshakeRequest(self.connection, self._clock(), raw))

    @harmless
    def reply(self, status: int, raw: bytes) -> None:
        """Report the answer: 101 opens the connection; `refused` follows any other.

        Args:
            status: the HTTP status.
            raw: the answer, with its body.
        """
        if self._ended or self.accepted or self._reply:
            return
        now = self._clock()
        self._reply = raw
        self._bus.publish(HandshakeReply(self.connection, now, status, raw))
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            self.accepted = True
            self._bus.publish(Accepted(self.connection, now, self._request, raw))
            # An idle connection need not keep its handshake.
            self._request = self._reply = b""

    @harmless
    def refused(self, kind: ErrorKind, detail: str, request: bytes | None = None) -> None:
        """Report that the handshake failed; `closed` follows.

        Args:
            kind: the error.
            detail: the error, for a person to read.
            request: the received part of an incomplete request; by default that of `request`.
        """
        if self._ended or self.accepted:
            return
        received = self._request if request is None else request
        self._bus.publish(
            HandshakeFailed(self.connection, self._clock(), received, self._reply, kind, detail)
        )
        self._request = self._reply = b""

    # Messages.

    def message_received(self, data: bytes | str, *, text: bool) -> None:
        """Report a message from the peer."""
        self.messages_in += 1
        hook = self._bus.message_received
        if hook.subscribers and not self._ended:
            try:
                raw = data.encode() if isinstance(data, str) else bytes(data)
                hook.publish(MessageReceived(self.connection, self._clock(), raw, text))
            except Exception:
                log.exception("not reported: a message of %s", self.connection.peer)

    def message_sent(self, data: bytes | str, *, text: bool) -> None:
        """Report a message to the peer."""
        self.messages_out += 1
        hook = self._bus.message_sent
        if hook.subscribers and not self._ended:
            try:
                raw = data.encode() if isinstance(data, str) else bytes(data)
                hook.publish(MessageSent(self.connection, self._clock(), raw, text))
            except Exception:
                log.exception("not reported: a message to %s", self.connection.peer)

    # The end.

    @harmless
    def error(self, kind: ErrorKind, detail: str) -> None:
        """Report an error after the handshake.

        Args:
            kind: the error.
            detail: the error, for a person to read.
        """
        if not self._ended:
            self._bus.publish(ErrorOccurred(self.connection, self._clock(), kind, detail))

    def failed(self, exc: BaseException) -> None:
        """Report that the application raised."""
        self.error(ErrorKind.HANDLER_FAILED, f"{type(exc).__name__}: {exc}".rstrip(": "))

    def lost(self, detail: str = "the connection ended without a close frame") -> None:
        """Report that the peer vanished."""
        if self.accepted:
            self.error(ErrorKind.CONNECTION_LOST, detail)
        self.closed(ABNORMAL, detail, Side.PEER, clean=False)

    @harmless
    def closed(self, code: int, reason: str, closed_by: Side, *, clean: bool) -> None:
        """Report that the connection is gone; a second call does nothing.

        Args:
            code: as in `sipws.events.Closed`.
            reason: the reason in the first close frame, or a description of the end.
            closed_by: the side that sent the first close frame, or dropped the connection.
            clean: whether both close frames were seen.
        """
        if self._ended:
            return
        self._ended = True
        self._trace.connections.remove(self)
        self._bus.publish(
            Closed(
                self.connection,
                self._clock(),
                code=int(code),
                reason=reason,
                closed_by=closed_by,
                clean=clean,
                accepted=self.accepted,
                duration=self._monotonic() - self.connection.started_monotonic,
                messages_in=self.messages_in,
                messages_out=self.messages_out,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
            )
        )
