"""Whole WebSocket frames in a stream (RFC 6455 section 5.2). Pure.

websockets' engine gets one whole frame at a time, so that a frame has its full effect before the
next one is read, wherever the network cut the stream. The engine checks the frames: `next_frame`
reads only a frame's length. `length_problem` checks the form of that length, which the engine does
not.

Nearly all frames are whole, short, correct messages. `client_messages` and `server_messages` take
these without the engine and leave every other frame to it. `whole_control` does the same for a
client's control frames. `server_frame` and `client_frame` make what is sent. Property tests compare
all of them with the engine.
"""

from collections.abc import Callable
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
"""The bit of the opcode that is set in control frames and clear in data frames."""

OPCODE: Final = 0x0F
"""The bits of a frame's first byte that are its opcode."""

_RESERVED: Final = 0x70
_LENGTH: Final = 0x7F
_MASKED: Final = 0x80
_LENGTH_IN_2_BYTES: Final = 126
_LENGTH_IN_8_BYTES: Final = 127
_MASK_SIZE: Final = 4
_SHORTEST: Final = 2 + _MASK_SIZE
_SHORTEST_READ: Final = 4
"""Bytes that `_READ_HEADER_2` reads; the engine takes unmasked frames that are shorter."""
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
        start: offset of the frame in it.
        longest: payload bytes that the engine accepts. Of a longer frame only the header is taken:
            the engine rejects it for its length. The same holds for a control frame of more than
            125 bytes and for a length in a wrong form (`length_problem`).

    Returns:
        the offset behind the bytes for the engine; None while they are incomplete.
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
    """Whether a length must be written in a field of ``size`` bytes, 2 or 8."""
    if size == 2:
        return length >= _SHORTEST_IN_2_BYTES
    return _SHORTEST_IN_8_BYTES <= length <= _LONGEST_IN_8_BYTES


def length_problem(frame: bytes) -> str | None:
    """Check the form of a frame's length; the engine accepts any form.

    RFC 6455 section 5.2: the length has the minimal number of bytes, and the most significant bit
    of 8 bytes is 0. A proxy before us could read another form differently.

    Args:
        frame: the bytes that `next_frame` found.

    Returns:
        the problem as a text; None for a correct form.
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


def first_of_payload(buffer: bytes | bytearray, start: int, longest: int) -> bytes:
    """The first bytes of a data frame's payload; the frame may be incomplete.

    Args:
        buffer: what has been received.
        start: offset of the frame in it.
        longest: maximum number of bytes to return.

    Returns:
        the bytes, unmasked; none of a control frame or of a frame that an extension has changed.
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
    """A control frame for the engine; a frame that is too long becomes the shortest such frame.

    The engine would wait for the whole frame, and would report a huge one as a message's error.
    """
    if frame[1] & _LENGTH < _LENGTH_IN_2_BYTES:
        return frame
    return bytes((frame[0], frame[1] & _MASKED | _LENGTH_IN_2_BYTES)) + _126_BYTES


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8, as a text message must be (RFC 6455 section 5.6)."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


TakeMessages = Callable[[bytes | bytearray, int, int, Connection, float], tuple[list[Event], int]]
"""The type of `client_messages` and `server_messages`."""


def _take_messages_of(mask_size: int) -> TakeMessages:
    """Make `client_messages` or `server_messages`: the masks of a side are known beforehand.

    Args:
        mask_size: bytes of the mask in each frame of the side, 4 or 0.
    """
    masked = _MASKED if mask_size else 0
    in_2_bytes = masked | _LENGTH_IN_2_BYTES
    shortest = _SHORTEST if mask_size else _SHORTEST_READ

    def whole_messages(
        buffer: bytes | bytearray, start: int, longest: int, connection: Connection, now: float
    ) -> tuple[list[Event], int]:
        """Take the peer's messages that came in one frame each, up to the first other frame.

        Call this only while the engine is open, between two messages and without an extension.

        Args:
            buffer: what has been received.
            start: offset of a frame in it.
            longest: payload bytes of a message that is accepted.
            connection: the connection of the messages.
            now: the time, in seconds since the epoch.

        Returns:
            the messages, at most a time slice of them (`sipws.limits`), and the offset behind them.
            There is the end of the buffer, one message more than the time slice, or a frame for the
            engine: fragmented, a control frame, wrong, too long or incomplete.
        """
        found: list[Event] = []
        size = len(buffer)
        last = size - shortest
        if size > BYTES_PER_SLICE:
            last = min(last, start + BYTES_PER_SLICE)
        while start <= last:
            first, second, length = _READ_HEADER_2(buffer, start)
            if first != TEXT and first != BINARY:
                break
            if second == in_2_bytes and length >= _SHORTEST_IN_2_BYTES:
                mask = start + 4
            elif masked <= second < in_2_bytes and len(found) < FRAMES_PER_SLICE:
                length = second - masked
                mask = start + 2
            else:
                break
            payload = mask + mask_size
            end = payload + length
            if end > size or length > longest:
                break
            if mask_size:
                data = apply_mask(buffer[payload:end], buffer[mask:payload])
            else:
                data = bytes(buffer[payload:end])
            if first == TEXT and not (data.isascii() or is_utf8(data)):
                break
            found.append(MessageReceived(connection, now, data, first == TEXT))
            start = end
        return found, start

    return whole_messages


client_messages: Final = _take_messages_of(_MASK_SIZE)
"""Takes the messages of a client, whose frames have a mask (RFC 6455 section 5.1)."""

server_messages: Final = _take_messages_of(0)
"""Takes the messages of a server, whose frames have none."""


def whole_control(frame: bytes) -> tuple[int, bytes] | None:
    """Read a client's control frame.

    Args:
        frame: the bytes that `next_frame` found.

    Returns:
        its first byte and its payload; None for any other frame and for a wrong control frame.
    """
    first, length = frame[0], frame[1] - _MASKED
    if not (CLOSE <= first <= PONG and 0 <= length < _LENGTH_IN_2_BYTES):
        return None
    if len(frame) < _SHORTEST:
        # Its stated length is more than `next_frame` accepts.
        return None
    return first, apply_mask(frame[_SHORTEST:], frame[2:_SHORTEST])


def server_frame(first: int, data: bytes) -> bytes:
    """Make a message or a control frame of a server: one frame without a mask.

    Args:
        first: the frame's first byte, such as `TEXT`.
        data: the payload.
    """
    length = len(data)
    if length < _LENGTH_IN_2_BYTES:
        return bytes((first, length)) + data
    if length <= 0xFFFF:
        return _HEADER_2(first, _LENGTH_IN_2_BYTES, length) + data
    return _HEADER_8(first, _LENGTH_IN_8_BYTES, length) + data


def client_frame(first: int, data: bytes) -> bytes:
    """Make a message of a client: one frame with an unpredictable mask (RFC 6455 section 5.3).

    Args:
        first: the frame's first byte, such as `TEXT`.
        data: the payload.
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
