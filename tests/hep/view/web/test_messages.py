"""Messages as text: nothing is lost, and nothing of a peer's does harm."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.view.model.record import Kind, Record
from hep.view.web.messages import LONGEST_PAYLOAD, message_of


def record(payload: bytes, kind: Kind = Kind.SIP) -> Record:
    return Record(1, kind, "a", "b", payload, id=1)


def read(payload: bytes, kind: Kind = Kind.SIP) -> tuple[str, list[tuple[str, str]], str]:
    message = message_of(record(payload, kind), payload)
    return message.start_line, [(each.name, each.value) for each in message.headers], message.body


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"A\r\nB: c\r\n\r\nbody", ("A", [("B", "c")], "body")),
        (b"A\nB: c\n\nbody\r\n\r\n", ("A", [("B", "c")], "body\r\n\r\n")),
        (b"\r\n\r\nA\r\nB: c\r\n\r\n", ("A", [("B", "c")], "")),
        (b"A\r\nB : c\r\n d\r\n\te\r\nF:\r\n\r\n", ("A", [("B", "c\r\n d\r\n\te"), ("F", "")], "")),
        (b"A\r\nno colon\r\n: x\r\n", ("A", [("", "no colon"), ("", "x")], "")),
        (b"A", ("A", [], "")),
        (b"", ("", [], "")),
        (b"\r\n", ("", [], "")),
        (b"A\r\n\r\n\r\nbody", ("A", [], "\r\nbody")),
        (b"A\r\nB: \xff\xc3\xa9\x00\x1b[31m\r\n\r\n", ("A", [("B", "\\xffé\x00\x1b[31m")], "")),
    ],
)
def test_a_message_is_split(
    payload: bytes, expected: tuple[str, list[tuple[str, str]], str]
) -> None:
    assert read(payload) == expected


def test_what_is_not_sip_is_all_body() -> None:
    assert read(b"A: b\r\n\r\nc", Kind.LOG) == ("", [], "A: b\r\n\r\nc")
    event = message_of(record(b' {"a": 1}', Kind.EVENT), b' {"a": 1}')
    assert event.body_type == "application/json"


def test_a_compact_content_type_is_one() -> None:
    payload = b"A\r\nc: application/sdp\r\n\r\n"
    assert message_of(record(payload), payload).body_type == "application/sdp"


def test_a_large_payload_is_cut_and_its_size_kept() -> None:
    payload = b"x" * (LONGEST_PAYLOAD + 1)
    message = message_of(record(payload, Kind.OTHER), payload)
    assert message.size == LONGEST_PAYLOAD + 1
    assert len(message.body) == len(base64.b64decode(message.raw)) == LONGEST_PAYLOAD


LINES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"a", b"B: c", b"\xff", b"\xed\xa0\x80", b"\x00"]
)


@given(st.lists(LINES, max_size=30).map(b"".join))
def test_no_bytes_are_lost(payload: bytes) -> None:
    message = message_of(record(payload), payload)
    json.loads(message.model_dump_json())
    assert base64.b64decode(message.raw) == payload
    shown = message.start_line + "".join(h.name + h.value for h in message.headers) + message.body
    text = payload.decode("utf-8", "backslashreplace")
    # White space around values, and colons, are no part of them.
    drop = str.maketrans("", "", " \t\r\n:\x0b\x0c")
    assert shown.translate(drop) == text.translate(drop)
