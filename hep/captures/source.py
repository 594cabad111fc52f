"""Bytes of a file or a pipe, plain or compressed with gzip, read once from the start.

A read of a live pipe returns as soon as the requested bytes are there. Another thread can end it.
"""

import gzip
import io
import os
import select
import stat
import zlib
from pathlib import Path
from typing import Any, Final

from hep.errors import HepError

STANDARD_INPUT: Final = "-"
"""Name of the standard input among files."""

LONGEST_READ: Final = 1 << 24
"""Maximum size of one read in bytes. A capture with a larger record is damaged."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_BUFFER: Final = 1 << 18


class Source:
    """A file, a pipe or the standard input.

    Args:
        path: the file; ``-`` is the standard input.

    Raises:
        HepError: it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == STANDARD_INPUT else str(path)
        """Its name in messages."""
        self.ended_within = False
        """Whether a read returned fewer bytes than requested, and at least one."""
        try:
            self._raw = _Raw(os.dup(0) if str(path) == STANDARD_INPUT else path)
        except OSError as exc:
            raise HepError(f"{path}: cannot be read: {exc.strerror}") from exc
        self.size = self._raw.size
        """Size of the file in bytes; 0 for a pipe."""
        self._start = b""
        self._stream: io.BufferedReader | gzip.GzipFile
        try:
            if self._raw.first(len(_GZIP_MAGIC)) == _GZIP_MAGIC:
                self._stream = gzip.GzipFile(fileobj=self._raw)
            else:
                self._stream = io.BufferedReader(self._raw, _BUFFER)
        except OSError as exc:
            self._raw.close()
            raise HepError(f"{path}: cannot be read: {exc.strerror}") from exc

    @property
    def is_live(self) -> bool:
        """Whether it is a pipe, a terminal or a socket, which may stay open without data."""
        return self._raw.is_live

    @property
    def position(self) -> int:
        """Number of bytes read so far, compressed if the file is."""
        return self._raw.count

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._raw.is_stopped

    def read(self, size: int) -> bytes:
        """Read bytes, and wait until all of them are there.

        Args:
            size: number of bytes, from 0. At most `LONGEST_READ` are returned.

        Returns:
            the bytes; fewer than requested at the end.

        Raises:
            HepError: reading failed.
        """
        wanted = min(size, LONGEST_READ)
        if self._start:
            start, self._start = self._start[:wanted], self._start[wanted:]
            data = start + self._read(self._stream.read, wanted - len(start))
        else:
            data = self._read(self._stream.read, wanted)
        if 0 < len(data) < size:
            self.ended_within = True
        return data

    def read_some(self, size: int) -> bytes:
        """Read what is there, at least one byte, at most ``size``; empty at the end.

        Raises:
            HepError: reading failed.
        """
        if self._start:
            start, self._start = self._start[:size], self._start[size:]
            return start
        return self._read(self._stream.read1, size)

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay unread; fewer than ``size`` at the end.

        Raises:
            HepError: reading failed.
        """
        if len(self._start) < size:
            self._start += self._read(self._stream.read, size - len(self._start))
        return self._start[:size]

    def stop(self) -> None:
        """End all reads, from any thread: what follows is as the end of the file."""
        self._raw.stop()

    def close(self) -> None:
        """Close the file. No other thread may read at the time."""
        self._stream.close()
        self._raw.close()

    def _read(self, read: Any, size: int) -> bytes:
        try:
            data: bytes = read(size) if size else b""
        except (OSError, EOFError, zlib.error) as exc:
            if self._raw.is_stopped:
                return b""
            raise HepError(f"{self.name}: reading failed: {exc}") from exc
        return data


class _Raw(io.RawIOBase):
    """A file descriptor whose reads can be ended by another thread."""

    def __init__(self, path: str | Path | int) -> None:
        self._file = io.FileIO(path, "rb")
        about = os.fstat(self._file.fileno())
        self.is_live = not stat.S_ISREG(about.st_mode)
        self.size = 0 if self.is_live else about.st_size
        self.count = 0
        self.is_stopped = False
        self._first = b""
        self._woken = self._wake = -1
        self._poll = select.poll()
        if self.is_live:
            self._woken, self._wake = os.pipe()
            self._poll.register(self._file.fileno(), select.POLLIN)
            self._poll.register(self._woken, select.POLLIN)

    def first(self, size: int) -> bytes:
        """The first bytes, which stay unread."""
        while len(self._first) < size and (data := self._wait_and_read(size - len(self._first))):
            self._first += data
        return self._first

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._first:
            data, self._first = self._first[: len(buffer)], self._first[len(buffer) :]
        else:
            data = self._wait_and_read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _wait_and_read(self, size: int) -> bytes:
        if self.is_live:
            self._poll.poll()
        if self.is_stopped:
            return b""
        data = self._file.read(size) or b""
        self.count += len(data)
        return data

    def stop(self) -> None:
        self.is_stopped = True
        if self.is_live and not self.closed:
            os.write(self._wake, b".")

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            if self.is_live:
                os.close(self._woken)
                os.close(self._wake)
        super().close()
