"""A call and a connection, put together of what the store has. The functions block."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from hep.sip import finder
from hep.view.export import Format
from hep.view.model.picture import Ladder, Verdict
from hep.view.model.record import Kind, Record, text_of
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.store.query import ConnectionFilter
from hep.view.web.backend import Pictures, Store
from hep.view.web.messages import message_of
from hep.view.web.models import CallView, ConnectionView, Message, Related
from hep.view.web.status import now

MOST_RECORDS: Final = 2000
"""Packets of a picture. A longer one takes a browser seconds to draw."""

EVENTS_BEFORE: Final = 60_000_000
"""Microseconds before a call in which the events of its connections belong to its picture: a phone
connects and calls."""

EVENTS_AFTER: Final = 600_000_000
"""Microseconds after a call in which they do: a lost connection is noticed late."""

MOST_TIMELINES: Final = 4
"""Connections whose events a call shows; a call has two or four."""

MOST_SIBLINGS: Final = 20
"""Later connections of a phone that are looked at for its return."""

SIBLINGS_WITHIN: Final = 600_000_000
"""Microseconds after the end of a connection in which another one of the same phone counts as its
return."""

MOST_RELATED: Final = 16
"""Related calls that are named."""


@dataclass(frozen=True, slots=True)
class CallParts:
    """What a call is shown of."""

    call: CallSummary
    records: list[Record]
    """Its packets."""
    connections: list[ConnectionSummary]
    """Its connections, their other legs, and the later ones of its phones."""
    verdict: Verdict
    ladder: Ladder
    cut: int
    """Messages beyond the most that are read."""


def parts_of_call(
    store: Store, pictures: Pictures, call_id: str, *, keepalives: bool = False
) -> CallParts | None:
    """Read a call.

    Args:
        store: where it is.
        pictures: make its verdict and its ladder.
        call_id: its Call-ID.
        keepalives: whether keep-alives are drawn.

    Returns:
        its parts; None if there is no such call.
    """
    call = store.call(call_id)
    if call is None:
        return None
    records = store.records_of_call(call_id, MOST_RECORDS)
    own = _connections_of(store, call)
    verdict = pictures.verdict(records, [*own, *_siblings(store, own)], now())
    drawn = sorted(_merged(records, _events(store, call, own)), key=lambda record: record.at)
    ladder = pictures.ladder(drawn, own, keepalives=keepalives)
    return CallParts(call, records, own, verdict, ladder, _cut(call.messages, records, ladder))


def call_view(
    store: Store, pictures: Pictures, call_id: str, *, keepalives: bool
) -> CallView | None:
    """Show a call; see `parts_of_call`."""
    parts = parts_of_call(store, pictures, call_id, keepalives=keepalives)
    if parts is None:
        return None
    return CallView(
        call=parts.call,
        verdict=parts.verdict,
        parties=parts.ladder.parties,
        steps=parts.ladder.steps,
        left_out=parts.ladder.left_out,
        cut=parts.cut,
        connections=parts.connections,
        related=_related(store, call_id, parts.records),
    )


def call_file(
    store: Store,
    pictures: Pictures,
    call_id: str,
    format: Format,  # noqa: A002
    *,
    anonymous: bool,
) -> bytes | None:
    """Write a call as a file; None if there is no such call.

    Args:
        store: where it is.
        pictures: write it.
        call_id: its Call-ID.
        format: of the file.
        anonymous: whether users and addresses are replaced.
    """
    parts = parts_of_call(store, pictures, call_id)
    if parts is None:
        return None
    return pictures.export(
        parts.call, parts.verdict, parts.ladder, parts.records, format, anonymous=anonymous
    )


def connection_view(
    store: Store, pictures: Pictures, name: str, *, keepalives: bool
) -> ConnectionView | None:
    """Show a connection; None if there is no such one.

    Args:
        store: where it is.
        pictures: make its ladder.
        name: its id.
        keepalives: whether keep-alives are drawn.
    """
    connection = store.connection(name)
    if connection is None:
        return None
    records = store.records_of_connection(name, MOST_RECORDS)
    other = store.connection(connection.relayed_with) if connection.relayed_with else None
    both = [connection] if other is None else [connection, other]
    ladder = pictures.ladder(records, both, keepalives=keepalives)
    request, reply = _handshake(pictures, records)
    found = (store.call(call_id) for call_id in reversed(connection.calls))
    messages = connection.messages_in + connection.messages_out
    return ConnectionView(
        connection=connection,
        other=other,
        request=request,
        reply=reply,
        parties=ladder.parties,
        steps=ladder.steps,
        cut=_cut(messages, records, ladder),
        calls=[call for call in found if call is not None],
    )


def message(store: Store, pictures: Pictures, number: int, *, masked: bool) -> Message | None:
    """Show a packet; None if there is no such one.

    Args:
        store: where it is.
        pictures: mask it.
        number: of the packet.
        masked: whether credentials are masked.
    """
    record = store.record(number)
    if record is None:
        return None
    payload = pictures.masked(record.payload, record.kind) if masked else record.payload
    return message_of(record, payload)


def _cut(messages: int, records: Sequence[Record], ladder: Ladder) -> int:
    """Messages that are neither drawn nor left out as keep-alives, because there are too many."""
    if max(len(records), len(ladder.steps)) < MOST_RECORDS:
        return 0
    drawn = sum(step.kind == "sip" for step in ladder.steps)
    return max(0, messages - drawn - ladder.left_out)


def _handshake(pictures: Pictures, records: Sequence[Record]) -> tuple[str, str]:
    for record in records:
        if record.kind is Kind.EVENT:
            event = pictures.event(record.payload)
            if event is not None and event.request:
                return event.request, event.reply
    return "", ""


def _connections_of(store: Store, call: CallSummary) -> list[ConnectionSummary]:
    """The connections that a call used, each followed by its other leg."""
    found: dict[str, ConnectionSummary] = {}
    for name in call.connections:
        connection = store.connection(name)
        if connection is None:
            continue
        found.setdefault(connection.id, connection)
        if (leg := connection.relayed_with) and leg not in found:
            other = store.connection(leg)
            if other is not None:
                found.setdefault(other.id, other)
    return [*found.values()]


def _siblings(store: Store, own: Sequence[ConnectionSummary]) -> list[ConnectionSummary]:
    """Later connections of the phones of a call: a phone that was lost may come back."""
    known = {connection.id for connection in own}
    found: dict[str, ConnectionSummary] = {}
    for connection in own[:MOST_TIMELINES]:
        if not connection.aor or not connection.until:
            continue
        wanted = ConnectionFilter(
            since=connection.until,
            until=connection.until + SIBLINGS_WITHIN,
            text=connection.aor,
        )
        for each in store.connections(wanted, MOST_SIBLINGS, None).rows:
            if (
                each.aor == connection.aor
                and each.since > connection.since
                and each.id not in known
            ):
                found.setdefault(each.id, each)
    return sorted(found.values(), key=lambda connection: connection.since)


def _events(store: Store, call: CallSummary, own: Sequence[ConnectionSummary]) -> Iterable[Record]:
    """The events of a call's connections, as far as they belong to its time."""
    for connection in own[:MOST_TIMELINES]:
        for record in store.records_of_connection(connection.id, MOST_RECORDS):
            if (
                record.kind is Kind.EVENT
                and call.first - EVENTS_BEFORE <= record.at <= call.last + EVENTS_AFTER
            ):
                yield record


def _merged(records: Sequence[Record], more: Iterable[Record]) -> Iterable[Record]:
    known = {record.id for record in records}
    yield from records
    for record in more:
        if record.id not in known:
            known.add(record.id)
            yield record


_find_related: Final = finder("x-cid", "replaces", "refer-to")


def _related(store: Store, call_id: str, records: Sequence[Record]) -> list[Related]:
    """The calls that the packets of a call name, as far as the store has them."""
    why: dict[str, str] = {}
    for record in records:
        if record.correlation:
            why.setdefault(record.correlation, "correlation id")
        if record.kind is not Kind.SIP:
            continue
        values = _find_related(record.payload)
        if values is None:
            continue
        x_cid, replaces, refer_to = (text_of(each, 1024) for each in values)
        if x_cid:
            why.setdefault(x_cid, "X-CID")
        if replaces:
            why.setdefault(replaces.partition(";")[0].strip(), "transfer")
        if "Replaces=" in refer_to:
            named = refer_to.partition("Replaces=")[2].partition("&")[0].partition(">")[0]
            why.setdefault(unquote(named).partition(";")[0].strip(), "transfer")
    why.pop(call_id, None)
    found = [
        Related(call_id=other, why=reason)
        for other, reason in [*why.items()][: 2 * MOST_RELATED]
        if store.call(other) is not None
    ]
    return found[:MOST_RELATED]
