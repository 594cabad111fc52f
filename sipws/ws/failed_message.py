"""What an error reports of the message that failed its connection. Pure."""

from dataclasses import replace
from typing import Final

from websockets.frames import Opcode

from sipws.events import LONGEST_CALL_ID, LONGEST_EXCERPT, ErrorKind, ErrorOccurred
from sipws.limits import Limits
from sipws.sip import call_id
from sipws.ws.fragment_limit import PIECE_SIZE
from sipws.ws.frames import OPCODE, payload_begun

LONGEST_LOOK: Final = 4096
"""Bytes of a message that are searched for its Call-ID."""


def begin_of(held: bytes, buffer: bytes | bytearray, start: int, *, compressed: bool) -> bytes:
    """The first bytes of the message that a frame belongs to.

    Args:
        held: what came of the message before the frame, if the frame continues it.
        buffer: what has been received.
        start: offset of the frame in it; the frame may be incomplete.
        compressed: whether the frame's payload may be compressed; then it is left out.

    Returns:
        at most `LONGEST_LOOK` bytes.
    """
    begun = held[:LONGEST_LOOK] if buffer[start] & OPCODE == Opcode.CONT else b""
    return begun if compressed else begun + payload_begun(buffer, start, LONGEST_LOOK - len(begun))


def with_message(failed: ErrorOccurred, begun: bytes, limits: Limits) -> ErrorOccurred:
    """Add the message's beginning, its Call-ID and the name of the exceeded setting to an error.

    Args:
        failed: the error.
        begun: the first bytes of the message, at most `LONGEST_LOOK`.
        limits: the connection's limits.

    Returns:
        the completed error; the same one where its kind is not about a message.
    """
    detail = failed.detail
    match failed.kind:
        case ErrorKind.MESSAGE_TOO_BIG:
            detail += f" (max_message_size = {limits.message_size})"
        case ErrorKind.TOO_MANY_CHUNKS:
            detail += (
                f" (ws_max_msg_chunks = {limits.max_chunks}, and one piece more for each"
                f" {PIECE_SIZE} bytes)"
            )
        case ErrorKind.BAD_UTF8:
            pass
        case _:
            return failed
    # The last line may be incomplete.
    named = call_id(begun[: begun.rfind(b"\n") + 1])
    if named is not None and len(named) > LONGEST_CALL_ID:
        named = None
    return replace(failed, detail=detail, excerpt=begun[:LONGEST_EXCERPT], call_id=named)
