"""Whole WebSocket frames in a stream (RFC 6455 section 5.2). Pure.

The engine is handed one whole frame at a time, so that a frame's consequences are settled before
the next one is looked at, wherever the network cut the stream. Whether a frame is right is the
engine's to say: `next_frame` reads only its length, and `length_problem` says whether that is
written as it must be, which the engine does not look at.

Nearly all frames are alike, though: a whole message, short, and nothing wrong with it.
`whole_messages` takes those of a client without the engine, and leaves everything that is in the
least different to it; `whole_control` does so for control frames, and `server_frame` for what is
sent. `unmasked_messages` and `client_frame` are the same for the other side. All are equal to the
engine's way, which is a property test.
"""

from os import urandom
from struct import Struct
from typing import Final

from sipws.events import Connection, Event, MessageReceived
from sipws.limits import BYTES_PER_SLICE, FRAMES_PER_SLICE

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

TEXT: Final = 0x81
"""The first byte of a text message in one frame: FIN, no reserved bit, opcode 1."""

BINARY: Final = 0x82
"""The first byte of a binary message in one frame."""

CLOSE: Final = 0x88
"""The first byte of a close frame."""

PING: Final = 0x89
"""The first byte of a ping."""

PONG: Final = 0x8A
"""The first byte of a pong."""

CONTROL: Final = 0x08
"""The bit of the opcode that control frames have and data frames have not."""

_RESERVED: Final = 0x70
_LENGTH: Final = 0x7F
_MASKED: Final = 0x80
_LENGTH_IN_2_BYTES: Final = 126
_LENGTH_IN_8_BYTES: Final = 127
_MASK_SIZE: Final = 4
_SHORTEST: Final = 2 + _MASK_SIZE
_SHORTEST_READ: Final = 4
_MASKED_IN_2_BYTES: Final = _MASKED | _LENGTH_IN_2_BYTES
_SHORTEST_IN_2_BYTES: Final = 126
_SHORTEST_IN_8_BYTES: Final = 0x1_0000
_LONGEST_IN_8_BYTES: Final = 0x7FFF_FFFF_FFFF_FFFF
_126_BYTES: Final = (126).to_bytes(2, "big") + bytes(_MASK_SIZE + 126)
_READ_HEADER_2: Final = Struct("!BBH").unpack_from
_HEADER_2: Final = Struct("!BBH").pack
_HEADER_8: Final = Struct("!BBQ").pack


def next_frame(buffer: bytes | bytearray, start: int, longest: int) -> int | None:
    """Find the end of the frame that starts at ``start``.

    Args:
        buffer: what has been received.
        start: where the frame starts in it.
        longest: payload bytes that the engine accepts. A frame that states more is handed over
            as soon as its header is there: it is refused for that, and must not be waited for.
            So is a control frame of which two bytes tell that it is over 125 bytes, and a frame
            whose length is not written as it must be; see `length_problem`.

    Returns:
        where the bytes end that the engine is to be handed; None while they are not all there.
    """
    size = len(buffer)
    header = start + 2
    if size < header:
        return None
    second = buffer[start + 1]
    length = second & _LENGTH
    if length >= _LENGTH_IN_2_BYTES:
        if buffer[start] & CONTROL:
            return header
        extended = header
        header += 2 if length == _LENGTH_IN_2_BYTES else 8
        if size < header:
            return None
        length = int.from_bytes(buffer[extended:header], "big")
        if not _is_minimal(length, header - extended):
            return header
    if length > longest:
        return header
    end = header + length + (_MASK_SIZE if second & _MASKED else 0)
    return end if end <= size else None


def _is_minimal(length: int, size: int) -> bool:
    """Whether a length may stand in a field of so many bytes, 2 or 8."""
    if size == 2:
        return length >= _SHORTEST_IN_2_BYTES
    return _SHORTEST_IN_8_BYTES <= length <= _LONGEST_IN_8_BYTES


def length_problem(frame: bytes) -> str | None:
    """What is wrong with how a frame's length is written; the engine takes any.

    RFC 6455 section 5.2: the minimal number of bytes must be used, and the most significant bit
    of 8 must be 0. Of two readings of one length, one might pass what stands before us.

    Args:
        frame: the bytes that `next_frame` found.
    """
    size = {_LENGTH_IN_2_BYTES: 2, _LENGTH_IN_8_BYTES: 8}.get(frame[1] & _LENGTH)
    if size is None or frame[0] & CONTROL:
        return None
    length = int.from_bytes(frame[2 : 2 + size], "big")
    if _is_minimal(length, size):
        return None
    if length > _LONGEST_IN_8_BYTES:
        return "a frame's length in 8 bytes has its first bit set (RFC 6455 section 5.2)"
    return f"a frame's length of {length} is written in {size} bytes (RFC 6455 section 5.2)"


def payload_begun(buffer: bytes | bytearray, start: int, longest: int) -> bytes:
    """The first bytes of a data frame's payload, of a frame that may not be all there.

    Args:
        buffer: what has been received.
        start: where the frame starts in it.
        longest: bytes that are wanted.

    Returns:
        the bytes, unmasked; none of a control frame or of one that an extension has changed.
    """
    size = len(buffer)
    if size < start + 2 or buffer[start] & (CONTROL | _RESERVED):
        return b""
    second = buffer[start + 1]
    length = second & _LENGTH
    payload = start + 2
    if length >= _LENGTH_IN_2_BYTES:
        extended = payload
        payload += 2 if length == _LENGTH_IN_2_BYTES else 8
        length = int.from_bytes(buffer[extended:payload], "big")
    mask = b""
    if second & _MASKED:
        mask = bytes(buffer[payload : payload + _MASK_SIZE])
        payload += _MASK_SIZE
    data = bytes(buffer[payload : payload + min(length, longest)])
    return apply_mask(data, mask) if mask and data else data


def short_control(frame: bytes) -> bytes:
    """A control frame as the engine is to be handed it: of one that is too long the shortest.

    The engine would wait for all of it before it says so, and take a huge one for a message.
    """
    if frame[1] & _LENGTH < _LENGTH_IN_2_BYTES:
        return frame
    return bytes((frame[0], frame[1] & _MASKED | _LENGTH_IN_2_BYTES)) + _126_BYTES


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8, as a text message has to be (RFC 6455 section 5.6)."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def whole_messages(
    buffer: bytes | bytearray, start: int, longest: int, connection: Connection, now: float
) -> tuple[list[Event], int]:
    """Take a client's messages that came in a frame each, up to the first frame of another kind.

    To be called only while the engine is open, between two messages and without an extension.

    Args:
        buffer: what has been received.
        start: where a frame starts in it.
        longest: payload bytes of a message that is accepted.
        connection: whose messages these are.
        now: the time, in seconds since the epoch.

    Returns:
        the messages, no more than a turn is for (`sipws.limits`), and where the first byte stands
        that is not part of one: the end, one more than those, or a frame for the engine, be it
        fragmented, a control frame, wrong, too long or not all there.
    """
    found: list[Event] = []
    size = len(buffer)
    last = size - _SHORTEST
    if size > BYTES_PER_SLICE:
        last = min(last, start + BYTES_PER_SLICE)
    while start <= last:
        first, second, length = _READ_HEADER_2(buffer, start)
        if first != TEXT and first != BINARY:
            break
        if second == _MASKED_IN_2_BYTES and length >= _SHORTEST_IN_2_BYTES:
            mask = start + 4
        elif _MASKED <= second < _MASKED_IN_2_BYTES and len(found) < FRAMES_PER_SLICE:
            length = second - _MASKED
            mask = start + 2
        else:
            break
        payload = mask + _MASK_SIZE
        end = payload + length
        if end > size or length > longest:
            break
        data = apply_mask(buffer[payload:end], buffer[mask:payload])
        if first == TEXT and not (data.isascii() or is_utf8(data)):
            break
        found.append(MessageReceived(connection, now, data, first == TEXT))
        start = end
    return found, start


def unmasked_messages(
    buffer: bytes | bytearray, start: int, longest: int, connection: Connection, now: float
) -> tuple[list[Event], int]:
    """Take a server's messages that came in a frame each; else as `whole_messages`."""
    found: list[Event] = []
    size = len(buffer)
    last = size - _SHORTEST_READ
    if size > BYTES_PER_SLICE:
        last = min(last, start + BYTES_PER_SLICE)
    while start <= last:
        first, second, length = _READ_HEADER_2(buffer, start)
        if first != TEXT and first != BINARY:
            break
        if second == _LENGTH_IN_2_BYTES and length >= _SHORTEST_IN_2_BYTES:
            payload = start + 4
        elif second < _LENGTH_IN_2_BYTES and len(found) < FRAMES_PER_SLICE:
            length = second
            payload = start + 2
        else:
            break
        end = payload + length
        if end > size or length > longest:
            break
        data = bytes(buffer[payload:end])
        if first == TEXT and not (data.isascii() or is_utf8(data)):
            break
        found.append(MessageReceived(connection, now, data, first == TEXT))
        start = end
    return found, start


def whole_control(frame: bytes) -> tuple[int, bytes] | None:
    """A client's control frame, read.

    Args:
        frame: the bytes that `next_frame` found.

    Returns:
        its first byte and its payload; None for what is no control frame, or a wrong one.
    """
    first, length = frame[0], frame[1] - _MASKED
    if not (CLOSE <= first <= PONG and 0 <= length < _LENGTH_IN_2_BYTES):
        return None
    if len(frame) < _SHORTEST:
        # It states more than `next_frame` was to wait for.
        return None
    return first, apply_mask(frame[_SHORTEST:], frame[2:_SHORTEST])


def server_frame(first: int, data: bytes) -> bytes:
    """A message, or a control frame, as a server sends it: in one frame without a mask.

    Args:
        first: its first byte, such as `TEXT`.
        data: the message.
    """
    length = len(data)
    if length < _LENGTH_IN_2_BYTES:
        return bytes((first, length)) + data
    if length <= 0xFFFF:
        return _HEADER_2(first, _LENGTH_IN_2_BYTES, length) + data
    return _HEADER_8(first, _LENGTH_IN_8_BYTES, length) + data


def client_frame(first: int, data: bytes) -> bytes:
    """A message as a client sends it: in one frame, with a mask that nobody can foresee.

    Args:
        first: its first byte, such as `TEXT`.
        data: the message.
    """
    length = len(data)
    mask = urandom(_MASK_SIZE)
    if length < _LENGTH_IN_2_BYTES:
        header = bytes((first, _MASKED | length))
    elif length <= 0xFFFF:
        header = _HEADER_2(first, _MASKED_IN_2_BYTES, length)
    else:
        header = _HEADER_8(first, _MASKED | _LENGTH_IN_8_BYTES, length)
    return b"".join((header, mask, apply_mask(data, mask)))
