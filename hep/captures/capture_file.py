"""Reads the frames of a capture file (pcap or pcapng) with scapy.

scapy is slow to import. It is imported when the first file is opened.
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
"""Bytes of a frame that scapy reads; it skips the rest."""

LONGEST_BLOCK: Final = 1 << 24
"""Maximum size of a pcapng block in bytes. A file with a larger block is damaged."""


class Frame(NamedTuple):
    """A captured frame."""

    link_type: int
    """Link type of ``data`` (LINKTYPE number)."""
    seconds: int
    """Capture time in whole seconds since the epoch."""
    microseconds: int
    """Microseconds of the capture time, 0 to 999999."""
    data: bytes
    """The captured bytes from the link header on."""


class CaptureFile:
    """A capture file, plain or compressed with gzip, that is read once from the start.

    Args:
        path: the file.

    Raises:
        HepError: the file cannot be read or is not a capture.
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
        """Size of the file in bytes."""
        return self._file.size

    @property
    def position(self) -> int:
        """Number of bytes read so far, 0 to ``size``, compressed if the file is."""
        return self._file.position()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def frames(self) -> Iterator[Frame]:
        """Read the frames in order.

        Raises:
            HepError: the file is damaged. The frames before the damage have been yielded.
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
                    # scapy raises exceptions of any type on a damaged file.
                    raise HepError(
                        f"{name}: damaged after frame {count}: {type(exc).__name__}: {exc}"
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
                # The upper 16 bits hold the length of the frame check sequence.
                yield Frame(self._reader.linktype & 0xFFFF, about.sec, microseconds, data)
            count += 1
        if warnings.seen or self._file.ended_within:
            raise HepError(f"{name}: incomplete after frame {count}")


class _File:
    """The file object for scapy: it decompresses, and reads at most `LONGEST_BLOCK` at a time."""

    def __init__(self, path: str | Path) -> None:
        self.ended_within = False
        """Whether a read returned fewer bytes than requested."""
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
            raise HepError(f"{self.name}: reading failed: {exc}") from exc
        if 0 < len(data) < size:
            self.ended_within = True
        return data

    def position(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._stream.close()
        self._file.close()


class _ScapyWarnings(logging.Filter):
    """Detects and suppresses the log records with which scapy reports damage."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.seen = False
        self._logger = logger

    def filter(self, record: logging.LogRecord) -> bool:
        self.seen = True
        return False

    def __enter__(self) -> Self:
        self.seen = False
        # Before scapy's own filter, which suppresses repeated messages.
        self._logger.filters.insert(0, self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._logger.filters.remove(self)


def _scapy_reader(file: _File) -> tuple[Any, _ScapyWarnings]:
    from scapy.error import log_runtime
    from scapy.utils import RawPcapReader

    warnings = _ScapyWarnings(log_runtime)
    with warnings:
        try:
            # The class makes an instance of the reader for the file's format.
            reader: Any = RawPcapReader
            return reader(file), warnings
        except HepError:
            raise
        except Exception as exc:
            raise HepError(f"{file.name}: no capture file, neither pcap nor pcapng") from exc
