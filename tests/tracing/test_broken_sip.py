"""SIP that is written as collectors do not expect it: what stands in front, what is missing."""

import base64
import itertools
import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hep
from hep.homer.fate import fate
from sipws import Address, Bus, Listener
from sipws.events import Connection, ErrorKind, ErrorOccurred
from sipws.masking.handshakes import Masking
from sipws.request import UpgradeRequest
from sipws.tracing.messages import MessageRules, what_is_broken
from sipws.tracing.tracer import BROKEN_ALL, BROKEN_EVERY, TraceSettings
from tests.tracing.test_messages import SIP, Traced, answer, message

CONNECTION = Connection(
    id=7,
    listener=Listener.parse("ws:10.0.0.1:8080"),
    local=Address("10.0.0.1", 8080),
    peer=Address("192.0.2.5", 50123),
    started=1000.0,
)


def traced_of(data: bytes, *, incoming: bool = True) -> tuple[Traced, list[dict[str, str]]]:
    """What is traced of a message, and the events among it."""
    traced = Traced(Bus(), CONNECTION, SIP)
    (traced.receive if incoming else traced.send)(data)
    events = [p for p in traced.packets if p.protocol_type == hep.ProtocolType.NET]
    return traced, [json.loads(packet.payload) for packet in events]


def sip_of(traced: Traced) -> list[hep.Packet]:
    return [p for p in traced.packets if p.protocol_type == hep.ProtocolType.SIP]


USUAL = message("c1", "OPTIONS", "User-Agent: x\r\n")
CSEQ_FIRST = USUAL.replace(
    b"Call-ID: c1\r\nCSeq: 1 OPTIONS\r\n", b"CSeq: 1 OPTIONS\r\nCall-ID: c1\r\n"
)
APART = USUAL.replace(b"CSeq", b"Max-Forwards: 70\r\nCSeq")
SOUND = [
    USUAL,
    CSEQ_FIRST,
    APART,
    answer(),
    USUAL.replace(b"Call-ID", b"i"),
    USUAL.replace(b"Call-ID: ", b"CALL-ID :"),
    CSEQ_FIRST.replace(b"Call-ID", b"i"),
    USUAL.replace(b"From", b"Contact: <sip:a@b>\r\nFrom"),
    USUAL.replace(b"User", b"Call-ID: c1\r\nUser"),
    USUAL + b"v=0\r\nCall-ID: c2\r\n",
    USUAL.replace(b"sip:bob@", b"sip:bob smith@"),
]


@pytest.mark.parametrize("sip", SOUND)
@pytest.mark.parametrize("incoming", [True, False])
def test_sound_sip_is_traced_and_nothing_is_said_of_it(sip: bytes, incoming: bool) -> None:
    traced, events = traced_of(sip, incoming=incoming)
    [packet] = sip_of(traced)
    assert (packet.payload, packet.correlation_id) == (sip, b"c1")
    assert events == []
    assert not traced.tracer.counters["broken_sip"]


@given(st.text("\r\n", max_size=9).map(str.encode), st.sampled_from(SOUND), st.booleans())
def test_line_ends_in_front_are_no_part_of_what_is_traced(prefix, sip, incoming) -> None:
    traced, events = traced_of(prefix + sip, incoming=incoming)
    assert [(p.payload, p.correlation_id) for p in traced.packets] == [(sip, b"c1")]
    assert events == []


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        (b"\xef\xbb\xbf", "it starts with a byte order mark (EF BB BF)"),
        (b"\r\n\xef\xbb\xbf", "it starts with a byte order mark (EF BB BF)"),
        (b" ", "it starts with a blank (20)"),
        (b"\t", "it starts with a blank (09)"),
        (b"  ", "it starts with blanks (20 20)"),
        (b"\x00", "the bytes 00 stand in front of its start line"),
        (b" \r\n", "the bytes 20 0D 0A stand in front of its start line"),
    ],
)
@pytest.mark.parametrize("sip", [USUAL, answer()])
def test_what_else_stands_in_front_makes_it_no_sip(prefix: bytes, said: str, sip: bytes) -> None:
    traced, [event] = traced_of(prefix + sip)
    assert sip_of(traced) == []
    assert event["Error"] == "no-sip"
    assert event["Message"] == f"a message was received that is not SIP: {said}"
    assert event["Ws_Message_Bytes"] == str(len(prefix + sip))
    assert traced.tracer.counters["no_sip"] == 1


BROKEN = [
    (USUAL.replace(b"CSeq: 1 OPTIONS\r\n", b""), "no CSeq", "c1"),
    (USUAL.replace(b"1 OPTIONS", b"\r\n 1 OPTIONS"), "the CSeq is folded onto the next line", "c1"),
    (USUAL.replace(b"1 OPTIONS", b"OPTIONS"), "CSeq 'OPTIONS' is not a number", "c1"),
    (USUAL.replace(b"1 OPTIONS", b"1"), "CSeq '1' is not a number with a method", "c1"),
    (USUAL.replace(b"OPTIONS", b"GO"), "CSeq '1 GO' is not a number with a method", "c1"),
    (USUAL.replace(b"Call-ID: c1\r\n", b""), "no Call-ID", None),
    (USUAL.replace(b"Call-ID: c1", b"Call-ID: "), "the Call-ID is empty", None),
    (
        USUAL.replace(b"Call-ID: c1", b"Call-ID:\r\n c1"),
        "the Call-ID is folded onto the next line",
        "c1",
    ),
    (USUAL.replace(b"Call-ID: c1", b"i:\r\n\tc1"), "the Call-ID is folded", "c1"),
    (
        USUAL.replace(b"User", b"Call-ID: c2\r\nUser"),
        "2 Call-IDs, the first 'c1', the last 'c2'",
        "c1",
    ),
    (CSEQ_FIRST.replace(b"User", b"Call-ID: c2\r\nUser"), "2 Call-IDs", "c1"),
    (APART.replace(b"User", b"Call-ID: c2\r\nUser"), "2 Call-IDs", "c1"),
    (USUAL.replace(b"Call-ID", b"i").replace(b"User", b"i: c2\r\nUser"), "2 Call-IDs", "c1"),
    (USUAL.replace(b"Call-ID: c1\r\n", b"Call-ID: c1\r\nCall-ID: c2\r\n"), "2 Call-IDs", "c1"),
    (USUAL.replace(b"Call-ID: c1\r\n", b"i: c1\r\nCall-ID: c2\r\n"), "2 Call-IDs", "c1"),
    (USUAL.replace(b"Call-ID", b"CALL-id"), "Call-ID is written 'CALL-id'", "c1"),
    (CSEQ_FIRST.replace(b"Call-ID", b"cAll-ID"), "Call-ID is written 'cAll-ID'", "c1"),
    (USUAL.replace(b"CSeq", b"CSEq"), "CSeq is written 'CSEq'", "c1"),
    (USUAL.replace(b"\r\n", b"\n"), "lines end in LF alone", "c1"),
    (USUAL.replace(b"c1\r\n", b"c1\n"), "lines end in LF alone", "c1"),
    (b"OPTIONS sip:a SIP/2.0\r\n\r\n", "it has 25 bytes, and at least 33 are needed", None),
    (b"SIP/2.0 200 OK\r\n" + b"i:c1\r\n\r\n", "it has 24 bytes", "c1"),
    (b"OPTIONS sip:somebody@example.com SIP/2.0", "no Call-ID; no CSeq", None),
    (b"SIP/2.0 200 OK\r\nServer: somebody\r\n\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n", "no C", None),
    (USUAL.replace(b"\r\n", b"\r"), "no C", None),
]


@pytest.mark.parametrize(("sip", "said", "call"), BROKEN)
def test_sip_that_collectors_lose_is_traced_and_told(sip: bytes, said: str, call) -> None:
    traced, [event] = traced_of(sip)
    # Others than Homer take it.
    [packet] = sip_of(traced)
    assert packet.payload == sip
    assert (packet.correlation_id or b"").decode() == (call or "")
    assert event["Event"] == "MESSAGE"
    assert event["Error"] == "broken-sip"
    assert event["Message"].startswith("a SIP message was received that collectors drop or misfile")
    assert said in event["Message"]
    assert event["Ws_Message"].encode() == sip[:500]
    assert event.get("Call_ID") == call
    assert traced.tracer.counters["broken_sip"] == 1


LONG = b"x" * 3000


@pytest.mark.parametrize(
    ("sip", "what"),
    [
        (USUAL.replace(b"c1", LONG), "Call-ID"),
        (USUAL.replace(b"Call-ID: c1", b"i : " + LONG), "Call-ID"),
        (USUAL.replace(b"OPTIONS sip:", b"OPTIONS sip:" + LONG), "start line"),
        (USUAL.replace(b"From: ", b"FROM: sip:" + LONG), "From"),
        (USUAL.replace(b"From: ", b"f:sip:" + LONG), "From"),
        (USUAL.replace(b"To: ", b"To: sip:" + LONG), "To"),
        (USUAL.replace(b"1 OPTIONS", b"1 " + LONG.upper()), "CSeq"),
        (answer().replace(b"c1", LONG), "Call-ID"),
        (USUAL.replace(b"c1", LONG) + b"v=0\r\n" * 9, "Call-ID"),
        # As heplify-server reads lines and names.
        (USUAL.replace(b"To: ", b" To: sip:" + LONG), "To"),
        (USUAL.replace(b"To: ", b"X: 1\nTo: sip:" + LONG), "To"),
        (USUAL.replace(b"To: ", b"X: 1\r\n\nXTo: sip:" + LONG), "To"),
        (USUAL.replace(b"To: ", b"X: 1\r\n\n\r\nXTo: sip:" + LONG), "To"),
        (USUAL.replace(b"From: ", b"X: 1\r\n\nFrom: sip:" + LONG), "From"),
        (USUAL.replace(b"To: ", b"T\0\xffo: sip:" + LONG), "To"),
        (USUAL.replace(b"User-Agent: x", b"Ab: sip:" + LONG), "To"),
        (USUAL.replace(b"User-Agent: x", b"\rx: sip:" + LONG), "To"),
        (USUAL.replace(b"User-Agent: x", b"P-Asserted-Identity: sip:" + LONG), "P-Asserted-I"),
        (
            USUAL.replace(b"User-Agent: x", b'Authorization: Digest username="' + LONG + b'"'),
            "Authorization",
        ),
    ],
)
@pytest.mark.parametrize("incoming", [True, False])
def test_sip_that_would_take_that_of_others_along_is_told_and_not_sent(sip, what, incoming) -> None:
    traced, [event] = traced_of(sip, incoming=incoming)
    assert sip_of(traced) == []
    assert event["Error"] == "broken-sip"
    assert f"the {what}" in event["Message"]
    assert " has 3" in event["Message"]
    assert traced.tracer.counters["withheld"] == 1
    assert traced.tracer.counters["broken_sip"] == 0


def test_other_long_headers_and_bodies_do_not_matter() -> None:
    traced = Traced(Bus(), CONNECTION, SIP)
    traced.receive(USUAL.replace(b"User-Agent: ", b"User-Agent: " + LONG))
    traced.receive(USUAL.replace(b"User-Agent: ", b"Authorization: Bearer " + LONG))
    traced.receive(USUAL + LONG)
    traced.receive(USUAL + b"\r\nTo: " + LONG + b"\r\n\r\n")
    traced.receive(USUAL.replace(b"c1", b"c" * 2500))
    assert len(sip_of(traced)) == len(traced.packets) == 5


NOT_SEEN = (
    "2 Call-IDs",
    "has no URI",
    "has no blank and credentials",
    "start line is",
    # An LF within the start line.
    "is not a start line",
)


def test_of_a_flood_of_broken_sip_not_each_is_told() -> None:
    traced = Traced(Bus(), CONNECTION, SIP)
    broken = BROKEN[0][0]
    for _ in range(3 * BROKEN_EVERY):
        traced.receive(broken)
    assert traced.tracer.counters["broken_sip"] == 3 * BROKEN_EVERY
    assert len(sip_of(traced)) == 3 * BROKEN_EVERY
    assert len(traced.packets) - len(sip_of(traced)) == BROKEN_ALL + 3


def test_broken_sip_that_is_left_out_is_not_told() -> None:
    rules = MessageRules(methods=frozenset({"INVITE"}))
    traced = Traced(Bus(), CONNECTION, TraceSettings(trace_sip=True, messages=rules))
    traced.receive(BROKEN[0][0])
    assert traced.packets == []
    assert (traced.tracer.counters["broken_sip"], traced.tracer.counters["left_out"]) == (0, 1)


def test_broken_sip_is_only_counted_where_events_are_not_traced() -> None:
    traced = Traced(Bus(), CONNECTION, TraceSettings(trace_sip=True, trace_events=False))
    traced.receive(BROKEN[0][0])
    assert traced.payloads == [BROKEN[0][0]]
    assert traced.tracer.counters["broken_sip"] == 1


def test_broken_sip_is_told_without_the_credentials_of_its_connection() -> None:
    request = UpgradeRequest(b"GET /?token=topsecret HTTP/1.1\r\n\r\n")
    traced = Traced(Bus(), CONNECTION.with_request(request), SIP)
    traced.receive(
        b"OPTIONS sip:topsecret SIP/2.0\r\nCall-ID: topsecret\r\nCall-ID: topsecret2\r\n\r\n"
    )
    event = json.loads(traced.payloads[0])
    assert event["Error"] == "broken-sip"
    assert "topsecret" not in json.dumps(event)


DAMAGE = st.tuples(st.integers(0, 200), st.integers(0, 30), st.binary(max_size=12))


@example(
    # An empty line of LF alone ends the head, though lines before it end in CRLF.
    b"OPTIONS sip:a@b SIP/2.0\r\nFrom: <sip:a@b>;tag=1\r\n\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n"
    b"Call-ID: c1\r\nUser-Agent: x\r\n\r\n",
    [],
)
@given(st.sampled_from(SOUND), st.lists(DAMAGE, max_size=4))
def test_whatever_is_damaged_is_traced_or_told(sip: bytes, damages) -> None:
    for at, gone, added in damages:
        sip = sip[:at] + added + sip[at + gone :]
    traced, events = traced_of(sip)
    counters = traced.tracer.counters
    if not sip.strip(b"\r\n"):
        assert traced.packets == []
    elif counters["no_sip"]:
        assert sip_of(traced) == []
        assert [event["Error"] for event in events] == ["no-sip"]
    else:
        [packet] = sip_of(traced)
        assert packet.payload == sip.lstrip(b"\r\n")
        # Nothing that is broken passes the short look, but a Call-ID in yet another spelling and
        # headers that it does not look at.
        why = what_is_broken(packet.payload)
        said = [event["Error"] for event in events]
        assert said == ["broken-sip"] * bool(why) or any(each in why for each in NOT_SEEN)
        assert counters["broken_sip"] == len(events)


@pytest.mark.parametrize(
    "line", [b"C:\r\n", b"i:\r\n", b"\r", b"Contact: \r\n", b" ", b"CSeq: 1\r\n"]
)
def test_hostile_heads_are_read_in_linear_time(line: bytes) -> None:
    # Tried in every way, they would take minutes.
    traced_of(b"OPTIONS sip:a SIP/2.0\r\n" + line * (60_000 // len(line)))


def test_an_error_is_told_with_what_had_come_of_its_message() -> None:
    traced = Traced(Bus(), CONNECTION, SIP)
    begun = b"INVITE sip:bob@example.com SIP/2.0\r\nX: \xff"
    event = ErrorOccurred(
        CONNECTION, 1003.0, ErrorKind.BAD_UTF8, "bad", excerpt=begun, call_id=b"c9"
    )
    traced.bus.publish(event)
    told, line = traced.packets
    parts = json.loads(told.payload)
    assert parts["Call_ID"] == "c9"
    assert parts["Ws_Message"] == "INVITE sip:bob@example.com SIP/2.0\r\nX: \\xff"
    assert (line.protocol_type, line.correlation_id) == (hep.ProtocolType.LOG, b"c9")


@pytest.mark.parametrize("masking", [Masking(), None])
def test_what_an_error_quotes_has_no_credentials(masking: Masking | None) -> None:
    request = UpgradeRequest(b"GET /?token=topsecret HTTP/1.1\r\n\r\n")
    settings = TraceSettings(trace_sip=True, masking=masking)
    traced = Traced(Bus(), CONNECTION.with_request(request), settings)
    begun = b"REGISTER sip:topsecret SIP/2.0\r\nAuthorization: Bearer abcdefgh\r\nX: \xff"
    traced.bus.publish(
        ErrorOccurred(traced.connection, 1003.0, ErrorKind.BAD_UTF8, "bad", excerpt=begun)
    )
    [packet] = traced.packets
    told = json.loads(packet.payload)["Ws_Message"]
    assert "abcdefgh" not in told
    assert ("topsecret" in told) is (masking is None)


def test_broken_sip_is_told_without_its_tokens() -> None:
    bearer = USUAL.replace(b"CSeq: 1 OPTIONS", b"Authorization: Bearer abcdefgh")
    traced, _ = traced_of(bearer)
    assert not any(b"abcdefgh" in payload for payload in traced.payloads)


NAMES = [
    b"From", b"f", b"F", b"To", b"t", b"T", b"Xx", b"Call-ID", b"i", b"CALL-ID", b"CSeq", b"m",
    b"X-A", b"To\xff", b"Fr\0om", b"\xfft", b"\xc3\xa9", b" To", b"\tFrom", b"To ", b"\rm", b"",
]  # fmt: skip
LINE_BREAKS = [
    b"\r\n", b"\n", b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r\n", b"\r\n ", b"\r\0\n", b"\r\n\r",
    b"\0\n", b"\r\n\r\n",
]  # fmt: skip
RANDOM = base64.b32encode(random.Random(1).randbytes(1900)).lower()
VALUES = [b"a", b"1 INVITE", b"sip:%b" % RANDOM, b"<sip:%b@a>" % RANDOM, b"tel:%b" % RANDOM, RANDOM]
STARTS = [b"INVITE sip:b@a SIP/2.0", b"SIP/2.0 200 OK", b"INVITE sip:%b@a SIP/2.0" % RANDOM]
lines = st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)).map(b":".join)
whole = st.lists(lines, max_size=5).flatmap(
    lambda found: st.permutations([b"Call-ID: c1", b"CSeq: 1 INVITE", *found])
)


@given(st.sampled_from(STARTS), whole, st.lists(st.sampled_from(LINE_BREAKS), min_size=1))
def test_no_sip_that_is_sent_takes_that_of_others_along(start, found, breaks) -> None:
    between = itertools.cycle(breaks)
    sip = b"".join(line + next(between) for line in [start, *found]) + b"\r\n\r\n"
    for packet in sip_of(traced_of(sip)[0]):
        now = packet.seconds + packet.microseconds / 1e6
        assert not fate(hep.encode(packet), now=now).poisons
