"""What can be asked by URL: a model for each path, and the reader of the query."""

from collections import Counter
from typing import Annotated, Any, Final, TypeVar, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hep.view.export import Format
from hep.view.model.summary import CallKind, ConnectionState, Outcome
from hep.view.store.query import CallFilter, ConnectionFilter
from hep.view.web.problems import ProblemError, shown

LONGEST_QUERY: Final = 8 * 1024
"""Bytes of a query. Larger than all parameters at their longest are."""

MOST_PARAMETERS: Final = 64
"""Parameters of a query."""

LATEST: Final = 2**62
"""The largest time and number, far beyond any real one; SQLite stores 64 bits."""

LONGEST_NAME: Final = 1024
r"""Characters of a Call-ID or a connection's id: 256 bytes, each possibly written as ``\xNN``."""

ALIASES: Final = {"kinds": "kind", "outcomes": "outcome", "states": "state"}
"""Attributes of the filters, and the parameters that carry one value of them each."""

Time = Annotated[int, Field(ge=0, le=LATEST)]
Limit = Annotated[int, Field(ge=1, le=1000)]
Cursor = Annotated[str, Field(min_length=1, max_length=512)]
Id = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Text = Annotated[str, Field(max_length=256)]


class Query(BaseModel):
    """The parameters of a path."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class NoQuery(Query):
    """A path without parameters."""


class CallsQuery(Query):
    """Parameters of ``calls``."""

    since: Time | None = None
    """Calls whose last message is not before this time, in microseconds since the epoch."""
    until: Time | None = None
    """Calls whose first message is not after this time."""
    kind: Annotated[list[CallKind], Field(max_length=8)] = []
    """What they are about; may be repeated."""
    outcome: Annotated[list[Outcome], Field(max_length=8)] = []
    """How they went; may be repeated."""
    user: Text = ""
    """Part of the caller's or the callee's ``user@host``."""
    address: Annotated[str, Field(max_length=64)] = ""
    """Beginning of an address of one of their parties."""
    method: Annotated[str, Field(max_length=32, pattern=r"^[!-~]*$")] = ""
    """Method of the first request."""
    code: Annotated[str, Field(pattern=r"^([1-6]([0-9]{2}|[xX]{2}))?$")] = ""
    """Final status code, such as ``486``, or a class of them, such as ``4xx``."""
    text: Text = ""
    """Part of any message of the call."""
    limit: Limit = 200
    """The most rows."""
    before: Cursor | None = None
    """Where the list goes on: what an answer calls ``next``."""

    @property
    def filter(self) -> CallFilter:
        """What the store is asked for."""
        return CallFilter(
            self.since,
            self.until,
            tuple(self.kind),
            tuple(self.outcome),
            self.user,
            self.address,
            self.method.upper(),
            self.code.lower(),
            self.text,
        )


class CallQuery(Query):
    """Parameters of ``call``."""

    id: Id
    """Call-ID."""
    keepalives: bool = False
    """Whether keep-alives are drawn."""


class MessageQuery(Query):
    """Parameters of ``message``."""

    id: Annotated[int, Field(ge=1, le=LATEST)]
    """Number of the packet in the store."""
    masked: bool = False
    """Whether credentials are masked."""


class ConnectionsQuery(Query):
    """Parameters of ``connections``."""

    since: Time | None = None
    """Connections that have not ended before this time, in microseconds since the epoch."""
    until: Time | None = None
    """Connections that have not begun after this time."""
    state: Annotated[list[ConnectionState], Field(max_length=8)] = []
    """Their states; may be repeated."""
    address: Annotated[str, Field(max_length=64)] = ""
    """Beginning of the address of the peer."""
    text: Text = ""
    """Part of the id, AOR, User-Agent, Origin, path, error or reason."""
    limit: Limit = 200
    """The most rows."""
    before: Cursor | None = None
    """Where the list goes on: what an answer calls ``next``."""

    @property
    def filter(self) -> ConnectionFilter:
        """What the store is asked for."""
        return ConnectionFilter(self.since, self.until, tuple(self.state), self.address, self.text)


class ConnectionQuery(Query):
    """Parameters of ``connection``."""

    id: Id
    """Id of the connection."""
    keepalives: bool = False
    """Whether keep-alives are drawn."""


class PeriodQuery(Query):
    """Parameters of ``refusals``."""

    since: Time | None = None
    """Start of the time, in microseconds since the epoch; by default that of the store."""
    until: Time | None = None
    """End of the time; by default now."""


class ClosesQuery(PeriodQuery):
    """Parameters of ``closes``."""

    buckets: Annotated[int, Field(ge=1, le=1000)] = 60
    """Parts that the time is divided into."""


class SearchQuery(Query):
    """Parameters of ``search``."""

    q: Annotated[str, Field(min_length=1, max_length=256)]
    """A user, number, address, Call-ID, connection id or branch."""
    limit: Limit = 100
    """The most calls and the most connections."""


class ExportQuery(Query):
    """Parameters of ``call/export``."""

    id: Id
    """Call-ID."""
    format: Format
    """What the file is."""
    anonymous: bool = False
    """Whether users and addresses are replaced."""


Q = TypeVar("Q", bound=BaseModel)


def read_query(model: type[Q], query: bytes) -> Q:
    """Read the query of a URL.

    Args:
        model: what the path takes.
        query: the part after ``?``.

    Raises:
        ProblemError: it is too long (414); a parameter is unknown, missing, given twice or invalid
            (400).
    """
    if len(query) > LONGEST_QUERY:
        raise ProblemError(
            414, f"the query has {len(query)} bytes; at most {LONGEST_QUERY} are read"
        )
    try:
        pairs = parse_qsl(
            query.decode("latin-1"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError:
        raise ProblemError(
            400, f"the query has too many parameters; at most {MOST_PARAMETERS} are read"
        ) from None
    pairs = [(ALIASES.get(name, name), text) for name, text in pairs]
    counts = Counter(name for name, _ in pairs)
    given: dict[str, Any] = {}
    for name, text in pairs:
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is list:
            if text:
                given.setdefault(name, []).append(text)
        elif counts[name] > 1:
            raise ProblemError(
                400, f"parameter {shown(name)} is given {counts[name]} times; give it once"
            )
        elif text or field is None or field.is_required():
            # An empty parameter is as none, as a form sends it.
            given[name] = text
    return checked(model, given)


def checked(model: type[Q], given: object) -> Q:
    """Check parameters or a body.

    Args:
        model: what is taken.
        given: names and values.

    Raises:
        ProblemError: names the first wrong one, its value and the remedy (400).
    """
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False)[0]
    place = [str(each) for each in error["loc"]]
    name = shown(place[0]) if place else "the body"
    known = ", ".join(model.model_fields) or "none"
    if error["type"] == "missing":
        raise ProblemError(400, f"parameter {name} is missing")
    if error["type"] == "extra_forbidden":
        raise ProblemError(400, f"parameter {name} is not known; known ones: {known}")
    value = error["input"]
    wrong = shown(value if isinstance(value, str) else repr(value))
    # pydantic's sentences say what the input should be.
    remedy = error["msg"][:1].lower() + error["msg"][1:]
    raise ProblemError(400, f"{name}: {wrong} is not valid: {remedy}")
