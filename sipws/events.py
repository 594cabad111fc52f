"""The events of a connection: the whole vocabulary of the bus.

Events are plain values. Nothing here knows a socket, a tracer or a configuration, so an event
can be kept, compared in a test or handed to another thread. The life of an accepted connection::

    ConnectionOpened ─► HandshakeRequest ─► HandshakeReply ─► Accepted ─► Message* ─► Closed
                   └──────────┴───────────► HandshakeReply ─► HandshakeFailed ──────► Closed

of one that only checks whether the server is there (`Probe`)::

    ConnectionOpened ─► Closed

and of one that we open::

    ConnectStarted ─► ConnectionOpened ─► HandshakeRequest ─► HandshakeReply ─► Connected ─► …
                 │                                       └──────────┴─► HandshakeFailed ─► Closed
                 └──► ConnectFailed

Every `ConnectStarted` is followed by either `ConnectionOpened` or `ConnectFailed`, every
`ConnectionOpened` by exactly one `Closed`; nothing comes after `ConnectFailed` and `Closed`.
`ErrorOccurred` may stand anywhere between `ConnectionOpened` and `Closed`.

Events are slotted but not ``frozen=True``: freezing costs about 0.5 µs an event at run time.
`value` makes the type checker refuse an assignment at the price of none.
"""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar, dataclass_transform

from sipws.address import Address, Listener
from sipws.errors import ErrorKind as ErrorKind
from sipws.request import UpgradeRequest

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a slotted dataclass that is immutable to the type checker."""
    return dataclass(slots=True)(cls)


class Side(StrEnum):
    """One of the two ends of a connection."""

    LOCAL = "local"
    PEER = "peer"


# Looked up in its class, a member costs ten times a name.
LOCAL: Final = Side.LOCAL
PEER: Final = Side.PEER


class Probe(StrEnum):
    """What a connection was that never tried to become a WebSocket: a health check, a port scan."""

    TCP = "tcp"
    """It ended before a byte of a request or of TLS, or behind a PROXY header alone."""
    TLS = "tls"
    """It ended behind the TLS handshake, before a byte of a request."""
    HTTP = "http"
    """It asked for the health path, or was a balancer's HTTP check of another one."""


LONGEST_EXCERPT: Final = 500
"""Bytes of a message that an error quotes: enough to see what it is."""

LONGEST_CALL_ID: Final = 255
"""Bytes of a Call-ID that an error names. Real ones have up to 100. A longer one is left out,
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
    """The definition that the connection was accepted on; for one that we opened, the listener that
    it was opened for, or else our end of the socket written as one."""

    local: Address
    """Our end of the socket; a real address also where the listener says ``*``."""

    peer: Address
    """The peer: the other end of the socket, or the client that a trusted proxy there names."""

    started: float
    """When the TCP connection stood, in seconds since the epoch."""

    request: UpgradeRequest | None = field(default=None, compare=False, repr=False)
    """The upgrade request, with its query and cookies; None until it has come, or has gone out."""

    destination: str | None = None
    """The destination of a connection that we opened, as a URL without its query."""

    started_monotonic: float = field(default_factory=time.monotonic, compare=False, repr=False)
    """The same moment as `started` on the system's monotonic clock, from which the connection's age
    counts."""

    @property
    def opened_by(self) -> Side:
        """The side that connected."""
        return PEER if self.destination is None else LOCAL

    def with_request(self, request: UpgradeRequest) -> "Connection":
        """The same connection, its upgrade request known."""
        # Without dataclasses.replace, which takes four times as long.
        return Connection(
            self.id, self.listener, self.local, self.peer, self.started, request, self.destination,
            self.started_monotonic,
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
    """We start to connect. Our address, and that of a name, are not known yet (``0.0.0.0``)."""


@value
class ConnectFailed(ConnectionEvent):
    """There is no TCP (for ``wss``: TLS) connection to the destination."""

    kind: ErrorKind
    detail: str
    """What was wrong, for a person to read."""


@value
class ConnectionOpened(ConnectionEvent):
    """A connection stands; no byte of HTTP has come yet.

    Where a PROXY header or TLS comes first, it is published when that is done, or has failed:
    `HandshakeFailed` and `Closed` then follow at once.
    """


@value
class HandshakeRequest(ConnectionEvent):
    """The upgrade request arrived, complete, or was sent."""

    raw: bytes
    """The request byte for byte, blank line included."""


@value
class HandshakeReply(ConnectionEvent):
    """The answer to the upgrade request was sent, or arrived."""

    status: int
    """101, or the HTTP status of the refusal."""

    raw: bytes
    """The answer byte for byte, with its body (of one that arrived, as much as is kept)."""


@value
class Accepted(ConnectionEvent):
    """The handshake is done: a SIP over WebSocket connection is open."""

    request: bytes
    """The upgrade request byte for byte."""

    reply: bytes
    """The 101 answer byte for byte."""


@value
class Connected(ConnectionEvent):
    """The handshake that we started is done: a SIP over WebSocket connection is open."""

    request: bytes
    """The upgrade request byte for byte."""

    reply: bytes
    """The 101 answer byte for byte."""

    subprotocol: str | None
    """What the server chose of what we offered; None where nothing was offered."""


@value
class HandshakeFailed(ConnectionEvent):
    """The handshake came to nothing."""

    request: bytes
    """What came as the upgrade request, byte for byte, up to the limit for upgrade requests; may be
    empty. On a connection that we opened, our request."""

    reply: bytes
    """The refusal byte for byte; empty where none could be sent. On a connection that we opened,
    what the server sent, up to the limits for it."""

    kind: ErrorKind
    detail: str
    """What was wrong, for a person to read."""


@value
class MessageReceived(ConnectionEvent):
    """The peer sent a WebSocket message, reassembled: one SIP message or a keep-alive."""

    data: bytes
    is_text: bool
    """Whether it came as text (which is valid UTF-8) or as binary."""


@value
class MessageSent(ConnectionEvent):
    """A WebSocket message was handed to the socket."""

    data: bytes
    is_text: bool


@value
class ErrorOccurred(ConnectionEvent):
    """Something went wrong on a connection whose handshake had succeeded."""

    kind: ErrorKind
    detail: str
    """What was wrong, for a person to read."""

    # How much of the message had come depends on where the network cut it.
    excerpt: bytes = field(default=b"", compare=False)
    """The first bytes of the message that it went wrong with, as far as they had come and can be
    read: at most `LONGEST_EXCERPT`."""

    call_id: bytes | None = field(default=None, compare=False)
    """The Call-ID of that message, if it had come: at most `LONGEST_CALL_ID` bytes."""


@value
class Superseded(ConnectionEvent):
    """The phone of this connection has registered on another one: this one is most likely dead.

    It is pinged, and dropped when it does not answer.
    """

    instance: str
    """The phone's ``+sip.instance`` (RFC 5626 section 4.1)."""

    by: int
    """The id of the other connection."""


@value
class Closed(ConnectionEvent):
    """The connection is gone."""

    code: int
    """The WebSocket close code: of the first close frame, 1005 for one without a code, 1006 where
    there was none."""

    reason: str
    """The reason in that close frame, or ours for a connection that ended without one."""

    closed_by: Side
    """Who ended it: who sent the first close frame, or who dropped the connection."""

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
    """Set for a connection that was no attempt to connect: it is counted apart from handshakes that
    fail, and neither traced nor logged."""


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
