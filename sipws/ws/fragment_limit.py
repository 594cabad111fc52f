"""Limits the number of pieces that a message comes in (OpenSIPS ``ws_max_msg_chunks``). Pure.

A message is cut into pieces where a TCP read ends within it and where a WebSocket fragment ends. A
read that ends with a fragment is one cut. Each piece is work, so that many small pieces delay all
other connections. A slow network sends few: its pieces are as large as its packets. So each
`PIECE_SIZE` bytes of a message allow for one more piece.
"""

from typing import Final

PIECE_SIZE: Final = 512
"""Bytes that a piece has on any network: the smallest TCP segment over IPv4 carries 536."""


class FragmentLimit:
    """Counts the pieces of the message that is under way.

    Args:
        allowed: pieces of any size that a message may have, the last one included; 0 disables the
            limit.
    """

    __slots__ = ("_allowed", "count")

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self.count = 0
        """Pieces until now."""

    def add(self, size: int) -> str | None:
        """Count a piece that is not the last of its message.

        Args:
            size: bytes of the message that have come until now.

        Returns:
            the problem as a text; None while the message is within the limit.
        """
        if not self._allowed:
            return None
        self.count += 1
        # The rest of the message is at least one more piece.
        if self.count < self._allowed + size // PIECE_SIZE:
            return None
        return f"{self.count} pieces were {size} bytes of a message, and not all of it"

    def reset(self) -> None:
        """Start with the next message."""
        self.count = 0
