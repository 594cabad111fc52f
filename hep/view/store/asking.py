"""Questions to the segments of a store, one after the other."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hep.view.store.schema import Row
from hep.view.store.segment import Segment

Segments = Sequence[Segment]
"""The segments of a store, the newest first."""

_WRONG_SQL: Final = sqlite3.SQLITE_ERROR


class Ask:
    """Asks one segment.

    Args:
        segment: the segment.
        database: a connection to it.
    """

    __slots__ = ("_database", "_segment")

    def __init__(self, segment: Segment, database: sqlite3.Connection) -> None:
        self._segment = segment
        self._database = database

    def __call__(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query; none if the segment was removed, or is damaged."""
        try:
            return self._database.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as exc:
            if not note(self._segment, exc):
                raise
            return []


def note(segment: Segment, exc: sqlite3.DatabaseError) -> bool:
    """Note why a segment cannot be read.

    Returns:
        whether it is the segment's fault; otherwise the question was wrong.
    """
    if segment.is_removed:
        return True
    if getattr(exc, "sqlite_errorcode", None) == _WRONG_SQL:
        return False
    segment.problem = str(exc)
    return True


def each(segments: Segments) -> Iterator[tuple[Segment, Ask]]:
    """The segments that can be read, each with a connection that is closed behind it."""
    for segment in segments:
        try:
            with segment.reading() as database:
                yield segment, Ask(segment, database)
        except sqlite3.DatabaseError as exc:
            if not note(segment, exc):
                raise


def places(values: Sequence[Any]) -> str:
    """As many question marks as there are values."""
    return ", ".join("?" * len(values))
