"""What the built-in responder answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import Address
from sipws.service.responder import respond
from sipws.sip import Message

PEER = Address("192.0.2.5", 50123)


def request(method: str, *headers: str, via: str = "SIP/2.0/WS a.invalid;branch=z9hG4bK1") -> bytes:
    lines = [
        f"{method} sip:example.com SIP/2.0",
        f"Via: {via}",
        "From: <sip:alice@example.com>;tag=1",
        "To: <sip:alice@example.com>",
        "Call-ID: c1",
        f"CSeq: 1 {method}",
        *headers,
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def answer(message: bytes, source: Address = PEER) -> Message:
    response = respond(message, source)
    assert response is not None
    assert response.endswith(b"Content-Length: 0\r\n\r\n")
    parsed = Message.parse(response)
    assert parsed is not None
    return parsed


def test_a_registration_gets_its_contact_and_time_back() -> None:
    contact = "<sip:alice@a.invalid;transport=ws>;reg-id=1;expires=600"
    response = answer(request("REGISTER", f"Contact: {contact}", "Expires: 700"))
    assert response.start_line == "SIP/2.0 200 OK"
    assert response.get("contact") == contact
    assert response.get("expires") == "700"
    assert response.get("from") == "<sip:alice@example.com>;tag=1"
    assert response.get("call-id") == "c1"
    assert response.get("cseq") == "1 REGISTER"


def test_a_contact_without_a_time_gets_the_headers_or_the_default() -> None:
    both = "Contact: <sip:a@x>, <sip:b@x>;expires=60"
    assert answer(request("REGISTER", both, "Expires: 300")).get_all("contact") == [
        "<sip:a@x>;expires=300",
        "<sip:b@x>;expires=60",
    ]
    assert answer(request("REGISTER", "m: <sip:a@x>")).get("contact") == "<sip:a@x>;expires=3600"


def test_an_expires_inside_the_uri_is_not_the_contacts() -> None:
    response = answer(request("REGISTER", "Contact: <sip:a@x;expires=5>"))
    assert response.get("contact") == "<sip:a@x;expires=5>;expires=3600"


def test_a_time_of_thousands_of_digits_is_the_longest_there_is() -> None:
    response = answer(request("REGISTER", "Contact: <sip:a@x>", "Expires: " + "9" * 5000))
    assert response.get("contact") == "<sip:a@x>;expires=4294967295"


def test_a_contact_that_is_removed_is_not_listed() -> None:
    response = answer(request("REGISTER", "Contact: <sip:a@x>;expires=0"))
    assert response.start_line == "SIP/2.0 200 OK"
    assert response.get("contact") is None


def test_a_star_removes_everything_but_only_alone_and_with_zero() -> None:
    assert answer(request("REGISTER", "Contact: *", "Expires: 0")).get_all("contact") == []
    assert answer(request("REGISTER", "Contact: *")).start_line == "SIP/2.0 400 Bad Request"
    bad = request("REGISTER", "Contact: *, <sip:a@x>", "Expires: 0")
    assert answer(bad).start_line == "SIP/2.0 400 Bad Request"


def test_the_answer_has_a_to_tag_that_a_retransmission_keeps() -> None:
    first, again = answer(request("OPTIONS")), answer(request("OPTIONS"))
    assert first.get("to") == again.get("to")
    assert ";tag=" in str(first.get("to"))


def test_a_to_tag_that_is_there_is_kept() -> None:
    tagged = request("OPTIONS").replace(b"To: <sip:alice@example.com>", b"To: <sip:a@b>;tag=x")
    assert answer(tagged).get("to") == "<sip:a@b>;tag=x"


def test_the_via_says_where_the_request_came_from() -> None:
    assert answer(request("OPTIONS")).get("via") == (
        "SIP/2.0/WS a.invalid;branch=z9hG4bK1;received=192.0.2.5"
    )


def test_rport_is_filled_in_where_it_is_asked_for() -> None:
    via = "SIP/2.0/WS a.invalid;rport;branch=z9hG4bK1"
    assert answer(request("OPTIONS", via=via)).get("via") == (
        "SIP/2.0/WS a.invalid;rport=50123;branch=z9hG4bK1;received=192.0.2.5"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (";rport", ";rport=50123"),
        ("; RPORT ;x", ";rport=50123;x"),
        (";rport=5;x", ";rport=5;x"),
        (";rports;xrport", ";rports;xrport"),
        (";rport;rport", ";rport=50123;rport"),
        (";rport;received=1;x;Received =2", ";rport=50123;x"),
        (";received=1;rport", ";rport=50123"),
        (";received;x", ";received;x"),
    ],
)
def test_only_what_asks_for_the_source_is_filled_in(asked: str, told: str) -> None:
    via = answer(request("OPTIONS", via="SIP/2.0/WS rport" + asked)).get("via")
    assert via == f"SIP/2.0/WS rport{told};received=192.0.2.5"


def test_a_received_that_the_client_made_up_is_replaced() -> None:
    via = "SIP/2.0/WS a.invalid;received=10.0.0.1;branch=z9hG4bK1"
    assert answer(request("OPTIONS", via=via)).get("via") == (
        "SIP/2.0/WS a.invalid;branch=z9hG4bK1;received=192.0.2.5"
    )


def test_only_the_topmost_via_is_marked_and_all_are_kept() -> None:
    vias = answer(
        request("OPTIONS", "Via: SIP/2.0/UDP c.invalid", via="SIP/2.0/WS a.invalid, SIP/2.0/UDP b")
    ).get_all("via")
    assert vias == [
        "SIP/2.0/WS a.invalid;received=192.0.2.5, SIP/2.0/UDP b",
        "SIP/2.0/UDP c.invalid",
    ]


def test_an_ipv6_source_is_written_without_brackets() -> None:
    via = answer(request("OPTIONS"), Address("2001:db8::1", 5)).get("via")
    assert str(via).endswith(";received=2001:db8::1")


def test_options_tells_what_is_allowed() -> None:
    assert answer(request("OPTIONS")).get("allow") == "OPTIONS, REGISTER"


def test_other_requests_are_not_implemented() -> None:
    for method in ("INVITE", "MESSAGE", "SUBSCRIBE", "BYE", "FOO"):
        assert answer(request(method)).start_line == "SIP/2.0 501 Not Implemented"


def test_a_cseq_of_another_method_is_a_bad_request() -> None:
    bad = request("OPTIONS").replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 REGISTER")
    assert answer(bad).start_line == "SIP/2.0 400 Bad Request"


def test_another_sip_version_is_not_supported() -> None:
    old = request("OPTIONS").replace(b"example.com SIP/2.0", b"example.com SIP/3.0")
    assert answer(old).start_line == "SIP/2.0 505 Version Not Supported"


def test_no_answer_to_an_ack_a_response_or_what_is_no_sip() -> None:
    for message in (request("ACK"), b"SIP/2.0 200 OK\r\n\r\n", b"hello", b""):
        assert respond(message, PEER) is None


def test_no_answer_without_the_headers_that_would_carry_it() -> None:
    for header in (b"Via", b"From", b"To", b"Call-ID", b"CSeq"):
        broken = request("OPTIONS").replace(header + b": ", b"X-" + header + b": ")
        assert respond(broken, PEER) is None


def test_bytes_that_are_not_utf8_come_back_as_they_were() -> None:
    message = request("OPTIONS").replace(b"Call-ID: c1", b"Call-ID: c\xff1")
    response = respond(message, PEER)
    assert response is not None
    assert b"\r\nCall-ID: c\xff1\r\n" in response


@given(st.binary(max_size=200))
def test_no_message_makes_it_raise(junk: bytes) -> None:
    respond(junk, PEER)
    respond(request("REGISTER").replace(b"c1", junk), PEER)
    respond(request("REGISTER", "Contact: X").replace(b"X", junk), PEER)


LINES = [
    ("Via", "v", "SIP/2.0/WSS a.invalid;branch=z9hG4bK1;rport"),
    ("To", "t", "<sip:a@b>"),
    ("From", "f", '"A: b" <sip:a@b>;tag=1'),
    ("Call-ID", "i", "x1"),
    ("CSeq", "cseq", "7 REGISTER"),
    ("Contact", "m", "<sip:a@a.invalid>;x=1"),
    ("Expires", "expires", "60"),
    ("Max-Forwards", "max-forwards", "70"),
    ("Supported", "k", "path, outbound"),
    ("Content-Length", "l", "0"),
]
"""Names, the shortest first spelling of each, and values."""


@st.composite
def registers(draw: st.DrawFn) -> bytes:
    """The same REGISTER in any order and spelling."""
    message = "REGISTER sip:b SIP/2.0\r\n"
    for name, short, value in draw(st.permutations(LINES)):
        spelled = draw(st.sampled_from([name, short, name.upper(), name.lower(), short.upper()]))
        blanks = st.sampled_from([""] * 9 + [" ", "\t", "  "])
        fold = draw(st.sampled_from([""] * 9 + ["\r\n ", "\r\n\t "]))
        end = draw(st.sampled_from(["\r\n"] * 9 + ["\n", "  \r\n"]))
        message += f"{spelled}{draw(blanks)}:{draw(blanks)}{fold}{value}{end}"
    return message.encode() + b"\r\nVia: no header"


@given(registers())
def test_how_a_request_is_written_makes_no_difference(message: bytes) -> None:
    response = respond(message, PEER)
    assert response is not None
    plain = "".join(f"{name}: {value}\r\n" for name, _, value in LINES)
    assert response == respond(f"REGISTER sip:b SIP/2.0\r\n{plain}\r\n".encode(), PEER)
    assert response.startswith(
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/WSS a.invalid;branch=z9hG4bK1;rport=50123"
        b";received=192.0.2.5"
        b'\r\nFrom: "A: b" <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag='
    )
    assert b"\r\nContact: <sip:a@a.invalid>;x=1;expires=60\r\nExpires: 60\r\n" in response
