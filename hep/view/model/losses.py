"""Connections that ended while a call needed them. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hep.view.model.calls import Call
from hep.view.model.durations import SECOND, spoken
from hep.view.model.events import read_event
from hep.view.model.record import Kind, Record, text_of
from hep.view.model.sides import Side, Sides
from hep.view.model.summary import ConnectionSummary

SLACK: Final = 100_000
"""Microseconds by which clocks of capture agents differ before a message counts as later."""

LONGEST_LINE: Final = 1_024
"""Bytes of a line of a log that are read."""

LONGEST_REPORT: Final = 200
"""Characters of a line of a log in a note."""

_closed: Final = re.compile(r"\bclosed ([0-9]{4}) by (the peer|us)\b").search
_prefix: Final = re.compile(r".*?\(Call-ID [^)]*\) ").match


@dataclass(slots=True)
class Loss:
    """The end of a connection that a call used."""

    connection: ConnectionSummary
    """The connection."""
    side: Side
    """Whose it was."""
    last: int
    """Time of the last message of its peer in the call; 0 if there is none."""
    again: int
    """Time at which the same user connected again; 0 if the user did not."""

    @property
    def client(self) -> str:
        """Address of the phone that it cuts off; empty of an upstream that all phones need."""
        return self.connection.client if self.side == "upstream" else self.connection.peer

    def text(self, owner: str) -> str:
        """Say how it ended: ``the phone's connection closed with 1006, 41 s after …``.

        Args:
            owner: whose it was, such as ``the phone``.
        """
        end = self.connection
        how = f"closed with {end.code}" if end.code else "ended"
        if end.closed_by == "local":
            how = f"was closed by the server with {end.code}" if end.code else "was closed"
        why = f" ({end.error.replace('-', ' ')})" if end.error else ""
        said = f"{owner}'s connection {how}{why}"
        if self.last:
            span = end.until - self.last
            after = f"{spoken(span)} after" if span >= SECOND // 10 else "right after"
            said += f", {after} its last message"
        if self.again:
            said += f"; it registered again {spoken(self.again - end.until)} later"
        return said


def losses(sides: Sides, messages: Sequence[Record], connections: Iterable[ConnectionSummary],
           call: Call) -> list[Loss]:  # fmt: skip
    """The connections that ended while a call was going on, or that were its last sign.

    Args:
        sides: the addresses of the call.
        messages: its SIP records in the order of their times.
        connections: those of its users, later ones too.
        call: the call.
    """
    found = []
    # A registration goes on after its answer, until it expires.
    is_registered = call.summary.ended.startswith("registered")
    end = None if is_registered else call.summary.ended_at or None
    rest = list(connections)
    for each in sides.connections:
        side = sides.side(each)
        if side == "upstream" and each.closed_by == "local" and not each.error:
            continue  # the consequence of a client's end, or of a shutdown
        if is_registered and not (each.broke and call.is_registered(each.peer, each.until)):
            continue
        if not each.until or not side or (end is not None and each.until > end):
            continue
        sent = [record.at for record in messages if record.src == each.peer]
        if any(at > each.until + SLACK for at in sent):
            continue  # the address was used again
        later = [
            other.since for other in rest
            if other.aor and other.aor == each.aor and other.id != each.id
            and other.leg == "client" and other.since >= each.until
            and other.state in ("open", "closed")
        ]  # fmt: skip
        found.append(Loss(each, side, sent[-1] if sent else 0, min(later, default=0)))
    return sorted(found, key=lambda loss: loss.connection.until)


def absence(connections: Iterable[ConnectionSummary], aor: str, at: int) -> str:
    """Say that a user was not connected at a time; empty unless that is certain.

    Args:
        connections: those of the user, earlier ones too.
        aor: the user, as ``user@host``.
        at: the time, microseconds since the epoch.
    """
    own = [each for each in connections if each.aor == aor and each.leg == "client"]
    if any(each.since <= at and (not each.until or each.until >= at) for each in own):
        return ""
    before = [each for each in own if each.until and each.until < at]
    if not before:
        return ""
    last = max(before, key=lambda each: each.until)
    code = f" with {last.code}" if last.code else ""
    span = spoken(at - last.until)
    return f"{aor} was not connected: the connection had closed{code} {span} before."


def ends_in(records: Iterable[Record]) -> Iterator[ConnectionSummary]:
    """The connections whose end is in events and log lines among the records of a call."""
    for record in records:
        code: int
        if record.kind is Kind.EVENT:
            event = read_event(record.payload)
            if event is None or not event.closed:
                continue
            code, by = event.close_code, event.closed_by
        elif record.kind is Kind.LOG:
            closed = _closed(text_of(record.payload, LONGEST_LINE))
            if closed is None:
                continue
            code, by = int(closed[1]), "peer" if closed[2] == "the peer" else "local"
        else:
            continue
        yield ConnectionSummary(
            id=record.connection or f"{record.src} {record.dst}",
            peer=record.src,
            local=record.dst,
            until=record.at,
            last=record.at,
            state="closed",
            code=code,
            closed_by=_SIDES.get(by, ""),
        )


_SIDES: Final[dict[str, Literal["peer", "local"]]] = {"peer": "peer", "local": "local"}


def reports_in(records: Iterable[Record]) -> Iterator[tuple[int, str]]:
    """What events of faults and log lines say, with their times; ends are no reports."""
    for record in records:
        text = ""
        if record.kind is Kind.EVENT:
            event = read_event(record.payload)
            if event is not None and event.failed and not event.closed:
                kind, text = event.error, event.message
                text = f"{kind}: {text}" if kind and kind not in text else text
        elif record.kind is Kind.LOG:
            text = text_of(record.payload, LONGEST_LINE)
            prefix = _prefix(text)
            text = text[prefix.end() :] if prefix else text
            if _closed(text):
                text = ""
        text = " ".join(text.split())
        if text:
            yield record.at, text[:LONGEST_REPORT]
