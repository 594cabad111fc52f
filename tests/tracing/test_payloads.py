"""What each event says in Homer, held against what OpenSIPS says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sipws import Listener
from sipws.events import (
    Accepted,
    Closed,
    Connection,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    Side,
)
from sipws.tracing.payloads import PAYLOADS, Parts, as_homer5, as_json

GOLDEN = Path(__file__).parents[1] / "data" / "opensips-3.6.8" / "hep"
PAYLOAD = 15


def golden_payloads(homer5: int, event: bytes) -> dict[str, bytes]:
    """The payloads of OpenSIPS' packets for an event, by file."""
    packets = json.loads((GOLDEN / "index.json").read_text())["packets"]
    payloads = {
        name: bytes.fromhex(data)
        for name, packet in packets.items()
        if packet["hep_version"] == 3 and packet["homer5_on"] == homer5
        for _, chunk_type, data in packet["chunks"]
        if chunk_type == PAYLOAD
    }
    return {name: payload for name, payload in payloads.items() if event in payload}


ACCEPTED_JSON = golden_payloads(0, b'"ACCEPTED"')
ACCEPTED_HOMER5 = golden_payloads(1, b"WS:ACCEPTED:")


def parts(event: Accepted | HandshakeFailed | ErrorOccurred | Closed) -> Parts:
    return PAYLOADS[type(event)](event)


@pytest.fixture
def closed(connection: Connection) -> Closed:
    return Closed(
        connection,
        1042.5,
        code=1001,
        reason="",
        closed_by=Side.PEER,
        clean=True,
        accepted=True,
        duration=42.5,
        messages_in=3,
        messages_out=2,
        bytes_in=1500,
        bytes_out=900,
    )


@pytest.mark.parametrize("name", sorted(ACCEPTED_JSON))
def test_an_accepted_connection_is_opensips_json_byte_for_byte_and_then_ours(
    connection: Connection, name: str
) -> None:
    golden = json.loads(ACCEPTED_JSON[name])
    event = Accepted(connection, 1000.0, golden["Ws-Request"].encode(), golden["Ws-Reply"].encode())
    assert as_json(parts(event)._replace(more=())) == ACCEPTED_JSON[name]
    start = ACCEPTED_JSON[name].removesuffix(b"\n}") + b',\n\t"event":\t"WS ACCEPTED"'
    assert as_json(parts(event)).startswith(start)


def test_a_handshake_has_the_parts_that_one_searches_for(connection: Connection) -> None:
    request = (
        b"GET /ws?a=b HTTP/1.1\r\nhost: sip.example.com\r\nUser-Agent: Phone\r\n"
        b"Origin: https://a.example\r\nOrigin: https://b.example\r\n\r\n"
    )
    event = Accepted(connection, 1000.0, request, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert parts(event).more == (
        ("event", "WS ACCEPTED"),
        ("Resource", "/ws?a=b"),
        ("Host", "sip.example.com"),
        ("User_Agent", "Phone"),
        ("Origin", "https://a.example, https://b.example"),
        ("Reply_Code", "101"),
    )


def test_names_of_ours_may_have_hyphens_as_those_of_opensips_have(closed: Closed) -> None:
    both = [json.loads(as_json(parts(closed), keys)) for keys in ("underscore", "hyphen")]
    assert [list(each.values()) for each in both] == [list(both[0].values())] * 2
    names = [name for name in both[0] if "_" in name]
    assert len(names) == 7
    assert list(both[1]) == [name.replace("_", "-") for name in both[0]]
    event = Accepted(closed.connection, 1000.0, b"GET / HTTP/1.1\r\n\r\n", b"")
    assert {"Ws-Request", "Ws-Reply"} < set(json.loads(as_json(parts(event))))


@pytest.mark.parametrize("name", sorted(ACCEPTED_HOMER5))
def test_an_accepted_connection_is_opensips_text_byte_for_byte(
    connection: Connection, name: str
) -> None:
    golden = ACCEPTED_HOMER5[name]
    request, reply = golden.removeprefix(b"WS:ACCEPTED:").split(b":SUCCESS:")
    reply = reply.removesuffix(b":Connection accepted...")
    assert as_homer5(parts(Accepted(connection, 1000.0, request, reply))) == golden


def test_there_was_golden_data_of_both_kinds() -> None:
    assert ACCEPTED_JSON
    assert ACCEPTED_HOMER5


def test_a_close_has_opensips_parts_and_then_ours(closed: Closed) -> None:
    assert list(json.loads(as_json(parts(closed))).items()) == [
        ("Protocol", "WS"),
        ("Event", "CLOSED"),
        ("Status", "SUCCESS"),
        ("Message", "closed by the peer with code 1001"),
        ("event", "WS CLOSED 1001"),
        ("Close_Code", "1001"),
        ("Close_Reason", ""),
        ("Closed_By", "peer"),
        ("Duration", "42.500"),
        ("Messages_In", "3"),
        ("Messages_Out", "2"),
        ("Bytes_In", "1500"),
        ("Bytes_Out", "900"),
    ]


def test_the_text_form_keeps_to_opensips_parts(closed: Closed) -> None:
    closed = replace(closed, reason="EOF received")
    assert as_homer5(parts(closed)) == b"WS:CLOSED:SUCCESS:EOF received"
    assert as_homer5(parts(closed), "##") == b"WS##CLOSED##SUCCESS##EOF received"


def test_a_close_that_was_not_clean_is_a_failure(closed: Closed) -> None:
    assert ("Status", "FAILURE") in parts(replace(closed, clean=False, code=1006)).opensips


def test_a_refused_handshake_has_request_and_reply(connection: Connection) -> None:
    event = HandshakeFailed(
        connection, 1000.0, b"GET /", b"HTTP/1.1 400", ErrorKind.NO_SUBPROTOCOL, "no sip"
    )
    assert list(json.loads(as_json(parts(event))).items()) == [
        ("Protocol", "WS"),
        ("Event", "ACCEPTED"),
        ("Ws-Request", "GET /"),
        ("Status", "FAILURE"),
        ("Ws-Reply", "HTTP/1.1 400"),
        ("Message", "Failed to accept connection..."),
        ("event", "WS FAILED no-subprotocol"),
        ("Error", "no-subprotocol"),
        ("Error_Detail", "no sip"),
        ("Resource", "/"),
    ]


def test_an_error_says_which(connection: Connection) -> None:
    event = ErrorOccurred(connection, 1000.0, ErrorKind.BAD_UTF8, "text that is not UTF-8")
    assert as_homer5(parts(event)) == b"WS:ERROR:FAILURE:text that is not UTF-8"
    assert parts(event).more == (("event", "WS ERROR bad-utf8"), ("Error", "bad-utf8"))


def test_the_protocol_is_the_listeners(closed: Closed) -> None:
    connection = replace(closed.connection, listener=Listener.parse("wss:10.0.0.1"))
    assert ("Protocol", "WSS") in parts(replace(closed, connection=connection)).opensips


def test_a_request_that_is_not_utf8_is_still_json(connection: Connection) -> None:
    event = Accepted(connection, 1000.0, b"GET / HTTP/1.1\r\nX: \xff\r\n\r\n", b"")
    assert json.loads(as_json(parts(event)))["Ws-Request"] == "GET / HTTP/1.1\r\nX: ÿ\r\n\r\n"
