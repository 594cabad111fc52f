"""The phases of a connection."""

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """The phase of a session; each has its own time limit."""

    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    """A close frame or a refusal was sent; the session waits for the peer to close its side."""
    CLOSED = auto()


# Each message reads the phase. A lookup in the class costs ten times as much as a global name.
HANDSHAKE: Final = Phase.HANDSHAKE
OPEN: Final = Phase.OPEN
CLOSING: Final = Phase.CLOSING
CLOSED: Final = Phase.CLOSED
