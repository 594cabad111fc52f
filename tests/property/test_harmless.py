"""What a peer sends acts on nobody who reads a trace or a log, and on no database.

Hostile texts go into every event, through the writers of both formats and both formats of the log.
"""

import json
import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.cli import display
from hep.codec.packet import Packet
from sipws import Address, Listener
from sipws.errors import FilterRouteError
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ConnectionEvent,
    ConnectStarted,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    Side,
    Superseded,
)
from sipws.log import TEXT, JsonLines, TextLines
from sipws.printable import json_escaped, json_text, lines, on_one_line
from sipws.tracing.payloads import PAYLOADS, as_log_lines, no_sip
from sipws.tracing.writer import LONGEST_PAYLOAD, Writer

CONNECTION = Connection(
    1, Listener("ws", "10.0.0.1", 80), Address("10.0.0.1", 80), Address("192.0.2.5", 1), 0.0
)
ACTING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
EVIL = [
    "\0",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\x9b31m",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\ufeff",
]
EVIL += ["\ud800", "\udc80", "\udbff\udfff", "\U000e0041", "\U00100000", "\ufffe", "\r", "\n", "\\"]
EVIL += ["\\u0000", '"', "é", "😀", "a", "%b", "sip:a:b@c"]


def hostile(size: int = 30) -> st.SearchStrategy[str]:
    anything = st.characters() | st.characters(categories=["Cs", "Cc", "Cf", "Co"])
    return st.lists(st.sampled_from(EVIL) | anything, max_size=size).map("".join)


RAW = hostile().map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)


def acting(text: str, kept: str = "") -> list[str]:
    return [hex(ord(c)) for c in text if unicodedata.category(c) in ACTING and c not in kept]


@st.composite
def events(draw: st.DrawFn) -> ConnectionEvent:
    raw, text = draw(RAW), draw(hostile())
    about = CONNECTION
    if draw(st.booleans()):
        about = replace(about, destination=f"ws://a/{draw(hostile())}")
    error = draw(st.sampled_from(ErrorKind))
    match draw(st.integers(0, 7)):
        case 0:
            return Accepted(about, 0.0, raw, draw(RAW))
        case 1:
            return Connected(about, 0.0, raw, draw(RAW), text)
        case 2:
            return HandshakeFailed(about, 0.0, raw, draw(RAW), error, text)
        case 3:
            return ConnectFailed(about, 0.0, error, text)
        case 4:
            return ErrorOccurred(about, 0.0, error, text)
        case 5:
            return Superseded(about, 0.0, text, 2)
        case 6:
            return ConnectStarted(about, 0.0)
    return Closed(about, 0.0, 1000, text, Side.PEER, True, True, 1.0, 1, 1, 1, 1)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from (name, *strings(each))
    elif isinstance(value, str):
        yield value


def assert_is_fit_for_jsonb(payload: bytes) -> dict[str, str]:
    text = payload.decode()
    assert not acting(text, "\n\t")
    read: dict[str, str] = json.loads(text)
    for each in strings(read):
        assert "\0" not in each
        each.encode()
    return read


WRITERS = [Writer(), Writer(homer5=True)]


@given(events(), hostile())
def test_payloads_can_be_stored_and_shown(event: ConnectionEvent, remark: str) -> None:
    json_writer, text_writer = WRITERS
    for more in ((), (("Filter_Remark", remark), ("Call_IDs", remark))):
        read = assert_is_fit_for_jsonb(json_writer.event(event, more))
        assert not more or "Call_IDs" in read
        text = text_writer.event(event, more).decode()
        assert not acting(text, "\r\n\t")
    if isinstance(event, ErrorOccurred | Closed):
        for line in as_log_lines(event, [remark.encode("utf-8", "surrogatepass"), b"\xff\0"]):
            assert not acting(line.decode())


@given(RAW)
def test_messages_that_are_no_sip_can_be_stored_and_shown(raw: bytes) -> None:
    event = MessageReceived(CONNECTION, 0.0, raw, True)
    parts = no_sip(event, partial(WRITERS[0].quoted, CONNECTION))
    assert_is_fit_for_jsonb(WRITERS[0].parts(parts))
    assert not acting(WRITERS[1].parts(parts).decode(), "\r\n\t")


@given(hostile())
def test_a_text_keeps_its_meaning_in_json_but_for_what_cannot_be_stored(text: str) -> None:
    storable = all(c != "\0" and not "\ud800" <= c < "\ue000" for c in text)
    assert not acting(json_text(text))
    if storable:
        assert json.loads(json_text(text)) == text
        assert json.loads(json_escaped(json.dumps(text, ensure_ascii=False))) == text
    if text.isprintable():
        assert on_one_line(text) is text
        assert lines(text) is text


@pytest.mark.parametrize("filler", ["\U000e0041", "\0", "\x80", '"'])
def test_a_payload_of_the_worst_characters_is_whole_json(filler: str) -> None:
    text = filler * 30_000
    event = HandshakeFailed(CONNECTION, 0.0, text.encode(), text.encode(), ErrorKind.REFUSED, text)
    payload = Writer().event(event)
    assert len(payload) <= LONGEST_PAYLOAD
    assert_is_fit_for_jsonb(payload)


def record(message: str, **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "%s", "args": (message,), "levelname": "INFO", **more})


@given(hostile(), st.dictionaries(hostile(5), hostile()))
def test_no_entry_of_the_json_log_acts_on_who_reads_it(message: str, more: dict[str, str]) -> None:
    taken = {"msg", "args", "levelname", *(each for each in vars(record("")))}
    entry = record(message, **{name: text for name, text in more.items() if name not in taken})
    line = JsonLines().format(entry)
    assert not acting(line)
    for each in strings(json.loads(line)):
        # A reader that is strict takes no half of a pair.
        each.encode()


@given(hostile(), hostile())
def test_no_entry_of_the_text_log_acts_on_who_reads_it(message: str, raised: str) -> None:
    try:
        raise ValueError(raised)
    except ValueError as exc:
        failed = (ValueError, exc, exc.__traceback__)
    formatter = TextLines(TEXT)
    assert not acting(formatter.format(record(message)))
    text = formatter.format(record(message, exc_info=failed))
    assert not acting(text, "\n")
    # What a peer sent begins no entry.
    assert all(line.startswith("    ") for line in text.split("\n")[1:])


def test_the_place_of_an_operators_mistake_is_shown_below() -> None:
    class MistakeError(FilterRouteError):
        def __str__(self) -> str:
            return "route.cfg:1:1: error: what\nline\n^"

    entry = logging.makeLogRecord({"msg": "%s", "args": (MistakeError([]),)})
    assert TextLines("%(message)s").format(entry).endswith("what\n    line\n    ^")


@given(RAW, RAW)
def test_what_hep_prints_acts_on_no_terminal(payload: bytes, correlation: bytes) -> None:
    packet = Packet(
        src_ip="192.0.2.1", dst_ip="192.0.2.2", payload=payload, correlation_id=correlation or None
    )
    assert not acting(display.line(packet))
    assert not acting(display.describe(packet), "\n")
    assert not acting(display.as_json_line(packet))


def test_every_event_that_is_traced_is_tried() -> None:
    assert len(PAYLOADS) == 8, [each.__name__ for each in PAYLOADS]
    assert all(fields(each) for each in PAYLOADS)


def test_a_carriage_return_alone_writes_over_nothing() -> None:
    assert lines("a\rb\r\nc\r") == "a\\rb\r\nc\\r"
