"""The tables of a segment. `VERSION` changes with them; docs/view.md describes them.

Times are microseconds since the epoch. Numbers of calls and connections hold within a segment; what
is unique across segments is the Call-ID, and the id that a connection's sender gives it.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from hep.view.model.record import Kind, Record, read_sip
from hep.view.model.summary import CallSummary, ConnectionSummary

Row = tuple[Any, ...]
"""A row, as SQLite gives and takes it."""

VERSION: Final = 1
"""``PRAGMA user_version`` of a segment."""

APPLICATION: Final = 0x48455056
"""``PRAGMA application_id`` of a segment: ``HEPV``."""

PACKET_COLUMNS: Final = (
    "at", "kind", "call", "connection", "src", "dst", "payload", "protocol_type", "ip_protocol",
    "capture_id", "node", "correlation",
)  # fmt: skip

SEPARATOR: Final = "\n"
"""Separates several texts in one column. No address, Call-ID or id has a line end."""


def _columns(of: type[CallSummary] | type[ConnectionSummary]) -> str:
    return ",\n    ".join(
        f"{'key' if each.name == 'id' else each.name}"
        f" {'INTEGER' if each.type is int else 'TEXT'} NOT NULL"
        for each in fields(of)
    )


TABLES: Final = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE facts (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE packets (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    call INTEGER,
    connection INTEGER,
    src TEXT NOT NULL,
    dst TEXT NOT NULL,
    payload BLOB NOT NULL,
    protocol_type INTEGER NOT NULL,
    ip_protocol INTEGER NOT NULL,
    capture_id INTEGER NOT NULL,
    node TEXT NOT NULL,
    correlation TEXT NOT NULL
);
CREATE INDEX packets_of_call ON packets (call) WHERE call IS NOT NULL;
CREATE INDEX packets_of_connection ON packets (connection) WHERE connection IS NOT NULL;
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    carried INTEGER NOT NULL,
    {_columns(CallSummary)}
);
CREATE UNIQUE INDEX call_of_id ON calls (call_id);
CREATE INDEX calls_by_time ON calls (first);
CREATE INDEX calls_carried ON calls (carried) WHERE carried;
CREATE TABLE connections (
    id INTEGER PRIMARY KEY,
    carried INTEGER NOT NULL,
    {_columns(ConnectionSummary)}
);
CREATE UNIQUE INDEX connection_of_key ON connections (key);
CREATE INDEX connections_by_time ON connections (since);
CREATE INDEX connections_carried ON connections (carried) WHERE carried;
CREATE TABLE terms (hash INTEGER NOT NULL, thing INTEGER NOT NULL, PRIMARY KEY (hash, thing))
    WITHOUT ROWID;
"""
"""``carried``: the earlier segment that has a row of the call or connection too, or 0. ``terms``:
hashes of what one searches for; ``thing`` is twice the number of a call, or twice that of a
connection and 1."""


def _most_values() -> int:
    database = sqlite3.connect(":memory:")
    try:
        return database.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    finally:
        database.close()


MOST_VALUES: Final = _most_values()
"""Values that a statement may have: 32,766 unless SQLite was built otherwise."""


_SIZES: Final = (1024, 256, 64, 16, 4, 1)
"""Rows of the statements that write what is left."""


class Rows:
    """A statement that writes many rows in one step.

    SQLite runs without the interpreter's lock during a step. With a step for each row, other
    threads would take the lock each time.

    Args:
        table: where the rows go.
        columns: of a row.
        at_once: rows of a step, fewer if SQLite takes fewer values.
        update: whether a row whose ``id`` is there replaces that one's other columns.
        ignore: whether a row that is there already is passed over.
    """

    def __init__(
        self,
        table: str,
        columns: tuple[str, ...],
        at_once: int,
        *,
        update: bool = False,
        ignore: bool = False,
    ) -> None:
        self._begin = (
            f"INSERT {'OR IGNORE ' if ignore else ''}INTO {table} "  # noqa: S608 - constants
            f"({', '.join(columns)}) VALUES "
        )
        self._row = f"({', '.join('?' * len(columns))})"
        self._end = ""
        if update:
            settings = ", ".join(f"{x} = excluded.{x}" for x in columns if x != "id")
            self._end = f" ON CONFLICT (id) DO UPDATE SET {settings}"
        most = min(at_once, MOST_VALUES // len(columns))
        # Of a few sizes each statement is compiled once. Compiling one for a thousand rows takes
        # as long as writing these.
        sizes = sorted({most, *(size for size in _SIZES if size < most)}, reverse=True)
        self._statements = [(size, self._sql(size)) for size in sizes]

    def _sql(self, rows: int) -> str:
        return f"{self._begin}{', '.join([self._row] * rows)}{self._end}"

    def write(self, database: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Write rows.

        Raises:
            sqlite3.Error: a row was not written.
        """
        start, count = 0, len(rows)
        for size, sql in self._statements:
            while count - start >= size:
                part = rows[start : start + size]
                database.execute(sql, tuple(chain.from_iterable(part)))
                start += size


_CALL_FIELDS: Final = tuple(each.name for each in fields(CallSummary))
_CONNECTION_FIELDS: Final = tuple(each.name for each in fields(ConnectionSummary))
CALL_COLUMNS: Final = _CALL_FIELDS
CONNECTION_COLUMNS: Final = tuple("key" if name == "id" else name for name in _CONNECTION_FIELDS)

PACKETS: Final = Rows("packets", ("id", *PACKET_COLUMNS), 2048)
CALLS: Final = Rows("calls", (*CALL_COLUMNS, "id", "carried"), 1024, update=True)
CONNECTIONS: Final = Rows("connections", (*CONNECTION_COLUMNS, "id", "carried"), 512, update=True)
TERMS: Final = Rows("terms", ("hash", "thing"), 8192, ignore=True)

SELECT_PACKET: Final = f"SELECT id, {', '.join(PACKET_COLUMNS)} FROM packets"  # noqa: S608
SELECT_CALL: Final = f"SELECT id, {', '.join(CALL_COLUMNS)} FROM calls"  # noqa: S608
SELECT_CONNECTION: Final = f"SELECT id, {', '.join(CONNECTION_COLUMNS)} FROM connections"  # noqa: S608

_of_call: Final = attrgetter(*_CALL_FIELDS[:-2])
_of_connection: Final = attrgetter(*_CONNECTION_FIELDS[:-1])


def call_row(summary: CallSummary) -> Row:
    """The values of `CALL_COLUMNS`."""
    return (
        *_of_call(summary),
        SEPARATOR.join(summary.addresses),
        SEPARATOR.join(summary.connections),
    )


def call_of(row: Row) -> CallSummary:
    """A call of `SELECT_CALL`."""
    values = (*row[1:-2], _several(row[-2]), _several(row[-1]))
    return CallSummary(*values)


def connection_row(summary: ConnectionSummary) -> Row:
    """The values of `CONNECTION_COLUMNS`."""
    return (*_of_connection(summary), SEPARATOR.join(summary.calls))


def connection_of(row: Row) -> ConnectionSummary:
    """A connection of `SELECT_CONNECTION`."""
    values = (*row[1:-1], _several(row[-1]))
    return ConnectionSummary(*values)


def record_of_row(row: Row, segment: int, connection: str = "") -> Record:
    """A packet of `SELECT_PACKET`.

    Args:
        row: what the database has.
        segment: number of its segment.
        connection: id of its connection.
    """
    number, at, kind, _, _, src, dst, payload, protocol, ip_protocol, capture, node, correlation = (
        row
    )
    sip = read_sip(payload) if kind == Kind.SIP else None
    return Record(
        at, Kind(kind), src, dst, payload, protocol, ip_protocol, capture, node, correlation,
        connection, sip, packet_id(segment, number),
    )  # fmt: skip


SEGMENT_BITS: Final = 32
"""A packet's id has its number in the lower bits and its segment above, below 2**53 in all, so that
JavaScript reads it without loss."""


def packet_id(segment: int, number: int) -> int:
    """The id of a packet, unique in a store."""
    return segment << SEGMENT_BITS | number


def _several(text: str) -> list[str]:
    return text.split(SEPARATOR) if text else []
