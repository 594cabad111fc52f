"""The payload of each event in Homer: a table of parts, and two ways to write them.

The parts of OpenSIPS come first, with its names, texts and order (proto_ws with proto_hep, 3.6.8).
Parts that OpenSIPS does not send follow. Their names have no hyphen: homer-app searches no field
with one. The first of them, ``event``, is the label that Homer shows. ``homer5`` text has only the
parts of OpenSIPS.

To change what a packet says, change its function here; to trace another event, add a row.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, Final, Literal, NamedTuple

from sipws.address import Address
from sipws.events import (
    ABNORMAL,
    LONGEST_EXCERPT,
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ConnectionEvent,
    ConnectStarted,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    Side,
    Superseded,
)
from sipws.printable import json_text, lines, on_one_line
from sipws.request import UpgradeRequest, status_of
from sipws.tracing.losses import Loss
from sipws.tracing.messages import what_stands_in_front

LONGEST_LINE: Final = 1_000
"""Characters of a log line, which is sent once for each call that used a connection."""

MOST_CALLS: Final = 16
"""Calls that the end of a connection names."""

Part = tuple[str, str]

Keys = Literal["underscore", "hyphen"]
"""How names of several words are written where they are not OpenSIPS': ``Close_Code``, which Homer
searches, or ``Close-Code``."""


class Parts(NamedTuple):
    """The parts of one packet's payload."""

    opensips: tuple[Part, ...]
    """The parts that OpenSIPS sends, in its order."""

    more: tuple[Part, ...] = ()
    """The parts that it does not send."""

    def with_parts(self, more: tuple[Part, ...]) -> "Parts":
        """Return these parts and further ones that OpenSIPS does not send."""
        return self._replace(more=self.more + more)

    def shortened(self, longest: int) -> "Parts":
        """Return these parts with long texts cut and marked.

        Args:
            longest: characters that each text keeps.
        """

        def cut(part: Part) -> Part:
            name, text = part
            if len(text) <= longest:
                return part
            return name, f"{text[:longest]}… ({len(text)} characters)"

        return Parts(tuple(map(cut, self.opensips)), tuple(map(cut, self.more)))


def _accepted(event: Accepted) -> Parts:
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "ACCEPTED"),
            ("Ws-Request", _text(event.request)),
            ("Status", "SUCCESS"),
            ("Ws-Reply", _text(event.reply)),
            ("Message", "Connection accepted..."),
        ),
        (_label(event.connection, "ACCEPTED"), *_exchange(event.request, event.reply)),
    )


def _connected(event: Connected) -> Parts:
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "CONNECTED"),
            ("Ws-Request", _text(event.request)),
            ("Status", "SUCCESS"),
            ("Ws-Reply", _text(event.reply)),
            ("Message", "Successfully connected..."),
        ),
        (_label(event.connection, "CONNECTED"), *_exchange(event.request, event.reply)),
    )


def _handshake_failed(event: HandshakeFailed) -> Parts:
    ours = event.connection.opened_by is Side.LOCAL
    status = status_of(event.reply) or 0
    # An answer may be 101 and wrong all the same.
    outcome = (
        f"REFUSED {status}" if status >= HTTPStatus.MULTIPLE_CHOICES else f"FAILED {event.kind}"
    )
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "CONNECTED" if ours else "ACCEPTED"),
            ("Ws-Request", _text(event.request)),
            ("Status", "FAILURE"),
            ("Ws-Reply", _text(event.reply)),
            ("Message", "Failed to connect..." if ours else "Failed to accept connection..."),
        ),
        (
            _label(event.connection, outcome),
            ("Error", event.kind),
            ("Error_Detail", event.detail),
            *_exchange(event.request, event.reply),
            *_destination(event.connection),
        ),
    )


def _connect_started(event: ConnectStarted) -> Parts:
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "CONNECTING"),
            ("Message", "Connecting..."),
        ),
        (_label(event.connection, "CONNECTING"), *_destination(event.connection)),
    )


def _connect_failed(event: ConnectFailed) -> Parts:
    # There is neither request nor reply: these parts are left out, as in a close.
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "CONNECTED"),
            ("Status", "FAILURE"),
            ("Message", "Failed to connect..."),
        ),
        (
            _label(event.connection, f"FAILED {event.kind}"),
            ("Error", event.kind),
            ("Error_Detail", event.detail),
            *_destination(event.connection),
        ),
    )


def _error_occurred(event: ErrorOccurred) -> Parts:
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "ERROR"),
            ("Status", "FAILURE"),
            ("Message", event.detail),
        ),
        (_label(event.connection, f"ERROR {event.kind}"), ("Error", event.kind), *_quoted(event)),
    )


def _superseded(event: Superseded) -> Parts:
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "SUPERSEDED"),
            ("Status", "FAILURE"),
            ("Message", f"the phone has registered on connection {event.by}"),
        ),
        (
            _label(event.connection, "SUPERSEDED"),
            ("Instance", event.instance),
            ("Superseded_By", str(event.by)),
        ),
    )


def _closed(event: Closed) -> Parts:
    message = event.reason or f"closed by {_CLOSED_BY[event.closed_by]} with code {event.code}"
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "CLOSED"),
            ("Status", "SUCCESS" if event.clean else "FAILURE"),
            ("Message", message),
        ),
        (
            _label(event.connection, f"CLOSED {event.code}"),
            ("Close_Code", str(event.code)),
            # Without a close frame the reason is ours, and already the message.
            ("Close_Reason", event.reason if event.code != ABNORMAL else ""),
            ("Closed_By", event.closed_by),
            ("Duration", f"{event.duration:.3f}"),
            ("Messages_In", str(event.messages_in)),
            ("Messages_Out", str(event.messages_out)),
            ("Bytes_In", str(event.bytes_in)),
            ("Bytes_Out", str(event.bytes_out)),
        ),
    )


def no_sip(event: MessageReceived | MessageSent, masked: Callable[[str], str]) -> Parts:
    """The parts of a message that is not SIP; sent as SIP, Homer would drop it.

    Args:
        event: the event with the message.
        masked: removes credentials from a quotation of it.
    """
    was = "received" if isinstance(event, MessageReceived) else "sent"
    why = what_stands_in_front(event.data)
    said = f"a message was {was} that is not SIP" + (f": {why}" if why else "")
    return _about_message(event, "no-sip", said, masked)


def broken_sip(
    event: MessageReceived | MessageSent,
    why: str,
    found: bytes | None,
    masked: Callable[[str], str],
) -> Parts:
    """The parts of a SIP message that Homer drops, or files under another Call-ID.

    Args:
        event: the event with the message.
        why: what is wrong with it.
        found: its Call-ID, if it has one.
        masked: removes credentials from a quotation of it.
    """
    was = "received" if isinstance(event, MessageReceived) else "sent"
    said = masked(f"a SIP message was {was} that collectors drop or misfile: {why}")
    parts = _about_message(event, "broken-sip", said, masked)
    if found is not None:
        parts = parts.with_parts((("Call_ID", masked(_text(found[:LONGEST_EXCERPT]))),))
    return parts


def _about_message(
    event: MessageReceived | MessageSent, error: str, said: str, masked: Callable[[str], str]
) -> Parts:
    return Parts(
        (
            ("Protocol", _protocol(event.connection)),
            ("Event", "MESSAGE"),
            ("Status", "FAILURE"),
            ("Message", said),
        ),
        (
            _label(event.connection, f"MESSAGE {error}"),
            ("Error", error),
            ("Ws_Message", masked(_text(event.data)[:LONGEST_EXCERPT])),
            ("Ws_Message_Bytes", str(len(event.data))),
        ),
    )


def lost(loss: Loss) -> Parts:
    """The parts of a report to a destination about packets that it did not get."""
    return Parts(
        (
            ("Protocol", "HEP"),
            ("Event", "LOST"),
            ("Status", "FAILURE"),
            ("Message", str(loss)),
        ),
        (
            ("event", f"HEP LOST {loss.causes.total()}"),
            ("Packets", str(loss.causes.total())),
            ("From", f"{loss.since:.0f}"),
            ("To", f"{loss.until:.0f}"),
            *((("Most_Of", loss.whose),) if loss.whose else ()),
        ),
    )


def as_log_lines(event: ErrorOccurred | Closed, calls: Iterable[bytes]) -> Iterator[bytes]:
    """Write an end or an error as a line for the display of each call that used the connection.

    The lines differ: heplify-server with ``Dedup`` stores one of equal payloads.

    Args:
        event: the end or the error.
        calls: the ids of the calls.
    """
    connection = event.connection
    source, destination = connection.peer, connection.local
    if connection.opened_by is Side.LOCAL:
        source, destination = destination, source
    who = f"WebSocket connection {connection.id} {source} > {destination}"
    said = ""
    match event:
        case ErrorOccurred():
            said = f"{event.kind}: {event.detail}"
        case Closed():
            said = (
                f"closed {event.code} by {_CLOSED_BY[event.closed_by]} after {event.duration:.3f} s"
            )
            said += f": {event.reason}" if event.reason else ""
    said = said[:LONGEST_LINE]
    for call in calls:
        line = f"{who} (Call-ID {_text(call)}) {said}"
        yield on_one_line(line[:LONGEST_LINE])[:LONGEST_LINE].encode()


def named_calls(calls: Iterable[bytes]) -> str:
    """The ids of the latest calls of a connection, as one text that a search finds each of.

    Args:
        calls: the ids, the latest at the end.
    """
    return " ".join(map(_text, list(calls)[-MOST_CALLS:]))


_CLOSED_BY: Final = {"peer": "the peer", "local": "us"}

PAYLOADS: Final[dict[type[ConnectionEvent], Callable[[Any], Parts]]] = {
    ConnectStarted: _connect_started,
    ConnectFailed: _connect_failed,
    Accepted: _accepted,
    Connected: _connected,
    HandshakeFailed: _handshake_failed,
    ErrorOccurred: _error_occurred,
    Superseded: _superseded,
    Closed: _closed,
}
"""The events that are traced as network events (HEP protocol type 0x59), and their parts."""


def as_json(parts: Parts, keys: Keys = "underscore") -> bytes:
    """Write parts as one JSON object, as OpenSIPS does with ``homer5_on=0`` (cJSON's layout).

    PostgreSQL accepts it as jsonb, and nothing in it acts on a terminal; see `sipws.printable`.

    Args:
        parts: the parts; those of OpenSIPS come first.
        keys: how the names of the other parts are written.
    """
    name_of = _NAMES[keys]
    members = [_name(name) + json_text(text) for name, text in parts.opensips]
    members += [name_of(name) + json_text(text) for name, text in parts.more]
    return ("{\n\t" + ",\n\t".join(members) + _END).encode()


def with_members(payload: bytes, more: tuple[Part, ...], keys: Keys) -> bytes:
    """Return what `as_json` writes of parts that end in ``more``, from what it wrote without.

    Args:
        payload: the JSON without these parts.
        more: the parts that follow.
        keys: how their names are written.
    """
    return payload[: -len(_END)] + _ending(more, keys)


_END: Final = "\n}"


@lru_cache
def _ending(more: tuple[Part, ...], keys: Keys) -> bytes:
    # The events of a relayed connection end alike.
    name_of = _NAMES[keys]
    members = "".join(f",\n\t{name_of(name)}{json_text(text)}" for name, text in more)
    return (members + _END).encode()


@cache
def _name(name: str) -> str:
    # There are some forty names.
    return f"{json_text(name)}:\t"


@cache
def _hyphened(name: str) -> str:
    return _name(name.replace("_", "-"))


_NAMES: Final[dict[Keys, Callable[[str], str]]] = {"underscore": _name, "hyphen": _hyphened}


def as_homer5(parts: Parts, delimiter: str = ":") -> bytes:
    """Join the values of OpenSIPS' parts, as it does with ``homer5_on=1`` (``homer5_delim``).

    Line ends are kept, because handshakes have them; other control characters are escaped.
    """
    return delimiter.join(lines(text) for _, text in parts.opensips).encode()


def _protocol(connection: Connection) -> str:
    return connection.listener.proto.upper()


def _label(connection: Connection, what: str) -> Part:
    """What Homer writes at the arrow of an event in a flow; without it, ``generic``."""
    return "event", f"{_protocol(connection)} {what}"


def _exchange(request: bytes, reply: bytes) -> tuple[Part, ...]:
    """The parts of a handshake that one searches for, without those that are missing.

    OpenSIPS' ``Ws-Request`` and ``Ws-Reply`` hold them too, but Homer searches neither.
    """
    found: dict[str, str] = {}
    if resource := UpgradeRequest(request).target:
        found["Resource"] = resource
    for header in _SEARCHED.finditer(request):
        if text := _text(header[2].rstrip(b" \t")):
            name = _SEARCHED_AS[header[1].lower()]
            found[name] = f"{found[name]}, {text}" if name in found else text
    if status := status_of(reply):
        found["Reply_Code"] = str(status)
    return tuple(found.items())


_SEARCHED: Final = re.compile(rb"\n(host|origin|user-agent):[ \t]*+([^\r\n]*+)", re.IGNORECASE)
_SEARCHED_AS: Final = {b"host": "Host", b"origin": "Origin", b"user-agent": "User_Agent"}


def legs(connection: Connection) -> tuple[Part, ...]:
    """The parts by which the other connection of a relayed client is found; empty if not relayed.

    Events of the connection to the upstream name the client, whose address its packets lack.
    """
    if connection.relayed_with is None:
        return ()
    return _legs(connection.relayed_with, connection.client)


@lru_cache
def _legs(other: int, client: Address | None) -> tuple[Part, ...]:
    named: Part = ("Relayed_With", str(other))
    return (named,) if client is None else (named, ("Client", str(client)))


def _destination(connection: Connection) -> tuple[Part, ...]:
    """The destination of a connection that we opened, by name: packets have only addresses.

    The query, which may hold tokens, is left out. The request shows it, masked.
    """
    if connection.destination is None:
        return ()
    return (("Destination", connection.destination.partition("?")[0]),)


def _quoted(event: ErrorOccurred) -> tuple[Part, ...]:
    """The parts about the message that an error concerns."""
    named = () if event.call_id is None else (("Call_ID", _text(event.call_id)),)
    if not event.excerpt:
        return named
    # It may be cut within a character, and its UTF-8 may be the error.
    return (*named, ("Ws_Message", event.excerpt.decode("utf-8", "backslashreplace")))


def _text(raw: bytes) -> str:
    """Decode bytes of a handshake: as UTF-8, otherwise as Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
