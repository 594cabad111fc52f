"""Log entries about connections, written by subscribers of the bus.

Messages are not logged, but traced. Field names are those of the events.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from sipws.bus import Bus
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    ConnectionEvent,
    ErrorOccurred,
    HandshakeFailed,
)
from sipws.masking.handshakes import USUAL, E, Masking

log: Final = logging.getLogger("sipws.connections")

LONGEST_QUOTE: Final = 100
"""Bytes of a message that a line quotes: its start line. JSON quotes more."""


def log_connections(bus: Bus, masking: Masking = USUAL) -> bool:
    """Log the start, the errors and the end of each connection, with level info.

    Args:
        bus: source of the events.
        masking: removes the credentials of handshakes.

    Returns:
        whether level info is logged. Otherwise nothing is subscribed, and no entry built.
    """
    if not log.isEnabledFor(logging.INFO):
        return False

    def masked(write: Callable[[E], None]) -> Callable[[E], None]:
        return lambda event: write(masking.event(event))

    # The lines of these two quote no handshake.
    bus.accepted.subscribe(_accepted)
    bus.connected.subscribe(_connected)
    bus.connect_failed.subscribe(masked(_connect_failed))
    bus.handshake_failed.subscribe(masked(_handshake_failed))
    bus.error_occurred.subscribe(masked(_error_occurred))
    bus.closed.subscribe(masked(_closed))
    return True


def _accepted(event: Accepted) -> None:
    listener = event.connection.listener
    _log("accepted", event, f"connected to {listener}")


def _connected(event: Connected) -> None:
    destination = event.connection.destination
    _log("connected", event, f"connected by us to {destination}", destination=destination)


def _connect_failed(event: ConnectFailed) -> None:
    _log(
        "connect-failed",
        event,
        f"no connection to {event.connection.destination}: {event.kind}: {event.detail}",
        destination=event.connection.destination,
        kind=event.kind.value,
        detail=event.detail,
    )


def _handshake_failed(event: HandshakeFailed) -> None:
    text = f"handshake failed: {event.kind}: {event.detail}"
    _log("handshake-failed", event, text, kind=event.kind.value, detail=event.detail)


def _error_occurred(event: ErrorOccurred) -> None:
    text = f"{event.kind}: {event.detail}"
    fields = {"kind": event.kind.value, "detail": event.detail}
    if event.call_id is not None:
        fields["call_id"] = _readable(event.call_id)
        text += f"; Call-ID {fields['call_id']}"
    if event.excerpt:
        fields["excerpt"] = _readable(event.excerpt)
        text += f"; the message begins {_readable(event.excerpt[:LONGEST_QUOTE])!r}"
    _log("error", event, text, **fields)


def _closed(event: Closed) -> None:
    if not event.accepted:
        # The failed handshake is logged already.
        return
    text = (
        f"closed by {event.closed_by} with {event.code} {event.reason!r} after"
        f" {event.duration:.1f} s, {event.messages_in} messages in and {event.messages_out} out"
    )
    _log(
        "closed",
        event,
        text,
        code=event.code,
        reason=event.reason,
        closed_by=event.closed_by.value,
        clean=event.clean,
        duration=round(event.duration, 3),
        messages_in=event.messages_in,
        messages_out=event.messages_out,
        bytes_in=event.bytes_in,
        bytes_out=event.bytes_out,
    )


def _log(name: str, event: ConnectionEvent, text: str, **fields: Any) -> None:
    connection = event.connection
    extra = {
        "event": name,
        "connection": connection.id,
        "peer": str(connection.peer),
        "local": str(connection.local),
        "listener": str(connection.listener),
        **fields,
    }
    log.info("%s #%d %s", connection.peer, connection.id, text, extra=extra)


def _readable(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
