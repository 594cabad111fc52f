"""The one family of exceptions that sipws raises.

.. code-block:: text

    SipwsError
    ├── ConfigurationError      a user's setting, file or command-line value is wrong
    │   ├── AddressError        a listener definition or an address does not parse
    │   └── FilterRouteError    a filter-route script is refused
    ├── TransportError          an operation on a connection fails
    │   ├── ConnectError        there is no connection to a destination
    │   └── ConnectionClosedError
    └── TraceError              a trace cannot be started or stopped

Network errors are events on the bus. sipws raises an exception for a mistake of the user (the
message names the thing, its value and the remedy) and for a call that cannot be carried out. A
failed connect is both an event and an exception.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class ErrorKind(StrEnum):
    """The kind of an error, as a stable word for counters, traces and scripts."""

    NOT_HTTP = "not-http"
    """The first bytes are not an HTTP request (answered 400)."""
    BAD_REQUEST = "bad-request"
    """An HTTP request that breaks HTTP or RFC 6455 section 4.2.1 (400, 405 or 505)."""
    NO_UPGRADE = "no-upgrade"
    """An HTTP request that does not ask for a WebSocket (426)."""
    BAD_VERSION = "bad-version"
    """A WebSocket version other than 13 (426, RFC 6455 section 4.4)."""
    NO_SUBPROTOCOL = "no-subprotocol"
    """The subprotocol ``sip`` is not offered (400, RFC 7118 section 4)."""
    REQUEST_TOO_LARGE = "request-too-large"
    """The upgrade request exceeds its limit (431)."""
    HANDSHAKE_TIMEOUT = "handshake-timeout"
    """The upgrade request did not arrive in time (408). Client: the answer did not."""
    HANDSHAKE_ABORTED = "handshake-aborted"
    """The peer ended the connection within its upgrade request or its answer."""

    NAME_NOT_FOUND = "name-not-found"
    """The destination's name has no address."""
    CONNECT_REFUSED = "connect-refused"
    """Nothing listens at the destination (the system's ``ECONNREFUSED``)."""
    CONNECT_TIMEOUT = "connect-timeout"
    """Resolving the name, TCP and TLS together took too long."""
    UNREACHABLE = "unreachable"
    """The system reports another reason why the destination cannot be reached."""
    OUT_OF_RESOURCES = "out-of-resources"
    """This machine has no file descriptor or no port left for the connect."""
    CONNECT_CANCELLED = "connect-cancelled"
    """The application cancelled a connect."""
    HANDSHAKE_REFUSED = "handshake-refused"
    """A server answered the upgrade request with a status other than 101."""
    BAD_REPLY = "bad-reply"
    """A server's answer to the upgrade request violates HTTP, RFC 6455 section 4.1 or RFC 7118."""

    TOO_MANY_CONNECTIONS = "too-many-connections"
    """The maximum of connections is reached (503)."""
    TOO_MANY_FROM_ADDRESS = "too-many-from-address"
    """The maximum of connections from this address is reached (429)."""
    TOO_FAST = "too-fast"
    """Connections exceed the maximum rate: of this address (429), or in total (503)."""
    SHUTTING_DOWN = "shutting-down"
    """The server shuts down and accepts no more connections (503)."""
    NOT_FOUND = "not-found"
    """The path is not the one that is served (404, OpenSIPS ``ws_resource``)."""
    HOST_REFUSED = "host-refused"
    """The ``Host`` is not one that is served (421, RFC 9110 section 15.5.20)."""
    ORIGIN_REFUSED = "origin-refused"
    """The ``Origin`` is not allowed, or is missing (403, RFC 6455 section 4.2.2)."""
    PROXY_HEADER = "proxy-header"
    """A proxy sent no PROXY header, or an invalid one (no answer is possible)."""
    TLS_FAILURE = "tls-failure"
    """The TLS handshake failed (no answer is possible)."""
    REFUSED = "refused"
    """The application of another server refused the request (`sipws.adapters`)."""

    PROTOCOL_ERROR = "protocol-error"
    """The peer violated RFC 6455 after the handshake (close code 1002)."""
    BAD_UTF8 = "bad-utf8"
    """A text message or a close reason is not UTF-8 (close code 1007)."""
    MESSAGE_TOO_BIG = "message-too-big"
    """A message exceeds the size limit (close code 1009)."""
    TOO_MANY_CHUNKS = "too-many-chunks"
    """A message arrives in too many small pieces (close code 1008, OpenSIPS
    ``ws_max_msg_chunks``)."""
    PING_TIMEOUT = "ping-timeout"
    """The peer did not answer a ping in time."""
    SEND_TIMEOUT = "send-timeout"
    """The peer did not read what was sent to it in time (OpenSIPS ``ws_send_timeout``)."""
    CLOSE_TIMEOUT = "close-timeout"
    """The peer did not complete the closing handshake or the TCP close in time."""
    CONNECTION_LOST = "connection-lost"
    """The connection ended without a closing handshake (close code 1006)."""
    UPSTREAM_FAILED = "upstream-failed"
    """The server that a connection is relayed to cannot be reached, or refuses (close code 1013,
    1008 or 1011)."""
    UPSTREAM_QUEUE_FULL = "upstream-queue-full"
    """Too many messages wait for the connection to the upstream (close code 1013)."""
    HANDLER_FAILED = "handler-failed"
    """The handler of the application raised on a message."""


ERROR_OF_CODE: Final = {
    1002: ErrorKind.PROTOCOL_ERROR,
    1007: ErrorKind.BAD_UTF8,
    1009: ErrorKind.MESSAGE_TOO_BIG,
}
"""The error of a close code with which sipws fails a connection (RFC 6455 section 7.4.1)."""


class SipwsError(Exception):
    """The base class of all exceptions that sipws raises."""


class ConfigurationError(SipwsError):
    """A setting, a file or a command-line value is wrong; the message says which and what to do."""


class AddressError(ConfigurationError):
    """A listener definition, an address or a port does not parse."""


class TransportError(SipwsError):
    """An operation on a connection or a listener cannot be done."""


class ConnectionClosedError(TransportError):
    """Something was to be sent on a connection that is closing or closed."""


class ConnectError(TransportError):
    """A connect failed. The message names the destination, the reason and a remedy.

    Args:
        destination: the URL of the destination, without its query.
        kind: the kind of the error, as in the published event.
        detail: the reason, for people.
        remedy: what may help.
        status: HTTP status of a server that refused the handshake.
        reply: the bytes that the server answered, as far as they were received and kept.
        retry_after: ``Retry-After`` of the server in seconds, at most an hour.
    """

    def __init__(
        self,
        destination: str,
        kind: ErrorKind,
        detail: str,
        remedy: str,
        *,
        status: int | None = None,
        reply: bytes = b"",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(destination, kind, detail, remedy)
        self.destination = destination
        """The destination's URL, without its query."""
        self.kind = kind
        """The kind of the error, as in the published event."""
        self.detail = detail
        """The reason, for people."""
        self.remedy = remedy
        """What may help."""
        self.status = status
        """The HTTP status of a server that refused the handshake."""
        self.reply = reply
        """The bytes that the server answered, as far as they were received and kept."""
        self.retry_after = retry_after
        """``Retry-After`` of the server in seconds, at most an hour; None without one."""

    def __str__(self) -> str:
        return f"cannot connect to {self.destination}: {self.detail}; {self.remedy}"


class TraceError(SipwsError):
    """A trace cannot be started or stopped; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A mistake in a file of the user, or something allowed but most likely not meant."""

    filename: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    severity: Literal["error", "warning"]
    problem: str
    """The mistake, and the remedy if there is one."""
    excerpt: str
    """The line, and carets under the place."""

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {self.problem}\n{self.excerpt}"


class FilterRouteError(ConfigurationError):
    """A filter-route script is refused: OpenSIPS would not start with it."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(*diagnostics)
        self.diagnostics = tuple(diagnostics)
        """All that is wrong, in the order of the script."""

    def __str__(self) -> str:
        return "\n".join(str(diagnostic) for diagnostic in self.diagnostics)
