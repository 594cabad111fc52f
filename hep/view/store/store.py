"""A store: its segments, what is written to them, and what is read."""

import errno
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import IO, Final, Self

from hep.view.model.record import MICROSECONDS, Record
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store import reader
from hep.view.store.keep import MOST_PACKETS, Keep
from hep.view.store.query import StoreStatus
from hep.view.store.segment import SUFFIX, Segment, StoreError, numbers_in
from hep.view.store.store_reader import StoreReader
from hep.view.store.writer import MOST_READ, Batch, Writer

log = logging.getLogger(__name__)

RETRY: Final = 1.0
"""Seconds between two attempts to write, after one has failed."""

KEEP_INTERVAL: Final = 1.0
"""Seconds between two looks at the size."""

MOST_TOLD: Final = 200
"""Changed calls, and connections, that a batch reports."""

Changes = Callable[[list[CallSummary], list[ConnectionSummary]], object]
"""Called in the writing thread with copies of what a batch has changed."""

_FULL: Final = ("SQLITE_FULL", "SQLITE_IOERR_WRITE")


class Store(StoreReader):
    """Packets, calls and connections.

    One thread calls `add`; any thread calls the others.

    Args:
        path: its folder, which is created; None keeps all in memory.
        keep: what is kept.

    Raises:
        StoreError: the folder cannot be used, or another program uses it.
    """

    def __init__(self, path: Path | None, keep: Keep) -> None:
        super().__init__()
        self.path = path
        self.keep = keep
        self.on_change: Changes | None = None
        """Called with what each batch has changed; None if no program follows."""
        self.stored = 0
        """Packets stored since the start."""
        self.dropped = 0
        """Packets that could not be written since the start."""
        self.overflowed = 0
        """Packets that never came here, because the queue before it was full."""
        self.problem = ""
        """Why nothing is stored; empty if all is well."""
        self._retry_at = 0.0
        self._keep_at = 0.0
        self._size = 0
        self._lock: IO[bytes] | None = None
        self._writer = Writer(self._find_call, self._find_connection)
        self._preparing = threading.Lock()
        self._writing = threading.Lock()
        # One thread adds segments, and another one removes them.
        self._changing = threading.Lock()
        self._has_failed = False
        self._lost_until = 0
        self._size_of_first = 0
        try:
            if path is not None:
                self._lock = _locked(path)
                self._segments = tuple(self._found(path))
            self._segment()
        except (sqlite3.Error, OSError) as exc:
            self.close()
            raise StoreError(f"{path}: no store can be opened: {exc}") from exc
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def add(self, records: Sequence[Record]) -> bool:
        """Store packets; `prepare` and `commit` in one.

        Args:
            records: the packets in order of arrival; they get their ids.

        Returns:
            whether they were stored.
        """
        batch = self.prepare(records)
        return batch is not None and self.commit(batch)

    def prepare(self, records: Sequence[Record]) -> Batch | None:
        """Make the rows of packets.

        The rows of further packets may be made before `commit` has written these.

        Args:
            records: the packets in order of arrival, at least one; they get their ids.

        Returns:
            what `commit` writes; None while nothing can be stored. The packets are then counted as
            dropped.
        """
        with self._preparing:
            if self.problem and time.monotonic() < self._retry_at:
                self.dropped += len(records)
                return None
            try:
                segment = self._segment()
                if self._has_failed:
                    # What the lost rows would have said is read from the store again.
                    self._has_failed = False
                    self._writer.forget()
                    segment.recount()
                batch = self._writer.take(records, segment)
            except (sqlite3.Error, OSError) as exc:
                self._failed(exc, len(records))
                return None
            times = [record.at for record in records]
            segment.oldest = min(segment.oldest or times[0], *times)
            segment.newest = max(segment.newest, *times)
            segment.closed = int(time.time() * MICROSECONDS)
            segment.opened = segment.opened or segment.closed
            batch.facts = segment.facts()
            if self.on_change is not None:
                batch.changes = (
                    [_copy_of_call(entry.thing.summary) for entry in batch.calls[-MOST_TOLD:]],
                    [_copy_of_connection(x.thing.summary) for x in batch.connections[-MOST_TOLD:]],
                )
            return batch

    def commit(self, batch: Batch) -> bool:
        """Write what `prepare` made, in one transaction. Batches come in their order.

        Returns:
            whether it was written. If not, its packets are counted as dropped, and `problem` says
            why.
        """
        count = len(batch.packets)
        with self._writing:
            if batch.number <= self._lost_until:
                # It belongs to rows that were not written.
                self.dropped += count
                return False
            try:
                batch.write()
            except (sqlite3.Error, OSError, StoreError) as exc:
                self._failed(exc, count)
                self._lost_until = self._writer.batches
                return False
            self.stored += count
            if self.problem:
                log.info("packets are stored again; %d were not", self.dropped)
                self.problem = ""
            current = batch.segment.number
            for segment in self._segments[1:4]:
                # Rows for a later one may have been made already.
                if segment.number < current:
                    segment.finish()
            now = time.monotonic()
            if now >= self._keep_at:
                self._keep_at = now + KEEP_INTERVAL
                self._trim(current)
        if self.on_change is not None and batch.changes is not None:
            self.on_change(*batch.changes)
        return True

    def _failed(self, exc: Exception, count: int) -> None:
        self.dropped += count
        self._has_failed = True
        name = getattr(exc, "sqlite_errorname", "")
        is_full = name in _FULL or getattr(exc, "errno", None) == errno.ENOSPC
        why = "the disk is full" if is_full else str(exc)
        if not self.problem:
            log.error("packets are not stored in %s: %s", self.path or "memory", why)
        self.problem = why
        self._retry_at = time.monotonic() + RETRY

    def _is_full(self, segment: Segment) -> bool:
        if segment.packets >= MOST_PACKETS:
            return True
        if not segment.packets:
            return False
        age = time.time() - segment.opened / MICROSECONDS
        return age > self.keep.segment_seconds or self._size_of_first > self.keep.segment_bytes

    def _segment(self) -> Segment:
        """The segment that packets go to: the latest one, or another if that is full."""
        segments = self._segments
        if segments and segments[0].writer is not None and not self._is_full(segments[0]):
            return segments[0]
        number = segments[0].number + 1 if segments else self._next_number()
        path = None if self.path is None else self.path / f"{number:08}{SUFFIX}"
        segment = Segment(number, path)
        with self._changing:
            self._size_of_first = 0
            self._segments = (segment, *self._segments)
        return segment

    def _next_number(self) -> int:
        """The number behind that of any file that is there, damaged ones too."""
        if self.path is None:
            return 1
        return (
            max((int(each.name[:8]) for each in self.path.glob("[0-9]" * 8 + ".*")), default=0) + 1
        )

    def _trim(self, current: int) -> None:
        """Remove the oldest segments that are beyond what is kept.

        Args:
            current: number of the segment that was written last, which stays.
        """
        segments = list(self._segments)
        sizes = [segment.size for segment in segments]
        with self._changing:
            if segments[0] is self._segments[0]:
                self._size_of_first = sizes[0]
        now = time.time()
        while segments and segments[-1].number < current:
            oldest = segments[-1]
            age = now - oldest.closed / MICROSECONDS
            is_old = self.keep.seconds is not None and age > self.keep.seconds
            is_much = self.keep.bytes is not None and sum(sizes) > self.keep.bytes
            if not is_old and not is_much:
                break
            del segments[-1], sizes[-1]
            with self._changing:
                self._segments = tuple(each for each in self._segments if each is not oldest)
            with suppress(OSError):
                oldest.remove()
        self._size = sum(sizes)

    def _found(self, path: Path) -> list[Segment]:
        """The segments of a folder, the newest first. Only the newest one is written to."""
        segments: list[Segment] = []
        for number in numbers_in(path):
            file = path / f"{number:08}{SUFFIX}"
            try:
                segment = Segment(number, file)
            except sqlite3.DatabaseError as exc:
                damaged = file.with_name(file.name + ".damaged")
                log.error("%s cannot be read (%s) and is now %s", file, exc, damaged.name)
                file.rename(damaged)
                continue
            if segments:
                segment.finish()
            segments.append(segment)
        return segments

    def _find_call(self, call_id: str) -> tuple[list[Record], int, int] | None:
        place = self._place(reader.CALLS, call_id)
        if place is None:
            return None
        return reader.records_of_call(self._segments[:2], call_id, MOST_READ), *place

    def _find_connection(self, key: str) -> tuple[list[Record], int, int] | None:
        place = self._place(reader.CONNECTIONS, key)
        if place is None:
            return None
        return reader.records_of_connection(self._segments[:2], key, MOST_READ), *place

    def _place(self, table: reader.Table, key: str) -> tuple[int, int] | None:
        """Segment and number of the latest row with a key, in the two latest segments.

        Each new call asks for it, so the connections stay open.
        """
        for segment in self._segments[:2]:
            if (number := segment.number_of(table.name, table.key, key)) is not None:
                return segment.number, number
        return None

    def counts(self) -> tuple[int, int, int]:
        """Calls, calls that go on, and open connections."""
        calls, _ = reader.count(self._segments)
        return calls, *self._writer.counts()

    def status(self) -> StoreStatus:
        """How full it is, and whether it stores."""
        segments = self._segments
        problems = [f"{each.path}: {each.problem}" for each in segments if each.problem]
        return StoreStatus(
            packets=sum(each.packets for each in segments),
            bytes=self._size or sum(each.size for each in segments),
            oldest=min((each.oldest for each in segments if each.packets), default=0),
            newest=max((each.newest for each in segments), default=0),
            segments=len(segments),
            path=None if self.path is None else str(self.path),
            keep_seconds=self.keep.seconds,
            keep_bytes=self.keep.bytes,
            stored=self.stored,
            dropped=self.dropped + self.overflowed,
            problem=self.problem or "; ".join(problems[:1]),
        )

    def close(self) -> None:
        """Close the store. What is in memory is gone."""
        with self._preparing, self._writing:
            for segment in self._segments:
                segment.close()
            if self._lock is not None:
                self._lock.close()
                self._lock = None


def _locked(path: Path) -> IO[bytes]:
    """Create the folder of a store and lock it against a second program.

    What is stored is personal: folder and files are for the owner alone.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.fdopen(os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "wb")
    except FileExistsError as exc:
        raise StoreError(f"{path} is a file: name a folder for the store") from exc
    except OSError as exc:
        raise StoreError(f"{path}: no store can be kept there: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        raise StoreError(f"{path} is in use: another hep view stores there") from exc
    return lock


def _copy_of_call(call: CallSummary) -> CallSummary:
    made = copy(call)
    made.addresses, made.connections = call.addresses.copy(), call.connections.copy()
    return made


def _copy_of_connection(connection: ConnectionSummary) -> ConnectionSummary:
    made = copy(connection)
    made.calls = connection.calls.copy()
    return made
