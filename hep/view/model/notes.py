"""Further sentences about a call that matter: what was repeated, refused, transferred. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from hep.sip import first
from hep.view.model.calls import Call, said
from hep.view.model.durations import spoken
from hep.view.model.losses import SLACK, Loss, absence, reports_in
from hep.view.model.record import Record, Sip, text_of
from hep.view.model.sides import Sides

MOST_NOTES: Final = 12
"""Notes of a call; a page has room for a few."""

MOST_OF_A_KIND: Final = 3
"""Retransmitted messages, reports or losses that are named, each."""

LONGEST_QUOTE: Final = 120
"""Characters of a header that a note quotes."""

_reason: Final = first("reason")
_warning: Final = first("warning")
_retry_after: Final = first("retry-after")
_refer_to: Final = first("refer-to")
_user_of_uri: Final = re.compile(rb"(?:sips?|tel):([^@;>?\s]{1,128})", re.IGNORECASE).search
_fragment: Final = re.compile(rb"\r?\n\r?\n\s*SIP/2\.0 +([1-6][0-9]{2})(?: +([^\r\n]*))?").search
_is_held: Final = re.compile(rb"\na=(?:sendonly|inactive)\b").search

_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def notes(
    records: Sequence[Record],
    messages: Sequence[Record],
    call: Call,
    sides: Sides,
    lost: Sequence[Loss],
    named: Loss | None = None,
) -> list[str]:
    """Sentences about a call, the most important ones first.

    Args:
        records: all its packets in the order of their times.
        messages: those of them that are SIP.
        call: the call, fed with them.
        sides: its addresses.
        lost: connections that ended during it, and that the verdict does not name.
        named: the one that it names.
    """
    sentences = [
        *_missing(messages, call),
        *_of_connections(lost),
        *_of_absence(call, sides),
        *_of_forks(call, sides),
        *_of_transfers(messages, call),
        *_of_requests_inside(call, sides),
        *_quoted(messages, call),
        *_repeated(messages, call),
        *_of_refreshes(call, sides),
        *_reported(records, call, [*lost, named] if named else lost),
    ]
    return list(dict.fromkeys(sentences))[:MOST_NOTES]


def _missing(messages: Sequence[Record], call: Call) -> Iterator[str]:
    summary = call.summary
    if not call.has_start:
        what = "call" if summary.kind == "call" else summary.method or "exchange"
        yield f"The capture lacks the start of the {what}."
    elif summary.kind == "call" and summary.ended.startswith("BYE") and not summary.answered_at:
        yield "The capture lacks the answer to the INVITE."
    if not summary.answered_at:
        return
    acks = answers = 0
    for record in messages:
        sip = record.sip
        if sip is not None and sip.cseq == call.cseq:
            acks += sip.method == "ACK"
            answers += sip.method == "INVITE" and 200 <= sip.status < 300
    if not acks and answers > MOST_OF_A_KIND:
        yield "The capture has no ACK to the answer."


def _of_connections(lost: Sequence[Loss]) -> Iterator[str]:
    owners = {"caller": "The caller", "callee": "The phone", "upstream": "The upstream"}
    for loss in lost[:MOST_OF_A_KIND]:
        yield loss.text(owners.get(loss.side, "A phone")) + "."


def _of_absence(call: Call, sides: Sides) -> Iterator[str]:
    summary = call.summary
    if (
        set(sides.callees) - {sides.first_hop}
        or summary.kind in ("registration", "subscription")
        or summary.code < 300
    ):
        return
    aor = f"{summary.to_user}@{summary.to_host}"
    if text := absence(sides.all_connections, aor, summary.first):
        yield text


def _of_refreshes(call: Call, sides: Sides) -> Iterator[str]:
    if call.summary.kind != "registration" or not call.summary.ended.startswith("registered"):
        return
    count = sum(key[0] == "REGISTER" and 200 <= key[1] < 300 for key in sides.first_sent) - 1
    if count > 0:
        yield "Refreshed once." if count == 1 else f"Refreshed {count} times."


def _of_forks(call: Call, sides: Sides) -> Iterator[str]:
    if call.summary.kind != "call":
        return
    rang: dict[str, None] = {}
    answered: list[str] = []
    for method, status, cseq, from_tag, to_tag in sides.first_sent:
        if method != "INVITE" or cseq != call.cseq or from_tag != call.caller_tag or not to_tag:
            continue
        if 100 < status < 200:
            rang[to_tag] = None
        elif 200 <= status < 300:
            rang[to_tag] = None
            answered.append(to_tag)
    if len(rang) < 2:
        return
    if len(answered) == 1:
        number = list(rang).index(answered[0])
        which = _ORDINALS[number] if number < len(_ORDINALS) else f"{number + 1}th"
        yield f"Answered by the {which} of {len(rang)} phones."
    elif answered:
        yield f"{len(answered)} of {len(rang)} phones answered."
    else:
        yield f"{len(rang)} phones rang."


def _of_transfers(messages: Sequence[Record], call: Call) -> Iterator[str]:
    refers: set[tuple[int, str]] = set()
    is_open = False
    for record in messages:
        sip = record.sip
        if sip is None:
            continue
        if sip.method == "REFER" and sip.is_request and (sip.cseq, sip.from_tag) not in refers:
            value = _refer_to(record.payload)
            found = _user_of_uri(value)
            target = text_of(found[1]) if found else "another user"
            how = "Attended transfer" if b"replaces=" in value.lower() else "Transfer"
            side = call.side_of(sip.from_tag, sip.to_tag)
            by = f"the {side}" if side else sip.from_user or "a party"
            refers.add((sip.cseq, sip.from_tag))
            yield f"{how} to {target} by {by}."
        elif sip.method == "REFER" and 200 <= sip.status < 300:
            is_open = True
        elif sip.method == "REFER" and sip.status >= 300 and sip.status not in (401, 407):
            yield f"The transfer was refused: {said(sip.status, sip.reason)}."
        elif sip.method == "NOTIFY" and sip.is_request and refers:
            found = _fragment(record.payload)
            if found is not None and int(found[1]) >= 200:
                is_open = False
                result = "succeeded" if int(found[1]) < 300 else "failed"
                status = said(int(found[1]), text_of(found[2] or b""))
                yield f"The transfer {result}: {status}."
    if is_open and call.summary.ended:
        yield "The capture has no result of the transfer."


def _of_requests_inside(call: Call, sides: Sides) -> Iterator[str]:
    if call.summary.kind != "call":
        return
    asked: dict[tuple[str, int, str], Sip] = {}
    held: list[str] = []
    for key, record in sides.first_sent.items():
        method, status, cseq, from_tag, to_tag = key
        sip = record.sip
        if sip is None or method not in ("INVITE", "UPDATE", "BYE", "INFO"):
            continue
        if not status and to_tag:
            asked[method, cseq, from_tag] = sip
            side = call.side_of(from_tag, to_tag)
            if method == "INVITE" and side and _is_held(record.payload):
                held.append(side)
        elif status >= 300 and (method, cseq, from_tag) in asked:
            side = call.side_of(from_tag, to_tag)
            by = f" of the {side}" if side else ""
            what = "re-INVITE" if method == "INVITE" else method
            if status not in (401, 407):
                yield f"The {what}{by} was refused: {said(status, sip.reason)}."
    yield from _of_foreign_byes(sides, call)
    for holder in dict.fromkeys(held):
        yield f"Put on hold by the {holder}."


def _of_foreign_byes(sides: Sides, call: Call) -> Iterator[str]:
    """A BYE that a server sends in the name of a phone, such as one that has gone."""
    for (method, status, _, from_tag, to_tag), record in sides.first_sent.items():
        if method == "BYE" and not status:
            side = call.side_of(from_tag, to_tag)
            phones = [sides.caller] if side == "caller" else sides.callees if side else []
            if phones and sides.is_server(record.src) and all(map(sides.is_phone, phones)):
                who = sides.name(record).capitalize()
                yield f"{who} sent the BYE, not the phone of the {side}."
                return


def _quoted(messages: Sequence[Record], call: Call) -> Iterator[str]:
    summary = call.summary
    for record in messages:
        sip = record.sip
        if sip is None:
            continue
        if sip.is_request and sip.method in ("BYE", "CANCEL"):
            if value := _reason(record.payload):
                yield f"{sip.method} with Reason: {_quote(value)}."
        elif sip.status == summary.code and sip.status >= 300 and sip.method == summary.method:
            for name, find in (
                ("Reason", _reason), ("Warning", _warning), ("Retry-After", _retry_after),
            ):  # fmt: skip
                if value := find(record.payload):
                    yield f"{sip.status} with {name}: {_quote(value)}."


def _quote(value: bytes) -> str:
    text = text_of(value, 4 * LONGEST_QUOTE)
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


def _repeated(messages: Sequence[Record], call: Call) -> Iterator[str]:
    counts: dict[object, int] = {}
    names: dict[object, str] = {}
    asked: dict[object, tuple[str, int, str]] = {}
    answered: set[tuple[str, int, str]] = set()
    for record in messages:
        sip = record.sip
        if sip is None:
            continue
        key = (
            record.src, record.dst, sip.method, sip.status, sip.branch, sip.cseq, sip.to_tag,
            record.capture_id, record.node,
        )  # fmt: skip
        counts[key] = counts.get(key, 0) + 1
        one_of = (sip.method, sip.cseq, sip.from_tag)
        if sip.status:
            answered.add(one_of)
        elif sip.method != "ACK":
            asked[key] = one_of
        names[key] = f"The {said(sip.status, sip.reason)} to the {sip.method}" if sip.status else (
            f"The {sip.method}"
        )  # fmt: skip
    for one in sorted(counts, key=lambda each: -counts[each])[:MOST_OF_A_KIND]:
        if counts[one] > 1 and call.summary.ended != "no answer":
            in_vain = one in asked and asked[one] not in answered
            without = " without an answer" if in_vain else ""
            yield f"{names[one]} was sent {counts[one]} times{without}."


def _reported(records: Sequence[Record], call: Call, lost: Sequence[Loss]) -> Iterator[str]:
    shown = 0
    end = call.summary.ended_at
    # The end of a connection that the verdict names comes with a report of the same.
    named = {each.connection.until for each in lost if each.connection.error}
    for at, text in reports_in(records):
        is_named = any(abs(at - each) <= SLACK for each in named)
        if shown < MOST_OF_A_KIND and not is_named and not (end and at > end):
            shown += 1
            yield f"Reported after {spoken(at - call.summary.first)}: {text.rstrip('.')}."
