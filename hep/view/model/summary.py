"""What a list shows of a call and of a connection. Values, filled in by `Call` and `Connection`."""

from dataclasses import dataclass, field
from typing import Final, Literal

CallKind = Literal["call", "registration", "subscription", "message", "options", "other"]
"""What a Call-ID is about, by its first request: INVITE; REGISTER; SUBSCRIBE, NOTIFY or PUBLISH;
MESSAGE; OPTIONS; any other."""

CallState = Literal["trying", "ringing", "answered", "ended", "unknown"]
"""Where a call is. ``unknown``: its start was not captured, and nothing later says. A transaction
that is no call is ``trying`` until its final response, and then ``ended``."""

Outcome = Literal["open", "ok", "cancelled", "rejected", "failed", "lost"]
"""How it went, which decides its colour.

- ``open``: it goes on.
- ``ok``: answered, registered, and ended as one ends a call.
- ``cancelled``: the caller hung up before an answer.
- ``rejected``: the other user or the server declined (3xx to 6xx but those of ``failed``): 486,
  603, 404. A challenge (401, 407) that was answered is no rejection.
- ``failed``: a fault, such as 408, 5xx, or no answer at all.
- ``lost``: a connection that the call needed ended, or that of a registered phone broke.
"""

Tone = Literal["good", "bad", "warn", "info", "quiet"]
"""The colour of a message or an event in a picture."""

MOST_ADDRESSES: Final = 32
"""Addresses, connections and Call-IDs that a summary names; further ones are in its packets."""

_LEFT: Final = (1000, 1001, 1005)
"""Close codes of an end that is meant: a normal closure, going away, and a close frame without a
code, as browsers send it (RFC 6455 section 7.4.1)."""


@dataclass(slots=True)
class CallSummary:
    """A row of the list of calls. Times are microseconds since the epoch."""

    call_id: str
    """The Call-ID."""
    kind: CallKind = "other"
    """What it is about."""
    method: str = ""
    """Method of its first request."""
    first: int = 0
    """Time of its first message."""
    last: int = 0
    """Time of its last message."""
    from_user: str = ""
    """The caller: user of From in the first request."""
    from_host: str = ""
    """Host of From."""
    to_user: str = ""
    """The callee: user of To."""
    to_host: str = ""
    """Host of To."""
    user_agent: str = ""
    """User-Agent of the one that sent the first request."""
    state: CallState = "trying"
    """Where it is."""
    outcome: Outcome = "open"
    """How it went."""
    code: int = 0
    """Status code of the final response to its first request; 0 without one."""
    reason: str = ""
    """Reason phrase of that response."""
    ended: str = ""
    """How it ended, in a few words, such as ``BYE of the callee``; empty while it goes on."""
    answered_at: int = 0
    """Time of the 2xx to the INVITE; 0 without one."""
    ended_at: int = 0
    """Time of the BYE, CANCEL or final response that ended it; 0 while it goes on."""
    messages: int = 0
    """Messages, retransmissions and both legs of a relayed call included."""
    retransmissions: int = 0
    """Messages that one party sent again."""
    addresses: list[str] = field(default_factory=list)
    """``IP:PORT`` of all parties, at most `MOST_ADDRESSES`, in order of appearance."""
    connections: list[str] = field(default_factory=list)
    """Ids of the WebSocket connections that it used, at most `MOST_ADDRESSES`."""


ConnectionState = Literal["open", "closed", "refused", "failed"]
"""``refused``: the handshake was answered with an error. ``failed``: it never came to an answer."""


@dataclass(slots=True)
class ConnectionSummary:
    """A row of the list of connections. Times are microseconds since the epoch."""

    id: str
    """The id that its sender gives it: the correlation id of its events."""
    protocol: str = ""
    """``WS`` or ``WSS``."""
    peer: str = ""
    """Address of the client, ``IP:PORT``; of an upstream's connection that of the upstream."""
    local: str = ""
    """Address of the server that traces."""
    leg: Literal["client", "upstream"] = "client"
    """Whether a client opened it, or the server that traces did."""
    since: int = 0
    """Time of its first event."""
    until: int = 0
    """Time of its end; 0 while it is open."""
    last: int = 0
    """Time of its last event or message."""
    state: ConnectionState = "open"
    """Where it is."""
    user_agent: str = ""
    """User-Agent of the handshake, or of the first SIP request of the client."""
    origin: str = ""
    """Origin of the handshake."""
    host: str = ""
    """Host of the handshake."""
    resource: str = ""
    """Path and query of the handshake."""
    aor: str = ""
    """Address of record, ``user@host``, that registered on it last."""
    status: int = 0
    """HTTP status of the handshake; 0 if it is not known."""
    code: int = 0
    """Close code; 0 while it is open."""
    reason: str = ""
    """Close reason, or what the end says."""
    closed_by: Literal["", "peer", "local"] = ""
    """The side that ended it."""
    error: str = ""
    """Kind of the last error, such as ``connection-lost`` or ``no-subprotocol``."""
    error_detail: str = ""
    """What that error says."""
    messages_in: int = 0
    """Messages from the peer: those of the close event, or those that were traced."""
    messages_out: int = 0
    """Messages to the peer."""
    bytes_in: int = 0
    """Bytes from the peer, from the close event; 0 before."""
    bytes_out: int = 0
    """Bytes to the peer."""
    relayed_with: str = ""
    """Id of the other leg of a relayed connection."""
    client: str = ""
    """Address of the client, in the connection to an upstream."""
    calls: list[str] = field(default_factory=list)
    """Call-IDs that it carried, the latest at the end, at most `MOST_ADDRESSES`."""

    @property
    def broke(self) -> bool:
        """Whether it ended by a fault. An error before a close that is meant is none."""
        return bool(self.until) and (self.code not in _LEFT if self.code else bool(self.error))
