"""Connections that we open, in Homer: OpenSIPS' own packets, and what it leaves out."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import hep
from sipws import Address, Bus, Listener
from sipws.events import (
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ConnectionOpened,
    ConnectStarted,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    Side,
)
from sipws.tracing.filter import Script
from sipws.tracing.packets import PacketSettings
from sipws.tracing.payloads import PAYLOADS, as_homer5, as_json
from sipws.tracing.routes import decide_by_route, subject_of
from sipws.tracing.tracer import Tracer, TraceSettings, Verdict

GOLDEN = Path(__file__).parents[1] / "data" / "opensips-3.6.8" / "hep"
MESSAGE = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n\r\n"
LOG = 100
"""What tells a call of its connection's end, beside the packets that are looked at here."""

REQUEST, REPLY = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def golden(homer5: int) -> dict[str, hep.Packet]:
    """OpenSIPS' packets about a connection that it opened, by file."""
    packets = json.loads((GOLDEN / "index.json").read_text())["packets"]
    decoded = {
        name: hep.decode((GOLDEN / name).read_bytes())
        for name, packet in packets.items()
        if packet["hep_version"] == 3 and packet["homer5_on"] == homer5
    }
    return {name: packet for name, packet in decoded.items() if b"CONNECTED" in packet.payload}


JSON, HOMER5 = golden(0), golden(1)


@pytest.fixture
def ours() -> Connection:
    """A connection that we opened."""
    return Connection(
        id=14484677676169510650,
        listener=Listener.parse("ws:192.0.2.5:8080 tag edge"),
        local=Address("192.0.2.5", 34137),
        peer=Address("10.0.0.1", 18099),
        started=1000.0,
        destination="ws://sip.example.com:18099/",
    )


@pytest.fixture
def attempt(ours: Connection) -> Connection:
    """The same while it comes up."""
    return replace(ours, local=Address("0.0.0.0", 0), peer=Address("0.0.0.0", 18099))


def closed(connection: Connection) -> Closed:
    return Closed(
        connection, 1004.0, code=1000, reason="", closed_by=Side.LOCAL, clean=True, accepted=True,
        duration=4.0, messages_in=1, messages_out=1, bytes_in=1, bytes_out=1,
    )  # fmt: skip


def payloads(sent: list[bytes]) -> list[dict[str, str]]:
    return [json.loads(hep.decode(data).payload) for data in sent]


def test_there_was_golden_data_of_both_kinds() -> None:
    assert JSON
    assert HOMER5


@pytest.mark.parametrize("name", sorted(JSON))
def test_a_connected_connection_is_opensips_json_byte_for_byte_and_then_ours(
    ours: Connection, name: str
) -> None:
    payload = JSON[name].payload
    parts = json.loads(payload)
    event = Connected(ours, 1000.0, parts["Ws-Request"].encode(), parts["Ws-Reply"].encode(), "sip")
    parts = PAYLOADS[Connected](event)
    assert as_json(parts._replace(more=())) == payload
    assert as_json(parts).startswith(payload.removesuffix(b"\n}") + b',\n\t"event":\t"WS CONN')


@pytest.mark.parametrize("name", sorted(HOMER5))
def test_a_connected_connection_is_opensips_text_byte_for_byte(ours: Connection, name: str) -> None:
    payload = HOMER5[name].payload
    request, reply = payload.removeprefix(b"WS:CONNECTED:").split(b":SUCCESS:")
    reply = reply.removesuffix(b":Successfully connected...")
    assert as_homer5(PAYLOADS[Connected](Connected(ours, 1000.0, request, reply, "sip"))) == payload


@pytest.mark.parametrize("name", sorted(JSON))
def test_the_packet_has_opensips_chunks_with_source_and_destination_as_who_connected(
    bus: Bus, ours: Connection, name: str
) -> None:
    theirs = JSON[name]
    # OpenSIPS says that the server connected to it: the only thing that is not to be as it is.
    ours = replace(
        ours,
        local=Address(theirs.dst_ip, theirs.dst_port),
        peer=Address(theirs.src_ip, theirs.src_port),
        id=int(theirs.correlation_id or b"0"),
    )
    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings(PacketSettings(capture_id=2001, ip_protocol=50)))
    parts = json.loads(theirs.payload)
    time = theirs.seconds + theirs.microseconds / 1_000_000
    bus.publish(ConnectionOpened(ours, time))
    bus.publish(
        Connected(ours, time, parts["Ws-Request"].encode(), parts["Ws-Reply"].encode(), "sip")
    )
    [data] = sent
    packet = hep.decode(data)
    ours_follow = packet.payload.removeprefix(theirs.payload.removesuffix(b"\n}"))
    assert ours_follow.startswith(b',\n\t"event":')
    packet = replace(packet, payload=theirs.payload)
    assert packet == replace(
        theirs,
        src_ip=theirs.dst_ip,
        src_port=theirs.dst_port,
        dst_ip=theirs.src_ip,
        dst_port=theirs.src_port,
    )


def test_source_is_who_connected_and_messages_go_their_way(bus: Bus, ours: Connection) -> None:
    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings(trace_sip=True))
    bus.publish(ConnectionOpened(ours, 1000.0))
    bus.publish(Connected(ours, 1000.0, REQUEST, REPLY, "sip"))
    bus.publish(MessageSent(ours, 1001.0, MESSAGE, is_text=True))
    bus.publish(MessageReceived(ours, 1002.0, MESSAGE, is_text=True))
    bus.publish(closed(ours))
    from_us = [
        (packet.src_ip, packet.src_port) == ours.local and (packet.dst_ip, packet.dst_port)
        == ours.peer
        for packet in map(hep.decode, sent) if packet.protocol_type != LOG
    ]  # fmt: skip
    assert from_us == [True, True, False, True]


def test_the_start_of_a_connect_is_told_with_the_addresses_that_come_of_it(
    bus: Bus, attempt: Connection, ours: Connection
) -> None:
    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings())
    bus.publish(ConnectStarted(attempt, 999.5))
    assert sent == [], "no address is known yet"
    bus.publish(ConnectionOpened(ours, 1000.0))
    bus.publish(Connected(ours, 1000.25, REQUEST, REPLY, "sip"))
    started, connected = map(hep.decode, sent)
    for packet in (started, connected):
        assert (packet.src_ip, packet.src_port) == ours.local
        assert (packet.dst_ip, packet.dst_port) == ours.peer
        assert packet.correlation_id == str(ours.id).encode()
    assert (started.seconds, started.microseconds) == (999, 500_000)
    assert json.loads(started.payload) == {
        "Protocol": "WS",
        "Event": "CONNECTING",
        "Message": "Connecting...",
        "event": "WS CONNECTING",
        "Destination": "ws://sip.example.com:18099/",
    }


def test_events_of_a_relayed_connection_name_the_other_one_and_the_client(
    bus: Bus, attempt: Connection, ours: Connection
) -> None:
    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings())
    relayed = {"relayed_with": 17, "client": Address("192.0.2.9", 1234)}
    attempt, ours = replace(attempt, **relayed), replace(ours, **relayed)
    bus.publish(ConnectStarted(attempt, 999.5))
    bus.publish(ConnectionOpened(ours, 1000.0))
    for _ in range(2):
        # The second time, the payload is like one before.
        bus.publish(Connected(ours, 1000.25, REQUEST, REPLY, "sip"))
    bus.publish(ErrorOccurred(ours, 1001.0, ErrorKind.PING_TIMEOUT, "no pong"))
    for told in payloads(sent):
        assert list(told.items())[-2:] == [("Relayed_With", "17"), ("Client", "192.0.2.9:1234")]
    assert [told["event"] for told in payloads(sent)] == [
        "WS CONNECTING",
        "WS CONNECTED",
        "WS CONNECTED",
        "WS ERROR ping-timeout",
    ]


def test_a_connect_that_fails_is_traced(bus: Bus, attempt: Connection) -> None:
    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings())
    failed = replace(attempt, peer=Address("10.0.0.1", 18099))
    bus.publish(ConnectStarted(attempt, 999.5))
    kind, detail = ErrorKind.CONNECT_REFUSED, "10.0.0.1:18099: Connection refused"
    bus.publish(ConnectFailed(failed, 1000.0, kind, detail))
    assert [part["Event"] for part in payloads(sent)] == ["CONNECTING", "CONNECTED"]
    assert list(payloads(sent)[1].items()) == [
        ("Protocol", "WS"),
        ("Event", "CONNECTED"),
        ("Status", "FAILURE"),
        ("Message", "Failed to connect..."),
        ("event", "WS FAILED connect-refused"),
        ("Error", "connect-refused"),
        ("Error_Detail", detail),
        ("Destination", "ws://sip.example.com:18099/"),
    ]
    packet = hep.decode(sent[1])
    assert (packet.src_ip, packet.src_port) == ("0.0.0.0", 0)
    assert (packet.dst_ip, packet.dst_port) == ("10.0.0.1", 18099)


def test_a_handshake_that_fails_is_a_failed_connect_with_request_and_reply(
    ours: Connection,
) -> None:
    event = HandshakeFailed(
        ours, 1000.5, REQUEST, b"HTTP/1.1 403 Forbidden\r\n\r\n", ErrorKind.HANDSHAKE_REFUSED, "no"
    )
    parts = PAYLOADS[HandshakeFailed](event)
    assert parts.opensips == (
        ("Protocol", "WS"),
        ("Event", "CONNECTED"),
        ("Ws-Request", REQUEST.decode()),
        ("Status", "FAILURE"),
        ("Ws-Reply", "HTTP/1.1 403 Forbidden\r\n\r\n"),
        ("Message", "Failed to connect..."),
    )
    assert dict(parts.more)["Destination"] == "ws://sip.example.com:18099/"
    assert dict(parts.more)["Reply_Code"] == "403"
    assert dict(parts.more)["event"] == "WS REFUSED 403"


def test_an_answer_of_101_that_is_wrong_is_no_refusal(ours: Connection) -> None:
    event = HandshakeFailed(
        ours, 1000.5, REQUEST, b"HTTP/1.1 101 Ok\r\n\r\n", ErrorKind.BAD_REPLY, "no accept key"
    )
    assert dict(PAYLOADS[HandshakeFailed](event).more)["event"] == "WS FAILED bad-reply"


def test_a_destinations_query_is_not_told(ours: Connection) -> None:
    # Tokens stand there; the request tells the rest of it, masked.
    event = ConnectStarted(replace(ours, destination="wss://a.example/ws?token=s"), 1000.0)
    assert dict(PAYLOADS[ConnectStarted](event).more)["Destination"] == "wss://a.example/ws"


def test_a_failed_connect_over_ipv6_fits_a_packet(bus: Bus, attempt: Connection) -> None:
    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings())
    failed = replace(attempt, local=Address("::", 0), peer=Address("2001:db8::1", 80))
    bus.publish(ConnectStarted(attempt, 999.5))
    bus.publish(ConnectFailed(failed, 1000.0, ErrorKind.UNREACHABLE, "no route"))
    assert [hep.decode(data).dst_ip for data in sent] == ["2001:db8::1", "2001:db8::1"]


# The three controls.


def test_the_filter_is_asked_once_and_with_the_real_addresses(
    bus: Bus, attempt: Connection, ours: Connection
) -> None:
    asked: list[Connection] = []

    def decide(connection: Connection) -> Verdict:
        asked.append(connection)
        return Verdict(connection.peer.ip != "10.0.0.1")

    sent: list[bytes] = []
    Tracer(bus, sent.append, TraceSettings(), decide=decide)
    bus.publish(ConnectStarted(attempt, 999.5))
    bus.publish(ConnectionOpened(ours, 1000.0))
    bus.publish(Connected(ours, 1000.25, REQUEST, REPLY, "sip"))
    bus.publish(closed(ours))
    assert asked == [ours]
    assert sent == []


@pytest.mark.parametrize("end", ["closed", "failed"])
def test_nothing_is_kept_of_what_ends_while_tracing_is_off(
    bus: Bus, attempt: Connection, ours: Connection, end: str
) -> None:
    sent: list[bytes] = []
    tracer = Tracer(bus, sent.append, TraceSettings())
    bus.publish(ConnectStarted(attempt, 999.5))
    tracer.switch(on=False)
    if end == "closed":
        bus.publish(ConnectionOpened(ours, 1000.0))
        bus.publish(closed(ours))
    else:
        bus.publish(ConnectFailed(attempt, 1000.0, ErrorKind.NAME_NOT_FOUND, "none"))
    assert (sent, tracer.remembered) == ([], 0)


def test_a_connect_that_fails_while_tracing_is_off_or_that_started_so_is_not_traced(
    bus: Bus, attempt: Connection
) -> None:
    sent: list[bytes] = []
    tracer = Tracer(bus, sent.append, TraceSettings(), on=False)
    bus.publish(ConnectStarted(attempt, 999.5))
    tracer.switch(on=True)
    bus.publish(ConnectFailed(attempt, 1000.0, ErrorKind.NAME_NOT_FOUND, "none"))
    assert sent == []


def test_a_route_sees_the_server_as_peer_and_our_listener_as_the_socket(ours: Connection) -> None:
    subject = subject_of(ours)
    assert (subject.si, subject.sp) == ("10.0.0.1", 18099)
    assert (subject.socket_ip, subject.socket_port) == ("192.0.2.5", 8080)
    assert (subject.proto, subject.tag) == ("ws", "edge")


def test_a_route_decides_about_connections_of_ours(ours: Connection) -> None:
    script = Script.parse('route[f] { if ($si == "10.0.0.1" && $sp == 18099) drop; }')
    decide = decide_by_route(script, "f")
    assert not decide(ours).traced
    assert decide(replace(ours, peer=Address("10.0.0.2", 18099))).traced
