"""The sentence about a call: a table of calls, recorded and by hand, and what holds for all."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hep.view.model.calls import Call
from hep.view.model.durations import spoken
from hep.view.model.record import Kind, Record, read_sip
from hep.view.model.summary import ConnectionSummary
from hep.view.model.verdict import verdict

from . import case_files

CASES = case_files.cases()
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def fed(records: list[Record]) -> Call:
    call = Call("call")
    for record in records:
        call.feed(record)
    return call


@each_case
def test_verdict_of_a_call(case) -> None:
    found = verdict(case.records, case.connections, case.now)
    assert (found.text, found.outcome) == (case.text, case.outcome)
    assert found.notes == case.notes


@each_case
def test_row_of_a_call(case) -> None:
    summary = fed(case.records).summary
    assert (summary.ended, summary.state) == (case.listed, case.state)


@each_case
def test_list_and_verdict_agree(case) -> None:
    messages = [record for record in case.records if record.kind is Kind.SIP]
    messages.sort(key=lambda record: record.at)
    for end in range(1, len(messages) + 1):
        part = messages[:end]
        assert fed(part).summary.outcome == verdict(part, [], part[-1].at).outcome


@each_case
def test_order_of_arrival_changes_no_verdict(case) -> None:
    shuffled = random.Random(case.name)
    records = list(case.records)
    for _ in range(5):
        shuffled.shuffle(records)
        assert verdict(records, case.connections, case.now).text == case.text


def test_there_are_thirty_calls_and_ten_recorded_ones() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 30
    assert sum(name.startswith(("jssip-", "sipjs-")) for name in names) >= 10


def test_nothing_is_a_retransmission_that_a_relay_or_proxy_passes_on() -> None:
    recorded = [case for case in CASES if case.name.startswith(("jssip-", "sipjs-"))]
    assert {case.name: fed(case.records).summary.retransmissions for case in recorded} == {
        case.name: 0 for case in recorded
    }


_ALL = [record for case in CASES for record in case.records]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_packets_in_any_order_give_a_verdict(data) -> None:
    case = data.draw(st.sampled_from(CASES))
    one = st.one_of(st.sampled_from(case.records), st.sampled_from(_ALL))
    records = data.draw(st.lists(one, max_size=40))
    records = [
        replace_payload(record, data.draw(st.integers(0, len(record.payload))))
        if data.draw(st.integers(0, 9)) == 0
        else record
        for record in records
    ]
    call = fed(records)
    now = data.draw(st.integers(-(10**6), 2 * case_files.START))
    found = verdict(records, data.draw(st.sampled_from([[], case.connections])), now)
    assert found.text.endswith(".")
    assert (call.summary.outcome == "open") == (not call.summary.ended)
    assert (call.summary.state == "ended") == bool(call.summary.ended)


def replace_payload(record: Record, end: int) -> Record:
    payload = record.payload[:end]
    sip = read_sip(payload) if record.kind is Kind.SIP else None
    kind = record.kind if record.kind is not Kind.SIP or sip is not None else Kind.OTHER
    return Record(
        record.at, kind, record.src, record.dst, payload, record.protocol_type, sip=sip
    )  # fmt: skip


def test_events_that_are_no_json_objects_are_passed_over() -> None:
    case = next(case for case in CASES if case.name == "bye-with-reason")
    at = case.records[0].at
    bad = [
        Record(at, Kind.EVENT, "a", "b", payload)
        for payload in (
            b"", b"[]", b"{", b"[" * 60_000, b"\xff", b'{"Event": "CLOSED", "Close_Code": []}',
        )
    ]  # fmt: skip
    found = verdict([*case.records, *bad], [], case.now)
    assert (found.text, found.notes) == (case.text, case.notes)


def test_no_packets_give_a_verdict() -> None:
    assert verdict([], [], 0).outcome == "open"


def named(name: str) -> case_files.Case:
    return next(case for case in CASES if case.name == name)


def test_call_to_a_user_who_has_just_disconnected() -> None:
    case = named("invite-sent-again")
    before = ConnectionSummary(
        "9", peer="198.51.100.2:5060", local="192.0.2.1:5060", aor="bob@example.com", code=1006,
        since=case.records[0].at - 600_000_000, until=case.records[0].at - 41_000_000,
    )  # fmt: skip
    note = "bob@example.com was not connected: the connection had closed with 1006 41 s before."
    assert note in verdict(case.records, [before], case.now).notes
    again = replace(before, id="10", since=before.until + 1, until=0, code=0)
    assert note not in verdict(case.records, [before, again], case.now).notes


def test_phone_of_several_that_is_lost_loses_no_call() -> None:
    case = named("jssip-forked")
    lost = [
        replace(each, until=case_files.microseconds(1.0), code=1006, state="closed")
        if each.peer.startswith("198.51.100.4:")
        else replace(each, until=0, code=0, state="open")
        for each in case.connections
    ]
    assert sum(bool(each.until) for each in lost) == 1
    ringing = [each for each in case.records if each.at < case_files.microseconds(1.2)]
    found = verdict(ringing, lost, case_files.microseconds(1.2))
    assert found.text == "Ringing for 1 s."
    assert found.outcome == "open"


def test_lost_caller_is_not_why_the_phone_did_not_answer() -> None:
    case = named("phone-lost-then-408")
    lost = replace(case.connections[0], peer="198.51.100.1:5060")
    found = verdict(case.records[:-1], [lost], case.now)
    assert found.text.startswith("No answer after 1 min 9 s of ringing: 408 Request Timeout ")
    assert found.outcome == "failed"
    assert found.notes[0].startswith("The caller's connection was closed ")


def test_connection_that_ended_before_a_later_message_of_its_address_loses_nothing() -> None:
    case = named("up")
    until = case_files.microseconds(2)
    ended = ConnectionSummary(
        "1", peer="198.51.100.2:5060", local="192.0.2.1:5060", until=until, code=1006
    )
    assert verdict(case.records, [ended], case.now).text == case.text
    assert verdict(case.records[:4], [ended], case.now).outcome == "lost"


def test_older_connection_of_the_user_is_no_new_registration() -> None:
    case = named("phone-lost")
    lost, later = case.connections
    older = replace(later, since=lost.since - 1)
    text = "No answer: the phone's connection closed with 1006, 41 s after its last message."
    assert verdict(case.records, [older, lost], case.now).text == text
    assert verdict(case.records, [older, later, lost], case.now).text == case.text


def test_phone_that_still_sends_has_not_lost_its_connection() -> None:
    case = named("phone-lost-then-408")
    ringing = next(each for each in case.records if each.payload.startswith(b"SIP/2.0 180"))
    later = replace(ringing, at=case_files.microseconds(60))
    found = verdict([*case.records, later], case.connections, case.now)
    assert found.outcome == "failed"


def test_other_connection_of_the_user_loses_no_call() -> None:
    case = named("phone-lost")
    other = ConnectionSummary(
        "7", peer="192.0.2.9:5060", local="192.0.2.1:40000", leg="upstream", closed_by="peer",
        since=1, until=case_files.microseconds(30), code=1006,
    )  # fmt: skip
    assert verdict(case.records, [other], case.now).text == "Ringing for 59 s."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jssip-busy", "Rejected by the phone of the callee: 486 Busy Here."),
        ("jssip-not-registered", "Rejected by 192.0.2.9:5060: 404 Not Found."),
        ("upstream-503", "Failed: 503 Service Unavailable from 192.0.2.9:5060."),
    ],
)
def test_without_connections_only_what_is_certain_is_said(name, text) -> None:
    case = named(name)
    messages = [record for record in case.records if record.kind is Kind.SIP]
    assert verdict(messages, [], case.now).text == text


def test_message_that_was_sent_twice() -> None:
    case = named("bye-with-reason")
    again = replace(case.records[0], at=case.records[0].at + 500_000)
    note = "The INVITE was sent 2 times."
    assert verdict([*case.records, again], [], case.now).notes == [*case.notes, note]


def test_upstream_is_lost() -> None:
    case = named("upstream-503")
    gone = [
        replace(each, until=case.records[1].at + 200_000, code=1006, closed_by="peer")
        if each.leg == "upstream"
        else each
        for each in case.connections
    ]
    found = verdict(case.records[:2], gone, case.now)
    assert found.outcome == "lost"
    assert found.text == "No answer: the upstream's connection closed with 1006."


def test_bye_that_a_server_sends_for_a_phone() -> None:
    case = named("jssip-answered")
    records = [
        each for each in case.records
        if not (each.src.startswith("198.51.100.2:") and each.payload.startswith(b"BYE "))
    ]  # fmt: skip
    note = "The upstream sent the BYE, not the phone of the callee."
    assert note not in verdict(case.records, case.connections, case.now).notes
    records = [
        each for each in records
        if not (each.dst.startswith("192.0.2.9:") and each.payload.startswith(b"BYE "))
    ]  # fmt: skip
    assert note in verdict(records, case.connections, case.now).notes


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s"), (0, "0 s"), (0.35, "0.3 s"), (1, "1 s"), (59.9, "59 s"), (60, "1 min"),
     (182, "3 min 2 s"), (3600, "1 h"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")],
)  # fmt: skip
def test_spans_of_time(seconds, said) -> None:
    assert spoken(round(seconds * 1_000_000)) == said
