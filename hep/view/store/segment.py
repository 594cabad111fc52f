"""One file of a store, or its part in memory: a SQLite database of some hours."""

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hep.errors import HepError
from hep.view.store.schema import APPLICATION, TABLES, VERSION

BUSY: Final = 2.0
"""Seconds to wait for a database that another program has locked."""

WRITER_CACHE: Final = -16_384
"""Memory of the writer for pages, as SQLite has it: 16 MiB. The indices of a segment fit."""

READER_CACHE: Final = -1_024
"""Memory of a query for pages: 1 MiB."""

SUFFIX: Final = ".sqlite"


class StoreError(HepError):
    """A store cannot be opened or written; the message names the file and the remedy."""


class Segment:
    """A database with the packets of a time, their calls and connections.

    One thread writes, through `writer`. Any thread reads, through `reading`.

    Args:
        number: its number, from 1.
        path: its file; None for one in memory.
        read_only: whether nothing is written to it.

    Raises:
        sqlite3.Error: it cannot be opened or created.
        StoreError: the file is no segment, or one of a newer version.
    """

    def __init__(self, number: int, path: Path | None, *, read_only: bool = False) -> None:
        self.number = number
        self.path = path
        self.packets = 0
        """Number of the last packet."""
        self.calls = 0
        """Number of the last call."""
        self.connections = 0
        """Number of the last connection."""
        self.oldest = 0
        """Time of the oldest packet, in microseconds; 0 without packets."""
        self.newest = 0
        """Time of the newest packet."""
        self.opened = 0
        """Time at which the first packet was stored, by the clock of this machine."""
        self.closed = 0
        """Time at which the last packet was stored."""
        self.problem = ""
        """Why it cannot be read; empty if it can."""
        self.is_removed = False
        self._lock = threading.RLock()
        self._lookup: sqlite3.Connection | None = None
        self.writer: sqlite3.Connection | None = None
        """The connection that writes; None if nothing is written any more."""
        if read_only:
            with self.reading() as database:
                self._check(database)
                self._read_facts(database)
            return
        if path is not None:
            # For the owner alone; SQLite gives the files beside it the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self.writer = self._connect()
        try:
            self._set_up(self.writer)
        except BaseException:
            self.writer.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            ":memory:" if self.path is None else self.path,
            timeout=BUSY, isolation_level=None, check_same_thread=False, cached_statements=64,
        )  # fmt: skip

    def _set_up(self, database: sqlite3.Connection) -> None:
        one = database.execute
        if self.path is not None:
            one("PRAGMA journal_mode = WAL")
            # A killed process loses nothing; a power cut may lose the last second, no more.
            one("PRAGMA synchronous = NORMAL")
            one("PRAGMA wal_autocheckpoint = 4000")
            one("PRAGMA journal_size_limit = 67108864")
        one(f"PRAGMA cache_size = {WRITER_CACHE}")
        (tables,) = one("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            database.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
            return
        self._check(database)
        self._read_facts(database)

    def _check(self, database: sqlite3.Connection) -> None:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise StoreError(f"{self.path} is not a file of hep view: name another folder")
        if version != VERSION:
            raise StoreError(
                f"{self.path} has version {version} of the store, and this is version {VERSION}:"
                " name another folder, or use the version that wrote it"
            )

    def recount(self) -> None:
        """Read the numbers again, after a batch that was not written."""
        with suppress(sqlite3.Error):
            if self.writer is not None:
                self._read_facts(self.writer)

    def _read_facts(self, database: sqlite3.Connection) -> None:
        facts = dict(database.execute("SELECT name, number FROM facts"))
        self.oldest, self.newest = facts.get("oldest", 0), facts.get("newest", 0)
        self.opened, self.closed = facts.get("opened", 0), facts.get("closed", 0)
        self.packets, self.calls, self.connections = (
            database.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("packets", "calls", "connections")
        )

    def facts(self) -> list[tuple[str, int]]:
        """The rows of the table ``facts``."""
        names = ("oldest", "newest", "opened", "closed")
        return [(name, getattr(self, name)) for name in names]

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        if self.path is None:
            with self._lock:
                if self.writer is None:
                    return 0
                (pages,) = self.writer.execute("PRAGMA page_count").fetchone()
                (size,) = self.writer.execute("PRAGMA page_size").fetchone()
                return int(pages) * int(size)
        total = 0
        for path in self.files:
            with suppress(OSError):
                total += path.stat().st_size
        return total

    @property
    def files(self) -> list[Path]:
        """Its file, and those that SQLite keeps beside it."""
        if self.path is None:
            return []
        return [self.path, *(self.path.with_name(self.path.name + x) for x in ("-wal", "-shm"))]

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The database within a transaction, which is undone if the block raises.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        with self._lock if self.path is None else _nothing():
            database = self.writer
            if database is None:
                raise StoreError(f"segment {self.number} is closed")
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The database for queries: of a file a connection of its own, which waits for no writer.

        Raises:
            sqlite3.Error: the database cannot be read; such as after it was removed.
        """
        if self.path is None:
            with self._lock:
                if self.writer is None:
                    raise sqlite3.OperationalError("the segment was removed")
                yield self.writer
            return
        database = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY,
            isolation_level=None, check_same_thread=False, cached_statements=8,
        )  # fmt: skip
        try:
            database.execute(f"PRAGMA cache_size = {READER_CACHE}")
            yield database
        finally:
            database.close()

    def number_of(self, table: str, column: str, key: str) -> int | None:
        """The number of a row, asked by the writing thread; None if there is none.

        Args:
            table: its table.
            column: a column with an index.
            key: what stands there.
        """
        with self._lock:
            # A file has one connection for this, which does not wait for the writer.
            database = self.writer if self.path is None else self._lookup
            if database is None:
                if self.path is None or self.is_removed:
                    return None
                database = self._lookup = self._connect()
            row = database.execute(
                f"SELECT id FROM {table} WHERE {column} = ?",  # noqa: S608 - constants
                (key,),
            ).fetchone()
            return None if row is None else int(row[0])

    def finish(self) -> None:
        """Write no more to it. A file then holds all that was in its log."""
        with self._lock:
            if self.path is not None:
                self.close()

    def close(self) -> None:
        """Close it; what is in memory is gone."""
        with self._lock:
            if self._lookup is not None:
                self._lookup.close()
                self._lookup = None
            if self.writer is not None:
                if self.path is not None:
                    with suppress(sqlite3.Error):
                        self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self.writer.close()
                self.writer = None

    def remove(self) -> None:
        """Close it and remove its files. A query that reads it ends as if they were there."""
        self.is_removed = True
        self.close()
        for path in self.files:
            path.unlink(missing_ok=True)


def numbers_in(folder: Path) -> list[int]:
    """The numbers of the segments in a folder, the latest first.

    Raises:
        OSError: the folder cannot be read.
    """
    found = (_is_segment(each.name) for each in folder.iterdir())
    return sorted((int(match[1]) for match in found if match), reverse=True)


_is_segment: Final = re.compile(r"([0-9]{8})" + re.escape(SUFFIX)).fullmatch


@contextmanager
def _nothing() -> Iterator[None]:
    yield
