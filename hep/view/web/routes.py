"""The table of the paths: what each takes, and what it answers. `hep.view.web.openapi` reads it."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from hep.view.export import MEDIA_TYPES
from hep.view.store.query import Closes, Found, Refusals
from hep.view.web import models, queries

API: Final = "/api/v1"
"""Where the paths of the interface begin."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path of the interface."""

    path: str
    """Its path, below `API` if it does not begin with a slash."""
    about: str
    """What it answers, in a sentence."""
    answer: Any = None
    """Type of the answer in JSON; None for another kind of answer, or for 204."""
    query: type[BaseModel] = queries.NoQuery
    """Its parameters."""
    body: type[BaseModel] | None = None
    """What a POST carries."""
    method: Literal["GET", "POST"] = "GET"
    """HTTP method. GET includes HEAD."""
    media_types: tuple[str, ...] = ()
    """Media types of an answer that is not JSON."""
    problems: tuple[int, ...] = (400, 401, 403, 503)
    """Statuses of a `Problem`."""
    public: bool = False
    """Whether it needs no token."""

    @property
    def url(self) -> str:
        """Its whole path."""
        return self.path if self.path.startswith("/") else f"{API}/{self.path}"

    @property
    def name(self) -> str:
        """Name of the function that answers it."""
        return self.path.strip("/").replace("/", "_").replace(".", "_")


_ONE: Final = (400, 401, 403, 404, 503)
_POST: Final = (400, 401, 403, 404, 413, 503)

ENDPOINTS: Final = (
    Endpoint("status", "What the viewer does.", models.Status),
    Endpoint("calls", "A part of the list of calls, the latest first.", models.Calls,
             queries.CallsQuery),
    Endpoint("call", "A call as a picture.", models.CallView, queries.CallQuery, problems=_ONE),
    Endpoint("call/export", "A call as a file.", query=queries.ExportQuery, problems=_ONE,
             media_types=tuple({media_type: None for media_type, _ in MEDIA_TYPES.values()})),
    Endpoint("message", "A packet as text.", models.Message, queries.MessageQuery, problems=_ONE),
    Endpoint("connections", "A part of the list of connections, the latest first.",
             models.Connections, queries.ConnectionsQuery),
    Endpoint("connection", "A connection and its timeline.", models.ConnectionView,
             queries.ConnectionQuery, problems=_ONE),
    Endpoint("refusals", "Refused handshakes by reason and by address.", Refusals,
             queries.PeriodQuery),
    Endpoint("closes", "Ended connections by close code, over time.", Closes, queries.ClosesQuery),
    Endpoint("search", "Calls and connections that a text names.", Found, queries.SearchQuery),
    Endpoint("live", "Changes as server-sent events: calls, connections and status.",
             media_types=("text/event-stream",)),
    Endpoint("login", "Log in with the token; sets a cookie.", body=models.Login, method="POST",
             problems=(400, 401, 403, 413, 429), public=True),
    Endpoint("logout", "End the session of the cookie.", method="POST", problems=(401, 403)),
    Endpoint("control", "The sipws that is controlled.", models.Control, problems=_ONE),
    Endpoint("control/trace", "Switch tracing of the sipws on or off.", body=models.Switch,
             method="POST", problems=_POST),
    Endpoint("control/close", "Close a connection of the sipws.", body=models.CloseConnection,
             method="POST", problems=_POST),
    Endpoint("/metrics", "Metrics for Prometheus.", media_types=("text/plain; version=0.0.4",)),
    Endpoint("/openapi.json", "This description.", dict[str, Any]),
    Endpoint("/healthz", "Whether the viewer serves.", media_types=("text/plain",), problems=(),
             public=True),
)  # fmt: skip
"""All paths but those of the page."""
