"""A call in a list, message by message."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hep.view.model.calls import Call
from hep.view.model.record import Kind, Record, read_sip

ALICE, PROXY, BOB, CAROL = "10.0.0.1:5060", "10.0.0.9:5060", "10.0.0.2:5060", "10.0.0.3:5060"

Message = Callable[..., Record]


@pytest.fixture
def message() -> Message:
    """A message, a second after the one before: ``message("INVITE", cseq=2)``, ``message(486)``."""
    times: Iterator[int] = iter(range(1_000_000, 10**12, 1_000_000))

    def make(
        what: str | int,
        of: str = "INVITE",
        *,
        src: str = ALICE,
        dst: str = PROXY,
        cseq: int = 1,
        branch: str = "z9hG4bK-a",
        caller: str = "a",
        callee: str = "",
        back: bool = False,
        more: str = "",
    ) -> Record:
        first = f"{what} sip:bob@example.com SIP/2.0"
        method = what
        if isinstance(what, int):
            src, dst = dst, src
            first, method = f"SIP/2.0 {what} Reason", of
        parties = [f"<sip:alice@example.com>;tag={caller}", "<sip:bob@example.com>"]
        if callee:
            parties[1] += f";tag={callee}"
        if back:
            parties.reverse()
            if isinstance(what, str):
                src, dst = dst, src
        head = (
            f"{first}\r\nVia: SIP/2.0/UDP {src};branch={branch}\r\nFrom: {parties[0]}\r\n"
            f"To: {parties[1]}\r\nCall-ID: c1\r\nCSeq: {cseq} {method}\r\n"
            f"User-Agent: Phone\r\n{more}\r\n"
        )
        payload = head.encode()
        return Record(next(times), Kind.SIP, src, dst, payload, sip=read_sip(payload))

    return make


def fed(*records: Record) -> Call:
    call = Call("c1")
    for record in records:
        call.feed(record)
    return call


def row(call: Call) -> tuple[str, str, int, str]:
    summary = call.summary
    return summary.state, summary.outcome, summary.code, summary.ended


def test_call_is_answered_and_ended_by_the_callee(message) -> None:
    call = fed(message("INVITE"), message(100))
    assert row(call) == ("trying", "open", 0, "")
    call.feed(message(180, callee="b"))
    assert row(call) == ("ringing", "open", 0, "")
    call.feed(message(200, callee="b"))
    assert row(call) == ("answered", "open", 200, "")
    call.feed(message("ACK", callee="b", branch="z9hG4bK-b"))
    call.feed(message("BYE", callee="b", back=True))
    assert row(call) == ("ended", "ok", 200, "BYE of the callee")
    assert (call.summary.answered_at, call.summary.ended_at) == (4_000_000, 6_000_000)
    assert (call.summary.from_user, call.summary.to_user) == ("alice", "bob")
    assert call.summary.user_agent == "Phone"
    assert call.summary.addresses == [ALICE, PROXY]


def test_challenge_that_is_answered_is_no_rejection(message) -> None:
    call = fed(message("INVITE"), message(407, callee="p"))
    assert row(call) == ("ended", "rejected", 407, "407 Reason")
    call.feed(message("ACK", callee="p"))
    call.feed(message("INVITE", cseq=2, branch="z9hG4bK-b"))
    assert row(call) == ("trying", "open", 0, "")
    call.feed(message(486, cseq=2, branch="z9hG4bK-b", callee="b"))
    assert row(call) == ("ended", "rejected", 486, "486 Reason")


def test_late_challenge_changes_nothing(message) -> None:
    challenge = message(407, callee="p")
    call = fed(message("INVITE"), message("INVITE", cseq=2, branch="z9hG4bK-b"), challenge)
    assert row(call) == ("trying", "open", 0, "")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(302, "rejected"), (404, "rejected"), (408, "failed"), (480, "rejected"), (503, "failed"),
     (603, "rejected"), (487, "cancelled")],
)  # fmt: skip
def test_outcome_of_a_final_response(message, status, outcome) -> None:
    assert fed(message("INVITE"), message(status)).summary.outcome == outcome


def test_caller_cancels(message) -> None:
    call = fed(message("INVITE"), message(180, callee="b"), message("CANCEL"))
    assert row(call) == ("ended", "cancelled", 0, "cancelled by the caller")
    call.feed(message(487, callee="b"))
    assert row(call) == ("ended", "cancelled", 487, "cancelled by the caller")
    assert call.summary.ended_at == 3_000_000


def test_answer_crosses_the_cancel(message) -> None:
    call = fed(message("INVITE"), message("CANCEL"), message(200, callee="b"))
    assert row(call) == ("answered", "open", 200, "")
    call.feed(message("BYE", cseq=2, callee="b"))
    assert row(call) == ("ended", "cancelled", 200, "cancelled by the caller")


def test_cancel_of_a_proxy_is_not_the_callers(message) -> None:
    call = fed(
        message("INVITE"),
        message("INVITE", src=PROXY, dst=BOB, branch="z9hG4bK-p1"),
        message("INVITE", src=PROXY, dst=CAROL, branch="z9hG4bK-p2"),
        message(200, src=PROXY, dst=BOB, branch="z9hG4bK-p1", callee="b"),
        message("CANCEL", src=PROXY, dst=CAROL, branch="z9hG4bK-p2"),
        message(487, src=PROXY, dst=CAROL, branch="z9hG4bK-p2", callee="c"),
    )
    assert row(call) == ("answered", "open", 200, "")


def test_phone_that_declines_does_not_end_a_call_that_another_may_answer(message) -> None:
    call = fed(
        message("INVITE"),
        message("INVITE", src=PROXY, dst=BOB, branch="z9hG4bK-p1"),
        message(486, src=PROXY, dst=BOB, branch="z9hG4bK-p1", callee="b"),
    )
    assert row(call) == ("trying", "open", 0, "")
    call.feed(message(486, callee="b"))
    assert row(call) == ("ended", "rejected", 486, "486 Reason")


def test_two_answers_need_two_byes(message) -> None:
    call = fed(
        message("INVITE"), message(200, callee="b"), message(200, callee="c"),
        message("BYE", cseq=2, callee="c"),
    )  # fmt: skip
    assert row(call) == ("answered", "open", 200, "")
    call.feed(message("BYE", cseq=3, callee="b", back=True))
    assert row(call) == ("ended", "ok", 200, "BYE of the callee")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, ("answered", "open", 200, "")), (488, ("answered", "open", 200, "")),
     (491, ("answered", "open", 200, "")), (481, ("ended", "failed", 200, "481 Reason")),
     (408, ("ended", "failed", 200, "408 Reason"))],
)  # fmt: skip
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_request_within_the_call(message, method, back, status, expected) -> None:
    call = fed(
        message("INVITE"),
        message(200, callee="b"),
        message(method, cseq=2, callee="b", branch="z9hG4bK-r", back=back),
        message(status, method, cseq=2, callee="b", branch="z9hG4bK-r", back=back),
    )
    assert row(call) == expected


def test_retransmission_and_copy(message) -> None:
    invite = message("INVITE")
    again = replace(invite, at=invite.at + 500_000)
    copy = replace(invite, src=PROXY, dst=BOB)
    other_agent = replace(invite, capture_id=7)
    call = fed(invite, again, copy, other_agent)
    assert (call.summary.messages, call.summary.retransmissions) == (4, 1)


def test_invite_that_nothing_answers(message) -> None:
    invite = message("INVITE")
    sent = [replace(invite, at=at * 1_000_000) for at in (0, 1, 2, 4, 8, 16, 32)]
    assert row(fed(*sent[:6])) == ("trying", "open", 0, "")
    assert row(fed(*sent)) == ("ended", "failed", 0, "no answer")
    assert row(fed(message(100), *sent)) == ("trying", "open", 0, "")
    assert row(fed(*sent, message(180, callee="b"))) == ("ringing", "open", 0, "")


def test_start_is_missing(message) -> None:
    assert row(fed(message("INFO", callee="b"))) == ("unknown", "open", 0, "")
    assert row(fed(message("INVITE", cseq=4, callee="b"))) == ("answered", "open", 0, "")
    assert row(fed(message(200, callee="b"))) == ("answered", "open", 200, "")
    assert row(fed(message("BYE", callee="b"))) == ("ended", "ok", 0, "BYE")
    call = fed(message(200, callee="b"), message("BYE", callee="b", back=True))
    assert row(call) == ("ended", "ok", 200, "BYE of the callee")
    assert (call.summary.kind, call.summary.method) == ("call", "INVITE")
    assert not call.has_start


def test_connection_is_lost_until_another_message(message) -> None:
    call = fed(message("INVITE"), message(180, callee="b"))
    call.lose(3_000_000)
    assert row(call) == ("ended", "lost", 0, "connection lost")
    message("wait")
    call.feed(message("PRACK", callee="b"))
    assert row(call) == ("ringing", "open", 0, "")
    call.feed(message(200, callee="b"))
    call.feed(message("BYE", callee="b"))
    call.lose(9_000_000)
    assert row(call) == ("ended", "ok", 200, "BYE of the caller")


def test_connections_that_a_call_needs(message) -> None:
    invite = message("INVITE")
    call = fed(
        invite,
        replace(invite, src=PROXY, dst=BOB),
        message(180, src=PROXY, dst=BOB, callee="b"),
    )
    assert [call.needs(each) for each in (ALICE, BOB, CAROL, "")] == [True, False, False, False]
    answer = message(200, src=PROXY, dst=BOB, callee="b")
    copy = replace(answer, src=PROXY, dst=ALICE, at=answer.at + 1)
    call = fed(invite, copy, answer)
    assert [call.needs(each) for each in (ALICE, BOB, PROXY)] == [True, True, False]


def test_second_call_with_the_same_call_id(message) -> None:
    call = fed(message("INVITE"), message(200, callee="b"), message("BYE", callee="b", cseq=2))
    call.feed(message("INVITE", cseq=3, branch="z9hG4bK-n", caller="n"))
    assert row(call) == ("trying", "open", 0, "")


CONTACT = "Contact: <sip:alice@10.0.0.1>"


def test_registration(message) -> None:
    call = fed(
        message("REGISTER", more=f"{CONTACT};expires=600\r\n"),
        message(401, "REGISTER"),
    )
    assert row(call) == ("ended", "rejected", 401, "401 Reason")
    call.feed(message("REGISTER", cseq=2, more=f"{CONTACT};expires=600\r\n"))
    assert row(call) == ("trying", "open", 0, "")
    others = "Contact: <sip:alice@10.0.0.7>;expires=5, <sip:alice@10.0.0.1>;expires=120\r\n"
    call.feed(message(200, "REGISTER", cseq=2, more=others))
    assert row(call) == ("ended", "ok", 200, "registered for 120 s")
    call.feed(message("REGISTER", cseq=3, more=f"{CONTACT};expires=600\r\n"))
    call.feed(message(403, "REGISTER", cseq=3))
    assert row(call) == ("ended", "rejected", 403, "403 Reason")
    assert call.summary.kind == "registration"


def test_registration_whose_contact_has_no_expires_of_its_own(message) -> None:
    contacts = f"{CONTACT}, <sip:alice@10.0.0.7>;expires=5\r\nExpires: 300\r\n"
    call = fed(message("REGISTER", more=f"{CONTACT}\r\n"), message(200, "REGISTER", more=contacts))
    assert call.summary.ended == "registered for 300 s"


@pytest.mark.parametrize(
    "more", [f"{CONTACT};expires=0\r\n", "Contact: *\r\nExpires: 0\r\n", "m: *\r\nExpires: 0\r\n"]
)
def test_unregistration(message, more) -> None:
    call = fed(message("REGISTER", more=more), message(200, "REGISTER"))
    assert row(call) == ("ended", "ok", 200, "unregistered")


def test_subscription(message) -> None:
    call = fed(message("SUBSCRIBE", more="Expires: 60\r\n"), message(202, "SUBSCRIBE", callee="b"))
    assert row(call) == ("ended", "ok", 202, "subscribed")
    call.feed(message("NOTIFY", back=True, callee="b", more="Subscription-State: active\r\n"))
    assert row(call) == ("ended", "ok", 202, "subscribed")
    end = "Subscription-State: terminated;reason=timeout\r\n"
    call.feed(message("NOTIFY", back=True, cseq=2, callee="b", more=end))
    assert row(call) == ("ended", "ok", 202, "terminated: timeout")


@pytest.mark.parametrize(
    ("method", "kind"),
    [("OPTIONS", "options"), ("MESSAGE", "message"), ("PUBLISH", "subscription"),
     ("INFO", "other"), ("FOO", "other")],
)  # fmt: skip
def test_other_transaction(message, method, kind) -> None:
    call = fed(message(method), message(100, method))
    assert (call.summary.kind, *row(call)) == (kind, "trying", "open", 0, "")
    call.feed(message(404, method))
    assert row(call) == ("ended", "rejected", 404, "404 Reason")


def test_order_of_arrival_does_not_matter_for_a_whole_call(message) -> None:
    records = [
        message("INVITE"), message(407, callee="p"), message("ACK", callee="p"),
        message("INVITE", cseq=2, branch="z9hG4bK-b"),
        message(180, cseq=2, branch="z9hG4bK-b", callee="b"),
        message(200, cseq=2, branch="z9hG4bK-b", callee="b"),
        message("ACK", cseq=2, branch="z9hG4bK-c", callee="b"),
        message("BYE", back=True, callee="b", branch="z9hG4bK-d"),
        message(200, "BYE", back=True, callee="b", branch="z9hG4bK-d"),
    ]  # fmt: skip
    expected = row(fed(*records))
    assert expected == ("ended", "ok", 200, "BYE of the callee")
    shuffled = random.Random(1)
    for _ in range(300):
        shuffled.shuffle(records)
        call = fed(*records)
        assert row(call) == expected
        assert (call.summary.first, call.summary.last) == (1_000_000, 9_000_000)
        assert call.summary.from_user == "alice"


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "BYE"])
def test_memory_of_a_call_is_bounded(message, method) -> None:
    records = []
    for number in range(1000):
        name = str(number)
        records += [
            message(method, src=f"10.1.1.1:{number}", caller=name, branch=name),
            message(200, method, caller=name, callee=name, branch=name),
            message("BYE", caller=name, callee=name, branch=name),
        ]
    call = fed(*records[:600])
    tracemalloc.start()
    for record in records[600:]:
        call.feed(record)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 20_000
    assert len(call.summary.addresses) <= 32


def test_memory_of_a_forked_call_is_bounded(message) -> None:
    tags = [str(number) for number in range(2000)]
    records = [
        *(message(200, callee=tag) for tag in tags),
        *(message("BYE", cseq=2, callee=tag) for tag in tags),
        *(message(180, callee=tag) for tag in tags),
    ]
    call = fed(message("INVITE"))
    tracemalloc.start()
    for record in records:
        call.feed(record)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 40_000
