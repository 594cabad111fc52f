"""A look at SIP messages."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.sip import Message, call_id, end_of_head, flow_timer, split_values

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


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    Message.parse(data)
    Message.parse(b"REGISTER sip:a SIP/2.0\r\n" + data)
    call_id(data)


PIECES = [
    b"\r\n", b"\r\n ", b"\n", b"\r", b" ", b":", b"Call-ID: ", b"call-id:", b"i: ", b"a", b"bc",
    b"\xff", b"OPTIONS sip:a SIP/2.0", b"Via: x",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join))
def test_the_call_id_is_that_of_the_first_header_of_that_name(message: bytes) -> None:
    begun = message.lstrip(b"\r\n")
    head = begun[: end_of_head(begun)]
    # One that is folded counts where there is no other.
    for fold in (rb"", rb"\r?\n[ \t]+"):
        pattern = rb"\n(?:call-id|i)[ \t]*:[ \t]*" + fold + rb"([^\r\n]*[^\r\n \t])"
        if found := re.search(pattern, head, re.IGNORECASE):
            break
    assert call_id(message) == (found[1] if found else None)


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
