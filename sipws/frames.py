"""Where WebSocket frames end in a stream (RFC 6455 section 5.2). Pure.

The engine is handed one whole frame at a time, so that a frame's consequences are settled before
the next one is looked at, wherever the network cut the stream. Whether a frame is right is the
engine's to say: only its length is read here.
"""

from typing import Final

_LENGTH: Final = 0x7F
_MASKED: Final = 0x80
_LENGTH_IN_2_BYTES: Final = 126
_MASK_SIZE: Final = 4


def next_frame(buffer: bytes | bytearray, start: int, longest: int) -> int | None:
    """Find the end of the frame that starts at ``start``.

    Args:
        buffer: what has been received.
        start: where the frame starts in it.
        longest: payload bytes that the engine accepts. A frame that states more is handed over
            as soon as its header is there: it is refused for that, and must not be waited for.

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
        extended = header
        header += 2 if length == _LENGTH_IN_2_BYTES else 8
        if size < header:
            return None
        length = int.from_bytes(buffer[extended:header], "big")
    if length > longest:
        return header
    end = header + length + (_MASK_SIZE if second & _MASKED else 0)
    return end if end <= size else None
