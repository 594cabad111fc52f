"""A FIFO queue of packets on disk, which survives a long outage or a restart.

A spool is a directory of segment files such as ``1000000000-5f0c29d1b6e3a784.spool``: a number,
which gives the order, and the marker of its records (`hep.sending.records`). A segment is deleted
when all of its packets have been sent. A crash of the process therefore loses no written packet,
and may send some packets twice. Damage costs the damaged records, which are counted.

Segments of earlier versions, such as ``1000000000.spool``, are read.

All functions here block; `hep.sending.spooling` calls them in threads, one at a time.
"""

import errno
import logging
import os
import stat
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, get_args

from hep.errors import HepSpoolError
from hep.sending.records import OVERHEAD, SUFFIX, Found, Segment
from hep.sending.spool_folder import Folder

log = logging.getLogger(__name__)

Fsync = Literal["never", "segment", "batch"]
"""When files are written through to the disk; see `Spool`."""

SEGMENT: Final = 1024 * 1024
"""Maximum size of a segment in bytes. Segments are loaded whole, and dropped whole when the spool
is full. Only a longer record makes a longer segment."""

FIRST: Final = 1_000_000_000
"""Number of the first segment in an empty spool. It leaves room for lower and higher numbers."""

LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Default limit of a spool in bytes: about an hour of a busy server."""

SPOOL_FULL: Final = "spool-full"
"""Cause of a drop: the spool was full, or the disk was too slow."""

SPOOL_FAILED: Final = "spool-failed"
"""Cause of a drop: writing or reading the spool failed, or its files were removed."""

SPOOL_DAMAGED: Final = "spool-damaged"
"""Cause of a drop: a record on disk is damaged."""

_REST: Final = 0.0001
"""Seconds of rest after some records while segments are read. The event loop gets the interpreter
then, instead of after the switch interval of Python (5 ms)."""


class Spool:
    """A directory of queued packets.

    - Files are readable by their owner only (0600), and so are directories that the spool creates
      (0700), whatever the umask is.
    - The size never exceeds the limit: the oldest segments are dropped before new records are
      written.
    - If the directory is deleted or replaced, the spool starts again with what is in its place.

    ``fsync`` decides what a power cut or a crash of the system may cost. A crash of the process
    alone costs nothing.

    - ``never``: what the system had not written yet, some 30 seconds on Linux.
    - ``segment``: up to one segment, the newest. One fsync for each segment.
    - ``batch``: nothing that `append` has returned from. One fsync for each call.

    Args:
        directory: created if missing. Each sender needs its own.
        limit_bytes: maximum size in bytes, from 1. Beyond it, the oldest segment is dropped.
        fsync: when files are written through to the disk.
        scan: whether the segments are read at once. False leaves it to the caller, who calls `scan`
            before any other method.

    Raises:
        HepSpoolError: the directory cannot be used, or another process uses it.
    """

    _tail = -1

    def __init__(
        self,
        directory: Path | str,
        limit_bytes: int = LIMIT_BYTES,
        *,
        fsync: Fsync = "segment",
        scan: bool = True,
    ) -> None:
        if fsync not in get_args(Fsync):
            raise ValueError(f"fsync {fsync!r} is not one of {', '.join(get_args(Fsync))}")
        self.directory = Path(directory)
        self.packets = 0
        """Packets on disk that have not been loaded."""
        self.loaded = False
        """Whether the oldest segment has been loaded. It stays on disk until `discard`."""
        self.size = 0
        """Bytes on disk."""
        self.recovered = 0
        """Packets found in segments of earlier processes, damaged ones included. Never
        decreases."""
        self.written = 0
        """Packets that `append` and `put_back` took. Never decreases."""
        self.losses: Counter[str] = Counter()
        """Packets lost, of the recovered and the written ones, by cause: `SPOOL_FULL`,
        `SPOOL_FAILED`, `SPOOL_DAMAGED`. Never decreases."""
        self._folder: Folder | None = None
        # A process that changes its directory must not lose the spool.
        self._path = self.directory.absolute()
        self._limit = limit_bytes
        # A small spool has small segments, so that a full spool drops few packets at a time.
        self._segment = max(1, min(SEGMENT, limit_bytes // 4))
        self._fsync = fsync
        self._segments: deque[Segment] = deque()
        """Oldest first."""
        self._loaded: list[bytes] = []
        """The packets of the loaded segment."""
        self._condemned: deque[Segment] = deque()
        """Files that could not be deleted yet."""
        self._tail = -1
        """The descriptor of the newest segment while it is open for writing."""
        self._identity: tuple[int, int] | None = None
        self._sync_failed = False
        try:
            self._open()
        except BlockingIOError as exc:
            raise HepSpoolError(
                f"spool {directory}: another process uses it; give each sender its own directory"
            ) from exc
        except OSError as exc:
            raise HepSpoolError(
                f"spool {directory} cannot be used: {exc}; name a directory that can be written"
            ) from exc
        if scan:
            self.scan()

    @property
    def is_empty(self) -> bool:
        """Whether there is no segment, read or not."""
        return not self._segments

    @property
    def damaged(self) -> int:
        """Damaged records found so far."""
        return self.losses[SPOOL_DAMAGED]

    def scan(self) -> None:
        """Count the packets in the segments of earlier processes. Reads all of them."""
        for segment in list(self._segments):
            try:
                found = self._read(segment)
            except OSError as exc:
                self._forget(segment, exc)
                continue
            segment.packets = len(found.packets)
            self.packets += segment.packets
            self.recovered += segment.packets + found.lost
            self._note_damage(segment, found.lost)
            if not found.packets:
                self._segments.remove(segment)
                self._delete(segment)
        with suppress(OSError):
            self._make_room(0)

    def append(self, packets: Iterable[bytes]) -> int:
        """Write packets at the end of the queue.

        Args:
            packets: the packets, oldest first.

        Returns:
            number of packets dropped because the spool was full: older ones, and packets that are
            longer than the limit.

        Raises:
            OSError: writing failed. ``written`` says how many packets were written before.
        """
        before = self.losses[SPOOL_FULL]
        self._prepare()
        waiting = deque(packets)
        while waiting:
            if len(waiting[0]) + OVERHEAD > self._limit:
                waiting.popleft()
                self.written += 1
                self.losses[SPOOL_FULL] += 1
            else:
                self._append_some(waiting)
        return self.losses[SPOOL_FULL] - before

    def load(self) -> tuple[list[bytes], int]:
        """Read the oldest segment. It stays on disk until `discard`.

        Returns:
            its packets, and the number of its packets that cannot be read.

        Raises:
            OSError: reading failed, and may succeed later. The spool is as before.
        """
        if not self._segments:
            return [], 0
        if len(self._segments) == 1:
            self._close_tail()
        segment = self._segments[0]
        try:
            packets = self._read(segment).packets
        except FileNotFoundError as exc:
            lost = segment.packets
            self._forget(segment, exc)
            return [], lost
        lost = segment.packets - len(packets)
        self._note_damage(segment, lost)
        self.packets -= segment.packets
        segment.packets = len(packets)
        self.loaded = True
        self._loaded = packets
        return list(packets), lost

    def discard(self) -> None:
        """Delete the loaded segment, if there is one."""
        if self.loaded:
            self.loaded = False
            self._loaded = []
            self._delete(self._segments.popleft())

    def keep(self) -> None:
        """Put the loaded segment back into the queue, unless it is no longer on disk."""
        if self.loaded:
            self.loaded = False
            self._loaded = []
            self.packets += self._segments[0].packets

    def skip(self, why: OSError) -> None:
        """Leave out the oldest segment, which cannot be read. Its file stays for the next start."""
        if self._segments:
            self._forget(self._segments[0], why)

    def put_back(self, packets: list[bytes]) -> int:
        """Write packets at the front of the queue, in place of the loaded segment.

        Args:
            packets: the packets that were loaded and not sent, and others older than those in the
                spool.

        Returns:
            number of them dropped because the spool is full, the oldest ones.

        Raises:
            OSError: writing failed. ``written`` says how many of the packets are on disk. The
                loaded segment stays in the queue.
        """
        added: list[Segment] = []
        dropped = 0
        try:
            self._prepare()
            self._close_tail()
            groups, dropped = self._grouped(packets)
            self.written += dropped
            self.losses[SPOOL_FULL] += dropped
            number = self._segments[0].number if self._segments else FIRST + len(groups)
            # The newest group first: if the disk fills up, the oldest packets are lost. The loaded
            # segment is deleted last: a crash in between duplicates packets and loses none.
            for group in reversed(groups):
                number -= 1
                segment = Segment.new(number)
                self._write(segment, segment.encode(group), len(group))
                self._close_tail()
                added.append(segment)
        except OSError:
            on_disk = {id(each) for each in self._loaded}
            rest = packets[dropped : len(packets) - sum(each.packets for each in added)]
            self.written += sum(id(each) in on_disk for each in rest)
            self.keep()
            raise
        finally:
            self.discard()
            self._segments.extendleft(added)
            self.packets += sum(each.packets for each in added)
        return dropped

    def close(self) -> None:
        """Close the spool, so that another process can use it."""
        self._close_tail()
        self._sweep()
        if self._condemned:
            log.error(
                "spool %s: %d files cannot be deleted; the next start sends their packets again",
                self.directory,
                len(self._condemned),
            )
        if self._folder is not None:
            self._folder.close()

    def __del__(self) -> None:
        if self._tail >= 0:
            os.close(self._tail)

    # The directory.

    def _open(self) -> None:
        """Open the directory and list its segments.

        Raises:
            BlockingIOError: another process uses it.
            OSError: it cannot be used.
        """
        self._folder = Folder(self._path)
        try:
            self._list(self._folder)
        except BaseException:
            self._folder.close()
            self._folder = None
            raise

    def _list(self, folder: Folder) -> None:
        ignored = []
        found = []
        for name, state in folder.files():
            if not name.endswith(SUFFIX):
                continue
            segment = Segment.named(name)
            if segment is None or not stat.S_ISREG(state.st_mode):
                ignored.append(name)
            elif not state.st_size:
                # A crash came between its creation and its first record.
                self._delete(segment)
            elif not folder.is_readable(name):
                raise PermissionError(errno.EACCES, "Permission denied", name)
            else:
                if state.st_mode & 0o077:
                    folder.protect(name)
                segment.size = state.st_size
                found.append(segment)
        found.sort(key=lambda each: (each.number, each.name))
        self._segments.extend(found)
        self.size += sum(each.size for each in found)
        if ignored:
            log.warning("spool %s: ignored %s", self.directory, ", ".join(sorted(ignored)[:10]))

    def _prepare(self) -> None:
        """Make sure that the directory is the one that was opened, and delete what must go.

        Raises:
            OSError: the directory cannot be used.
        """
        if self._folder is None or not self._folder.is_in_place:
            self._reopen()
        elif self._tail >= 0 and not os.fstat(self._tail).st_nlink:
            # What is written to a deleted file is lost.
            self._close_tail()
        self._sweep()

    def _reopen(self) -> None:
        """Start again with the directory that is in place now.

        Raises:
            OSError: it cannot be used.
        """
        if self._folder is not None:
            log.error(
                "spool %s: the directory was deleted or replaced; %d packets in it are lost",
                self.directory,
                self.packets,
            )
            self._close_tail()
            self._folder.close()
        self._folder = None
        self.losses[SPOOL_FAILED] += self.packets
        self.packets = self.size = 0
        self.loaded = False
        self._loaded = []
        self._segments.clear()
        self._condemned.clear()
        try:
            self._open()
        except BlockingIOError as exc:
            raise OSError(errno.EBUSY, "another process uses the directory") from exc
        self.scan()

    # Writing.

    def _append_some(self, waiting: deque[bytes]) -> None:
        """Write packets from the front of ``waiting``, as many as one segment takes."""
        size = OVERHEAD + len(waiting[0])
        if self._tail >= 0 and self._segments[-1].size + size <= self._segment:
            segment = self._segments[-1]
        else:
            self._close_tail()
            number = self._segments[-1].number + 1 if self._segments else FIRST
            segment = Segment.new(number)
        group = [waiting.popleft()]
        while waiting and segment.size + size + OVERHEAD + len(waiting[0]) <= self._segment:
            size += OVERHEAD + len(waiting[0])
            group.append(waiting.popleft())
        is_new = self._tail < 0
        self._make_room(size)
        self._write(segment, segment.encode(group), len(group))
        if is_new:
            self._segments.append(segment)
        self.packets += len(group)

    def _grouped(self, packets: list[bytes]) -> tuple[list[list[bytes]], int]:
        """The newest packets that fit, in groups of a segment each, and how many do not fit."""
        groups: list[list[bytes]] = []
        loaded = self._segments[0].size if self.loaded else 0
        room = self._limit - (self.size - loaded)
        total = size = 0
        left = len(packets)
        while left:
            record = OVERHEAD + len(packets[left - 1])
            if total + record > room:
                break
            if not groups or size + record > self._segment:
                groups.append([])
                size = 0
            left -= 1
            total += record
            size += record
            groups[-1].append(packets[left])
        if total + self.size > self._limit:
            # The packets of the loaded segment are in memory.
            self.discard()
        return [group[::-1] for group in reversed(groups)], left

    def _write(self, segment: Segment, data: bytes, packets: int) -> None:
        """Write records at the end of a segment; a new one becomes the tail.

        Raises:
            OSError: writing failed. The segment is as before.
        """
        is_new = self._tail < 0
        if is_new:
            self._tail = self._in_folder.create(segment.name)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._tail, view) :]
        except OSError:
            self._undo_write(segment, is_new=is_new)
            raise
        segment.size += len(data)
        segment.packets += packets
        self.size += len(data)
        self.written += packets
        if self._fsync == "batch":
            self._sync(of_folder=is_new)

    def _undo_write(self, segment: Segment, *, is_new: bool) -> None:
        if is_new:
            os.close(self._tail)
            self._tail = -1
            with suppress(OSError):
                self._in_folder.delete(segment.name)
            return
        try:
            os.ftruncate(self._tail, segment.size)
        except OSError:
            # The incomplete record stays at its end. The next record begins another segment.
            self._close_tail()

    def _make_room(self, extra: int) -> None:
        """Drop the oldest segments until ``extra`` bytes fit.

        Raises:
            OSError: a segment cannot be deleted.
        """
        while self.size + extra > self._limit:
            index = int(self.loaded)
            droppable = len(self._segments) - (self._tail >= 0)
            if index < droppable:
                segment = self._segments[index]
                del self._segments[index]
                self.packets -= segment.packets
                self.losses[SPOOL_FULL] += segment.packets
                self._delete(segment)
            elif self.loaded:
                # Its packets are in memory.
                self.discard()
            else:
                break
        if self.size + extra > self._limit:
            raise OSError(errno.ENOSPC, "files that cannot be read or deleted fill the spool")

    def _close_tail(self) -> None:
        if self._tail >= 0:
            if self._fsync == "segment":
                self._sync(of_folder=True)
            tail, self._tail = self._tail, -1
            with suppress(OSError):
                os.close(tail)

    def _sync(self, *, of_folder: bool) -> None:
        try:
            os.fsync(self._tail)
            if of_folder:
                self._in_folder.sync()
        except OSError as exc:
            if not self._sync_failed:
                self._sync_failed = True
                log.error(
                    "spool %s: fsync: %s; a power cut may lose packets in it",
                    self.directory,
                    exc.strerror,
                )

    # Reading and deleting.

    @property
    def _in_folder(self) -> Folder:
        if self._folder is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._folder

    def _read(self, segment: Segment) -> Found:
        return segment.decode(self._in_folder.read(segment.name), _rest)

    def _note_damage(self, segment: Segment, lost: int) -> None:
        if lost:
            self.losses[SPOOL_DAMAGED] += lost
            log.error(
                "spool %s: %s is damaged: %d packets are lost, counted as %s",
                self.directory,
                segment.name,
                lost,
                SPOOL_DAMAGED,
            )

    def _forget(self, segment: Segment, why: OSError) -> None:
        """Leave out a segment that cannot be read; its file, if any, stays where it is."""
        log.error(
            "spool %s: %s cannot be read: %s; it is left out",
            self.directory,
            segment.name,
            why.strerror or why,
        )
        self._segments.remove(segment)
        self.packets -= segment.packets
        if not segment.packets:
            # It has not been read before.
            self.recovered += 1
        self.losses[SPOOL_FAILED] += segment.packets or 1
        if isinstance(why, FileNotFoundError):
            self.size -= segment.size

    def _delete(self, segment: Segment) -> None:
        """Delete a file, at once or when that is possible again."""
        try:
            self._in_folder.delete(segment.name)
        except OSError:
            self._condemned.append(segment)
            # Otherwise the next start would send its packets again.
            if self._in_folder.clear(segment.name):
                self.size -= segment.size
                segment.size = 0
        else:
            self.size -= segment.size

    def _sweep(self) -> None:
        """Delete the files that could not be deleted before."""
        with suppress(OSError):
            while self._condemned:
                segment = self._condemned[0]
                self._in_folder.delete(segment.name)
                self._condemned.popleft()
                self.size -= segment.size


def _rest() -> None:
    time.sleep(_REST)
