"""How many pieces a message comes in (OpenSIPS ``ws_max_msg_chunks``). Pure.

A message is cut into pieces where a TCP read ends within it and where a WebSocket fragment does; a
read that ends with a fragment is one cut. A peer that sends a message in many small pieces makes
every other connection wait for the work that each of them is; one with a slow network does not: its
pieces are as large as its network's packets. So each `PIECE_SIZE` bytes of the message allow for
one piece more.
"""

from typing import Final

PIECE_SIZE: Final = 512
"""Bytes that a piece has on any network: the least segment of TCP over IPv4 carries 536."""


class Pieces:
    """Counts the pieces of the message that is under way.

    Args:
        allowed: pieces that a message may have, the last one included, however small they are; 0
            counts nothing.
    """

    __slots__ = ("_allowed", "count")

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self.count = 0

    def add(self, size: int) -> str | None:
        """Another piece has come, and it is not the last.

        Args:
            size: bytes of the message that have come until now.

        Returns:
            what is wrong, for a person to read; None while nothing is.
        """
        if not self._allowed:
            return None
        self.count += 1
        # What is to come is a piece as well.
        if self.count < self._allowed + size // PIECE_SIZE:
            return None
        return f"{self.count} pieces were {size} bytes of a message, and not all of it"

    def start_anew(self) -> None:
        """A message is complete."""
        self.count = 0
