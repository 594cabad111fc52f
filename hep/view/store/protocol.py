"""What the viewer asks a store, as protocols. `StoreReader` and `Store` fulfil them by structure.

All methods block, and any thread may call them.
"""

from typing import Protocol

from hep.view.model.record import Record
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


class CallStore(Protocol):
    """What a call or a connection is put together of."""

    def call(self, call_id: str, /) -> CallSummary | None:
        """Return a call; None if there is none."""

    def records_of_call(self, call_id: str, limit: int = 2000, /) -> list[Record]:
        """Return the packets of a call in order of time."""

    def connection(self, name: str, /) -> ConnectionSummary | None:
        """Return a connection; None if there is none."""

    def connections_of(
        self, aor: str, limit: int = 20, /, since: int | None = None, until: int | None = None
    ) -> list[ConnectionSummary]:
        """Return the latest connections of an address of record that were open within a time."""

    def records_of_connection(self, name: str, limit: int = 2000, /) -> list[Record]:
        """Return the packets of a connection in order of time."""


class Store(CallStore, Protocol):
    """All readers of a store."""

    def calls(self, wanted: CallFilter, limit: int, before: Cursor | None, /) -> CallPage:
        """Return a part of the list of calls, the latest first.

        Raises:
            StoreError: ``before`` is not a cursor.
        """

    def record(self, number: int, /) -> Record | None:
        """Return a packet; None if there is none."""

    def connections(
        self, wanted: ConnectionFilter, limit: int, before: Cursor | None, /
    ) -> ConnectionPage:
        """Return a part of the list of connections, the latest first.

        Raises:
            StoreError: ``before`` is not a cursor.
        """

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
