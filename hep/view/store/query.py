"""What can be asked of a store, and the shape of its answers. Values."""

from dataclasses import dataclass, field
from typing import Literal

from hep.view.model.summary import CallKind, CallSummary, ConnectionSummary, Outcome

Cursor = str
"""Where a list goes on: what an answer calls ``next``. Opaque."""


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls a list has. Of several conditions all must hold. Times are microseconds."""

    since: int | None = None
    """Calls whose last message is not before this time."""
    until: int | None = None
    """Calls whose first message is not after this time."""
    kinds: tuple[CallKind, ...] = ()
    """What they are about; empty for all."""
    outcomes: tuple[Outcome, ...] = ()
    """How they went; empty for all."""
    user: str = ""
    """Part of the caller's or the callee's user or ``user@host``, upper and lower case alike."""
    address: str = ""
    """Beginning of an address of one of their parties, such as ``10.1.`` or ``10.1.2.3:5060``."""
    method: str = ""
    """Method of the first request."""
    code: str = ""
    """Final status code, ``486``, or a class of them, ``4xx``."""
    text: str = ""
    """Part of any message of the call. It reads all messages, so that the answer may be partial."""


@dataclass(frozen=True, slots=True)
class ConnectionFilter:
    """Which connections a list has. Of several conditions all must hold."""

    since: int | None = None
    """Connections that have not ended before this time."""
    until: int | None = None
    """Connections that have not begun after this time."""
    states: tuple[Literal["open", "closed", "refused", "failed"], ...] = ()
    """Their states; empty for all."""
    address: str = ""
    """Beginning of the address of the peer."""
    text: str = ""
    """Part of the id, AOR, User-Agent, Origin, path, error or reason, case ignored."""


@dataclass(slots=True)
class CallPage:
    """A part of the list of calls, the latest first (by the time of their first message)."""

    rows: list[CallSummary]
    next: Cursor | None = None
    """Where it goes on; None at its end."""
    searched_to: int | None = None
    """Time back to which was searched, where the search ended before the list did."""


@dataclass(slots=True)
class ConnectionPage:
    """A part of the list of connections, the latest first."""

    rows: list[ConnectionSummary]
    next: Cursor | None = None
    searched_to: int | None = None


@dataclass(slots=True)
class RefusalGroup:
    """Refused or failed handshakes that have something in common."""

    key: str
    """The reason, such as ``no-subprotocol``, or the IP address."""
    count: int
    """How many there were."""
    last: int
    """Time of the last one."""
    status: int = 0
    """HTTP status of the last one."""
    detail: str = ""
    """What the last one's error says; of an address, its reasons."""
    user_agent: str = ""
    """User-Agent of the last one."""


@dataclass(slots=True)
class Refusals:
    """Refused handshakes of a time."""

    by_reason: list[RefusalGroup]
    """The most frequent first, at most 100."""
    by_address: list[RefusalGroup]
    """The most frequent first, at most 100."""
    total: int = 0
    """All of them."""


@dataclass(slots=True)
class CloseCode:
    """Closes with one code."""

    code: int
    by_peer: int = 0
    """Those that the peer ended."""
    by_local: int = 0
    """Those that the server ended."""
    other: int = 0
    """Those whose events do not say who."""


@dataclass(slots=True)
class CloseBucket:
    """The closes of a part of the time."""

    at: int
    """Its start in microseconds."""
    counts: dict[int, int] = field(default_factory=dict)
    """Closes by code."""


@dataclass(slots=True)
class Closes:
    """Ended connections of a time, by code."""

    codes: list[CloseCode]
    """By code, the most frequent first."""
    buckets: list[CloseBucket]
    """In order of time, none left out."""
    step: int = 0
    """Length of a bucket in microseconds."""


@dataclass(slots=True)
class Match:
    """A thing that a search found."""

    what: Literal["call", "connection"]
    id: str
    """Call-ID or id of the connection."""
    why: str
    """What matched: ``Call-ID``, ``user``, ``number``, ``address``, ``connection``, ``branch``."""


@dataclass(slots=True)
class Found:
    """The answer of a search."""

    calls: list[CallSummary]
    """The latest first."""
    connections: list[ConnectionSummary]
    """The latest first."""
    matches: list[Match]
    """Why each was found."""
    complete: bool = True
    """Whether all of the store was searched and nothing was left off."""


@dataclass(slots=True)
class StoreStatus:
    """How full a store is, and whether it stores."""

    packets: int
    """Packets that it holds."""
    bytes: int
    """Bytes that it takes, on disk or in memory."""
    oldest: int
    """Time of the oldest packet in microseconds; 0 if it is empty."""
    newest: int
    """Time of the newest packet."""
    segments: int
    """Segments that it consists of."""
    path: str | None
    """Its folder; None in memory."""
    keep_seconds: int | None
    """Age beyond which segments are removed; None for no limit."""
    keep_bytes: int | None
    """Size beyond which the oldest segment is removed; None for no limit."""
    stored: int = 0
    """Packets stored since the start."""
    dropped: int = 0
    """Packets that came and were not stored: the queue was full or storing failed."""
    problem: str = ""
    """Why nothing is stored at the moment, such as ``disk full``; empty if all is well."""
