"""Lists, single rows and packets of a store. Each function reads the segments, the newest first."""

import time
from typing import Any, Final

from hep.view.model.record import Record
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store import schema
from hep.view.store.asking import Ask, Segments, each
from hep.view.store.conditions import of_calls, of_connections
from hep.view.store.query import CallFilter, CallPage, ConnectionFilter, ConnectionPage, Cursor
from hep.view.store.schema import Row
from hep.view.store.segment import Segment, StoreError

PATIENCE: Final = 1.5
"""Seconds after which a query that reads much ends, and says how far it came."""

SLICE: Final = 2_000
"""Rows that are read between two looks at the clock."""

LATEST: Final = 2**62
"""A time after any other."""


class Table:
    """A table that is listed by time.

    Args:
        name: of the table.
        time: the column by which it is listed.
        key: the column with the id that a row goes by.
        select: the query for its rows.
        columns: of ``select``, behind the number.
    """

    def __init__(
        self, name: str, time: str, key: str, select: str, columns: tuple[str, ...]
    ) -> None:
        self.name = name
        self.time = time
        self.key = key
        self.select = select
        self.at = 1 + columns.index(time)
        """Where the time stands in a row."""

    def carried(self, ask: Ask) -> set[str]:
        """The ids of rows that an earlier segment has too."""
        return {row[0] for row in ask(f"SELECT {self.key} FROM {self.name} WHERE carried")}  # noqa: S608


CALLS: Final = Table("calls", "first", "call_id", schema.SELECT_CALL, schema.CALL_COLUMNS)
CONNECTIONS: Final = Table(
    "connections", "since", "key", schema.SELECT_CONNECTION, schema.CONNECTION_COLUMNS
)


def record(segments: Segments, packet: int) -> Record | None:
    """A packet by its id; None if it is not there any more."""
    wanted = [segment for segment in segments if segment.number == packet >> schema.SEGMENT_BITS]
    number = packet & ((1 << schema.SEGMENT_BITS) - 1)
    for segment, ask in each(wanted):
        for row in ask(f"{schema.SELECT_PACKET} WHERE id = ?", number):
            return schema.record_of_row(row, segment.number, _keys(ask, [row]).get(row[4], ""))
    return None


def call(segments: Segments, call_id: str) -> CallSummary | None:
    """A call by its Call-ID; None if there is none."""
    for _, ask in each(segments):
        for row in ask(f"{schema.SELECT_CALL} WHERE call_id = ?", call_id):
            return schema.call_of(row)
    return None


def connection(segments: Segments, key: str) -> ConnectionSummary | None:
    """A connection by its id; None if there is none."""
    for _, ask in each(segments):
        for row in ask(f"{schema.SELECT_CONNECTION} WHERE key = ?", key):
            return schema.connection_of(row)
    return None


def records_of_call(segments: Segments, call_id: str, limit: int) -> list[Record]:
    """The packets of a call in the order of their times; of more than ``limit`` the first ones."""
    return _records(segments, CALLS, "call", call_id, limit)


def records_of_connection(segments: Segments, key: str, limit: int) -> list[Record]:
    """The packets of a connection, as `records_of_call`."""
    return _records(segments, CONNECTIONS, "connection", key, limit)


def _records(
    segments: Segments, table: Table, reference: str, key: str, limit: int
) -> list[Record]:
    found: list[Record] = []
    # From the oldest segment: of too many packets the first ones are kept.
    for segment, ask in each(segments[::-1]):
        rows = ask(
            f"{schema.SELECT_PACKET} WHERE {reference} ="  # noqa: S608 - constants
            f" (SELECT id FROM {table.name} WHERE {table.key} = ?) ORDER BY id LIMIT ?",
            key, limit - len(found),
        )  # fmt: skip
        keys = _keys(ask, rows)
        found += [schema.record_of_row(row, segment.number, keys.get(row[4], "")) for row in rows]
        if len(found) >= limit:
            break
    found.sort(key=lambda packet: (packet.at, packet.id))
    return found


def _keys(ask: Ask, packets: list[Row]) -> dict[int, str]:
    """The ids of the connections of packets, by their numbers."""
    numbers = {row[4] for row in packets if row[4] is not None}
    return {
        number: row[0]
        for number in numbers
        for row in ask("SELECT key FROM connections WHERE id = ?", number)
    }


def calls(segments: Segments, wanted: CallFilter, limit: int, before: Cursor | None) -> CallPage:
    """A part of the list of calls, the latest first.

    Args:
        segments: of the store.
        wanted: the conditions.
        limit: rows at most.
        before: where an earlier answer ended.

    Raises:
        StoreError: ``before`` is no cursor, or ``wanted.code`` is no status code.
    """
    within = _within(segments, wanted.since, wanted.until)
    page = rows_of(segments, within, CALLS, *of_calls(wanted), limit, before)
    return CallPage([schema.call_of(row) for row in page[0]], *page[1:])


def connections(
    segments: Segments, wanted: ConnectionFilter, limit: int, before: Cursor | None
) -> ConnectionPage:
    """A part of the list of connections, the latest first; see `calls`."""
    within = _within(segments, wanted.since, wanted.until)
    page = rows_of(segments, within, CONNECTIONS, *of_connections(wanted), limit, before)
    return ConnectionPage([schema.connection_of(row) for row in page[0]], *page[1:])


def rows_of(
    segments: Segments,
    within: set[int],
    table: Table,
    condition: str,
    values: list[Any],
    limit: int,
    before: Cursor | None = None,
) -> tuple[list[Row], Cursor | None, int | None]:
    """Rows of a table that meet a condition, the latest first.

    Args:
        segments: of the store.
        within: numbers of the segments that may have such rows.
        table: what is listed.
        condition: in SQL; empty for none.
        values: of the places of the condition.
        limit: rows at most.
        before: where an earlier answer ended.

    Returns:
        the rows, where the list goes on, and the time back to which was searched if that took too
        long.

    Raises:
        StoreError: ``before`` is no cursor.
    """
    from_segment, from_time, from_number = _read_cursor(before)
    deadline = time.monotonic() + PATIENCE
    found: list[Row] = []
    newer: set[str] = set()
    for segment, ask in each(segments):
        shown_already = set(newer)
        newer |= table.carried(ask)
        if segment.number > from_segment or segment.number not in within:
            continue
        top = (LATEST, LATEST)
        if segment.number == from_segment:
            top = (from_time, from_number)
        while True:
            most = limit - len(found) + 1
            bottom, rows = _slice(ask, table, condition, values, top, most)
            for row in rows:
                if row[1] in shown_already:
                    continue
                if len(found) == limit:
                    return found, _cursor(segment, top), None
                found.append(row)
                top = (row[table.at], row[0])
            if len(rows) == most:
                # Some were shown already: the rest of the slice follows.
                top = (rows[-1][table.at], rows[-1][0])
                continue
            if bottom is None:
                break
            top = bottom
            if time.monotonic() > deadline:
                return found, _cursor(segment, top), top[0]
    return found, None, None


def _slice(
    ask: Ask, table: Table, condition: str, values: list[Any], top: tuple[int, int], limit: int
) -> tuple[tuple[int, int] | None, list[Row]]:
    """The rows of the next `SLICE` ones that meet the condition, and where the slice ends.

    The end is None if the table has no more rows.
    """
    by = table.time
    ends = ask(
        f"SELECT {by}, id FROM {table.name} WHERE ({by}, id) < (?, ?)"  # noqa: S608 - constants
        f" ORDER BY {by} DESC, id DESC LIMIT 1 OFFSET ?",
        *top, SLICE - 1,
    )  # fmt: skip
    bottom = ends[0] if ends else None
    rows = ask(
        f"{table.select} WHERE ({by}, id) < (?, ?) AND ({by}, id) >= (?, ?)"
        f" {'AND ' + condition if condition else ''} ORDER BY {by} DESC, id DESC LIMIT ?",
        *top, *(bottom or (-LATEST, -LATEST)), *values, limit,
    )  # fmt: skip
    return bottom, rows


def _within(segments: Segments, since: int | None, until: int | None) -> set[int]:
    """Numbers of the segments that have packets of a time."""
    return {
        segment.number
        for segment in segments
        if (since is None or segment.newest >= since) and (until is None or segment.oldest <= until)
    }


def _cursor(segment: Segment, place: tuple[int, int]) -> Cursor:
    return f"{segment.number}.{place[0]}.{place[1]}"


def _read_cursor(text: Cursor | None) -> tuple[int, int, int]:
    if text is None:
        return LATEST, LATEST, LATEST
    try:
        segment, at, number = (int(part[:20]) for part in text.split("."))
    except ValueError:
        segment = at = number = 2 * LATEST
    if not all(-LATEST <= part <= LATEST for part in (segment, at, number)):
        raise StoreError(f"before={text[:80]!r} is no place in a list: use an answer's 'next'")
    return segment, at, number


def count(segments: Segments) -> tuple[int, int]:
    """Calls and connections that a store holds."""
    totals = [0, 0]
    for segment, ask in each(segments):
        for number, (table, rows) in enumerate(
            (("calls", segment.calls), ("connections", segment.connections))
        ):
            ((carried,),) = ask(f"SELECT count(*) FROM {table} WHERE carried") or ((0,),)  # noqa: S608
            totals[number] += rows - carried
    return totals[0], totals[1]
