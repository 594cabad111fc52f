"""Messages out of data frames (RFC 6455 section 5.4). Pure.

Fragments are joined as they come, so that many small ones take no more memory than their bytes. The
engine checks the order of the frames.
"""

import codecs
from typing import Final

from websockets.frames import Frame, Opcode

_Utf8Decoder: Final = codecs.getincrementaldecoder("utf-8")


class Reassembly:
    """The message that is under way on one connection."""

    __slots__ = ("_data", "_is_text", "_utf8")

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_text = False
        self._utf8: codecs.IncrementalDecoder | None = None

    def __len__(self) -> int:
        """Bytes of the incomplete message."""
        return len(self._data)

    def first_bytes(self, longest: int) -> bytes:
        """The first bytes of the incomplete message, at most ``longest``."""
        return bytes(self._data[:longest])

    def add(self, frame: Frame) -> tuple[bytes, bool] | None:
        """Take a data frame.

        Args:
            frame: the frame, as the engine returned it.

        Returns:
            with the last frame of a message: the message, and whether it is text; otherwise None.

        Raises:
            UnicodeDecodeError: the message is text and not UTF-8.
        """
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            self._utf8 = _Utf8Decoder() if self._is_text else None
            self._data.clear()
        if self._utf8 is not None:
            # Decoding each fragment finds wrong text before the rest has come.
            self._utf8.decode(frame.data, final=frame.fin)
        self._data += frame.data
        if not frame.fin:
            return None
        message = bytes(self._data)
        self._data.clear()
        self._utf8 = None
        return message, self._is_text
