"""Where a connection stands."""

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """Where a session stands; each has its own time limit."""

    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    """A close frame or a refusal was sent; the peer is to close its side."""
    CLOSED = auto()


# Every message asks for the phase, and a member looked up in its class costs ten times a name.
HANDSHAKE: Final = Phase.HANDSHAKE
OPEN: Final = Phase.OPEN
CLOSING: Final = Phase.CLOSING
CLOSED: Final = Phase.CLOSED
