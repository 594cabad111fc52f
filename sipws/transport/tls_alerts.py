"""The alert that tells the peer why its TLS handshake failed (RFC 8446 section 6.2).

OpenSSL writes it into memory, and event loops then drop the connection with the alert unsent: all
that the peer would learn is that the connection is gone. So our contexts send it themselves, at the
moment in which a handshake fails.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

_connected: Final[ContextVar[socket.socket | None]] = ContextVar("connected", default=None)
"""The socket of the handshake that this task is about to begin."""


@contextmanager
def alerted(connected: socket.socket) -> Iterator[None]:
    """Have the peer told if its handshake fails.

    To be put around whatever has the event loop begin it, with an `AlertingContext`.

    Args:
        connected: the socket that the event loop is given.
    """
    before = _connected.set(connected)
    try:
        yield
    finally:
        _connected.reset(before)


class _AlertingObject(ssl.SSLObject):
    """The TLS of one connection."""

    outgoing: ssl.MemoryBIO
    """What it writes into."""
    connected: socket.socket | None = None
    """Where that goes to."""

    def do_handshake(self) -> None:
        """Go on with the handshake, as the event loop asks for it."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.connected is not None and (unsent := self.outgoing.read()):
                with suppress(OSError):
                    self.connected.send(unsent)
            raise
        else:
            self.connected = None


class AlertingContext(ssl.SSLContext):
    """A context whose handshakes tell why they fail, within `alerted`; else it is as any other."""

    sslobject_class = _AlertingObject

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any
    ) -> ssl.SSLObject:
        """Begin a handshake, as the event loop asks for it."""
        begun = super().wrap_bio(incoming, outgoing, *args, **options)
        if isinstance(begun, _AlertingObject):
            begun.outgoing, begun.connected = outgoing, _connected.get()
        return begun
