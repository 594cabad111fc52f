"""The tables of a Homer 7 database, read by ``hep doctor --postgres``.

All transactions are read-only and have a time limit. Rows are looked up by ``sid``, which has an
index, and within a range of time, so that PostgreSQL opens only the partitions of that range.
"""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, LiteralString, Self
from urllib.parse import unquote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

CONNECT_TIMEOUT: Final = 5
"""Seconds to connect to PostgreSQL."""

STATEMENT_TIMEOUT: Final = 5
"""Seconds of a query, so that a mistake never burdens a database in production for long."""

MOST_ROWS: Final = 200
"""Rows of a table that are read at a time; there are fewer probes."""

LONGEST_RAW: Final = 70_000
"""Characters of ``raw`` that are read: a packet has no more."""

_TABLES: Final = """
    SELECT c.oid, c.relname, c.relkind, has_table_privilege(c.oid, 'SELECT')
    FROM pg_catalog.pg_class c
    WHERE c.relname ~ '^hep_proto_[0-9]+_[a-z]+$' AND c.relkind IN ('r', 'p')
        AND NOT c.relispartition AND pg_catalog.pg_table_is_visible(c.oid)
    ORDER BY c.relname
"""

_PARTITIONS: Final = """
    SELECT i.inhparent, pg_catalog.pg_get_expr(p.relpartbound, p.oid)
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid
    WHERE i.inhparent = ANY(%s)
"""

_ROWS: Final[LiteralString] = """
    SELECT sid, extract(epoch FROM create_date)::float8, protocol_header, data_header,
        left(raw, {longest})
    FROM {table}
    WHERE ({ranges}) AND sid = ANY(%s)
    LIMIT {most}
"""

_BOUNDS: Final = re.compile(r"FOR VALUES FROM \((.*)\) TO \((.*)\)")


class TablesError(Exception):
    """A query failed; the message has the reason and the remedy."""


class WrongDatabaseError(TablesError):
    """The DSN is wrong, or it leads to a database or a user that is of no use here."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was found."""

    table: str
    sid: str
    created: float
    """``create_date`` in seconds since the epoch."""
    protocol_header: Any
    data_header: Any
    raw: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of packets."""

    name: str
    readable: bool
    """Whether the user may select from it."""
    partitions: tuple[tuple[float, float], ...] | None
    """Beginning and end of each partition in seconds since the epoch; None if it has no partitions
    and so takes any time."""

    def takes(self, time: float) -> bool:
        """Whether a row of this time can be stored."""
        if self.partitions is None:
            return True
        return any(first <= time < end for first, end in self.partitions)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the database has."""

    database: str
    version: str
    """Of PostgreSQL."""
    now: float
    """Its clock in seconds since the epoch."""
    tables: dict[str, Table] = field(default_factory=dict)


class Tables:
    """A connection to the database; made by `connect`."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]", dsn: str) -> None:
        self._connection = connection
        self._dsn = dsn

    @classmethod
    async def connect(cls, dsn: str) -> Self:
        """Connect to the database.

        Args:
            dsn: of libpq: a URI or ``name=value`` pairs.

        Raises:
            WrongDatabaseError: the DSN is wrong, or there is no connection.
        """
        try:
            known: dict[str, Any] = {**conninfo_to_dict(dsn)}
        except psycopg.Error:
            # The message of libpq quotes parts, of which one may be the password.
            raise WrongDatabaseError(
                "--postgres: this is not a DSN; use postgresql://USER@HOST/DATABASE or"
                " 'host=HOST dbname=DATABASE user=USER', with the password in PGPASSWORD or"
                " ~/.pgpass"
            ) from None
        known.setdefault("connect_timeout", CONNECT_TIMEOUT)
        known.setdefault("application_name", "hep doctor")
        try:
            # Poolers between us and PostgreSQL have no prepared statements.
            connection = await psycopg.AsyncConnection.connect(**known, prepare_threshold=None)
        except (psycopg.Error, UnicodeError) as exc:
            host = str(known.get("host", "the default host"))
            message = f"no connection to PostgreSQL on {host}: {_one_line(exc)}"
            if "@" in host:
                message += "; an @ in a password of a URI is written %40"
            raise WrongDatabaseError(f"--postgres: {without_password(message, dsn)}") from None
        await connection.set_read_only(True)
        return cls(connection, dsn)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["psycopg.AsyncConnection[Any]"]:
        """Begin a transaction that only reads, with the time limit.

        Raises:
            TablesError: PostgreSQL refuses a statement, or it took too long.
        """
        try:
            async with self._connection.transaction():
                await self._connection.execute(
                    f"SET LOCAL statement_timeout = {round(STATEMENT_TIMEOUT * 1000)}"
                )
                # Bounds of partitions are text in these settings.
                await self._connection.execute("SET LOCAL timezone = 'UTC'")
                await self._connection.execute("SET LOCAL datestyle = 'ISO'")
                yield self._connection
        except psycopg.errors.QueryCanceled:
            raise TablesError(
                f"--postgres: a query took longer than {STATEMENT_TIMEOUT} s; try again when the"
                " database is less busy"
            ) from None
        except psycopg.Error as exc:
            message = without_password(_one_line(exc), self._dsn)
            raise TablesError(f"--postgres: PostgreSQL says: {message}") from None

    async def layout(self) -> Layout:
        """Read which tables and partitions there are.

        Raises:
            WrongDatabaseError: there is no table of heplify-server, or one must not be read.
            TablesError: a query failed.
        """
        async with self.transaction():
            rows = await self._connection.execute(
                "SELECT current_database(), current_setting('server_version'),"
                " extract(epoch FROM clock_timestamp())::float8, current_user"
            )
            database, version, now, user = (await rows.fetchall())[0]
            # Without the name of a distribution behind it.
            version = version.split()[0]
            rows = await self._connection.execute(_TABLES)
            found = await rows.fetchall()
            partitioned = [oid for oid, _, kind, _ in found if kind in ("p", b"p")]
            rows = await self._connection.execute(_PARTITIONS, (partitioned,))
            bounds: dict[int, list[tuple[float, float]]] = {oid: [] for oid in partitioned}
            for oid, text in await rows.fetchall():
                bounds[oid].append(partition_bounds(text))
        tables = {
            name: Table(name, readable, tuple(sorted(bounds[oid])) if oid in bounds else None)
            for oid, name, _, readable in found
        }
        if not tables:
            raise WrongDatabaseError(
                f"--postgres: database {database!r} has no tables hep_proto_*; name the database"
                " that heplify-server writes to (its DBDataTable, usually homer_data)"
            )
        if hidden := [table.name for table in tables.values() if not table.readable]:
            raise WrongDatabaseError(
                f"--postgres: {user!r} must not read {', '.join(hidden)}; run"
                f" GRANT SELECT ON {', '.join(hidden)} TO {user}"
            )
        return Layout(database, version, now, tables)

    async def find(
        self, table: str, sids: Sequence[str], ranges: Iterable[tuple[float, float]]
    ) -> list[Row]:
        """Look up rows.

        Args:
            table: its name.
            sids: their correlation ids or Call-IDs.
            ranges: of their time, in seconds since the epoch.

        Raises:
            TablesError: the query failed.
        """
        times = [datetime.fromtimestamp(each, UTC) for pair in ranges for each in pair]
        one = sql.SQL("create_date BETWEEN %s AND %s")
        query = sql.SQL(_ROWS).format(
            table=sql.Identifier(table),
            ranges=sql.SQL(" OR ").join([one] * (len(times) // 2)),
            longest=sql.Literal(LONGEST_RAW),
            most=sql.Literal(MOST_ROWS),
        )
        async with self.transaction():
            rows = await self._connection.execute(query, (*times, list(sids)))
            return [Row(table, *row) for row in await rows.fetchall()]


def partition_bounds(text: str) -> tuple[float, float]:
    """Read the bounds of a partition, as PostgreSQL writes them, in seconds since the epoch."""
    match = _BOUNDS.fullmatch(text)
    if match is None:
        # The default partition.
        return float("-inf"), float("inf")
    return _bound(match[1], float("-inf")), _bound(match[2], float("inf"))


def _bound(text: str, open_end: float) -> float:
    if not text.startswith("'"):
        # MINVALUE or MAXVALUE.
        return open_end
    try:
        time = datetime.fromisoformat(text.strip("'"))
    except ValueError:
        # infinity, or a year that Python has not.
        return open_end
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def without_password(message: str, dsn: str) -> str:
    """Remove the password of a DSN, and what a wrong DSN makes of it, from a message."""
    secrets: set[str] = set()
    if match := re.search(r"://[^:/@]*:(.*)@", dsn):
        secrets |= {match[1], *match[1].split("@"), *match[1].split("/")}
    for match in re.finditer(r"password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)", dsn):
        secrets |= {match[1], match[1].strip("'")}
    with suppress(psycopg.Error):
        secrets.add(str(conninfo_to_dict(dsn).get("password") or ""))
    secrets |= {unquote(secret) for secret in secrets}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
