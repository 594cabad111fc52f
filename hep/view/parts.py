"""A call, put together of what a store has. The functions block."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hep.view.model.ladder import ladder
from hep.view.model.picture import Ladder, Verdict
from hep.view.model.record import MICROSECONDS, Kind, Record
from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.model.verdict import verdict
from hep.view.store.protocol import CallStore

MOST_RECORDS: Final = 2000
"""Packets of a picture. A longer one takes a browser seconds to draw."""

EVENTS_BEFORE: Final = 60 * MICROSECONDS
"""Microseconds before a call in which the events of its connections belong to its picture: a phone
connects and calls."""

EVENTS_AFTER: Final = 600 * MICROSECONDS
"""Microseconds after a call in which they do: a lost connection is noticed late."""

MOST_TIMELINES: Final = 4
"""Connections whose events a call shows; a call has two or four."""

MOST_SIBLINGS: Final = 500
"""Connections of a user that are read at once, one in 1.2 s of `RETURN_WITHIN`. With more of them
the verdict names none, because the first ones would be missing."""

RETURN_WITHIN: Final = 600 * MICROSECONDS
"""Microseconds after the end of a connection in which another one of the same phone counts as its
return."""

ABSENT_WITHIN: Final = 600 * MICROSECONDS
"""Microseconds before a call in which the end of a connection of the callee is named. An end
longer ago does not explain the call."""


@dataclass(frozen=True, slots=True)
class CallParts:
    """What a call is shown of."""

    call: CallSummary
    records: list[Record]
    """Its packets."""
    connections: list[ConnectionSummary]
    """Its connections, and their other legs."""
    verdict: Verdict
    ladder: Ladder
    cut: int
    """Messages that the ladder lacks because there are too many."""


def parts_of_call(
    store: CallStore, call_id: str, now: int, *, keepalives: bool = False
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
    own = _connections_of(store, call)
    said = verdict(records, [*own, *_siblings(store, call, own)], now)
    drawn = sorted(_merged(records, _events(store, call, own)), key=lambda record: record.at)
    picture = ladder(drawn, own, keepalives=keepalives)
    return CallParts(call, records, own, said, picture, cut(call.messages, records, picture))


def cut(messages: int, records: Sequence[Record], picture: Ladder) -> int:
    """Count the messages that are neither drawn nor keep-alives, because there are too many.

    Args:
        messages: of the call or the connection.
        records: those of its packets that were read.
        picture: the ladder of them.
    """
    if max(len(records), len(picture.steps)) < MOST_RECORDS:
        return 0
    drawn = sum(step.kind == "sip" for step in picture.steps)
    return max(0, messages - drawn - picture.left_out)


def _connections_of(store: CallStore, call: CallSummary) -> list[ConnectionSummary]:
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


def _siblings(
    store: CallStore, call: CallSummary, own: Sequence[ConnectionSummary]
) -> list[ConnectionSummary]:
    """Other connections of the users of a call, which the verdict compares.

    A phone that was lost may come back, so there are later ones. A callee that is not reached may
    have gone before, so there are earlier ones.
    """
    callee = f"{call.to_user}@{call.to_host}" if call.to_user else ""
    wanted = [(callee, call.first - ABSENT_WITHIN, call.first)]
    wanted += [
        (connection.aor, connection.until, connection.until + RETURN_WITHIN)
        for connection in own[:MOST_TIMELINES]
        if connection.until
    ]
    known = {connection.id for connection in own}
    found: dict[str, ConnectionSummary] = {}
    # The legs of a relayed connection have the same user.
    for aor, since, until in dict.fromkeys(each for each in wanted if each[0]):
        several = store.connections_of(aor, MOST_SIBLINGS, since=since, until=until)
        if len(several) < MOST_SIBLINGS:
            found |= {each.id: each for each in several if each.id not in known}
    return sorted(found.values(), key=lambda connection: connection.since)


def _events(
    store: CallStore, call: CallSummary, own: Sequence[ConnectionSummary]
) -> Iterable[Record]:
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
