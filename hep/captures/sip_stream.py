"""SIP messages out of a stream. Pure."""

import re
from typing import Final

from hep.sip import first, is_sip

LONGEST_LINE: Final = 8 * 1024
"""Bytes of the first line of a message."""

LONGEST_HEAD: Final = 64 * 1024
"""Bytes of a message up to its body; what has more is none."""

LONGEST_BODY: Final = 1 << 20
"""Bytes of a body; a message of a stream that announces more is none."""

_head_end: Final = re.compile(rb"\n\r?\n").search
_content_length: Final = first("content-length")
_is_length: Final = re.compile(rb"[0-9]{1,9}").fullmatch


class SipSplitter:
    """Cuts a stream into SIP messages by their Content-Length (RFC 3261 section 18.3).

    A message without one ends with its header fields. What does not start as a message is skipped
    line by line, and counted. It holds at most one incomplete message.
    """

    def __init__(self) -> None:
        self.skipped = 0
        """Bytes that were no part of a message, so far; empty lines, which are keep-alives, are
        not counted."""
        self._buffer = bytearray()
        self._scanned = 0
        self._needed = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; returns each message that is complete now."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._needed:
            return []
        messages = []
        start = self._needed = 0
        while start < len(buffer):
            if buffer[start] in b"\r\n":
                start += 1
                continue
            length = self._length(start)
            if length is None:
                break
            if length > 0:
                messages.append(bytes(buffer[start : start + length]))
                start += length
                continue
            end = buffer.find(b"\n", start) + 1 or len(buffer)
            self.skipped += end - start
            start = end
        del buffer[:start]
        self._scanned = max(0, self._scanned - start)
        return messages

    def _length(self, start: int) -> int | None:
        """Of the message that starts here; 0 where none does; None where it is not all there."""
        buffer = self._buffer
        line_end = buffer.find(b"\n", start, start + LONGEST_LINE)
        if line_end < 0:
            return None if len(buffer) - start < LONGEST_LINE else 0
        if not is_sip(bytes(buffer[start : line_end + 1])):
            return 0
        # What has been looked through before is not again, but for the part of an end.
        head_end = _head_end(buffer, max(start, self._scanned - 2))
        if head_end is None and len(buffer) - start < LONGEST_HEAD:
            self._scanned = len(buffer)
            return None
        self._scanned = 0
        if head_end is None or head_end.end() - start > LONGEST_HEAD:
            return 0
        found = _content_length(bytes(buffer[start : head_end.end()]))
        body = int(found) if _is_length(found) else 0
        if body > LONGEST_BODY:
            return 0
        length = head_end.end() - start + body
        if len(buffer) - start >= length:
            return length
        self._needed = length
        return None
