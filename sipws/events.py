"""The events of a connection: the whole vocabulary of the bus.

Events are plain values without references to sockets, tracers or configuration. An event can be
kept, compared in a test or passed to another thread. The events of an accepted connection::

    ConnectionOpened ─► HandshakeRequest ─► HandshakeReply ─► Accepted ─► Message* ─► Closed
                   └──────────┴───────────► HandshakeReply ─► HandshakeFailed ──────► Closed

Of a connection that only checks whether the server responds (`Probe`)::

    ConnectionOpened ─► Closed

Of a connection that sipws opens::

    ConnectStarted ─► ConnectionOpened ─► HandshakeRequest ─► HandshakeReply ─► Connected ─► …
                 │                                       └──────────┴─► HandshakeFailed ─► Closed
                 └──► ConnectFailed

Each `ConnectStarted` is followed by either `ConnectionOpened` or `ConnectFailed`. Each
`ConnectionOpened` is followed by exactly one `Closed`. `ConnectFailed` and `Closed` are the last
events of a connection. `ErrorOccurred` can occur anywhere between `ConnectionOpened` and `Closed`.

Events are slotted but not ``frozen=True``: freezing costs about 0.5 µs an event at run time.
`value` makes the type checker reject an assignment, without cost at run time.
"""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar, dataclass_transform

from sipws.address import Address, Listener
from sipws.errors import ErrorKind as ErrorKind
from sipws.request import UpgradeRequest

__all__ = [
    "ABNORMAL",
    "NO_STATUS",
    "Accepted",
    "Closed",
    "ConnectFailed",
    "ConnectStarted",
    "Connected",
    "Connection",
    "ConnectionEvent",
    "ConnectionOpened",
    "ErrorKind",
    "ErrorOccurred",
    "Event",
    "HandshakeFailed",
    "HandshakeReply",
    "HandshakeRequest",
    "MessageReceived",
    "MessageSent",
    "Probe",
    "Side",
    "Superseded",
]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a slotted dataclass that is immutable to the type checker."""
    return dataclass(slots=True)(cls)


class Side(StrEnum):
    """One of the two ends of a connection."""

    LOCAL = "local"
    PEER = "peer"


# A name costs a tenth of a look-up in the class.
LOCAL: Final = Side.LOCAL
PEER: Final = Side.PEER


class Probe(StrEnum):
    """Kinds of connections without an upgrade request, such as health checks and port scans."""

    TCP = "tcp"
    """Ended before the first byte of a request or of TLS, or after a PROXY header only."""
    TLS = "tls"
    """Ended after the TLS handshake, before the first byte of a request."""
    HTTP = "http"
    """Requested the health path, or was a health check of another path."""


LONGEST_EXCERPT: Final = 500
"""Maximum bytes of a message that an error quotes."""

LONGEST_CALL_ID: Final = 255
"""Maximum bytes of a Call-ID in an error. Real ones have up to 100. A longer one is left out,
because a part of it would be another Call-ID."""

NO_STATUS: Final = 1005
"""Close code of a close frame without a code (RFC 6455 section 7.4.1); never sent."""

ABNORMAL: Final = 1006
"""Close code of a connection that ended without a close frame; never sent."""


@value
class Connection:
    """The identity of a connection: what every event about it carries."""

    id: int
    """Unique in this process and, for all practical purposes, across restarts."""

    listener: Listener
    """The listener that accepted the connection. For a connection that sipws opened: the listener
    of the relayed client, or the local address as a listener."""

    local: Address
    """The local address of the socket; a real address also for a listener on ``*``."""

    peer: Address
    """The address of the peer; behind a trusted proxy, that of the client that the proxy names."""

    started: float
    """When the TCP connection was established, in seconds since the epoch."""

    request: UpgradeRequest | None = field(default=None, compare=False, repr=False)
    """The upgrade request, with its query and cookies; None until it is received or sent."""

    destination: str | None = None
    """URL, without query, of a connection that sipws opened; None for an accepted one."""

    started_monotonic: float = field(default_factory=time.monotonic, compare=False, repr=False)
    """`started` on the monotonic clock, in seconds. Durations are computed from it."""

    relayed_with: int | None = field(default=None, compare=False)
    """Id of the other connection of a relayed client: the connection to the upstream names that of
    the client, and that of the client names it once the connect has started. None if not
    relayed."""

    client: Address | None = field(default=None, compare=False)
    """Address of the client whose messages a connection to the upstream carries; None for any other
    connection."""

    @property
    def opened_by(self) -> Side:
        """The side that opened the connection."""
        return PEER if self.destination is None else LOCAL

    def with_request(self, request: UpgradeRequest) -> "Connection":
        """Return the same connection with its upgrade request."""
        # Without dataclasses.replace, which takes four times as long.
        return Connection(
            self.id, self.listener, self.local, self.peer, self.started, request, self.destination,
            self.started_monotonic, self.relayed_with, self.client,
        )  # fmt: skip

    def with_relay(self, upstream: int) -> "Connection":
        """Return the same connection, relayed with a connection to the upstream.

        Args:
            upstream: the id of that connection.
        """
        return Connection(
            self.id, self.listener, self.local, self.peer, self.started, self.request,
            self.destination, self.started_monotonic, upstream, self.client,
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash(self.id)


@value
class ConnectionEvent:
    """The base of all events."""

    connection: Connection
    time: float
    """When it happened, in seconds since the epoch."""


@value
class ConnectStarted(ConnectionEvent):
    """A connect starts.

    The local address is not known yet (``0.0.0.0``), nor is the address of a host name.
    """


@value
class ConnectFailed(ConnectionEvent):
    """No TCP connection (for ``wss``: no TLS connection) to the destination was established."""

    kind: ErrorKind
    detail: str
    """The reason, for people."""


@value
class ConnectionOpened(ConnectionEvent):
    """A TCP connection is established; no byte of HTTP has been received yet.

    With a PROXY header or TLS, the event is published after these are complete. If one of them
    fails, `HandshakeFailed` and `Closed` follow at once.
    """


@value
class HandshakeRequest(ConnectionEvent):
    """The complete upgrade request was received or sent."""

    raw: bytes
    """The request byte for byte, blank line included."""


@value
class HandshakeReply(ConnectionEvent):
    """The answer to the upgrade request was sent or received."""

    status: int
    """101, or the HTTP status of the refusal."""

    raw: bytes
    """The answer byte for byte, with its body. A received body may be cut."""


@value
class Accepted(ConnectionEvent):
    """The handshake of an accepted connection is complete: messages can be exchanged."""

    request: bytes
    """The upgrade request byte for byte."""

    reply: bytes
    """The 101 answer byte for byte."""


@value
class Connected(ConnectionEvent):
    """The handshake of a connection that sipws opened is complete: messages can be exchanged."""

    request: bytes
    """The upgrade request byte for byte."""

    reply: bytes
    """The 101 answer byte for byte."""

    subprotocol: str | None
    """The subprotocol that the server selected; None if none was offered."""


@value
class HandshakeFailed(ConnectionEvent):
    """The handshake failed: with TLS, the PROXY header, or the upgrade request."""

    request: bytes
    """The received bytes of the upgrade request, at most `Limits.request_size`; may be empty. On a
    connection that sipws opened: the request that was sent."""

    reply: bytes
    """The refusal byte for byte; empty if none could be sent. On a connection that sipws opened:
    the bytes that the server sent, up to a limit."""

    kind: ErrorKind
    detail: str
    """The reason, for people."""


@value
class MessageReceived(ConnectionEvent):
    """The peer sent a WebSocket message, reassembled: one SIP message or a keep-alive."""

    data: bytes
    is_text: bool
    """True for a text message, which is valid UTF-8; False for a binary message."""


@value
class MessageSent(ConnectionEvent):
    """A WebSocket message was passed to the socket: one SIP message or a keep-alive."""

    data: bytes
    is_text: bool


@value
class ErrorOccurred(ConnectionEvent):
    """An error on a connection whose handshake had succeeded."""

    kind: ErrorKind
    detail: str
    """The reason, for people."""

    # How much of the message was received depends on where the network cut it.
    excerpt: bytes = field(default=b"", compare=False)
    """The first bytes of the message that caused the error, as far as they were received: at most
    `LONGEST_EXCERPT`. Empty if no message caused it."""

    call_id: bytes | None = field(default=None, compare=False)
    """The Call-ID of that message, if it was received: at most `LONGEST_CALL_ID` bytes."""


@value
class Superseded(ConnectionEvent):
    """The phone of this connection has registered on another one. This one is probably dead.

    sipws pings it, and drops it if no answer arrives in time.
    """

    instance: str
    """The phone's ``+sip.instance`` (RFC 5626 section 4.1)."""

    by: int
    """The id of the other connection."""


@value
class Closed(ConnectionEvent):
    """The connection has ended."""

    code: int
    """The close code of the first close frame; 1005 for a close frame without a code, 1006 without
    a close frame."""

    reason: str
    """The reason in that close frame; without a close frame, the reason that sipws has."""

    closed_by: Side
    """The side that sent the first close frame, or dropped the connection."""

    clean: bool
    """Whether the closing handshake was completed (both close frames, RFC 6455 section 7.1.4)."""

    accepted: bool
    """Whether the opening handshake had succeeded."""

    duration: float
    """Seconds from the TCP connection to its end."""

    messages_in: int
    messages_out: int
    bytes_in: int
    """Bytes read from the peer, handshake and frame headers included, before TLS."""

    bytes_out: int
    """Bytes written to the peer, handshake and frame headers included, before TLS."""

    probe: Probe | None = None
    """Set for a connection without an upgrade request. It is not counted as a failed handshake, and
    is neither traced nor logged."""


Event = (
    ConnectStarted
    | ConnectFailed
    | ConnectionOpened
    | HandshakeRequest
    | HandshakeReply
    | Accepted
    | Connected
    | HandshakeFailed
    | MessageReceived
    | MessageSent
    | ErrorOccurred
    | Superseded
    | Closed
)
"""Any event."""


def __dir__() -> list[str]:
    return sorted(__all__)
