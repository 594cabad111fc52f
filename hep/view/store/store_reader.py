"""Reading a store, without writing to it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from hep.view.model.record import Record
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store import groups, reader, search
from hep.view.store.query import (
    CallFilter,
    CallPage,
    Closes,
    ConnectionFilter,
    ConnectionPage,
    Cursor,
    Found,
    Refusals,
)
from hep.view.store.segment import SUFFIX, Segment, StoreError, numbers_in


class StoreReader:
    """The questions to a store. They block, and any thread may call them.

    Args:
        segments: the segments, the newest first.
    """

    def __init__(self, segments: tuple[Segment, ...] = ()) -> None:
        # Replaced whole, so that readers need no lock.
        self._segments = segments
        self.before_reading: Callable[[], object] | None = None
        """Called before each reading, such as to store what waits; None for nothing."""

    @classmethod
    def of(cls, path: Path) -> "StoreReader":
        """Open the store of a folder for reading, also while a program writes to it.

        Raises:
            StoreError: there is no store.
        """
        try:
            found = [
                Segment(number, path / f"{number:08}{SUFFIX}", read_only=True)
                for number in numbers_in(path)
            ]
        except (OSError, sqlite3.Error) as exc:
            raise StoreError(f"{path}: the store cannot be read: {exc}") from exc
        if not found:
            raise StoreError(f"{path} is no store of hep view: it has no file *{SUFFIX}")
        return cls(tuple(found))

    def _current(self) -> tuple[Segment, ...]:
        if self.before_reading is not None:
            self.before_reading()
        return self._segments

    def extent(self) -> tuple[int, int, int]:
        """Packets that it holds, and the times of the oldest and the newest one."""
        segments = [segment for segment in self._current() if segment.packets]
        return (
            sum(segment.packets for segment in segments),
            min((segment.oldest for segment in segments), default=0),
            max((segment.newest for segment in segments), default=0),
        )

    def calls(self, wanted: CallFilter, limit: int, before: Cursor | None = None) -> CallPage:
        """A part of the list of calls; see `hep.view.store.reader.calls`."""
        return reader.calls(self._current(), wanted, limit, before)

    def call(self, call_id: str) -> CallSummary | None:
        """A call by its Call-ID; None if there is none."""
        return reader.call(self._current(), call_id)

    def records_of_call(self, call_id: str, limit: int = 2000) -> list[Record]:
        """The packets of a call in the order of their times."""
        return reader.records_of_call(self._current(), call_id, limit)

    def record(self, packet: int) -> Record | None:
        """A packet by its id; None if there is none."""
        return reader.record(self._current(), packet)

    def connections(
        self, wanted: ConnectionFilter, limit: int, before: Cursor | None = None
    ) -> ConnectionPage:
        """A part of the list of connections."""
        return reader.connections(self._current(), wanted, limit, before)

    def connection(self, key: str) -> ConnectionSummary | None:
        """A connection by its id; None if there is none."""
        return reader.connection(self._current(), key)

    def connections_of(
        self, aor: str, limit: int = 20, since: int | None = None, until: int | None = None
    ) -> list[ConnectionSummary]:
        """The latest connections of a user; see `hep.view.store.search.connections_of`."""
        return search.connections_of(self._current(), aor, limit, since, until)

    def records_of_connection(self, key: str, limit: int = 2000) -> list[Record]:
        """The packets of a connection in the order of their times."""
        return reader.records_of_connection(self._current(), key, limit)

    def refusals(self, since: int, until: int) -> Refusals:
        """Refused handshakes of a time in groups."""
        return groups.refusals(self._current(), since, until)

    def closes(self, since: int, until: int, buckets: int = 60) -> Closes:
        """Ended connections of a time by code."""
        return groups.closes(self._current(), since, until, buckets)

    def search(self, text: str, limit: int = 100) -> Found:
        """Find calls and connections; see `hep.view.store.search.search`."""
        return search.search(self._current(), text, limit)
