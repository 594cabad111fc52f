"""The ladder of a call or a connection: who sent what to whom, both legs in one picture. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hep.codec.chunks import protocol_name
from hep.view.model.events import Event, read_event
from hep.view.model.heads import head_of
from hep.view.model.parties import Columns, Message, columns, merged
from hep.view.model.picture import Ladder, Party, Step, StepKind
from hep.view.model.record import MICROSECONDS, Kind, Record, text_of
from hep.view.model.summary import ConnectionSummary, Tone

MOST_STEPS: Final = 2_000
"""Rows of a picture."""

DUPLICATE_WITHIN: Final = MICROSECONDS
"""Time in which two agents capture the same message."""

CLOSE_BY: Final = 60 * MICROSECONDS
"""Time around a call in which the start and the end of its connections are shown, if only the
summary of a connection says when they were."""

LONGEST_LOG: Final = 500
"""Characters of a log line that are shown."""


@dataclass(slots=True)
class _Row:
    """A row before its columns are known."""

    record: Record
    message: Message | None = None
    copy: int = -1
    connection: ConnectionSummary | None = None
    id: str = ""
    label: str = ""
    detail: str = ""
    tone: Tone = "info"
    client: str = ""
    server: str = ""


def ladder(
    records: Sequence[Record],
    connections: Sequence[ConnectionSummary],
    *,
    keepalives: bool = False,
    most: int = MOST_STEPS,
) -> Ladder:
    """Draw a call or a connection. Never raises, whatever the packets hold.

    Args:
        records: its packets, in the order of their arrival or of their times.
        connections: the WebSocket connections that it used; may be empty.
        keepalives: whether to show keep-alives.
        most: rows, 1 or more; later ones are left out.

    Returns:
        the columns and rows. The rows are in the order of their times.
    """
    late = _late(records)
    lookup = _Connections(connections)
    rows, left_out = _rows(sorted(records, key=lambda each: each.at), lookup, keepalives)
    if rows:
        rows += _from_summaries(rows, connections)
        rows.sort(key=lambda row: row.record.at)
    rows = rows[:most]
    messages = [row for row in rows if row.message is not None]
    read = [row.message for row in messages if row.message is not None]
    events = [
        (row.connection, event)
        for row in rows
        if row.connection is not None
        and row.record.kind is Kind.EVENT
        and (event := read_event(row.record.payload))
    ]
    classes, copies = merged(read, connections, events)
    for row, copy in zip(messages, copies, strict=True):
        row.copy = copy
    products = {
        (each.peer if event.event == "CONNECTED" else each.local): product
        for each, event in events
        if (product := _product(event.reply))
    }
    # Only sipws writes the label of an event, and it does so of its own side of a connection.
    products.update((each.local, _SIPWS) for each, event in events if event.label)
    drawn = columns(classes, read, copies, connections, products)
    steps = [_step(row, drawn, late) for row in rows]
    _relate(rows, steps)
    return Ladder(drawn.parties or [Party("?", "unknown")] if steps else [], steps, left_out)


_SIPWS: Final = "sipws"


class _Connections:
    """Finds the connection of a packet."""

    def __init__(self, connections: Sequence[ConnectionSummary]) -> None:
        self._by_id = {each.id: each for each in connections}
        self._by_pair: dict[frozenset[str], list[ConnectionSummary]] = {}
        for each in connections:
            self._by_pair.setdefault(frozenset((each.peer, each.local)), []).append(each)

    def of(self, record: Record) -> ConnectionSummary | None:
        """The connection of a packet, by its id or by its addresses; None if it is not known."""
        for name in (record.connection, record.correlation):
            if name and (found := self._by_id.get(name)):
                return found
        # A port is used again, but not by two connections at a time.
        for each in self._by_pair.get(frozenset((record.src, record.dst)), ()):
            if each.since <= record.at and (not each.until or record.at <= each.until):
                return each
        return None


def _late(records: Sequence[Record]) -> set[int]:
    """The packets, by `id`, that came later than one with a later time."""
    late: set[int] = set()
    latest = -1
    numbered = all(record.id for record in records)
    for record in sorted(records, key=lambda each: each.id) if numbered else records:
        if record.at < latest:
            late.add(id(record))
        latest = max(latest, record.at)
    return late


def _rows(
    records: Sequence[Record], lookup: _Connections, keepalives: bool
) -> tuple[list[_Row], int]:
    is_call = any(each.sip is not None and each.sip.method == "INVITE" for each in records)
    reported: set[tuple[str, bool]] = set()
    for record in records:
        if record.kind is Kind.EVENT:
            row = _event(record, lookup)
            reported.add((row.id, row.label.startswith("closed")))
    rows: list[_Row] = []
    seen: dict[tuple[str, str, bytes], Record] = {}
    left_out = 0
    for record in records:
        before = seen.get((record.src, record.dst, record.payload))
        if before is not None and _is_duplicate(before, record):
            continue
        seen[record.src, record.dst, record.payload] = record
        if not keepalives and _is_keepalive(record, is_call=is_call):
            left_out += 1
            continue
        if record.kind is Kind.SIP and record.sip is not None:
            connection = lookup.of(record)
            row = _Row(
                record,
                Message(record, record.sip, head_of(record, record.sip)),
                connection=connection,
                id=connection.id if connection else record.connection,
            )
        elif record.kind is Kind.EVENT:
            row = _event(record, lookup)
        elif record.kind is Kind.LOG:
            row = _log(record, lookup)
            closed = row.label.startswith("closed")
            known = row.connection is not None and row.connection.until
            if row.id and ((row.id, closed) in reported or (closed and known)):
                continue
        else:
            name = protocol_name(record.protocol_type)
            row = _Row(record, label=name, detail=f"{len(record.payload)} bytes", tone="quiet")
        rows.append(row)
    return rows, left_out


def _is_duplicate(before: Record, record: Record) -> bool:
    """Whether another agent, or the other end of a connection, captured the packet too."""
    return record.at - before.at <= DUPLICATE_WITHIN and (
        (before.capture_id, before.node) != (record.capture_id, record.node)
        or bool(before.connection and record.connection and before.connection != record.connection)
    )


_PING: Final = re.compile(rb"[\r\n\0 ]*").fullmatch
_LONGEST_PING: Final = 64


def _is_keepalive(record: Record, *, is_call: bool) -> bool:
    payload = record.payload
    if record.sip is not None:
        return is_call and record.sip.method == "OPTIONS"
    if record.kind is Kind.LOG or record.kind is Kind.EVENT:
        return False
    return len(payload) <= _LONGEST_PING and _PING(payload) is not None


def _event(record: Record, lookup: _Connections) -> _Row:
    connection = lookup.of(record)
    row = _Row(record, connection=connection, id=record.connection or record.correlation)
    if connection is not None:
        row.id = connection.id
        row.client, row.server = _ends(connection)
    row.client, row.server = row.client or record.src, row.server or record.dst
    event = read_event(record.payload)
    if event is None:
        row.label, row.tone = protocol_name(record.protocol_type), "quiet"
        row.detail = f"{len(record.payload)} bytes"
    else:
        row.label, row.detail, row.tone = _said(event)
    return row


def _ends(connection: ConnectionSummary) -> tuple[str, str]:
    """The client side and the server side of a connection."""
    if connection.leg == "upstream":
        return connection.local, connection.peer
    return connection.peer, connection.local


_NORMAL: Final = (1000, 1001)
"""Close codes of a connection that ended as planned: normal, and going away."""
_BY: Final = {"peer": " by the peer", "local": " by the server"}


def _closed(code: int, by: str, *, failed: bool = False) -> tuple[str, Tone]:
    label = f"closed {code}" if code else "closed"
    tone: Tone = "quiet" if code in _NORMAL or (not code and not failed) else "bad"
    return label + _BY.get(by, ""), tone


def _said(event: Event) -> tuple[str, str, Tone]:
    """Label, detail and colour of an event."""
    detail = event.error_detail or (event.message if event.failed else "")
    match event.event:
        case "ACCEPTED" | "CONNECTED" if event.failed:
            code = event.reply_code
            what = f"refused {code}" if code >= _REFUSED else "failed"
            return f"{what} {event.error}".strip(), detail, "bad"
        case "ACCEPTED" | "CONNECTED":
            about = (event.protocol, event.resource.partition("?")[0], event.user_agent)
            return "opened", " ".join(filter(None, about)), "good"
        case "CONNECTING":
            return "connecting", event.destination.partition("?")[0], "quiet"
        case "CLOSED":
            label, tone = _closed(event.close_code, event.closed_by, failed=event.failed)
            said = event.close_reason or event.message
            return label, "" if said.startswith("closed by ") else said, tone
        case "ERROR" | "MESSAGE":
            words = f"{event.event.lower()} {event.error}".strip()
            return words, detail or event.message, "bad" if event.event == "ERROR" else "warn"
        case "SUPERSEDED":
            return "superseded", event.message, "warn"
        case "LOST":
            return "packets lost", event.message, "warn"
    label = event.event.lower() or event.label or "event"
    return label, event.message, "bad" if event.failed else "info"


_REFUSED: Final = 300

_LOG: Final = re.compile(
    r"WebSocket connection (\S{1,64}) (\S{1,64}) > (\S{1,64}) \(Call-ID [^\n]*?\) "
    r"(?=closed |[a-z-]+: )"
)


def _log(record: Record, lookup: _Connections) -> _Row:
    text = text_of(record.payload, LONGEST_LOG * 4)[:LONGEST_LOG].strip()
    row = _Row(record, label="log", detail=text, tone="quiet")
    row.client, row.server = record.src, record.dst
    if found := _LOG.match(text):
        row.id, row.client, row.server = found.groups()
        row.label, _, row.detail = text[found.end() :].partition(": ")
        row.tone = "warn"
        row.connection = lookup.of(
            Record(record.at, Kind.LOG, row.client, row.server, b"", connection=row.id)
        )
    return row


def _from_summaries(rows: Sequence[_Row], connections: Iterable[ConnectionSummary]) -> list[_Row]:
    """The start and the end of connections of which no event is there."""
    first, last = rows[0].record.at - CLOSE_BY, rows[-1].record.at + CLOSE_BY
    reported = {(row.id, row.label[:6]) for row in rows if row.record.kind is Kind.EVENT}
    used = {row.id for row in rows}
    more: list[_Row] = []
    for each in connections:
        client, server = _ends(each)
        if each.id not in used:
            continue
        about = " ".join(filter(None, (each.protocol, each.user_agent)))
        ends: list[tuple[int, str, str, Tone]] = []
        if each.state in ("open", "closed"):
            ends.append((each.since, "opened", about, "good"))
        if each.state == "closed":
            label, tone = _closed(each.code, each.closed_by)
            ends.append((each.until, label, each.reason, tone))
        for at, label, detail, tone in ends:
            if first <= at <= last and (each.id, label[:6]) not in reported:
                record = Record(at, Kind.EVENT, client, server, b"", connection=each.id)
                row = _Row(record, None, -1, each, each.id, label, detail, tone)
                row.client, row.server = client, server
                more.append(row)
    return more


_SERVER: Final = re.compile(r"\nserver:[ \t]*+([^\r\n]{1,256})", re.IGNORECASE)


def _product(reply: str) -> str:
    found = _SERVER.search(reply)
    return found[1].strip() if found else ""


def _step(row: _Row, drawn: Columns, late: set[int]) -> Step:
    record, message = row.record, row.message
    step = Step(
        record=record.id,
        at=record.at,
        kind=_KINDS[record.kind],
        source=0,
        destination=0,
        src=record.src,
        dst=record.dst,
        label=row.label,
        detail=row.detail,
        tone=row.tone,
        connection=row.id,
        # Events are sent when what they say is known, which may be later.
        out_of_order=message is not None and id(record) in late,
    )
    if message is None:
        client, server = row.client or record.src, row.server or record.dst
        if record.kind is Kind.LOG or client == server:
            # What says not between whom it was stands at the server, and needs no column.
            here = max(drawn.known(client), drawn.known(server), -1)
            at = here if here >= 0 else max(drawn.server(), 0)
            step.source = drawn.known(client) if drawn.known(client) >= 0 else at
            step.destination = drawn.known(server) if drawn.known(server) >= 0 else at
            return step
        step.source, step.destination = drawn.of(client), drawn.of(server)
        return step
    sip = message.sip
    step.source, step.destination = drawn.of(record.src), drawn.of(record.dst)
    step.label = sip.method if sip.is_request else f"{sip.status} {sip.reason}".strip()
    step.detail, step.has_sdp = message.head.detail, message.head.has_sdp
    step.method, step.status = sip.method, sip.status
    step.tone = _tone(sip.method, sip.status)
    return step


_KINDS: Final[dict[Kind, StepKind]] = {
    Kind.SIP: "sip",
    Kind.EVENT: "event",
    Kind.LOG: "log",
    Kind.OTHER: "other",
}
_CHALLENGES: Final = (401, 407)


def _tone(method: str, status: int) -> Tone:
    if status == 0:
        return "warn" if method == "CANCEL" else "info"
    if status < 200 or status in _CHALLENGES:
        return "quiet"
    if status < 300:
        return "good"
    if status < 400:
        return "info"
    return "bad" if status == 408 or 500 <= status <= 599 else "warn"


def _relate(rows: Sequence[_Row], steps: Sequence[Step]) -> None:
    """Say which steps are copies of others, and which were sent again."""
    numbers = [number for number, row in enumerate(rows) if row.message is not None]
    sent: dict[tuple[object, ...], int] = {}
    for number in numbers:
        row, step = rows[number], steps[number]
        if row.message is None:
            continue
        if row.copy >= 0:
            step.copy_of = numbers[row.copy]
        sip, head = row.message.sip, row.message.head
        key = (
            *(step.source, step.destination, sip.method, sip.status, sip.cseq, sip.branch),
            *(sip.from_tag, sip.to_tag, head.body, "" if sip.branch else row.record.payload),
        )
        first = sent.setdefault(key, number)
        if first != number:
            step.retransmission_of = first
