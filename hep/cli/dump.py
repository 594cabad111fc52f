"""Reads hexadecimal text: plain digits, and dumps with offsets. Pure.

Dumps are read as xxd, ``hexdump -C``, ``od -t x1``, tcpdump (``-x``, ``-X``), tshark and Wireshark
write them: an offset, bytes, and the same bytes as characters. Other lines are ignored.
"""

import re
from collections.abc import Iterator
from typing import Final

from hep.errors import HepError

LONGEST_LINE: Final = 65_536
"""Maximum length of a line of a dump in bytes."""

LONGEST_REPEAT: Final = 65_536
"""Maximum number of bytes that a line ``*`` stands for: no packet is longer."""

_ROW: Final = re.compile(rb"\s*(?:0x)?([0-9A-Fa-f]{3,16})(:?)(?:[ \t]+(.*))?\r?\Z").match
_FIRST_ROW: Final = re.compile(rb"^[ \t]*(?:0x)?0{3,16}:?[ \t]+[0-9A-Fa-f]{2}", re.MULTILINE).search
_WORDS: Final = re.compile(rb"([ \t]*)(\S+)").finditer
_IS_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2})+").fullmatch
_IS_PLAIN: Final = re.compile(rb"[0-9A-Fa-f\s]+").fullmatch
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]").search


def is_plain(start: bytes) -> bool:
    """Whether the first bytes of a file are hexadecimal digits, without offsets."""
    return _IS_PLAIN(start) is not None and not is_dump(start)


def is_dump(start: bytes) -> bool:
    """Whether the first bytes of a file are a dump, by a row with offset 0."""
    return _FIRST_ROW(start) is not None and not _CONTROL(start)


class PlainReader:
    """Converts hexadecimal digits to bytes. White space is ignored."""

    def __init__(self) -> None:
        self._digit = b""
        self._position = 0

    def feed(self, text: bytes) -> bytes:
        """Take digits; returns the bytes that are complete.

        Raises:
            HepError: a character is no digit.
        """
        try:
            digits = self._digit + b"".join(text.split())
            even = len(digits) & ~1
            self._digit = digits[even:]
            data = bytes.fromhex(digits[:even].decode("latin-1"))
        except ValueError as exc:
            raise HepError(f"after {self._position} characters: not a hexadecimal digit") from exc
        self._position += len(text)
        return data

    def finish(self) -> None:
        """End the text.

        Raises:
            HepError: a digit is missing.
        """
        if self._digit:
            raise HepError("hexadecimal text with an odd number of digits")


class DumpReader:
    """Converts the rows of a dump to bytes.

    An offset of 0 starts a new packet. Each method returns pieces of packets; an empty one ends a
    packet.
    """

    def __init__(self) -> None:
        self._line = b""
        self._number = 0
        self._row: bytes | None = None
        self._offset = 0
        self._last = b""
        self._repeats = False

    def feed(self, text: bytes) -> Iterator[bytes]:
        """Take text, cut anywhere.

        Raises:
            HepError: the offsets do not fit the rows.
        """
        *lines, self._line = (self._line + text).split(b"\n")
        for line in lines:
            yield from self._add(line)
        if len(self._line) > LONGEST_LINE:
            raise HepError(f"line {self._number + 1}: longer than {LONGEST_LINE} bytes")

    def finish(self) -> Iterator[bytes]:
        """End the text.

        Raises:
            HepError: as `feed`.
        """
        yield from self._add(self._line)
        yield from self._end()

    def _add(self, line: bytes) -> Iterator[bytes]:
        self._number += 1
        if line.strip() == b"*":
            self._repeats = self._row is not None
            return
        match = _ROW(line)
        if match is None:
            return
        offset, colon, text = int(match[1], 16), match[2], match[3] or b""
        if self._row is not None and offset:
            yield from self._up_to(offset)
        elif offset:
            # A number at the start of another line.
            return
        else:
            yield from self._end()
        self._offset = offset
        self._row = _bytes_of(text, bool(colon))
        self._repeats = False

    def _up_to(self, offset: int) -> Iterator[bytes]:
        """The row before, whose length the offset of the next one says."""
        row, length = self._row or b"", offset - self._offset
        if self._repeats and row:
            if not 0 <= length <= LONGEST_REPEAT:
                raise HepError(f"line {self._number}: a * stands for {length} bytes")
            yield (row * (length // len(row) + 1))[:length]
        elif 0 < length <= len(row):
            # Characters that look like digits may stand behind the bytes.
            yield row[:length]
        elif length or row:
            raise HepError(
                f"line {self._number}: offset {offset:#x} does not follow a row of {len(row)}"
                f" bytes at {self._offset:#x}"
            )

    def _end(self) -> Iterator[bytes]:
        if self._row is not None:
            if self._row:
                yield self._row
            self._row = None
            yield b""


def _bytes_of(text: bytes, has_colon: bool) -> bytes:
    """The bytes of a row, without the characters behind them."""
    data = b""
    for match in _WORDS(text):
        gap, word = len(match[1]), match[2]
        # Dumps without a colon may have a gap in the middle, and no other of two blanks.
        is_middle = not has_colon and len(data) == 8 and gap == 2
        if (data and gap > 1 and not is_middle) or not _IS_HEX(word):
            break
        data += bytes.fromhex(word.decode())
    return data
