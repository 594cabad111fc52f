"""The answers of the HTTP interface, and what it is asked. Times are microseconds since the epoch.

Rows of lists, pictures and searches are the values of `hep.view.model` and `hep.view.store.query`;
pydantic writes and checks them, and describes them in ``/openapi.json``.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hep.view.model.picture import Party, Step, Verdict
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store.query import StoreStatus


class Answer(BaseModel):
    """An answer in JSON."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Listening(Answer):
    """An address that packets are received on."""

    transport: Literal["udp", "tcp", "tls"]
    address: str
    """``HOST:PORT``."""
    received: int
    """Packets received on all addresses of this transport."""


class FileStatus(Answer):
    """A capture that is read, or was."""

    name: str
    packets: int
    """Packets with SIP or HEP in it that were found."""
    done: bool
    """Whether its end was reached."""
    problem: str = ""
    """What was not read, and why; empty if all was."""


class Status(Answer):
    """``GET /api/v1/status``: what the viewer does."""

    version: str
    now: int
    started: int
    store: StoreStatus
    calls: int
    """Calls in the store."""
    calls_open: int
    """Calls that go on, among the latest 8,192."""
    connections_open: int
    """WebSocket connections that are open, among the latest 16,384."""
    rate: float
    """Packets per second, over the last 10 seconds."""
    listening: list[Listening]
    files: list[FileStatus]
    bad: int
    """Data that came and is not HEP."""
    control: bool
    """Whether there is a control interface of a sipws (``--control``)."""
    login: bool
    """Whether a token is needed."""


class Calls(Answer):
    """``GET /api/v1/calls``: a part of the list, the latest first.

    Parameters: those of `CallFilter` by name (``kind``, ``outcome`` may be repeated), ``limit``
    (1 to 1000, default 200), ``before`` (what an answer calls ``next``).
    """

    calls: list[CallSummary]
    next: str | None = None
    searched_to: int | None = None


class Related(Answer):
    """Another call that belongs to this one."""

    call_id: str
    why: str
    """``transfer``, ``X-CID``, ``Session-ID``, ``correlation id`` …"""


class CallView(Answer):
    """``GET /api/v1/call?id=CALL-ID``: a call as a picture; 404 if there is none."""

    call: CallSummary
    verdict: Verdict
    parties: list[Party]
    steps: list[Step]
    left_out: int = 0
    """Keep-alives that the picture does not show; ``keepalives=1`` shows them."""
    cut: int = 0
    """Messages beyond the most that a picture shows (2,000)."""
    connections: list[ConnectionSummary]
    related: list[Related] = []


class Header(Answer):
    """A header as it was sent."""

    name: str
    value: str
    """Its value; continued lines keep their line ends."""


class Message(Answer):
    r"""``GET /api/v1/message?id=N``: a packet, as text.

    Credentials are masked as in exports with ``masked=1`` only. Bytes that are no UTF-8 are written
    as ``\xNN``.
    """

    id: int
    at: int
    src: str
    dst: str
    protocol: str
    """Name of the HEP protocol type: ``SIP``, ``NET`` …"""
    ip_protocol: int
    capture_id: int
    node: str
    correlation: str
    connection: str
    start_line: str
    """First line of a SIP message, empty for others."""
    headers: list[Header]
    """Headers of a SIP message."""
    body: str
    """Body of a SIP message, or the whole payload."""
    body_type: str
    """Content-Type, such as ``application/sdp``; ``application/json`` for an event."""
    size: int
    """Bytes of the payload."""
    raw: str
    """The payload in base64, at most 256 KiB of it."""


class Connections(Answer):
    """``GET /api/v1/connections``: a part of the list.

    Parameters: those of `ConnectionFilter` (``state`` may be repeated), ``limit`` and ``before``.
    """

    connections: list[ConnectionSummary]
    next: str | None = None
    searched_to: int | None = None


class ConnectionView(Answer):
    """``GET /api/v1/connection?id=ID``: a connection and its timeline; 404 if there is none."""

    connection: ConnectionSummary
    sentence: str = ""
    """What became of it."""
    other: ConnectionSummary | None = None
    """The other leg of a relayed connection."""
    request: str = ""
    """The upgrade request as it was sent."""
    reply: str = ""
    """The answer to it."""
    parties: list[Party]
    steps: list[Step]
    cut: int = 0
    calls: list[CallSummary]


class Problem(Answer):
    """The body of each error: 400, 401, 403, 404, 413, 421, 429, 503."""

    error: str
    """What is wrong, with the name, the value and the remedy."""


class Login(BaseModel):
    """``POST /api/v1/login``: sets a cookie (HttpOnly, SameSite=Strict); 204.

    ``POST /api/v1/logout`` removes it.
    """

    model_config = ConfigDict(extra="forbid")
    token: Annotated[str, Field(max_length=4096)]


class Destination(Answer):
    """A destination of traces of the sipws that is controlled."""

    name: str
    state: str
    sent: int
    dropped: int
    queued: int
    detail: str = ""
    """Reasons of the drops, the last error."""


class Control(Answer):
    """``GET /api/v1/control``: the sipws that is controlled; 404 without ``--control``."""

    reachable: bool
    problem: str = ""
    """Why it is not."""
    url: str
    """Where it is, without credentials."""
    version: str = ""
    uptime: str = ""
    trace: dict[str, bool] = {}
    """Whether traces are on, by protocol: ``ws``, ``wss``."""
    destinations: list[Destination] = []
    connections: list[dict[str, Any]] = []
    """Its open connections, as its method ``tcp:list`` lists them; at most 1,000."""
    connections_total: int = 0
    """All of its open connections."""


class Switch(BaseModel):
    """``POST /api/v1/control/trace``: switch tracing on or off; 204."""

    model_config = ConfigDict(extra="forbid")
    on: bool
    only: Literal["ws", "wss"] | None = None


class CloseConnection(BaseModel):
    """``POST /api/v1/control/close``: close a connection; 204."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(max_length=256)]
    code: Annotated[int, Field(ge=1000, le=4999)] = 1001
    reason: Annotated[str, Field(max_length=123)] = ""
