"""The segments of a spool: their names and their records. Pure.

A record is a marker (8 bytes), the number of the record in its segment, the length of the packet
and a CRC-32 (4 bytes each, big-endian), then the packet. The CRC covers number, length and packet.

The marker is random for each segment and part of the file's name. After damage the reader looks for
the next marker, so that damage costs the damaged records only. A client cannot forge records in its
messages, because it does not know the marker. The numbers show how many records were lost.

Earlier versions wrote records of length, CRC-32 and packet, without a marker. `read_unmarked` reads
them.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_bytes
from typing import Final, Self
from zlib import crc32

MARKER_SIZE: Final = 8
"""Bytes of a marker."""

SUFFIX: Final = ".spool"
"""End of the names of segments."""

_NAME: Final = re.compile(rf"(\d{{1,18}})(?:-([0-9a-f]{{{2 * MARKER_SIZE}}}))?{re.escape(SUFFIX)}")

_COUNTED: Final = struct.Struct("!II")
"""Number and length."""

_CHECKSUM: Final = struct.Struct("!I")

_HEAD: Final = MARKER_SIZE + _COUNTED.size

OVERHEAD: Final = _HEAD + _CHECKSUM.size
"""Bytes of a record in addition to its packet."""

_UNMARKED: Final = struct.Struct("!II")
"""Length and CRC-32 of a record without a marker."""

_find_start: Final = re.compile(rb"HEP3|EEP1").search
"""Finds the first bytes of a packet of version 3."""


AT_A_TIME: Final = 100
"""Records read without a rest, which takes some 0.2 ms."""


def _go_on() -> None:
    """Rest not at all."""


@dataclass(slots=True)
class Found:
    """The contents of a segment."""

    packets: list[bytes] = field(default_factory=list)
    """The readable packets, oldest first."""
    lost: int = 0
    """Unreadable records. At least 1 for each damaged place whose records cannot be counted."""


@dataclass(slots=True, eq=False)
class Segment:
    """A file of records, such as ``1000000000-5f0c29d1b6e3a784.spool``."""

    name: str
    number: int
    """Gives the order of segments."""
    marker: bytes | None
    """Marker of its records; None for a segment of an earlier version."""
    size: int = 0
    """Bytes."""
    packets: int = 0
    """Readable records."""

    @classmethod
    def new(cls, number: int) -> Self:
        """An empty segment with a marker of its own."""
        marker = token_bytes(MARKER_SIZE)
        return cls(f"{number:010}-{marker.hex()}{SUFFIX}", number, marker)

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The segment in a file; None if the name is not that of a segment."""
        if (match := _NAME.fullmatch(name)) is None:
            return None
        return cls(name, int(match[1]), bytes.fromhex(match[2]) if match[2] else None)

    def encode(self, packets: list[bytes]) -> bytes:
        """The next records of the segment."""
        return b"".join(
            encode_record(self.marker or b"", number, packet)
            for number, packet in enumerate(packets, self.packets)
        )

    def decode(self, data: bytes, rest: Callable[[], object] = _go_on) -> Found:
        """Read the whole file. Never raises.

        Args:
            data: its contents.
            rest: called after each `AT_A_TIME` records, so that other threads get the interpreter.
        """
        if self.marker is None:
            return read_unmarked(data, rest)
        return read_marked(data, self.marker, rest)


def encode_record(marker: bytes, number: int, packet: bytes) -> bytes:
    """Return a record.

    Args:
        marker: that of the segment, `MARKER_SIZE` bytes.
        number: of the record in its segment, from 0.
        packet: the packet.
    """
    counted = _COUNTED.pack(number, len(packet))
    checksum = crc32(packet, crc32(counted))
    return b"".join((marker, counted, _CHECKSUM.pack(checksum), packet))


def read_marked(data: bytes, marker: bytes, rest: Callable[[], object] = _go_on) -> Found:
    """Read the records of a segment. Never raises; takes time linear in ``data``.

    Args:
        data: the whole segment.
        marker: that of the segment.
        rest: as in `Segment.decode`.
    """
    found = Found()
    offset = expected = 0
    is_damaged = False
    while offset < len(data):
        if (record := _marked_at(data, offset, marker)) is None:
            is_damaged = True
            offset = data.find(marker, offset + 1)
            if offset < 0:
                break
            continue
        number, packet, offset = record
        found.lost += max(0, number - expected)
        found.packets.append(packet)
        expected = number + 1
        is_damaged = False
        if not len(found.packets) % AT_A_TIME:
            rest()
    # How many records a damaged end had is not known.
    found.lost += is_damaged
    return found


def _marked_at(data: bytes, offset: int, marker: bytes) -> tuple[int, bytes, int] | None:
    """The record at an offset: its number, its packet, and the offset of the next one."""
    if not data.startswith(marker, offset) or len(data) < offset + OVERHEAD:
        return None
    head = offset + MARKER_SIZE
    number, length = _COUNTED.unpack_from(data, head)
    [checksum] = _CHECKSUM.unpack_from(data, offset + _HEAD)
    start = offset + OVERHEAD
    end = start + length
    if end > len(data):
        return None
    packet = data[start:end]
    if crc32(packet, crc32(data[head : offset + _HEAD])) != checksum:
        return None
    return number, packet, end


def read_unmarked(data: bytes, rest: Callable[[], object] = _go_on) -> Found:
    """Read a segment that an earlier version wrote. Never raises.

    After damage the reader looks for the next record by the length of the damaged one, then by the
    first bytes of a HEP packet. A length of 0 is not a record.

    Args:
        data: the whole segment.
        rest: as in `Segment.decode`.
    """
    found = Found()
    offset = 0
    while offset < len(data):
        if (record := _unmarked_at(data, offset)) is None:
            found.lost += 1
            offset = _next_unmarked(data, offset)
        else:
            packet, offset = record
            found.packets.append(packet)
            if not len(found.packets) % AT_A_TIME:
                rest()
    return found


def _unmarked_at(data: bytes, offset: int) -> tuple[bytes, int] | None:
    start = offset + _UNMARKED.size
    if offset < 0 or start >= len(data):
        return None
    length, checksum = _UNMARKED.unpack_from(data, offset)
    end = start + length
    if not length or end > len(data):
        return None
    packet = data[start:end]
    return (packet, end) if crc32(packet) == checksum else None


def _next_unmarked(data: bytes, offset: int) -> int:
    """The offset of the first record after a damaged one."""
    start = offset + _UNMARKED.size
    if start <= len(data):
        length: int = _UNMARKED.unpack_from(data, offset)[0]
        end = start + length
        if length and (end == len(data) or _unmarked_at(data, end) is not None):
            return end
    # One search for both, so that each byte is passed over once.
    at = start
    while (following := _find_start(data, at + 1)) is not None:
        at = following.start()
        if _unmarked_at(data, at - _UNMARKED.size) is not None:
            return at - _UNMARKED.size
    return len(data)
