"""The reader of events, on those of sipws and OpenSIPS and on hostile ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.view.model.events import LARGEST, LONGEST_DETAIL, MOST_CALLS, Event, read_event

OPENSIPS = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "hep"
REQUEST = (
    "GET /ws?a=b HTTP/1.1\r\nHost: sip.example:8080\r\nOrigin: http://x\r\nUser-Agent: ua\r\n\r\n"
)
REPLY = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def read(**members: object) -> Event:
    found = read_event(json.dumps(members).encode())
    assert found is not None
    return found


def recorded(name: str) -> Event:
    found = read_event(hep.decode((OPENSIPS / name).read_bytes()).payload)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["v3_udp_json_001.bin", "v3_udp_homer5_001.bin"])
def test_an_accepted_handshake_of_opensips_is_read_in_both_formats(name: str) -> None:
    event = recorded(name)
    assert (event.protocol, event.event, event.status) == ("WS", "ACCEPTED", "SUCCESS")
    assert event.message == "Connection accepted..."
    assert (event.origin, event.host) == ("http://x", "127.0.0.1:18080")
    assert event.user_agent == "Python/3.11 websockets/17.4"
    assert (event.resource, event.reply_code) == ("/", 101)
    assert event.request.startswith("GET / HTTP/1.1\r\n")
    assert event.request.endswith("\r\n\r\n")
    assert event.reply.startswith("HTTP/1.1 101 ")
    assert event.reply.endswith("\r\n\r\n")
    assert not event.failed
    assert not event.refused


@pytest.mark.parametrize("name", ["v3_udp_json_009.bin", "v3_udp_homer5_009.bin"])
def test_a_close_of_opensips_is_read_in_both_formats(name: str) -> None:
    event = recorded(name)
    assert (event.event, event.status, event.message) == ("CLOSED", "SUCCESS", "EOF received")
    assert event.closed
    assert event.close_code == 0
    assert event.request == ""


@pytest.mark.parametrize("joined", ["_", "-"])
def test_the_keys_of_sipws_are_read_in_both_spellings(joined: str) -> None:
    members = {
        "Protocol": "WSS",
        "Event": "CLOSED",
        "Status": "FAILURE",
        "Message": "gone",
        "event": "WSS CLOSED 1006",
        f"Close{joined}Code": "1006",
        f"Closed{joined}By": "peer",
        "Duration": "3.250",
        f"Messages{joined}In": "4",
        f"Bytes{joined}Out": "70000",
        f"Relayed{joined}With": "12",
        "Client": "10.0.0.1:5060",
        f"Call{joined}IDs": "a@b c",
    }
    event = read(**members)
    assert (event.event, event.label, event.close_code) == ("CLOSED", "WSS CLOSED 1006", 1006)
    assert (event.closed_by, event.duration) == ("peer", 3.25)
    assert (event.messages_in, event.bytes_out) == (4, 70_000)
    assert (event.relayed_with, event.client) == ("12", "10.0.0.1:5060")
    assert event.call_ids == ("a@b", "c")


def test_a_refused_handshake_says_why() -> None:
    event = read(
        Protocol="ws",
        Event="ACCEPTED",
        Status="FAILURE",
        Error="no-origin",
        Error_Detail="no Origin",
        Reply_Code=403,
    )
    assert event.refused
    assert event.reply_code == 403
    assert event.protocol == "WS"
    assert (event.error, event.error_detail) == ("no-origin", "no Origin")


def test_what_a_handshake_says_is_read_from_it_where_no_key_says_it() -> None:
    event = read(Event="ACCEPTED", **{"Ws-Request": REQUEST, "Ws-Reply": REPLY})
    assert (event.resource, event.host, event.origin) == ("/ws?a=b", "sip.example:8080", "http://x")
    assert (event.user_agent, event.reply_code) == ("ua", 101)
    assert read(Event="ACCEPTED", Origin="y", **{"Ws-Request": REQUEST}).origin == "y"


@pytest.mark.parametrize("delimiter", [":", "|", "::"])
def test_a_homer5_text_with_another_delimiter_is_read(delimiter: str) -> None:
    parts = ("WS", "ACCEPTED", REQUEST, "FAILURE", REPLY, "Failed to accept: x")
    event = read_event(delimiter.join(parts).encode())
    assert event is not None
    assert (event.request, event.status, event.reply) == (REQUEST, "FAILURE", REPLY)
    assert event.message == "Failed to accept: x"


def test_a_homer5_text_without_exchange_or_status_is_read() -> None:
    event = read_event(b"WS:CONNECTED:FAILURE:Failed to connect...")
    assert event is not None
    assert event.message == "Failed to connect..."
    assert event.refused
    started = read_event(b"WS:CONNECTING:Connecting...")
    assert started is not None
    assert (started.event, started.status, started.message) == ("CONNECTING", "", "Connecting...")
    empty = read_event(b"WS:ACCEPTED::FAILURE::Failed to accept connection...")
    assert empty is not None
    assert (empty.request, empty.reply, empty.failed) == ("", "", True)
    assert empty.message == "Failed to accept connection..."


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b"{",
        b'{"x": 1}',
        b"null",
        b"plain text",
        b'{"Event":' + b"[" * 60_000,
        b'{"Event": "CLOSED"',
        b"\xff\xfe",
    ],
)
def test_what_is_no_event_is_none(payload: bytes) -> None:
    assert read_event(payload) is None


def test_numbers_are_bounded_and_wrong_types_are_as_missing() -> None:
    raw = (
        '{"Event":"CLOSED","Close_Code":' + "9" * 60_000 + ',"Bytes_In":NaN,"Bytes_Out":-5,'
        '"Duration":Infinity,"Messages_In":[1],"Messages_Out":"9999999999999999999",'
        '"Message":{"a":1},"Error":null,"Closed_By":"someone"}'
    )
    event = read_event(raw.encode())
    assert event is not None
    assert (event.close_code, event.bytes_in, event.bytes_out, event.duration) == (0, 0, 0, 0.0)
    assert (event.messages_in, event.messages_out) == (0, LARGEST)
    assert (event.message, event.error, event.closed_by) == ("", "", "")


def test_texts_are_bounded_and_can_be_encoded() -> None:
    event = read(Event="E" * 60_000, Message="m" * 60_000, Call_IDs="c " * 20_000)
    assert len(event.event) < 1_000
    assert len(event.message) == LONGEST_DETAIL
    assert len(event.call_ids) == MOST_CALLS
    halves = read_event(b'{"Event":"CLOSED","Message":"\\ud800 \xff"}')
    assert halves is not None
    assert halves.message == r"\ud800 \xff"


def test_of_a_repeated_key_the_last_one_counts() -> None:
    event = read_event(b'{"Event":"ACCEPTED","Event":"CLOSED"}')
    assert event is not None
    assert event.event == "CLOSED"


KEYS = st.sampled_from(["Event", "event", "Close_Code", "Ws-Request", "Call_IDs", "Duration", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda tail: b"WS:ACCEPTED:" + tail)
    | st.dictionaries(KEYS, JSON).map(lambda members: json.dumps(members).encode())
    | st.dictionaries(KEYS, JSON).map(lambda members: json.dumps(members).encode()[:-2])
)
def test_no_payload_raises_and_all_texts_can_be_encoded(payload: bytes) -> None:
    event = read_event(payload)
    if event is not None:
        for name in Event.__slots__:  # type: ignore[attr-defined]
            said = getattr(event, name)
            if isinstance(said, str):
                said.encode()
