"""What an error reports of the message that failed its connection. Pure."""

from dataclasses import replace
from typing import Final

from websockets.frames import Opcode

from sipws.events import LONGEST_CALL_ID, LONGEST_EXCERPT, ErrorKind, ErrorOccurred
from sipws.limits import Limits
from sipws.sip import call_id
from sipws.ws.fragment_limit import PIECE_SIZE
from sipws.ws.frames import OPCODE, first_of_payload

LONGEST_LOOK: Final = 4096
"""Bytes of a message that are searched for its Call-ID."""


def first_bytes(held: bytes, buffer: bytes | bytearray, start: int, *, compressed: bool) -> bytes:
    """The first bytes of the message that a frame belongs to.

    Args:
        held: what came of the message before the frame, if the frame continues it.
        buffer: what has been received.
        start: offset of the frame in it; the frame may be incomplete.
        compressed: whether the frame's payload may be compressed; then it is left out.

    Returns:
        at most `LONGEST_LOOK` bytes.
    """
    first = held[:LONGEST_LOOK] if buffer[start] & OPCODE == Opcode.CONT else b""
    return (
        first if compressed else first + first_of_payload(buffer, start, LONGEST_LOOK - len(first))
    )


def with_message(failed: ErrorOccurred, first: bytes, limits: Limits) -> ErrorOccurred:
    """Add the message's beginning, its Call-ID and the name of the exceeded setting to an error.

    Args:
        failed: the error.
        first: the first bytes of the message, at most `LONGEST_LOOK`.
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
    named = call_id(first[: first.rfind(b"\n") + 1])
    if named is not None and len(named) > LONGEST_CALL_ID:
        named = None
    return replace(failed, detail=detail, excerpt=first[:LONGEST_EXCERPT], call_id=named)
