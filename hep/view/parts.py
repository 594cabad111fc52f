"""A call, put together of what a store has. The functions block."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hep.view.model.ladder import ladder
from hep.view.model.picture import Ladder, Verdict
from hep.view.model.record import Kind, Record
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.model.verdict import verdict
from hep.view.store.query import ConnectionFilter
from hep.view.store.store_reader import StoreReader as Store

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
    store: Store, call_id: str, now: int, *, keepalives: bool = False
) -> CallParts | None:
    """Read a call.

    Args:
        store: where it is.
        call_id: its Call-ID.
        now: time in microseconds since the epoch.
        keepalives: whether keep-alives are drawn.

    Returns:
        its parts; None if there is no such call.
    """
    call = store.call(call_id)
    if call is None:
        return None
    records = store.records_of_call(call_id, MOST_RECORDS)
    messages = sum(record.kind is Kind.SIP for record in records)
    own = _connections_of(store, call)
    said = verdict(records, [*own, *_siblings(store, own)], now)
    drawn = sorted(_merged(records, _events(store, call, own)), key=lambda record: record.at)
    picture = ladder(drawn, own, keepalives=keepalives)
    full = len(records) >= MOST_RECORDS
    cut = max(0, call.messages - messages) if full else 0
    return CallParts(call, records, own, said, picture, cut)


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
