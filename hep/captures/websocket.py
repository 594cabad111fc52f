"""WebSocket frames of one direction of a connection, seen from outside (RFC 6455 section 5). Pure.

A capture may begin within a connection and may lack segments. So frames are also found without a
handshake, by the SIP message in them (RFC 7118). The work is linear in the bytes.
"""

import re
from collections import Counter
from typing import Final

LONGEST_MESSAGE: Final = 1 << 20
"""Maximum size of a message in bytes, as of a body of SIP over TCP."""

COMPRESSED: Final = "compressed by permessage-deflate"
"""Kind of messages that are not read (RFC 7692): their start may be missing in the capture."""

TOO_LONG: Final = "longer than 1 MiB"
"""Kind of messages that are not read."""

LOOK_AHEAD: Final = 700
"""Bytes of a frame that show whether SIP starts in it."""

_START: Final = (
    rb"(?:\r?\n){0,4}(?:SIP/2\.0 [1-6][0-9]{2} |[A-Za-z]{2,32} [^\s\x00-\x1f]{1,512} SIP/2\.0\r?\n)"
)
_starts_sip: Final = re.compile(_START).match
_may_start_sip: Final = re.compile(
    rb"[\r\n]*(?:SIP/2\.0[ -~]*|[A-Za-z]{1,32}(?: [!-\xff]*(?: [SIP/2.0]*\r?)?)?)\Z"
).match
# Unmasked frames hold readable text, so that one search finds header and message.
_bare: Final = re.compile(
    rb"[\x01\x02\x81\x82](?:[\x10-\x7d]|\x7e[\x00-\xff]{2}|\x7f\x00{5}[\x00-\xff]{3})(?=%b)"
    % _START
).search
# The second byte of a masked frame is no first byte of a frame, so that none is passed over.
_masked: Final = re.compile(rb"[\x01\x02\x81\x82](?=[\x90-\xff])").finditer

_FIN: Final = 0x80
_COMPRESSED_BIT: Final = 0x40
_RESERVED: Final = 0x30
_MASK: Final = 0x80
_CONTINUATION: Final = 0
_DATA: Final = (1, 2)
_CONTROL: Final = (8, 9, 10)


def unmasked(data: bytes, mask: bytes) -> bytes:
    """Unmask a payload (RFC 6455 section 5.3)."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(size)


def header(buffer: bytearray, at: int) -> tuple[int, int] | None:
    """Read the header of a frame.

    Returns:
        its length, and that of the payload; zeros while it is incomplete, None if it is invalid.
    """
    if len(buffer) - at < 2:
        return 0, 0
    first, second = buffer[at], buffer[at + 1]
    opcode, length = first & 0x0F, second & 0x7F
    if first & _RESERVED or opcode not in (_CONTINUATION, *_DATA, *_CONTROL):
        return None
    if opcode in _CONTROL and (length > 125 or first & (_FIN | _COMPRESSED_BIT) != _FIN):
        return None
    extended = {126: 2, 127: 8}.get(length, 0)
    size = 2 + extended + (4 if second & _MASK else 0)
    if len(buffer) - at < size:
        return 0, 0
    if extended:
        length = int.from_bytes(buffer[at + 2 : at + 2 + extended])
        if length < 126 or length >> 63:
            return None
    return size, length


def find_bare(buffer: bytearray, start: int) -> tuple[int | None, int]:
    """Find the first unmasked frame from ``start`` on in which SIP starts.

    Returns:
        the offset of the frame, None if there is none; and the offset before which none starts, as
        more bytes may show one at the end.
    """
    # A search for text is much faster, and most streams have none.
    found = _bare(buffer, start) if buffer.find(b"SIP/2.0", start) >= 0 else None
    return found.start() if found else None, max(start, len(buffer) - LOOK_AHEAD)


def find_masked(buffer: bytearray, start: int) -> tuple[int | None, int]:
    """Find the first masked frame from ``start`` on in which SIP starts; as `find_bare`."""
    end = len(buffer)
    clear = max(start, end - 1)
    if buffer[start:].isascii():
        # As most text is: the length of a masked frame has the highest bit.
        return None, end
    for candidate in _masked(buffer, start):
        at = candidate.start()
        begin = at + 6 + {126: 2, 127: 8}.get(buffer[at + 1] & 0x7F, 0)
        if begin + 8 > end:
            return None, min(clear, at)
        # Most candidates end at the first eight bytes, which are cheap.
        mask = bytes(buffer[begin - 4 : begin])
        if _is_begin(unmasked(bytes(buffer[begin : begin + 8]), mask)):
            text = unmasked(bytes(buffer[begin : begin + LOOK_AHEAD - 14]), mask)
            if _starts_sip(text) and header(buffer, at):
                return at, at
            if len(text) < LOOK_AHEAD - 14 and _may_start_sip(text):
                clear = min(clear, at)
    return None, clear


def _is_begin(data: bytes) -> bool:
    """Whether eight bytes may begin a SIP message."""
    return (data == b"SIP/2.0 ") or data.lstrip(b"\r\n").replace(b" ", b"")[:2].isalpha()


def frames_fill(buffer: bytearray, start: int) -> int:
    """Count the frames that end exactly where the buffer ends; 0 if they end elsewhere.

    Most senders write whole frames, so that a segment begins and ends with one.
    """
    count = 0
    while start < len(buffer):
        about = header(buffer, start)
        if about is None or not about[0]:
            return 0
        start += sum(about)
        count += 1
    return count if start == len(buffer) else 0


def is_compressed(buffer: bytearray, at: int) -> bool:
    """Whether the frame at ``at`` starts a compressed message."""
    return bool(buffer[at] & _COMPRESSED_BIT) and buffer[at] & 0x0F in _DATA


class FrameReader:
    """Joins the fragments of messages.

    Args:
        unread: counter for `COMPRESSED` and `TOO_LONG` messages.
    """

    def __init__(self, unread: Counter[str]) -> None:
        self._unread = unread
        self._parts: bytearray | None = None
        self._kind: str | None = None

    @property
    def is_within_message(self) -> bool:
        """Whether the last fragment of a message is missing."""
        return self._parts is not None

    def measure(self, buffer: bytearray, at: int) -> int:
        """Measure the frame at ``at``.

        Returns:
            its length; 0 while its header is incomplete, -1 if it is invalid or too long.
        """
        about = header(buffer, at)
        if about is None:
            return -1
        if about[1] > LONGEST_MESSAGE:
            self._unread[TOO_LONG] += 1
            return -1
        return sum(about)

    def take(self, buffer: bytearray, at: int) -> bytes | None:
        """Read the whole frame at ``at``.

        Returns:
            the message that is complete now; None if none is, or it is not read.
        """
        about = header(buffer, at)
        first = buffer[at]
        opcode = first & 0x0F
        if about is None or opcode in _CONTROL:
            return None
        size, length = about
        payload = bytes(buffer[at + size : at + size + length])
        if buffer[at + 1] & _MASK:
            payload = unmasked(payload, bytes(buffer[at + size - 4 : at + size]))
        if opcode in _DATA:
            self._kind = COMPRESSED if first & _COMPRESSED_BIT else None
            self._parts = bytearray()
        elif self._parts is None:
            # The start of the message is missing.
            return None
        if self._kind is None:
            self._parts += payload
            if len(self._parts) > LONGEST_MESSAGE:
                self._kind = TOO_LONG
        if not first & _FIN:
            return None
        parts, kind = bytes(self._parts), self._kind
        self.reset()
        if kind is not None:
            self._unread[kind] += 1
            return None
        return parts

    def reset(self) -> None:
        """Forget the fragments, because bytes of the stream are missing."""
        self._parts = self._kind = None
