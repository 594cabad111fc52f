"""A FIFO queue of packets on disk, which survives a long outage or a restart.

A spool is a directory of segment files such as ``1000000000.spool``. A segment is a sequence of
records. A record is the length and the CRC-32 of a packet (4 bytes each, big-endian), then the
packet. A segment is deleted when all of its packets have been sent. A crash therefore loses no
written packet, and may send some packets twice. Reading stops at a record that a crash left
incomplete, and counts the segment as damaged.

All functions here block; `hep.sending.spooling` calls them in threads.
"""

import fcntl
import os
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

from hep.errors import HepSpoolError

SEGMENT: Final = 1024 * 1024
"""Maximum size of a segment in bytes. Segments are loaded whole, and dropped whole when the spool
is full."""

FIRST: Final = 1_000_000_000
"""Number of the first segment in an empty spool. It leaves room for lower and higher numbers."""

LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Default limit of a spool in bytes: about an hour of a busy server."""

_RECORD: Final = struct.Struct("!II")
_SUFFIX: Final = ".spool"


class Spool:
    """A directory of queued packets.

    Args:
        directory: created if missing. Each sender needs its own.
        limit_bytes: maximum size in bytes, from 1. Beyond it, the oldest segment is dropped.

    Raises:
        HepSpoolError: the directory cannot be used, or another process uses it.
    """

    def __init__(self, directory: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.directory = directory
        self.packets = 0
        """Packets on disk that have not been loaded."""
        self.loaded = False
        """Whether the oldest segment has been loaded. It stays on disk until `discard`."""
        self.damaged = 0
        """Segments with an unreadable record. The rest of such a segment is lost."""
        self._limit = limit_bytes
        # A small spool has small segments, so that a full spool drops few packets at a time.
        self._segment = min(SEGMENT, limit_bytes // 4)
        self._segments: deque[tuple[int, int, int]] = deque()
        """Number, bytes and packets of each, oldest first."""
        self._tail: BinaryIO | None = None
        """The newest segment while it is open for writing."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("wb")
        except OSError as exc:
            raise HepSpoolError(
                f"spool {directory} cannot be used: {exc}; name a directory that can be written"
            ) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._find_segments()
        except BlockingIOError as exc:
            self._lock.close()
            raise HepSpoolError(
                f"spool {directory}: another process uses it; give each sender its own directory"
            ) from exc
        except (OSError, ValueError) as exc:
            self._lock.close()
            raise HepSpoolError(f"spool {directory} cannot be used: {exc}") from exc

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size, _ in self._segments)

    def append(self, packets: Iterable[bytes]) -> int:
        """Write packets at the end of the queue.

        Args:
            packets: the packets, oldest first.

        Returns:
            number of older packets dropped because the spool was full.

        Raises:
            OSError: writing failed. The spool is as before.
        """
        records = [_RECORD.pack(len(each), crc32(each)) + each for each in packets]
        data = b"".join(records)
        if self._tail is None or self._segments[-1][1] + len(data) > self._segment:
            self._close_tail()
            number = self._segments[-1][0] + 1 if self._segments else FIRST
            self._tail = self._path(number).open("ab")
            self._segments.append((number, 0, 0))
        number, size, count = self._segments[-1]
        try:
            self._tail.write(data)
            self._tail.flush()
        except OSError:
            self._forget_half_written(number, size)
            raise
        self._segments[-1] = (number, size + len(data), count + len(records))
        self.packets += len(records)
        return self._make_room()

    def load(self) -> tuple[list[bytes], int]:
        """Read the oldest segment. It stays on disk until `discard`.

        Returns:
            its packets, and the number of its packets that cannot be read.
        """
        if not self._segments:
            return [], 0
        if len(self._segments) == 1:
            self._close_tail()
        number, _, count = self._segments[0]
        self.packets -= count
        self.loaded = True
        try:
            packets = self._read(self._path(number))
        except OSError:
            packets = []
        return packets, count - len(packets)

    def discard(self) -> None:
        """Delete the loaded segment, if there is one."""
        if self.loaded:
            self.loaded = False
            number, _, _ = self._segments.popleft()
            self._path(number).unlink(missing_ok=True)

    def put_back(self, packets: list[bytes]) -> None:
        """Write packets at the front of the queue, in place of the loaded segment.

        Args:
            packets: the packets that were loaded and not sent, and others older than those in the
                spool.

        Raises:
            OSError: writing failed. The spool is as before.
        """
        if not packets:
            self.discard()
            return
        self._close_tail()
        number = self._segments[0][0] if self._segments else FIRST
        if self._segments and not self.loaded:
            number -= 1
        data = b"".join(_RECORD.pack(len(each), crc32(each)) + each for each in packets)
        # The new segment is written to another name and renamed: after a crash there is the old
        # segment or the new one.
        aside = self.directory / "new"
        aside.write_bytes(data)
        aside.rename(self._path(number))
        if self.loaded:
            self._segments.popleft()
            self.loaded = False
        self._segments.appendleft((number, len(data), len(packets)))
        self.packets += len(packets)

    def close(self) -> None:
        """Close the spool, so that another process can use it."""
        self._close_tail()
        self._lock.close()

    def _find_segments(self) -> None:
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            found = self._read(path)
            size = sum(map(len, found)) + _RECORD.size * len(found)
            self._segments.append((int(path.stem), size, len(found)))
            self.packets += len(found)

    def _make_room(self) -> int:
        dropped = 0
        # The newest segment is open for writing, and the oldest may be loaded: both stay.
        while self.size > self._limit and len(self._segments) > 2:
            number, _, count = self._segments[1]
            del self._segments[1]
            self._path(number).unlink(missing_ok=True)
            dropped += count
        self.packets -= dropped
        return dropped

    def _forget_half_written(self, number: int, size: int) -> None:
        with suppress(OSError):
            os.truncate(self._path(number), size)
        # Closing may write what Python still buffers, so the file is truncated again after it.
        tail, self._tail = self._tail, None
        if tail is not None:
            with suppress(OSError):
                tail.close()
        with suppress(OSError):
            os.truncate(self._path(number), size)

    def _close_tail(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:010}{_SUFFIX}"

    def _read(self, path: Path) -> list[bytes]:
        data = path.read_bytes()
        found, offset = [], 0
        while offset + _RECORD.size <= len(data):
            length, checksum = _RECORD.unpack_from(data, offset)
            start = offset + _RECORD.size
            packet = data[start : start + length]
            if len(packet) < length or crc32(packet) != checksum:
                break
            found.append(packet)
            offset = start + length
        if offset < len(data):
            self.damaged += 1
        return found
