"""The TLS alert with the reason of a failed handshake (RFC 8446 section 6.2).

OpenSSL writes the alert into memory, and event loops then drop the connection without sending it:
the peer sees a lost connection only. These contexts send it themselves when a handshake fails.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

_connected: Final[ContextVar[socket.socket | None]] = ContextVar("connected", default=None)
"""The socket of the handshake that this task starts next."""


@contextmanager
def alerted(connected: socket.socket) -> Iterator[None]:
    """Send an alert to the peer if its handshake fails.

    Wrap the call that starts the handshake on the event loop with an `AlertingContext`.

    Args:
        connected: the socket that the event loop gets.
    """
    before = _connected.set(connected)
    try:
        yield
    finally:
        _connected.reset(before)


class _AlertingObject(ssl.SSLObject):
    """The TLS of one connection."""

    outgoing: ssl.MemoryBIO
    """The buffer that OpenSSL writes into."""
    connected: socket.socket | None = None
    """The socket that the alert is sent on; None after the handshake."""

    def do_handshake(self) -> None:
        """Continue the handshake; the event loop calls it."""
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
    """A context that sends alerts for failed handshakes within `alerted`."""

    sslobject_class = _AlertingObject

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any
    ) -> ssl.SSLObject:
        """Start a handshake; the event loop calls it.

        Args:
            incoming: encrypted bytes from the peer.
            outgoing: encrypted bytes to the peer.
            args: as in `ssl.SSLContext.wrap_bio`.
            options: as in `ssl.SSLContext.wrap_bio`.
        """
        started = super().wrap_bio(incoming, outgoing, *args, **options)
        if isinstance(started, _AlertingObject):
            started.outgoing, started.connected = outgoing, _connected.get()
        return started
