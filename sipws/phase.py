"""Where a connection stands."""

from enum import Enum, auto


class Phase(Enum):
    """Where a session stands; each has its own time limit."""

    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    """A close frame or a refusal was sent; the peer is to close its side."""
    CLOSED = auto()
