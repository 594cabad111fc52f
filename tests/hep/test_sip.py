"""The reader of SIP, against a slow and plain one that is written here."""

import re
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hep.sip import (
    COMPACT_FORMS,
    ROWS,
    call_id,
    end_of_head,
    fields,
    finder,
    first,
    head_of,
    is_sip,
)
from sipws.sip import Message, Request

NAMES = ("via", "from", "to", "call-id", "cseq", "contact", "expires", "content-type", "x-cid")
EVERY = ("via", "contact")
find = finder(*NAMES, every=EVERY)
find_request = finder("via", "call-id", every=("via",), request=True)
firsts = {name: first(name) for name in NAMES}
short = {name: letter for letter, name in COMPACT_FORMS.items()}


class Plain:
    """A message read line by line, a rule of RFC 3261 at a time."""

    def __init__(self, message: bytes) -> None:
        # Section 7.5: line ends before the start line.
        while message[:1] in (b"\r", b"\n"):
            message = message[1:]
        lines: list[bytes] = []
        size, ended = 0, b""
        for line in _lines(message):
            if line in (b"\n", b"\r\n"):
                # The last line's end and the empty line are no part of the head.
                self.size = size - (len(ended) - len(_without_end(ended)))
                break
            lines.append(_without_end(line))
            size += len(line)
            ended = line
        else:
            self.size = len(message)
        self.start: bytes | None = lines[0] if lines else b""
        self.headers: list[tuple[bytes, bytes]] = []
        logical: list[bytes] = []
        for line in lines[1:]:
            if line[:1] not in (b" ", b"\t"):
                logical.append(line)
            elif logical:
                # Section 7.3.1: it continues the line before.
                logical[-1] += b" " + line.lstrip(b" \t")
            else:
                # A start line that goes on is none.
                self.start = None
        for line in logical:
            name, colon, value = line.partition(b":")
            if colon:
                name = name.rstrip(b" \t").lower()
                # Section 7.3.3: compact forms.
                name = COMPACT_FORMS.get(name.decode("latin-1"), "").encode() or name
                self.headers.append((name, value.strip()))

    def all(self, name: str) -> list[bytes]:
        return [value for each, value in self.headers if each == name.encode()]

    def first(self, name: str) -> bytes:
        return (self.all(name) or [b""])[0]

    def value(self, name: str) -> bytes:
        if name in EVERY:
            return ROWS.join(each for each in self.all(name) if each)
        return self.first(name)


def _lines(message: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", message)


def _without_end(line: bytes) -> bytes:
    if line.endswith(b"\r\n"):
        return line[:-2]
    return line.removesuffix(b"\n")


def check(message: bytes) -> None:
    """Every reading of a message is as the plain reader's."""
    plain = Plain(message)
    assert find(message) == [plain.value(name) for name in NAMES]
    for name, find_first in firsts.items():
        assert find_first(message) == plain.first(name)
    assert call_id(message) == (plain.first("call-id") or None)
    begun = message.lstrip(b"\r\n")
    assert end_of_head(message) == len(message) - len(begun) + plain.size
    named: dict[bytes, list[bytes]] = {}
    for name_found, value in plain.headers:
        named.setdefault(name_found, []).append(value)
    assert fields(head_of(message)) == named
    is_request = plain.start is not None and re.fullmatch(rb"[!-~]+ [!-~]+ SIP/\d\.\d", plain.start)
    if is_request:
        assert plain.start is not None
        method, _, version = plain.start.split(b" ")
        found = [method, version, plain.value("via"), plain.value("call-id")]
        assert find_request(message) == found
    else:
        assert find_request(message) is None
    needed = ("via", "from", "to", "call-id", "cseq")
    request = Request.read(message)
    assert (request is not None) == bool(is_request and all(map(plain.value, needed)))
    if request is not None:
        is_register = request.method == b"REGISTER"
        names = (*needed, *(("contact", "expires") if is_register else ("", "")))
        assert request[2:] == tuple(map(plain.value, names))
    parsed = Message.parse(message)
    if parsed is not None:
        assert parsed.headers == {
            _text(name): [_text(value) for value in values] for name, values in named.items()
        }


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Messages in any order and spelling, some of them with headers that come twice, or broken."""

    def some(usual: str, *others: str) -> bytes:
        return draw(st.sampled_from([usual] * 8 + list(others))).encode("latin-1")

    names = draw(st.permutations(NAMES))
    names = names[: draw(st.integers(0, len(names)))]
    if draw(st.booleans()):
        names += draw(st.lists(st.sampled_from(NAMES), max_size=3))
    message = some("", "\r\n", "\n\r\n\r") + some(
        "REGISTER sip:a SIP/2.0", "SIP/2.0 200 OK", "OPTIONS sip:a b SIP/2.0", "X sip:a SIP/3.1 "
    )
    message += some("\r\n", "\n", "\r\n ")
    for name in names:
        spelled = draw(st.sampled_from([name, name.title(), name.upper(), short.get(name, name)]))
        message += spelled.encode() + some("", " ", "\t", " \r\n ", "x", "\r", "\v")
        message += some(":", "", "::") + some(" ", "", "\t ", "\r\n ", "\n\t", "\r\n \r\n ")
        message += some("v" + name, "", "a b", "a, b", "a: b", "a\rb", "\xff\0", "a\r\n b", "i: c")
        message += some("\r\n", "\n", " \r\n", "\r\r\n", "\r", "\r\nX\r\n", "\r\n:\r\n")
    return message + some("\r\n", "\n", "", "\r", "\r\nVia: body\r\ni: body\r\n\r\n", "\n\nv: b")


@given(messages())
@example(b"REGISTER sip:a SIP/2.0\r\nVia: a\r\nvia: b\r\n\r\n")
@example(b"O s SIP/2.0\r\nCall-ID: abc")
@example(b"\r\n\r\n")
@example(b" \r\n\n\r\n ")
@example(b"REGISTER sip:a SIP/2.0\r")
@example(b"O s SIP/2.0\r\nCall-ID:\r\ni: a\r\n\r\n")
@example(b"O s SIP/2.0\r\ni: \r\nCall-ID: a\r\n\r\n")
@example(b"O s SIP/2.0\r\nCall-ID: a\r\ni:\r\n\r\n")
def test_a_message_is_read_as_the_plain_reader_reads_it(message: bytes) -> None:
    check(message)


PIECES = [
    *(b"\r\n", b"\r\n ", b"\n", b"\r", b" ", b":", b"Call-ID: ", b"call-id:", b"i: ", b"a", b"bc"),
    *(b"\xff", b"\nOPTIONS sip:a SIP/2.0\r\n", b"Via: x", b"\n\t", b"\r\nv:", b"To", b"\r\nt\t:"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join))
def test_no_order_of_pieces_is_read_in_another_way(message: bytes) -> None:
    check(message)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(junk: bytes) -> None:
    check(junk)
    check(b"REGISTER sip:a SIP/2.0\r\n" + junk)


@given(messages(), st.integers(0, 300))
def test_a_message_that_is_cut_anywhere_is_read_as_far_as_it_came(message: bytes, at: int) -> None:
    check(message[:at])


def test_of_call_ids_the_first_one_counts() -> None:
    # One answer for all: traces, captures and responses name a call by the same value.
    for head, found in (
        (b"Call-ID: a\r\ni: b\r\n", b"a"),
        (b"i: b\r\nCall-ID: a\r\n", b"b"),
        (b"Call-ID:\r\n a\r\nCall-ID: b\r\n", b"a"),
        (b"Call-ID: a\r\n b\r\n", b"a b"),
        (b"Call-ID:\r\nCall-ID: b\r\n", None),
        (b"Call-ID: a\rb\r\n", b"a\rb"),
        (b"Call-ID\r\n : a\r\n", b"a"),
    ):
        assert call_id(b"OPTIONS sip:a SIP/2.0\r\n" + head + b"\r\n") == found, head


@pytest.mark.parametrize("name", ["", "v", "Via", "call-ID"])
def test_a_name_that_nothing_can_have_is_refused(name: str) -> None:
    for make in (first, finder):
        with pytest.raises(ValueError, match="not a header's long name in lower case"):
            make(name)


UNITS = [
    *(b"\r\n ", b"\r\n\t\r\n", b"\n", b"\r", b" ", b"\t", b":", b"Via", b"\r\nVia", b"\r\nVia: a"),
    *(b"\r\nv:a", b"\r\nVia \t", b"\r\nCall-ID:", b"\r\ni", b"\r\nVia:\r\n ", b"\r\nX: a", b"a"),
    *(b"\r\nVia\r\n :a", b"\r\nCSeq:  ", b"\n ", b"\r\r\n"),
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "read", [find, find_request, call_id, end_of_head, Message.parse, Request.read, firsts["to"]]
)
@pytest.mark.slow
def test_work_is_linear_in_bytes(unit: bytes, read: Callable[[bytes], object]) -> None:
    def calls(size: int) -> int:
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        message = b"REGISTER sip:a SIP/2.0\r\nTo: a\r\n\tb" + unit * (size // len(unit))
        sys.setprofile(count)
        try:
            read(message)
        finally:
            sys.setprofile(None)
        return counted

    # Calls, in Python and C. What is tried in every way within one takes minutes for the last.
    assert calls(40_000) <= 4 * calls(10_000) + 40
    read(b"REGISTER sip:a SIP/2.0" + unit * (400_000 // len(unit)) + b"\r\n\r\n")


OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n"
ANSWER = b"SIP/2.0 200 OK\r\ni: 3\r\n\r\n"


@pytest.mark.parametrize(
    "data", [OPTIONS, ANSWER, b"\r\n\r\n" + OPTIONS, b"X-1 tel:5 sip/2.0\r\n", b"SIP/2.0 180 \r\n"]
)
def test_a_message_starts_with_a_request_or_status_line(data: bytes) -> None:
    assert is_sip(data)


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 OK", b"\0\1\2", b"OPTIONS sip:a@b"]
)
def test_what_starts_otherwise_is_no_message(data: bytes) -> None:
    assert not is_sip(data)
