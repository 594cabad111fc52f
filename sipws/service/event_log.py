"""Log entries about connections, written by subscribers of the bus.

Messages are not logged, but traced; a registration that was answered is an entry. Entries name
whose the connection is (`sipws.service.connection_users`) and the other connection of a relayed
client. Field names are those of the events.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sipws.bus import Bus, Hook
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ConnectionEvent,
    ErrorOccurred,
    HandshakeFailed,
    MessageSent,
    Superseded,
)
from sipws.masking.handshakes import USUAL, E, Masking
from sipws.request import UpgradeRequest
from sipws.service.connection_users import MOST_NAMES, Registration, Use, Uses

log: Final = logging.getLogger("sipws.connections")

LONGEST_QUOTE: Final = 100
"""Bytes of a message that a line quotes: its start line. JSON quotes more."""

LONGEST_HEADER: Final = 200
"""Characters of a User-Agent, an Origin or a path that an entry has. Those of browsers have up to
150; the rest of a longer one is cut off."""

MOST_NAMED: Final = 4
"""Addresses of record that an entry names, the latest ones; of others it gives the number."""

_is_http: Final = re.compile(rb"[!-~]++ [^\s]++ HTTP/").match


def log_connections(
    bus: Bus, masking: Masking = USUAL, *, all_sent: bool = False
) -> "ConnectionLog | None":
    """Log the start, the registrations, the errors and the end of each connection, as level info.

    Args:
        bus: source of the events.
        masking: removes the credentials of handshakes.
        all_sent: see `Uses`.

    Returns:
        the log; None if level info is not logged. Then nothing is subscribed, and no entry built.
    """
    if not log.isEnabledFor(logging.INFO):
        return None
    return ConnectionLog(bus, masking, all_sent=all_sent)


class ConnectionLog:
    """Writes the entries about the connections of a bus.

    Args:
        bus: source of the events.
        masking: removes the credentials of handshakes.
        all_sent: see `Uses`.
    """

    def __init__(self, bus: Bus, masking: Masking = USUAL, *, all_sent: bool = False) -> None:
        self.masking = masking
        """Removes the credentials of handshakes. It may be replaced at any time."""
        self.uses = Uses(bus, self._registered, all_sent=all_sent)
        """What the open connections were used for."""

        def masked(write: Callable[[E], None]) -> Callable[[E], None]:
            return lambda event: write(self.masking.event(event))

        self._subscriptions: list[tuple[Hook[Any], Callable[[Any], object]]] = [
            # The lines of these two quote no handshake.
            (bus.accepted, self._accepted),
            (bus.connected, self._connected),
            (bus.connect_failed, masked(self._connect_failed)),
            (bus.handshake_failed, masked(self._handshake_failed)),
            (bus.error_occurred, masked(self._error_occurred)),
            (bus.superseded, self._superseded),
            (bus.closed, masked(self._closed)),
            # Apart from the subscriber that writes the entry: if that one raises, it is forgotten
            # too.
            (bus.closed, self.uses.forget),
        ]
        for hook, subscriber in self._subscriptions:
            hook.subscribe(subscriber)

    def close(self) -> None:
        """Write no more entries."""
        for hook, subscriber in self._subscriptions:
            hook.unsubscribe(subscriber)
        self.uses.close()

    # Subscribers.

    def _accepted(self, event: Accepted) -> None:
        _write("accepted", event, f"connected to {event.connection.listener}")

    def _connected(self, event: Connected) -> None:
        destination = event.connection.destination
        text = f"connected by us to {destination}"
        _write("connected", event, text, destination=destination)

    def _connect_failed(self, event: ConnectFailed) -> None:
        self._write_named(
            "connect-failed",
            event,
            f"no connection to {event.connection.destination}: {event.kind}: {event.detail}",
            destination=event.connection.destination,
            kind=event.kind.value,
            detail=event.detail,
        )

    def _handshake_failed(self, event: HandshakeFailed) -> None:
        text = f"handshake failed: {event.kind}: {event.detail}"
        fields = {"kind": event.kind.value, "detail": event.detail}
        headers = _of_request(event.request)
        said = [f"{_LABELS[name]} {value!r}" for name, value in headers.items()]
        self._write_named("handshake-failed", event, "; ".join([text, *said]), **fields, **headers)

    def _registered(self, event: MessageSent, change: Registration | None) -> None:
        if change is None:
            text = f"more than {MOST_NAMES} addresses registered; further ones are not logged"
            _write("more-registered", event, text)
            return
        [aor] = self._masked(event.connection, [change.aor])
        if change.expires == 0:
            _write("unregistered", event, f"unregistered {aor}", aor=aor)
            return
        fields = {} if change.expires is None else {"expires": change.expires}
        _write("registered", event, f"registered as {aor}", aor=aor, **fields)

    def _error_occurred(self, event: ErrorOccurred) -> None:
        text = f"{event.kind}: {event.detail}"
        fields = {"kind": event.kind.value, "detail": event.detail}
        if event.call_id is not None:
            fields["call_id"] = _readable(event.call_id)
            text += f"; Call-ID {fields['call_id']}"
        if event.excerpt:
            fields["excerpt"] = _readable(event.excerpt)
            text += f"; the message begins {_readable(event.excerpt[:LONGEST_QUOTE])!r}"
        self._write_named("error", event, text, **fields)

    def _superseded(self, event: Superseded) -> None:
        [instance] = self._masked(event.connection, [event.instance])
        text = f"superseded: the phone has registered on connection #{event.by}"
        self._write_named("superseded", event, text, instance=instance, by=event.by)

    def _closed(self, event: Closed) -> None:
        if not event.accepted:
            # The failed handshake is logged already.
            return
        text = (
            f"closed by {event.closed_by} with {event.code} {event.reason!r} after"
            f" {event.duration:.1f} s, {event.messages_in} messages in and {event.messages_out} out"
        )
        self._write_named(
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

    def _write_named(self, name: str, event: ConnectionEvent, text: str, **fields: Any) -> None:
        """Write an entry that names the user and the latest call of the connection."""
        use = self.uses.of(event.connection)
        if use is not None:
            text += self._name(use, event.connection, fields)
        _write(name, event, text, **fields)

    def _name(self, use: Use, connection: Connection, fields: dict[str, Any]) -> str:
        """Add the fields that name a user and a call; returns the text that does."""
        names = [*use.names][: -MOST_NAMED - 1 : -1] if use.names is not None else []
        texts = names or ([use.user] if use.user else [])
        call_id = use.call_id if "call_id" not in fields else None
        *named, found = self._masked(connection, [*texts, call_id or ""])
        said = ""
        if names and use.names is not None:
            fields["aor"] = named[0]
            more = len(use.names) - len(names)
            said = f" ({', '.join(named)}{f' and {more} more' if more else ''})"
        elif named:
            fields["user"] = named[0]
            said = f" (From {named[0]})"
        if call_id is not None:
            fields["call_id"] = found
            said += f"; last Call-ID {found}"
        return said

    def _masked(self, connection: Connection, texts: Sequence[str]) -> Sequence[str]:
        """Mask credentials of the handshake in texts of SIP, none of which has a line end."""
        request = connection.request
        if request is None or self.masking.handshake(request.raw) is request.raw:
            # Nearly no handshake has one, and reading texts takes longer.
            return texts
        masked = self.masking.about(connection, "\n".join(texts)).split("\n")
        return masked if len(masked) == len(texts) else ["***"] * len(texts)


_LABELS: Final = {"path": "path", "origin": "Origin", "user_agent": "User-Agent"}
"""The fields about a refused request, as the text names them."""


def _of_request(request: bytes) -> dict[str, str]:
    """What helps to find the sender of a refused request.

    Args:
        request: as far as it was received, masked.
    """
    read = UpgradeRequest(request)
    values = {
        "path": read.path if _is_http(request) else "",
        "origin": next(iter(read.header("origin")), ""),
        "user_agent": next(iter(read.header("user-agent")), ""),
    }
    return {name: _cut(value) for name, value in values.items() if value}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_HEADER else f"{text[:LONGEST_HEADER]}…"


def _write(name: str, event: ConnectionEvent, text: str, **fields: Any) -> None:
    connection = event.connection
    extra = {
        "event": name,
        "connection": connection.id,
        "peer": str(connection.peer),
        "local": str(connection.local),
        "listener": str(connection.listener),
        **fields,
        **_relay(connection),
    }
    if connection.client is not None:
        text += f"; for {connection.client} #{connection.relayed_with}"
    elif connection.relayed_with is not None:
        text += f"; upstream #{connection.relayed_with}"
    log.info("%s #%d %s", connection.peer, connection.id, text, extra=extra)


def _relay(connection: Connection) -> Mapping[str, Any]:
    """The fields that name the other connection of a relayed client."""
    fields: dict[str, Any] = {}
    if connection.relayed_with is not None:
        fields["relayed_with"] = connection.relayed_with
    if connection.client is not None:
        fields["client"] = str(connection.client)
    return fields


def _readable(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
