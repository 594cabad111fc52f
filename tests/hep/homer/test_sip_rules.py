"""SIP as heplify-server reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.homer.reasons import Reason
from hep.homer.sip_rules import Sip, read

PLAIN = (
    b"OPTIONS sip:bob@example.com SIP/2.0",
    b"Via: SIP/2.0/WS 192.0.2.1;branch=z9hG4bK1",
    b"From: <sip:alice@example.com>;tag=1",
    b"To: <sip:bob@example.com>",
    b"Call-ID: call-1",
    b"CSeq: 1 OPTIONS",
    b"Contact: <sip:alice@192.0.2.1>",
    b"",
    b"",
)


def message(*changed: bytes, without: bytes = b"", end: bytes = b"\r\n") -> bytes:
    """The plain message with lines replaced or added.

    Args:
        changed: headers; one with a name that the plain message has replaces it.
        without: the start of the lines to leave out.
        end: the end of each line.
    """
    lines = [line for line in PLAIN if not without or not line.startswith(without)]
    for line in changed:
        name = line.partition(b":")[0] + b":"
        at = next((at for at, each in enumerate(lines) if each.startswith(name)), None)
        if at is None:
            lines.insert(1, line)
        else:
            lines[at] = line
    return end.join(lines)


def rule(payload: bytes) -> str | None:
    found = read(payload)
    return found.rule if isinstance(found, Reason) else None


INDEXED = (
    ("method", b"OPTIONS"),
    ("user of the Request-URI", b"bob"),
    ("domain of the Request-URI", b"example.com"),
    ("user of From", b"alice"),
    ("user of To", b"bob"),
)


def test_a_plain_message_is_accepted() -> None:
    assert read(message()) == Sip(b"call-1", b"OPTIONS", 1, INDEXED)


@pytest.mark.parametrize(
    ("method", "table"),
    [
        (b"INVITE", "call"),
        (b"ACK", "call"),
        (b"BYE", "call"),
        (b"CANCEL", "call"),
        (b"UPDATE", "call"),
        (b"PRACK", "call"),
        (b"REFER", "call"),
        (b"INFO", "call"),
        (b"NOTIFY", "call"),
        (b"REGISTER", "registration"),
        (b"OPTIONS", "default"),
        (b"MESSAGE", "default"),
        (b"invite", "default"),
        (b"PUB", "default"),
    ],
)
def test_the_method_of_the_cseq_chooses_the_table(method: bytes, table: str) -> None:
    found = read(message(b"CSeq: 7 " + method))
    assert isinstance(found, Sip)
    assert found.table == f"hep_proto_1_{table}"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (message(without=b"CSeq"), "sip-no-cseq"),
        (message(without=b"Call-ID"), "sip-no-call-id"),
        (message(b"Call-ID:\r\n call-1"), "sip-call-id-folded"),
        (message(b"Call-ID:\r\n\tcall-1"), "sip-call-id-folded"),
        (message(b"Call-ID:"), "sip-call-id-empty"),
        (message(b"CSeq:\r\n 1 OPTIONS"), "sip-cseq"),
        (message(b"CSeq: 1"), "sip-cseq"),
        (message(b"CSeq: 1234"), "sip-cseq"),
        (message(b"CSeq: OPTIONS"), "sip-cseq"),
        (message(b"CSeq: 1\tOPTIONS"), "sip-cseq"),
        (message(b"CSeq: 1 GO"), "sip-short-method"),
        (message(b"CSeq: 1  X"), "sip-short-method"),
        (message(end=b"\n"), "sip-line-ends"),
        (message(end=b"\r"), "sip-line-ends"),
        (PLAIN[0] + b"\r\n\r\n", "sip-no-cseq"),
        (PLAIN[0], "sip-line-ends"),
        (message()[: message().index(b"all-ID: ca")], "sip-no-cseq"),
        (message(b"From:"), "sip-no-uri"),
        (message(b"From: <>;tag=1"), "sip-no-uri"),
        (message(b"To: <>"), "sip-no-uri"),
        (message(b"Contact: <>"), "sip-no-uri"),
        (message(b"ab: <>"), "sip-no-uri"),
        (message(b"Authorization: Digest"), "sip-authorization"),
        (message(b"Proxy-Authorization: Digest\r\n username=a"), "sip-authorization"),
        (b'{"message":"OPTIONS sip:a SIP/2.0","and":"more of it"}', "no-sip"),
        (b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "no-sip"),
        (b"OPTIONS SIP/2.0\r\n" + message().partition(b"\n")[2], "sip-start-line"),
        (b"OPTIONS  sip:a SIP/2.0\r\n" + message().partition(b"\n")[2], "sip-start-line"),
        (b"OPTIONS sip:a SIP/\r\n" + message().partition(b"\n")[2], "sip-start-line"),
        (b"SIP/ 200 OK\r\n" + message().partition(b"\n")[2], "sip-start-line"),
    ],
)
def test_what_is_refused_has_a_rule(payload: bytes, expected: str) -> None:
    assert rule(payload) == expected


@pytest.mark.parametrize("name", [b"Call-id", b"CALL-ID", b"call-id", b"i", b"I", b"Call-ID "])
def test_known_spellings_of_call_id(name: bytes) -> None:
    found = read(message(without=b"Call-ID").replace(b"CSeq:", name + b": x\r\nCSeq:"))
    assert isinstance(found, Sip)
    assert found.call_id == b"x"


@pytest.mark.parametrize(
    ("name", "expected"), [(b"CALL-id", "sip-no-call-id"), (b"CsEQ", "sip-no-cseq")]
)
def test_an_unknown_spelling_is_named(name: bytes, expected: str) -> None:
    known = b"Call-ID" if b"ALL" in name else b"CSeq"
    found = read(message().replace(known + b":", name + b":"))
    assert isinstance(found, Reason)
    assert found.rule == expected
    assert name.decode() in found.what


@pytest.mark.parametrize(
    "payload",
    [
        b"\r\n\r\n" + message(),
        b" " + message(),
        "\ufeff".encode() + message(),
        message(without=b"Via"),
        message(without=b"From"),
        message(without=b"To"),
        message(without=b"Contact"),
        message(b"Contact: *"),
        message(b"Contact:"),
        message(b"From: 1> <sip:a"),
        message(b"CSeq: 1   OPTIONS "),
        message(b"Subject: a\r\n folded: line"),
        message()[:-2],
        message().replace(b"SIP/2.0\r\nVia", b"SIP/3.0\r\nVia"),
        message().replace(b"\r\n", b"\n").replace(b"\n\n", b"\r\n\r\n"),
        b"SIP/2.0 200\r\n" + message().partition(b"\n")[2],
        message(b"Authorization: Digest username=a"),
    ],
)
def test_what_may_be_missing_or_different(payload: bytes) -> None:
    assert rule(payload) is None


def test_the_last_call_id_counts() -> None:
    found = read(message().replace(b"CSeq:", b"i: call-2\r\nCSeq:"))
    assert found == Sip(b"call-2", b"OPTIONS", 2, INDEXED)


def test_the_body_is_not_read() -> None:
    assert rule(message() + b"Call-ID: \r\nFrom: \r\n\r\n") is None


def test_an_empty_line_of_lf_hides_the_next_header() -> None:
    # The parser skips the character after it.
    assert rule(message().replace(b"Call-ID", b"X: 1\n\nCall-ID")) == "sip-no-call-id"


LINES = st.sampled_from([*PLAIN[:7], b"", b" ", b"\n", b"\r", b":", b"To:", b"a b c/d", b"x" * 50])


@given(st.lists(LINES), st.sampled_from([b"\r\n", b"\n", b"\r"]), st.binary())
def test_no_payload_raises(lines: list[bytes], end: bytes, behind: bytes) -> None:
    found = read(end.join(lines) + end + behind)
    if isinstance(found, Sip):
        assert found.call_id
        assert len(found.cseq_method) >= 3
