"""Packets on disk, first in, first out: what waits through a long outage or a restart.

A spool is a directory of segments, ``0000000001.spool`` and so on, each a row of records: length
and CRC-32 of a packet (4 bytes each, big-endian), then the packet. A segment is deleted when all
of it has been sent, so that a crash loses nothing that was written and may send some twice. What a
crash left half-written is passed over and counted.

Everything here blocks; `hep.sending.spooling` calls it from threads.
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
"""Bytes of a segment at the most: what is loaded at a time, and given up at a time when there is
no room."""

FIRST: Final = 1_000_000_000
"""The number of the first segment of all. Others may come before it as well as behind it."""

LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Bytes on disk unless told: an hour of a busy server."""

_RECORD: Final = struct.Struct("!II")
_SUFFIX: Final = ".spool"


class Spool:
    """A directory of packets.

    Args:
        directory: made where it is not there. It belongs to one sender alone.
        limit_bytes: what may be on disk; beyond it the oldest segment is given up.

    Raises:
        HepSpoolError: the directory cannot be used, or another process uses it.
    """

    def __init__(self, directory: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.directory = directory
        self.packets = 0
        """Packets on disk that have not been loaded."""
        self.loaded = False
        """Whether the oldest segment has been read; it is kept until `discard`."""
        self.damaged = 0
        """Segments whose end was found unreadable; what stood behind it is lost."""
        self._limit = limit_bytes
        # A small spool has small segments, so that little goes when room has to be made.
        self._segment = min(SEGMENT, limit_bytes // 4)
        self._segments: deque[tuple[int, int, int]] = deque()
        """Number, bytes and packets of each, oldest first."""
        self._tail: BinaryIO | None = None
        """The last segment, while it is being written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("wb")
        except OSError as exc:
            raise HepSpoolError(f"spool {directory} cannot be used: {exc}") from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._find_segments()
        except BlockingIOError as exc:
            self._lock.close()
            raise HepSpoolError(
                f"spool {directory}: another process uses it; each sender needs its own"
            ) from exc
        except (OSError, ValueError) as exc:
            self._lock.close()
            raise HepSpoolError(f"spool {directory} cannot be used: {exc}") from exc

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(size for _, size, _ in self._segments)

    def append(self, packets: Iterable[bytes]) -> int:
        """Write packets behind all others.

        Returns:
            how many older packets were given up to make room.

        Raises:
            OSError: the disk did not take them; what it took of them is taken back.
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
        """Read the oldest segment; it stays on disk until `discard`.

        Returns:
            its packets, and how many more it had that cannot be read.
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
        """Delete what was loaded."""
        if self.loaded:
            self.loaded = False
            number, _, _ = self._segments.popleft()
            self._path(number).unlink(missing_ok=True)

    def put_back(self, packets: list[bytes]) -> None:
        """Put packets before all others, in place of what was loaded.

        Args:
            packets: what was loaded and not sent, and what else is older than the rest.

        Raises:
            OSError: the disk did not take them; the spool is as it was.
        """
        if not packets:
            self.discard()
            return
        self._close_tail()
        number = self._segments[0][0] if self._segments else FIRST
        if self._segments and not self.loaded:
            number -= 1
        data = b"".join(_RECORD.pack(len(each), crc32(each)) + each for each in packets)
        # Written aside and renamed: a crash leaves the old segment or the new one.
        aside = self.directory / "new"
        aside.write_bytes(data)
        aside.rename(self._path(number))
        if self.loaded:
            self._segments.popleft()
            self.loaded = False
        self._segments.appendleft((number, len(data), len(packets)))
        self.packets += len(packets)

    def close(self) -> None:
        """Let another process have it."""
        self._close_tail()
        self._lock.close()

    def _find_segments(self) -> None:
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            found = self._read(path)
            size = sum(map(len, found)) + _RECORD.size * len(found)
            self._segments.append((int(path.stem), size, len(found)))
            self.packets += len(found)

    def _make_room(self) -> int:
        given_up = 0
        # The tail is being written, and the first may have been loaded: those two stay.
        while self.size > self._limit and len(self._segments) > 2:
            number, _, count = self._segments[1]
            del self._segments[1]
            self._path(number).unlink(missing_ok=True)
            given_up += count
        self.packets -= given_up
        return given_up

    def _forget_half_written(self, number: int, size: int) -> None:
        with suppress(OSError):
            os.truncate(self._path(number), size)
        # What Python buffered must not follow later.
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
