"""SIP as far as a capture needs it: what is a message, where it ends, what its Call-ID is. Pure."""

import re
from typing import Final

from hep.codec.correlation import identifier

LONGEST_LINE: Final = 8 * 1024
"""Bytes of the first line of a message."""

LONGEST_HEAD: Final = 64 * 1024
"""Bytes of a message up to its body; what has more is none."""

LONGEST_BODY: Final = 1 << 20
"""Bytes of a body; a message of a stream that announces more is none."""

_START_LINE: Final = re.compile(
    rb"(?:[A-Za-z0-9.!%*_+`'~-]{1,64} [^\s\x00-\x1f]{1,4096} SIP/2\.0"
    rb"|SIP/2\.0 [1-6][0-9]{2}[ \r\n])",
    re.IGNORECASE,
)
_CONTENT_LENGTH: Final = re.compile(
    rb"^(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,9})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_CALL_ID: Final = re.compile(
    # Nothing is given back: what is hostile would be tried in every way.
    rb"^(?:call-id|i)[ \t]*+:[ \t]*+(?:\r?\n[ \t]++)?+([^\r\n]*+)\r?$",
    re.IGNORECASE | re.MULTILINE,
)
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")


def is_sip(data: bytes) -> bool:
    """Whether it starts as a SIP request or response does (RFC 3261 section 7).

    Empty lines before it are passed over, as section 7.5 asks.
    """
    return _START_LINE.match(data.lstrip(b"\r\n")) is not None


def call_id(message: bytes) -> bytes | None:
    """The value of Call-ID, or of its compact form ``i``, as a correlation id."""
    # Empty lines before the start line are no end of the head.
    start = len(message) - len(message.lstrip(b"\r\n"))
    end = _HEAD_END.search(message, start)
    found = _CALL_ID.search(message, start, end.start() + 1 if end else len(message))
    value = found[1].rstrip(b" \t") if found else b""
    return identifier(value) if value else None


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
        if _START_LINE.match(buffer, start, line_end + 1) is None:
            return 0
        # What has been looked through before is not again, but for the part of an end.
        head_end = _HEAD_END.search(buffer, max(start, self._scanned - 3))
        if head_end is None and len(buffer) - start < LONGEST_HEAD:
            self._scanned = len(buffer)
            return None
        self._scanned = 0
        if head_end is None or head_end.end() - start > LONGEST_HEAD:
            return 0
        found = _CONTENT_LENGTH.search(buffer, start, head_end.start() + 1)
        body = int(found[1]) if found else 0
        if body > LONGEST_BODY:
            return 0
        length = head_end.end() - start + body
        if len(buffer) - start >= length:
            return length
        self._needed = length
        return None
