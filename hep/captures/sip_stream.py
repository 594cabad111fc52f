"""SIP messages out of a stream. Pure.

The work is linear in the bytes of the stream, whatever they are and however it is cut.
"""

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
_begins_header: Final = re.compile(rb"[^\s:]{1,256}[ \t]{0,16}:|\r?\n").match
_LONGEST_NAME: Final = 280
"""Bytes of which one must end the name of a header; longer ones are no SIP."""
_is_no_line_end: Final = re.compile(rb"[^\r\n]").search
_METHODS: Final = (
    b"INVITE", b"ACK", b"BYE", b"CANCEL", b"OPTIONS", b"REGISTER", b"PRACK", b"SUBSCRIBE",
    b"NOTIFY", b"PUBLISH", b"INFO", b"REFER", b"MESSAGE", b"UPDATE",
)  # fmt: skip
"""IANA, SIP methods."""


def may_begin(data: bytes) -> bool:
    """Whether data may be the first bytes of a SIP message, of which the rest is missing."""
    data = data[:LONGEST_LINE].lstrip(b"\r\n")
    word, blank, uri = data.partition(b" ")
    if not data:
        return False
    if not blank:
        return any(name.startswith(word) for name in (*_METHODS, b"SIP/2.0"))
    return word == b"SIP/2.0" or (word in _METHODS and not uri.startswith(b"/")) or is_sip(data)


class Heads:
    """Finds where heads end in a buffer, and looks at each byte once."""

    def __init__(self) -> None:
        self._end = 0
        self._scanned = 0

    def end(self, buffer: bytearray, start: int) -> int | None:
        """Offset behind the empty line that ends the head at ``start``; None if it is not there.

        Args:
            buffer: the bytes; between two calls it grows, or `shift` is called.
            start: offset of the head, from 0; not less than in the call before.
        """
        if self._end <= start:
            # An end may have begun in what was scanned before.
            found = _head_end(buffer, max(start, self._scanned - 2))
            if found is None:
                self._scanned = len(buffer)
                return None
            self._end = self._scanned = found.end()
        return self._end

    def shift(self, count: int) -> None:
        """Follow the buffer after its first bytes were deleted."""
        self._end = max(0, self._end - count)
        self._scanned = max(0, self._scanned - count)


class SipReader:
    """Measures the messages in a buffer by their Content-Length (RFC 3261 section 18.3)."""

    def __init__(self) -> None:
        self._heads = Heads()

    def measure(self, buffer: bytearray, start: int) -> int:
        """Measure the message at ``start``, which is no end of a line.

        Returns:
            its length in bytes; 0 while it is incomplete. Where none starts, minus the number of
            bytes in which none starts.
        """
        line_end = buffer.find(b"\n", start, start + LONGEST_LINE)
        if line_end < 0:
            if len(buffer) - start < LONGEST_LINE:
                return 0
            end = buffer.find(b"\n", start) + 1
            return start - (end or len(buffer))
        if not is_sip(bytes(buffer[start : line_end + 1])):
            return start - (line_end + 1)
        following = line_end + 1
        if not _begins_header(buffer, following):
            # Neither a header nor an empty line: a status line in a body, such as message/sipfrag.
            if len(buffer) - following < _LONGEST_NAME and buffer.find(b"\n", following) < 0:
                return 0
            return start - following
        head_end = self._heads.end(buffer, start)
        if head_end is None:
            return 0 if len(buffer) - start < LONGEST_HEAD else start - following
        if head_end - start > LONGEST_HEAD:
            return start - following
        found = _content_length(bytes(buffer[start:head_end]))
        body = int(found) if _is_length(found) else 0
        if body > LONGEST_BODY:
            return start - head_end
        return head_end - start + body

    def shift(self, count: int) -> None:
        """Follow the buffer after its first bytes were deleted."""
        self._heads.shift(count)


class SipSplitter:
    """Cuts a stream into SIP messages by their Content-Length.

    A message without one ends with its header fields. What does not start as a message is skipped
    line by line, and counted. It holds at most one incomplete message.
    """

    def __init__(self) -> None:
        self.skipped = 0
        """Bytes that were no part of a message, so far; empty lines, which are keep-alives, are
        not counted."""
        self._buffer = bytearray()
        self._reader = SipReader()
        self._needed = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; returns each message that is complete now."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._needed:
            return []
        messages = []
        start = self._needed = 0
        while (found := _is_no_line_end(buffer, start)) is not None:
            start = found.start()
            length = self._reader.measure(buffer, start)
            if length < 0:
                self.skipped -= length
                start -= length
            elif 0 < length <= len(buffer) - start:
                messages.append(bytes(buffer[start : start + length]))
                start += length
            else:
                self._needed = length
                break
        else:
            start = len(buffer)
        del buffer[:start]
        self._reader.shift(start)
        return messages
