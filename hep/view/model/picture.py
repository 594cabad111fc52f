"""A call or a connection as a picture: parties and steps. Values."""

from dataclasses import dataclass, field
from typing import Literal

from hep.view.model.summary import Outcome, Tone

PartyRole = Literal["phone", "server", "upstream", "unknown"]
"""``server`` is the one that traces, such as sipws; ``upstream`` is a server behind it."""


@dataclass(slots=True)
class Party:
    """A column of the ladder."""

    name: str
    """What stands above the column: a user, a product or an address."""
    role: PartyRole
    """What it is."""
    addresses: list[str] = field(default_factory=list)
    """``IP:PORT`` of all its connections, in order of appearance."""
    user_agent: str = ""
    """Its User-Agent or Server; empty if no message has one."""


StepKind = Literal["sip", "event", "log", "other"]


@dataclass(slots=True)
class Step:
    """A row of the ladder: a message from one party to another, or an event of a connection."""

    record: int
    """Number of the packet in the store."""
    at: int
    """Time in microseconds since the epoch."""
    kind: StepKind
    """What it is."""
    source: int
    """Index of the party that sends; of an event, of the connection's client side."""
    destination: int
    """Index of the party that receives."""
    src: str
    """Source address of the packet."""
    dst: str
    """Destination address of the packet."""
    label: str
    """What stands at the arrow: ``INVITE``, ``180 Ringing``, ``closed 1006 by the peer``."""
    detail: str = ""
    """A second, smaller line: ``CSeq 2 INVITE``, ``SDP``, ``refer to bob``; may be empty."""
    tone: Tone = "info"
    """Its colour."""
    method: str = ""
    """Method of a SIP message, of a response that of its CSeq."""
    status: int = 0
    """Status code of a response."""
    has_sdp: bool = False
    """Whether the body is SDP."""
    retransmission_of: int | None = None
    """Index of the step that was sent first, if the same party sent this one again."""
    copy_of: int | None = None
    """Index of the step that a relay or proxy forwarded as this one."""
    connection: str = ""
    """Id of its WebSocket connection; empty if it is not known."""
    out_of_order: bool = False
    """Whether the packet came later than one with a later time."""


@dataclass(slots=True)
class Ladder:
    """A picture of one call or connection."""

    parties: list[Party]
    """The columns, from left to right."""
    steps: list[Step]
    """The rows, in the order of their times."""
    left_out: int = 0
    """Keep-alives that the picture does not show."""


@dataclass(slots=True)
class Verdict:
    """What became of a call, in one sentence."""

    text: str
    """The sentence, such as ``Rejected by the upstream: 486 Busy Here.``"""
    outcome: Outcome
    """How it went."""
    notes: list[str] = field(default_factory=list)
    """Further sentences that matter: retransmissions, a missing start, a transfer."""
