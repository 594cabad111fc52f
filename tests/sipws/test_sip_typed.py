"""Requests and responses with typed headers."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipws.sip import (
    COMPACT_FORMS,
    CSeq,
    Headers,
    NameAddress,
    Request,
    Response,
    parse,
    response,
)
from sipws.sip_values import parameters_of, split_values

INVITE = (
    b"INVITE sip:bob@example.com SIP/2.0\r\n"
    b"v: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    b'f: "Alice \\"A\\" \xc3\x89" <sip:alice@example.com;transport=ws> ; TAG=a1;x="1;2"\r\n'
    b"TO: sip:bob@example.com\r\n"
    b"i: c1\r\n"
    b"CSeq: 007  INVITE\r\n"
    b"Via: SIP/2.0/UDP b.example.com\r\n"
    b"m: <sip:a@a.invalid;transport=ws>;expires=60, <sip:b,c@a.invalid>\r\n"
    b"Contact: *\r\n"
    b"l: 4\r\n"
    b"\r\n"
    b"body and more"
)


def invite(old: bytes = b"", new: bytes = b"") -> Request:
    request = Request.parse(INVITE.replace(old, new))
    assert request is not None
    return request


def test_a_request_has_typed_headers() -> None:
    request = invite()
    assert (request.method, request.uri, request.version) == (
        "INVITE",
        "sip:bob@example.com",
        "SIP/2.0",
    )
    assert request.call_id == "c1"
    assert request.cseq == (7, "INVITE")
    assert str(request.cseq) == "7 INVITE"
    assert request.from_ == NameAddress(
        'Alice "A" \xc9', "sip:alice@example.com;transport=ws", {"tag": "a1", "x": "1;2"}
    )
    assert request.from_.tag == "a1"
    assert request.to.uri == "sip:bob@example.com"
    assert request.to.tag is None
    assert request.body == b"body"
    assert request.data == INVITE
    assert request.head == Request.read(INVITE)
    assert parse(INVITE) == request


def test_contacts_of_all_lines_are_read() -> None:
    request = invite()
    assert [each.uri for each in request.contacts] == [
        "sip:a@a.invalid;transport=ws",
        "sip:b,c@a.invalid",
        "*",
    ]
    assert request.contact is not None
    assert request.contact.parameters == {"expires": "60"}
    assert invite(b"m: ", b"X: ").contact == NameAddress("", "*", {})


def test_headers_have_one_name_in_any_form() -> None:
    headers = invite().headers
    for name in ("via", "Via", "VIA", "v", "V"):
        assert name in headers
        assert headers[name] == "SIP/2.0/WS a.invalid;branch=z9hG4bK1"
        assert headers.get_all(name) == [
            "SIP/2.0/WS a.invalid;branch=z9hG4bK1",
            "SIP/2.0/UDP b.example.com",
        ]
    assert headers.get("Expires") is None
    assert headers.get_all("Expires") == headers.get_list("Expires") == []
    with pytest.raises(KeyError, match="Expires"):
        headers["Expires"]
    assert list(headers) == ["via", "from", "to", "call-id", "cseq", "contact", "content-length"]
    assert len(headers) == 7
    assert Headers({"allow": ["INVITE, ACK", "BYE"]}).get_list("allow") == ["INVITE", "ACK", "BYE"]
    headers.get_all("via").clear()
    assert len(headers.get_all("via")) == 2


def test_a_response_has_typed_headers() -> None:
    found = parse(response(INVITE, 486, headers={"Contact": "<sip:b@x>"}, body=b"no"))
    assert isinstance(found, Response)
    assert (found.status, found.reason, found.version) == (486, "Busy Here", "SIP/2.0")
    assert found.start_line == "SIP/2.0 486 Busy Here"
    assert found.is_final
    assert found.cseq == CSeq(7, "INVITE")
    assert found.to.tag
    assert found.from_ == invite().from_
    assert [each.uri for each in found.contacts] == ["sip:b@x"]
    assert found.body == b"no"
    ringing = Response.parse(response(INVITE, 180))
    assert ringing is not None
    assert not ringing.is_final
    assert ringing.contact is None
    assert ringing.to.tag == found.to.tag, "all responses to a request are of one dialog"


def test_a_typed_request_is_answered_as_its_bytes_are() -> None:
    assert response(invite(), 200) == response(INVITE, 200)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        INVITE.replace(b"i: c1\r\n", b""),
        INVITE.replace(b"007  INVITE", b"INVITE"),
        INVITE.replace(b"007  INVITE", b"4294967296 INVITE"),
        INVITE.replace(b"007  INVITE", b"7"),
        INVITE.replace(b"007", "\u0667".encode()),
        INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 700 Odd"),
        INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 sip:a SIP/2.0"),
    ],
)
def test_what_cannot_be_answered_is_none(data: bytes) -> None:
    assert parse(data) is None
    assert Request.parse(data) is None
    assert Response.parse(data) is None


def test_a_message_is_of_one_kind() -> None:
    status = INVITE.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 200 SIP/2.0")
    assert Request.parse(status) is None
    assert isinstance(parse(status), Response)
    assert Response.parse(INVITE) is None


@pytest.mark.parametrize(
    ("size", "body"),
    [
        (b"l: 0", b""),
        (b"l: 99", b"body and more"),
        (b"l: -1", b"body and more"),
        (b"X: 4", b"body and more"),
        (b"l: 99999999999999999999", b"body and more"),
    ],
)
def test_a_body_is_as_long_as_is_said_and_no_longer_than_it_is(size: bytes, body: bytes) -> None:
    assert invite(b"l: 4", size).body == body


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_body_begins_behind_the_first_empty_line(end: bytes) -> None:
    data = INVITE.replace(b"l: 4\r\n", b"").replace(b"\r\n", end)
    for before in (b"", b"\r\n\r\n"):
        request = Request.parse(before + data)
        assert request is not None
        assert request.body == b"body and more"
    headless = Request.parse(INVITE.partition(b"\r\n\r\n")[0])
    assert headless is not None
    assert headless.body == b""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("<sip:a@b>", ("", "sip:a@b", {})),
        ("sip:a@b;tag=1", ("", "sip:a@b", {"tag": "1"})),
        ("sip:a@b;x=<1>;tag=1", ("", "sip:a@b", {"x": "<1>", "tag": "1"})),
        ("A B C <sip:a@b>;tag=1", ("A B C", "sip:a@b", {"tag": "1"})),
        ('"<x>;tag=2" <sip:a@b>', ("<x>;tag=2", "sip:a@b", {})),
        ('""<sip:a@b;lr>;Lr', ("", "sip:a@b;lr", {"lr": ""})),
        ("<sip:a@b>;tag=1;tag=2", ("", "sip:a@b", {"tag": "1"})),
        ('<sip:a@b> ; q = "0.5" ;  e', ("", "sip:a@b", {"q": "0.5", "e": ""})),
        ("<sip:a@b", ("", "sip:a@b", {})),
        ('"open <sip:a@b>', ('"open', "sip:a@b", {})),
        ("*", ("", "*", {})),
        ("", ("", "", {})),
    ],
)
def test_an_address_is_read_as_far_as_it_goes(text: str, address: Any) -> None:
    assert NameAddress.parse(text) == NameAddress(*address)


WORDS = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=8)
QUOTABLE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
USERS = st.text("abc019;,?&=+$/-_.!~*'()", max_size=12)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(QUOTABLE, USERS, st.dictionaries(WORDS.map(str.lower), QUOTABLE, max_size=4))
def test_an_address_that_was_written_is_read_as_it_was_meant(
    name: str, user: str, parameters: dict[str, str]
) -> None:
    uri = f"sip:{user}@example.com;transport=ws"
    text = f"{quoted(name)} <{uri}>" + "".join(
        f";{key}={quoted(value)}" for key, value in parameters.items()
    )
    assert NameAddress.parse(text) == NameAddress(name, uri, parameters)
    # Nor does a comma or a semicolon in quotes end a value of a list.
    assert split_values(f"{text}, {text}") == [text, text]


SPELLINGS = {
    long: (long, long.upper(), long.title(), short) for short, long in COMPACT_FORMS.items()
}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["contact", "supported", "event", "x"]),
            st.integers(0, 3),
            st.sampled_from([": ", ":", " :\t", ":\r\n "]),
            WORDS,
        ),
        max_size=8,
    )
)
def test_headers_are_found_in_any_spelling(lines: list[tuple[str, int, str, str]]) -> None:
    extra = "".join(
        f"{SPELLINGS.get(name, (name,) * 4)[spelling]}{colon}{value}\r\n"
        for name, spelling, colon, value in lines
    )
    headers = invite(b"l: 4\r\n", extra.encode()).headers
    for name in ("supported", "event", "x"):
        assert headers.get_all(name.title()) == [line[3] for line in lines if line[0] == name]


@given(st.binary(max_size=200), st.integers(0, len(INVITE)))
@example(b"\r\nl: \xb2", INVITE.index(b"\r\nl:"))
def test_no_bytes_make_it_raise(junk: bytes, at: int) -> None:
    status = INVITE.replace(b"INVITE sip:bob@example.com", b"SIP/2.0 200").replace(
        b" SIP/2.0\r\n", b" OK\r\n", 1
    )
    for data in (junk, INVITE[:at] + junk, INVITE[:at] + junk + INVITE[at:], status[:at] + junk):
        found = parse(data)
        if found is not None:
            assert isinstance(found.cseq, CSeq)
            assert found.call_id
            assert found.from_.uri is not None
            assert found.to.parameters is not None
            assert found.contact in (*found.contacts, None)
            assert found.body in data
            assert repr(found)


@given(st.text(max_size=60))
def test_no_text_makes_a_value_raise(text: str) -> None:
    assert CSeq.parse(text) is None or text.split()[1] == CSeq.parse(text).method  # type: ignore[union-attr]
    NameAddress.parse(text)
    parameters_of(text)
    split_values(text)


@pytest.mark.parametrize(
    "unit",
    [
        ";",
        "; ",
        ' ;a="',
        ';a="\\"',
        '"',
        "\\",
        '"\\',
        "<",
        ">",
        "<>",
        " ",
        ";a =",
        ";a= ",
        ",",
        '",',
    ],
)
def test_values_without_end_are_read_once(unit: str) -> None:
    # Tried in every way, these would take minutes.
    text = unit * (400_000 // len(unit))
    for before in ("", '"', "<a>", ';a="', "a"):
        NameAddress.parse(before + text)
        CSeq.parse(before + text)
        split_values(before + text)
    CSeq.parse("0" * 400_000)
    CSeq.parse("1" + " " * 400_000)
