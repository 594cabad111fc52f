"""The frames of a capture file, pcap or pcapng, as scapy reads them.

scapy is slow to import: that is done when the first file is opened.
"""

import gzip
import io
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from hep.errors import HepError

_GZIP_MAGIC: Final = b"\x1f\x8b"

_LONGEST_FRAME: Final = 0xFFFF
"""Bytes of a frame that scapy reads; the rest is passed over."""

LONGEST_BLOCK: Final = 1 << 24
"""Bytes of a block of a pcapng file; one that states more is damaged."""


class Frame(NamedTuple):
    """A frame and when it was captured."""

    link_type: int
    """What it starts with (LINKTYPE numbers)."""
    seconds: int
    """Since the epoch."""
    microseconds: int
    data: bytes


class CaptureFile:
    """A capture file to read once, from its beginning; also one compressed with gzip.

    Raises:
        HepError: it cannot be read, or is no capture.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = _File(path)
        try:
            self._reader, self._warnings = _scapy_reader(self._file)
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def position(self) -> int:
        """Bytes of it that have been read."""
        return self._file.position()

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def frames(self) -> Iterator[Frame]:
        """Its frames.

        Raises:
            HepError: it is damaged; the frames in front of the damage have been yielded.
        """
        name = self._file.name
        count = 0
        while True:
            with self._warnings as warnings:
                try:
                    data, about = next(self._reader)
                except StopIteration:
                    break
                except HepError:
                    raise
                except Exception as exc:
                    # scapy takes what is in the file to be as it should.
                    raise HepError(
                        f"{name}: damaged behind frame {count}: {type(exc).__name__}: {exc}"
                    ) from exc
            if hasattr(about, "tsresol"):
                ticks = ((about.tshigh or 0) << 32) + (about.tslow or 0)
                seconds, rest = divmod(ticks, about.tsresol)
                microseconds = rest * 1_000_000 // about.tsresol
                yield Frame(about.linktype, seconds, microseconds, data)
            elif len(data) < min(about.caplen, _LONGEST_FRAME):
                self._file.ended_within = True
                break
            else:
                microseconds = about.usec // 1000 if self._reader.nano else about.usec
                # The upper half says how long a frame's checksum is.
                yield Frame(self._reader.linktype & 0xFFFF, about.sec, microseconds, data)
            count += 1
        if warnings.heard or self._file.ended_within:
            raise HepError(f"{name}: ends in the middle, behind frame {count}")


class _File:
    """What scapy reads from: uncompressed, and never more in one go than a block may have."""

    def __init__(self, path: str | Path) -> None:
        self.ended_within = False
        """Whether there was less than asked for."""
        self.name = str(path)
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close()
        except OSError as exc:
            raise HepError(f"{path}: cannot be read: {exc.strerror}") from exc
        self.size = os.fstat(self._file.fileno()).st_size
        self._stream: io.BufferedReader | gzip.GzipFile = self._file
        try:
            if self._file.peek(2)[:2] == _GZIP_MAGIC:
                self._stream = gzip.GzipFile(fileobj=self._file)
        except OSError as exc:
            self._file.close()
            raise HepError(f"{path}: cannot be read: {exc.strerror}") from exc

    def read(self, size: int) -> bytes:
        try:
            data = self._stream.read(min(size, LONGEST_BLOCK))
        except (OSError, EOFError, zlib.error) as exc:
            raise HepError(f"{self.name}: cannot be read on: {exc}") from exc
        if 0 < len(data) < size:
            self.ended_within = True
        return data

    def position(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._stream.close()
        self._file.close()


class _Listening(logging.Filter):
    """Hears what scapy logs, which is how it tells of damage, and keeps it from the terminal."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.heard = False
        self._logger = logger

    def filter(self, record: logging.LogRecord) -> bool:
        self.heard = True
        return False

    def __enter__(self) -> Self:
        self.heard = False
        # In front of scapy's own filter, which lets the same text through once in a while only.
        self._logger.filters.insert(0, self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._logger.filters.remove(self)


def _scapy_reader(file: _File) -> tuple[Any, _Listening]:
    from scapy.error import log_runtime
    from scapy.utils import RawPcapReader

    listening = _Listening(log_runtime)
    with listening:
        try:
            # The class makes an instance of whichever reader fits.
            reader: Any = RawPcapReader
            return reader(file), listening
        except HepError:
            raise
        except Exception as exc:
            raise HepError(f"{file.name}: no capture file, neither pcap nor pcapng") from exc
