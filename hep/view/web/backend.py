"""What the HTTP interface needs of the program that runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hep.view.export import Format
from hep.view.model.picture import Ladder, Verdict
from hep.view.model.record import Kind, Record
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store.query import (
    CallFilter,
    CallPage,
    Closes,
    ConnectionFilter,
    ConnectionPage,
    Cursor,
    Found,
    Refusals,
    StoreStatus,
)
from hep.view.web.live import LiveFeed
from hep.view.web.models import Control, FileStatus, Listening


class Store(Protocol):
    """The readers of a store. They block, and any thread may call them."""

    def calls(self, wanted: CallFilter, limit: int, before: Cursor | None, /) -> CallPage:
        """Return a part of the list of calls, the latest first.

        Raises:
            StoreError: ``before`` is not a cursor.
        """

    def call(self, call_id: str, /) -> CallSummary | None:
        """Return a call; None if there is none."""

    def records_of_call(self, call_id: str, limit: int = 2000, /) -> list[Record]:
        """Return the packets of a call in order of time."""

    def record(self, number: int, /) -> Record | None:
        """Return a packet; None if there is none."""

    def connections(
        self, wanted: ConnectionFilter, limit: int, before: Cursor | None, /
    ) -> ConnectionPage:
        """Return a part of the list of connections, the latest first.

        Raises:
            StoreError: ``before`` is not a cursor.
        """

    def connection(self, name: str, /) -> ConnectionSummary | None:
        """Return a connection; None if there is none."""

    def records_of_connection(self, name: str, limit: int = 2000, /) -> list[Record]:
        """Return the packets of a connection in order of time."""

    def refusals(self, since: int, until: int, /) -> Refusals:
        """Return the refused handshakes of a time."""

    def closes(self, since: int, until: int, buckets: int = 60, /) -> Closes:
        """Return the ended connections of a time."""

    def search(self, text: str, limit: int = 100, /) -> Found:
        """Return what a text names."""

    def status(self) -> StoreStatus:
        """Return how full the store is."""

    def counts(self) -> tuple[int, int, int]:
        """Return the number of calls, of open calls and of open connections."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the program knows of itself."""

    version: str
    """Version of the program."""
    started: int
    """Start time in microseconds since the epoch."""
    rate: float = 0.0
    """Packets per second, over the last 10 seconds."""
    listening: Sequence[Listening] = ()
    """The addresses that packets are received on."""
    files: Sequence[FileStatus] = ()
    """The captures that are read."""
    bad: int = 0
    """Data that came and is not HEP."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Packets that were not stored, by reason; empty if the reasons are not known."""


class ControlError(Exception):
    """A sipws refuses a command, or does not answer.

    Args:
        status: HTTP status of the answer to the browser: 400, 404 or 503.
        text: what is wrong, with the remedy.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Controlling(Protocol):
    """A sipws that is controlled; see `hep.view.web.control.ControlClient`."""

    async def read(self) -> Control:
        """Return what the sipws does; never raises for one that does not answer."""

    async def switch(self, *, on: bool, only: Literal["ws", "wss"] | None) -> None:
        """Switch tracing on or off.

        Raises:
            ControlError: the sipws refuses, or does not answer.
        """

    async def close(self, id: str, code: int, reason: str) -> None:  # noqa: A002
        """Close a connection.

        Raises:
            ControlError: there is no such connection, or the sipws does not answer.
        """


class ExportOf(Protocol):
    """The function of `hep.view.export` that writes a call."""

    def __call__(
        self,
        call: CallSummary,
        verdict: Verdict,
        ladder: Ladder,
        records: Sequence[Record],
        format: Format,  # noqa: A002
        *,
        anonymous: bool = False,
    ) -> bytes:
        """Write a call."""


class LadderOf(Protocol):
    """The function of `hep.view.model` that draws a call or a connection."""

    def __call__(
        self,
        records: Sequence[Record],
        connections: Sequence[ConnectionSummary],
        *,
        keepalives: bool = False,
    ) -> Ladder:
        """Draw packets."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The functions that make pictures of packets. They are pure, and run in a thread."""

    verdict: Callable[[Sequence[Record], Sequence[ConnectionSummary], int], Verdict]
    """Says what became of a call; the last argument is the time now, in microseconds."""
    ladder: LadderOf
    """Draws a call or a connection."""
    export: ExportOf
    """Writes a call as a file."""
    event: Callable[[bytes], Any]
    """Reads an event; the result has ``request`` and ``reply``, or is None."""
    masked: Callable[[bytes, Kind], bytes]
    """Masks the credentials of a payload."""


class Backend(Protocol):
    """The program that runs the HTTP interface."""

    @property
    def store(self) -> Store:
        """What has been received."""

    @property
    def pictures(self) -> Pictures:
        """The functions that make pictures."""

    @property
    def live(self) -> LiveFeed:
        """Where changes are published."""

    @property
    def control(self) -> Controlling | None:
        """The sipws that is controlled; None without one."""

    def status(self) -> Facts:
        """Return what the program does. Called on the event loop; must not block."""
