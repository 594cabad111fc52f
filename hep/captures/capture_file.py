"""Reads the frames of a capture file (pcap or pcapng) with scapy.

scapy is slow to import. It is imported when the first file is opened.
"""

import logging
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from hep.captures.extra import require_scapy
from hep.captures.source import LONGEST_READ, Source
from hep.errors import HepError

LONGEST_FRAME: Final = 0x3FFFC
"""Bytes of a frame that are read; the rest counts as truncated. It is the maximum of scapy. Frames
of an interface with segmentation offload have 64 KiB and more."""

LONGEST_BLOCK: Final = LONGEST_READ
"""Maximum size of a pcapng block in bytes. A file with a larger block is damaged."""

MOST_INTERFACES: Final = 10_000
"""Maximum number of interfaces of a pcapng section. Each needs memory."""

UNKNOWN_INTERFACE: Final = "of an interface that the file does not describe"
"""Kind of frames that are not read: their link type and the unit of their time are unknown."""

MAGICS: Final = (
    b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1",
    b"\n\r\r\n",
)  # fmt: skip
"""First bytes of captures: pcap with microseconds and with nanoseconds, in both byte orders, and
pcapng."""

_OFFSET_OF_TIME: Final = 14
"""Option ``if_tsoffset`` of a pcapng interface: seconds to add to the time of its frames."""

_LATEST: Final = 2**32 - 1
"""Latest second since the epoch that HEP can carry."""


class Frame(NamedTuple):
    """A captured frame."""

    link_type: int
    """Link type of ``data`` (LINKTYPE number)."""
    seconds: int
    """Capture time in whole seconds since the epoch, 0 to 2³²-1."""
    microseconds: int
    """Microseconds of the capture time, 0 to 999999."""
    data: bytes
    """The captured bytes from the link header on."""


class CaptureFile:
    """A capture file, plain or compressed with gzip, that is read once from the start.

    Args:
        path: the file, ``-`` for the standard input, or an opened source.
        unread: counter for kinds of frames that cannot be read.

    Raises:
        HepError: the file cannot be read or is not a capture.
    """

    def __init__(self, path: str | Path | Source, unread: Counter[str] | None = None) -> None:
        self.source = path if isinstance(path, Source) else Source(path)
        """The bytes of the file."""
        try:
            self._reader, self._warnings = _scapy_reader(
                self.source, Counter() if unread is None else unread
            )
        except BaseException:
            self.source.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    def frames(self) -> Iterator[Frame]:
        """Read the frames in order.

        Raises:
            HepError: the file is damaged. The frames before the damage have been yielded.
        """
        source, reader, warnings = self.source, self._reader, self._warnings
        count = 0
        last = 0, 0
        while not source.is_stopped:
            with warnings:
                try:
                    data, about = reader._read_packet(LONGEST_FRAME)
                except EOFError:
                    break
                except HepError:
                    raise
                except Exception as exc:
                    # scapy raises exceptions of any type on a damaged file.
                    raise HepError(
                        f"{source.name}: damaged after frame {count}: {type(exc).__name__}: {exc}"
                    ) from exc
            if hasattr(about, "tsresol"):
                if about.tshigh is not None:
                    ticks = (about.tshigh << 32) + about.tslow
                    seconds, rest = divmod(ticks, about.tsresol)
                    last = seconds + reader.offset, rest * 1_000_000 // about.tsresol
                # A simple packet block has no time. The frame before it is the nearest one.
                link_type = about.linktype
            elif len(data) < min(about.caplen, LONGEST_FRAME):
                source.ended_within = True
                break
            else:
                # The upper 16 bits hold the length of the frame check sequence.
                link_type = reader.linktype & 0xFFFF
                more, rest = divmod(about.usec // 1000 if reader.nano else about.usec, 1_000_000)
                last = about.sec + more, rest
            yield Frame(link_type, min(max(0, last[0]), _LATEST), last[1], data)
            count += 1
        if (warnings.seen or source.ended_within) and not source.is_stopped:
            raise HepError(f"{source.name}: incomplete after frame {count}")


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


def _scapy_reader(source: Source, unread: Counter[str]) -> tuple[Any, _ScapyWarnings]:
    require_scapy("reading a capture file")
    from scapy.error import log_runtime
    from scapy.utils import RawPcapReader

    warnings = _ScapyWarnings(log_runtime)
    magic = source.read(4)
    kind: Any = _sections() if magic == MAGICS[-1] else RawPcapReader
    with warnings:
        try:
            # Calling the class would try all formats, and needs a file that can be rewound.
            reader = kind.__new__(kind)
            reader.unread = unread
            reader.__init__(source.name, source, magic)
        except HepError:
            raise
        except Exception as exc:
            raise HepError(f"{source.name}: no capture file, neither pcap nor pcapng") from exc
    return reader, warnings


@cache
def _sections() -> Any:
    """The class that reads pcapng; made when scapy is imported."""
    from scapy.utils import RawPcapNgReader

    class SectionReader(RawPcapNgReader):
        """Reads pcapng with several sections and interfaces with a time offset.

        scapy counts the interfaces of all sections together, and ignores ``if_tsoffset``.
        """

        unread: Counter[str]
        offset = 0
        """Seconds to add to the time of the frame that was read last."""

        def _read_block_shb(self) -> None:
            self.interfaces = []
            super()._read_block_shb()
            # Secrets and processes are of no use here, and would need memory.
            for block in (10, 0x80000001):
                self.blocktypes.pop(block, None)

        def _read_block_idb(self, block: bytes, size: int) -> None:
            if len(self.interfaces) >= MOST_INTERFACES:
                raise HepError(f"{self.filename}: more than {MOST_INTERFACES} interfaces")
            super()._read_block_idb(block, size)
            offset = self._read_options(block[8:]).get(_OFFSET_OF_TIME)
            if isinstance(offset, bytes) and len(offset) == 8:
                self.interfaces[-1][2]["offset"] = struct.unpack(self.endian + "q", offset)[0]

        def _check_interface_id(self, intid: int) -> bool:
            if intid >= len(self.interfaces):
                self.unread[UNKNOWN_INTERFACE] += 1
                return False
            self.offset = self.interfaces[intid][2].get("offset", 0)
            return True

    return SectionReader
