"""The mapping has a field for each key that sipws sends, and for no other."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sipws import Address, Listener
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
from sipws.homer import files
from sipws.homer.lookups import entries
from sipws.tracing import tracer
from sipws.tracing.losses import Loss
from sipws.tracing.payloads import (
    PAYLOADS,
    Parts,
    as_json,
    as_log_lines,
    broken_sip,
    legs,
    lost,
    no_sip,
)
from tests.sipws.homer.flow import FUNCTIONS

CONNECTION = Connection(
    187999685142460,
    Listener("ws", "10.0.0.1", 80),
    Address("10.0.0.1", 80),
    Address("192.0.2.5", 1),
    0.0,
)
OUTBOUND = replace(
    CONNECTION,
    destination="ws://sip.example.com/",
    relayed_with=7,
    client=Address("192.0.2.5", 1),
)
REQUEST = b"GET /ws HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\nUser-Agent: c\r\n\r\n"
REPLY = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
ERROR = ErrorKind.CONNECTION_LOST
CLOSED = Closed(CONNECTION, 0.0, 1001, "bye", Side.PEER, True, True, 1.0, 1, 1, 1, 1)
EVENTS: list[ConnectionEvent] = [
    Accepted(CONNECTION, 0.0, REQUEST, REPLY),
    Connected(OUTBOUND, 0.0, REQUEST, REPLY, "sip"),
    HandshakeFailed(OUTBOUND, 0.0, REQUEST, REPLY, ERROR, "x"),
    ConnectFailed(OUTBOUND, 0.0, ERROR, "x"),
    ErrorOccurred(CONNECTION, 0.0, ERROR, "x", b"call", b"excerpt"),
    Superseded(CONNECTION, 0.0, "urn:uuid:1", 2),
    ConnectStarted(OUTBOUND, 0.0),
    CLOSED,
]
BY_PARTS = {"Ws-Request", "Ws-Reply"}
"""Keys of OpenSIPS that homer-app cannot search. Their parts have keys of their own."""


def all_parts() -> Iterator[Parts]:
    for event in EVENTS:
        yield PAYLOADS[type(event)](event).with_parts(legs(event.connection))
    message = MessageReceived(CONNECTION, 0.0, b"x", True)
    yield no_sip(message, str)
    yield broken_sip(message, "x", b"call", str)
    yield lost(Loss(Counter({"queue-full": 1}), 0.0, 1.0, "1 (1)"))


def sent() -> set[str]:
    """All keys of events."""
    keys = {key for parts in all_parts() for key in json.loads(as_json(parts))}
    # The tracer adds some to any event.
    source = Path(tracer.__file__).read_text()
    added = set(re.findall(r'\("([A-Z]\w+)", ', source))
    assert added == {"Filter_Remark", "Call_IDs"}
    return keys | added


def test_every_event_is_asked() -> None:
    assert {type(event) for event in EVENTS} == set(PAYLOADS)


def test_the_fields_are_the_keys_that_are_sent() -> None:
    ids = [field["id"] for field in files.wanted().mapping["fields_mapping"]]
    fields = {each.removeprefix("data_header.") for each in ids if "data_header." in each}
    assert fields == sent() - BY_PARTS


def test_the_choices_of_a_field_are_the_values_that_are_sent() -> None:
    fields = {field["id"]: field for field in files.wanted().mapping["fields_mapping"]}
    choices = {
        name: {each["value"] for each in entries(fields[f"data_header.{name}"]["form_default"])}
        for name in ("Protocol", "Event", "Status", "Closed_By")
    }
    for parts in all_parts():
        for name, text in (*parts.opensips, *parts.more):
            assert text in choices.get(name, {text})
    assert choices["Closed_By"] == set(Side)
    names = {text for parts in all_parts() for name, text in parts.opensips if name == "Event"}
    assert choices["Event"] == names


def test_the_functions_of_lookups_read_the_log_lines_that_are_sent() -> None:
    [line] = as_log_lines(CLOSED, [b"call-1@a"])
    [of_connection] = [each for code, each in FUNCTIONS.items() if "exec" in code]
    [to_log_lines] = [each for code, each in FUNCTIONS.items() if "' %'" in code]
    assert of_connection(line.decode()) == [str(CONNECTION.id)]
    [pattern] = to_log_lines(str(CONNECTION.id))
    assert line.decode().startswith(pattern.removesuffix("%"))
    assert pattern.endswith(" %")
