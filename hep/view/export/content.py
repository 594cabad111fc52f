"""What an export is made of: a call without credentials and, on request, without names. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hep.view.export.masks import text_without_credentials, without_credentials
from hep.view.export.pseudonyms import Pseudonyms
from hep.view.model.picture import Ladder, Verdict
from hep.view.model.record import Kind, Record
from hep.view.model.summary import CallSummary

MOST_MESSAGES: Final = 2_000
"""Packets of an export."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of all payloads of an export; a ticket takes no more."""


@dataclass(slots=True)
class Content:
    """What is written. It holds no credential."""

    call: CallSummary
    """The call."""
    verdict: Verdict
    """What became of it."""
    ladder: Ladder
    """Its picture."""
    records: list[Record]
    """Its packets. Their ``sip`` is None: what it says is in the payload."""
    left_out: int
    """Packets beyond the bounds of an export."""


def content(
    call: CallSummary,
    verdict: Verdict,
    ladder: Ladder,
    records: Sequence[Record],
    *,
    anonymous: bool,
) -> Content:
    """Mask credentials, and replace names on request.

    Args:
        call: the call.
        verdict: what became of it.
        ladder: its picture.
        records: its packets.
        anonymous: whether to replace users, numbers, hosts and addresses.
    """
    kept: list[Record] = []
    size = 0
    for record in records[:MOST_MESSAGES]:
        size += len(record.payload)
        if size > MOST_BYTES:
            break
        kept.append(
            replace(record, payload=without_credentials(record.payload, record.kind), sip=None)
        )
    names: Pseudonyms | None = None
    if anonymous:
        names = Pseudonyms()
        kept = _collect(names, call, verdict, ladder, kept)
        names.close()
        kept = [_anonymous(record, names) for record in kept]
    return Content(
        call=_call(call, names),
        verdict=Verdict(
            _text(verdict.text, names),
            verdict.outcome,
            [_text(note, names) for note in verdict.notes],
        ),
        ladder=_ladder(ladder, names),
        records=kept,
        left_out=len(records) - len(kept),
    )


def _text(text: str, names: Pseudonyms | None) -> str:
    text = text_without_credentials(text)
    return text if names is None else names.text(text)


def _collect(
    names: Pseudonyms, call: CallSummary, verdict: Verdict, ladder: Ladder, records: list[Record]
) -> list[Record]:
    for user in (call.from_user, call.to_user):
        names.add("user", user)
    for host in (call.from_host, call.to_host):
        names.collect_text(f"sip:{host}")
    local, at, host = call.call_id.rpartition("@")
    if at:
        names.collect_text(f"\nCall-ID: {local}@{host}")
    for party in ladder.parties:
        if party.role == "phone":
            names.add("user", party.name)
        for address in party.addresses:
            names.collect_address(address)
    for address in call.addresses:
        names.collect_address(address)
    for text in (verdict.text, *verdict.notes):
        names.collect_text(text)
    for step in ladder.steps:
        names.collect_address(step.src)
        names.collect_address(step.dst)
        if step.kind != "sip" or "sip:" in step.detail:
            names.collect_text(step.detail)
    found: list[Record] = []
    for record in records:
        if not names.collect(record):
            break
        found.append(record)
    return found


def _anonymous(record: Record, names: Pseudonyms) -> Record:
    return replace(
        record,
        payload=names.record(record),
        src=names.address(record.src),
        dst=names.address(record.dst),
        correlation=names.text(record.correlation),
        node="",
    )


def _call(call: CallSummary, names: Pseudonyms | None) -> CallSummary:
    if names is None:
        return replace(call, call_id=text_without_credentials(call.call_id))
    return replace(
        call,
        call_id=names.text(call.call_id),
        from_user=names.name(call.from_user),
        from_host=names.name(call.from_host),
        to_user=names.name(call.to_user),
        to_host=names.name(call.to_host),
        user_agent=names.product(call.user_agent),
        reason=names.text(call.reason),
        ended=names.text(call.ended),
        addresses=[names.address(address) for address in call.addresses],
    )


def _ladder(ladder: Ladder, names: Pseudonyms | None) -> Ladder:
    parties = ladder.parties
    if names is not None:
        parties = [
            replace(
                party,
                name=names.name(party.name),
                addresses=[names.address(address) for address in party.addresses],
                user_agent=names.product(party.user_agent),
            )
            for party in parties
        ]
    steps = []
    for step in ladder.steps:
        label, detail = _text(step.label, names), text_without_credentials(step.detail)
        src, dst = step.src, step.dst
        if names is not None:
            src, dst = names.address(src), names.address(dst)
            # What others log may hold any name.
            detail = "" if step.kind in ("log", "other") else names.text(detail)
        steps.append(replace(step, label=label, detail=detail, src=src, dst=dst))
    return Ladder(parties, steps, ladder.left_out)


def is_message(record: Record) -> bool:
    """Whether a packet is a message between two parties, and no report about it."""
    return record.kind in (Kind.SIP, Kind.OTHER)
