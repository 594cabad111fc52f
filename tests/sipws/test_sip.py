"""A look at SIP messages."""

from typing import Any

import pytest

from sipws import Address, sip
from sipws.service.responder import respond
from sipws.sip import Message, Request, call_id, flow_timer, response, split_values
from sipws.transport.registrations import Registrations

MESSAGE = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b"v: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    b"f: <sip:a@example.com>;tag=1\r\n"
    b"To : <sip:a@example.com>\r\n"
    b"i:  abc@a.invalid \r\n"
    b"CSeq: 1\r\n"
    b"  REGISTER\r\n"
    b"\r\n"
    b"Call-ID: in the body\r\n"
)


def test_headers_are_found_by_their_long_name() -> None:
    message = Message.parse(MESSAGE)
    assert message is not None
    assert message.is_request
    assert message.method == "REGISTER"
    assert message.get("via") == "SIP/2.0/WS a.invalid;branch=z9hG4bK1"
    assert message.get("to") == "<sip:a@example.com>"
    assert message.get("cseq") == "1 REGISTER"
    assert message.get("contact") is None
    assert message.get_all("call-id") == ["abc@a.invalid"]


def test_what_is_no_sip_is_none() -> None:
    for data in (b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff", b"hello"):
        assert Message.parse(data) is None


def test_the_call_id_is_found_without_parsing() -> None:
    assert call_id(MESSAGE) == b"abc@a.invalid"
    assert call_id(b"SIP/2.0 200 OK\r\nCALL-ID: x\r\n\r\n") == b"x"
    assert call_id(b"SIP/2.0 200 OK\nCall-ID:x\n\n") == b"x"
    assert call_id(b"SIP/2.0 200 OK\r\nCall-ID:\r\n x\r\n\r\n") == b"x"
    assert call_id(b"SIP/2.0 200 OK\r\ni : \r\n\t  x \r\nTo: a\r\n\r\n") == b"x"
    assert call_id(b"SIP/2.0 200 OK\r\nCall-ID:\r\nTo: a\r\n\r\n") is None


def test_a_call_id_in_the_body_is_none() -> None:
    assert call_id(b"MESSAGE sip:a SIP/2.0\r\nTo: a\r\n\r\nx\r\nCall-ID: no\r\n") is None
    assert call_id(b"no sip at all") is None


def test_a_flow_timer_is_found_in_the_head_of_a_success_alone() -> None:
    assert flow_timer(b"SIP/2.0 200 OK\r\nTo: a\r\nflow-timer : 25 \r\n\r\n") == 25
    assert flow_timer(b"SIP/2.0 200 OK\r\nFlow-Timer: 25\r\n\r\n") == 25
    assert flow_timer(b"SIP/2.0 200 OK\r\nTo: a\r\n\r\nx\r\nFlow-Timer: 25\r\n\r\n") is None
    assert flow_timer(b"SIP/2.0 200 OK\r\nFlow-Timer: 0\r\n\r\n") is None
    assert flow_timer(b"SIP/2.0 503 No\r\nFlow-Timer: 25\r\n\r\n") is None
    assert flow_timer(b"OPTIONS sip:a SIP/2.0\r\nFlow-Timer: 25\r\n\r\n") is None


def test_values_are_split_outside_quotes_and_brackets() -> None:
    assert split_values('"a, b" <sip:c@d;x="1,2">, <sip:e,f@g>;q=1 , *') == [
        '"a, b" <sip:c@d;x="1,2">',
        "<sip:e,f@g>;q=1",
        "*",
    ]
    assert split_values(r'"a\", b" <sip:c>') == [r'"a\", b" <sip:c>']


@pytest.mark.parametrize("message", [b"O s SIP/2.0\r\nCall-ID: abc", b"O s SIP/2.0\nCall-ID: abc"])
def test_a_message_that_ends_in_its_call_id_has_all_of_it(message: bytes) -> None:
    assert call_id(message) == b"abc"


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"Call-ID:" + b" " * 65_000, None),
        (b"i:" + b"\t " * 32_000, None),
        (b"call-id" + b" " * 65_000, None),
        (b"Call-ID:\r\n" + b" " * 65_000, None),
        (b"Call-ID: a" + b" " * 65_000 + b"b", b"a" + b" " * 65_000 + b"b"),
        (b"i:\r\n \r\n" * 6_000, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_blanks_without_end_are_read_once(head: bytes, found: bytes | None) -> None:
    # Tried in every way, these would take most of a minute.
    assert call_id(b"OPTIONS sip:a SIP/2.0\r\n" + head + b"\r\n\r\n") == found


REQUEST = (
    b"INVITE sip:b@example.com SIP/2.0\r\nv: SIP/2.0/WS a.invalid;branch=z9hG4bK1;rport\r\n"
    b"Via: SIP/2.0/UDP b.example.com\r\nf: <sip:a@example.com>;tag=1\r\nt: <sip:b@example.com>\r\n"
    b"i: c1\r\nCSeq: 1 INVITE\r\nl: 4\r\n\r\nbody"
)
SOURCE = Address("192.0.2.5", 50123)


def test_a_response_repeats_what_it_is_found_by() -> None:
    made = response(
        REQUEST, 486, headers={"Contact": "<sip:b@x>", "X": "\xe9"}, body=b"no", source=SOURCE
    )
    head, _, body = made.partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    assert start == "SIP/2.0 486 Busy Here"
    to = lines.pop(3)
    assert to.startswith("To: <sip:b@example.com>;tag=")
    assert lines == [
        "Via: SIP/2.0/WS a.invalid;branch=z9hG4bK1;rport=50123;received=192.0.2.5",
        "Via: SIP/2.0/UDP b.example.com",
        "From: <sip:a@example.com>;tag=1",
        "Call-ID: c1",
        "CSeq: 1 INVITE",
        "Contact: <sip:b@x>",
        "X: \xe9",
        "Content-Length: 2",
    ]
    assert body == b"no"


def test_a_handler_may_answer_what_it_has_of_a_request() -> None:
    parsed, read = Message.parse(b"\r\n" + REQUEST), Request.read(REQUEST)
    assert parsed is not None
    assert read is not None
    plain = response(REQUEST, 200)
    assert response(parsed, 200) == response(read, 200) == plain
    assert response(Message(parsed.start_line, parsed.headers), 200) == plain
    assert b"\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1;rport\r\n" in plain
    assert plain.endswith(b"\r\nContent-Length: 0\r\n\r\n")


def test_a_tag_is_added_unless_there_is_one_or_none_is_due() -> None:
    assert b";tag=" in response(REQUEST, 180).partition(b"\r\nTo: ")[2]
    assert b"\r\nTo: <sip:b@example.com>\r\n" in response(REQUEST, 100)
    for to in (b"<sip:b>;Tag=x", b"sip:b ; tag = x", b'"tag=" <sip:b>;tag=x'):
        tagged = REQUEST.replace(b"t: <sip:b@example.com>", b"t: " + to)
        assert b"\r\nTo: " + to + b"\r\n" in response(tagged, 200)
    again = response(REQUEST.replace(b"CSeq: 1", b"CSeq: 2"), 200)
    assert response(REQUEST, 200) == response(REQUEST, 200)
    assert again.partition(b"tag=")[2] != response(REQUEST, 200).partition(b"tag=")[2]


def test_a_reason_is_the_rfcs_or_the_callers() -> None:
    assert response(REQUEST, 404).startswith(b"SIP/2.0 404 Not Found\r\n")
    assert response(REQUEST, 404, "Gone fishing").startswith(b"SIP/2.0 404 Gone fishing\r\n")
    assert response(REQUEST, 699).startswith(b"SIP/2.0 699 \r\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((b"SIP/2.0 200 OK\r\n\r\n", 200), "no response can be written"),
        ((REQUEST.replace(b"i: ", b"y: "), 200), "lacks one of Via, From, To, Call-ID and CSeq"),
        ((REQUEST, 99), "99 is not a status"),
        ((REQUEST, 700), "700 is not a status"),
        ((REQUEST, 200, "OK\r\nX: y"), "a reason is one line"),
    ],
)
def test_what_cannot_be_written_is_refused(arguments: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        response(*arguments)


@pytest.mark.parametrize("name", ["Content-Length", "l", "VIA", "t", "CSeq"])
def test_no_header_comes_twice_in_a_response(name: str) -> None:
    with pytest.raises(ValueError, match=f"header {name} is written by response"):
        response(REQUEST, 200, headers={"Server": "x", name: "5"})


@pytest.mark.parametrize("header", [("X", "a\r\nVia: b"), ("X", "a\n"), ("X\r\nY", "a"), ("", "a")])
def test_no_header_smuggles_another(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header"):
        response(REQUEST, 200, headers=[header])


def test_a_message_is_read_once_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[bytes] = []
    find = sip._find_registration
    monkeypatch.setattr(sip, "_find_registration", lambda data: reads.append(data) or find(data))
    message = REQUEST.replace(b"INVITE", b"REGISTER")
    Registrations().registered(1, message)
    assert respond(message, SOURCE) is not None
    assert len(reads) == 1
    # Another message of the same bytes is read anew, and told apart.
    assert respond(message.replace(b"c1", b"c2"), SOURCE) != respond(message, SOURCE)
    assert len(reads) == 3
