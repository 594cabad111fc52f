"""Which SIP messages are traced, what they are found by, and what a call is told."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hep
from hep.sip import call_id
from sipws import Bus
from sipws.events import (
    Accepted,
    Closed,
    Connection,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    MessageReceived,
    MessageSent,
    Side,
)
from sipws.masking.handshakes import Masking
from sipws.request import UpgradeRequest
from sipws.tracing.messages import CallsOf, MessageRules, Party, correlator, selector, usual
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import Tracer, TraceSettings


def message(call: str = "c1", method: str = "INVITE", more: str = "") -> bytes:
    return (
        f"{method} sip:bob@example.com SIP/2.0\r\nFrom: <sip:alice@a.example>;tag=1\r\n"
        f"To: <sip:bob@b.example:5060>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n{more}\r\n"
    ).encode()


def answer(call: str = "c1", method: str = "INVITE") -> bytes:
    return f"SIP/2.0 200 OK\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\r\n".encode()


class Traced:
    """A connection, a tracer that watches it, and what it sent."""

    def __init__(self, bus: Bus, connection: Connection, settings: TraceSettings, **more) -> None:
        self.packets: list[hep.Packet] = []
        self.tracer = Tracer(
            bus, lambda data: self.packets.append(hep.decode(data)), settings, **more
        )
        self.bus, self.connection = bus, connection
        bus.publish(ConnectionOpened(connection, 1000.0))

    def receive(self, data: bytes, time: float = 1001.0) -> None:
        self.bus.publish(MessageReceived(self.connection, time, data, is_text=True))

    def send(self, data: bytes, time: float = 1001.0) -> None:
        self.bus.publish(MessageSent(self.connection, time, data, is_text=True))

    def fail(self, detail: str = "bad") -> None:
        self.bus.publish(ErrorOccurred(self.connection, 1003.0, ErrorKind.PROTOCOL_ERROR, detail))

    def close(self, code: int = 1006) -> None:
        self.bus.publish(
            Closed(
                self.connection, 1004.0, code=code, reason="", closed_by=Side.PEER, clean=False,
                accepted=True, duration=4.0, messages_in=1, messages_out=1, bytes_in=1, bytes_out=1,
            )
        )  # fmt: skip

    @property
    def payloads(self) -> list[bytes]:
        return [packet.payload for packet in self.packets]


SIP = TraceSettings(trace_sip=True)


@pytest.mark.parametrize("keep_alive", [b"", b"\r\n", b"\r\n\r\n", b"\n"])
def test_keep_alives_are_no_sip_and_told_nowhere(bus, connection, keep_alive: bytes) -> None:
    traced = Traced(bus, connection, SIP)
    traced.receive(keep_alive)
    assert traced.packets == []
    # In front of a message it is not part of it (RFC 3261 section 7.5).
    traced.receive(keep_alive + message())
    assert traced.payloads == [message()]


@pytest.mark.parametrize(
    "sip",
    [
        message(),
        answer(),
        message().replace(b"\r\n", b"\n"),
        b"SIP/2.0 200\r\nCall-ID: c1\r\n\r\n",
        b"sip/2.0 200 OK\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0",
    ],
)
def test_what_has_a_start_line_is_sip(bus, connection, sip: bytes) -> None:
    traced = Traced(bus, connection, SIP)
    traced.receive(sip)
    # Where a collector would lose it, an event says so: see test_broken_sip.py.
    [packet] = [each for each in traced.packets if each.protocol_type == hep.ProtocolType.SIP]
    assert (packet.protocol_type, packet.payload) == (hep.ProtocolType.SIP, sip)


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello",
        b"hello\r\nCall-ID: c1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nOPTIONS sip:a SIP/2.0\r\n\r\n",
        b'{"payload": "OPTIONS sip:a SIP/2.0"}',
        b"\x00\xff" * 1000,
    ],
)
def test_what_is_no_sip_is_an_event_of_its_connection(bus, connection, garbage: bytes) -> None:
    # Homer drops what comes as SIP and is none.
    traced = Traced(bus, connection, SIP)
    traced.receive(garbage)
    traced.send(garbage)
    received, sent = traced.packets
    assert received.protocol_type == sent.protocol_type == hep.ProtocolType.NET
    assert received.correlation_id == str(connection.id).encode()
    told = json.loads(received.payload)
    assert list(told.items())[:4] == [
        ("Protocol", "WS"),
        ("Event", "MESSAGE"),
        ("Status", "FAILURE"),
        ("Message", "a message was received that is not SIP"),
    ]
    assert told["Error"] == "no-sip"
    assert told["Ws_Message_Bytes"] == str(len(garbage))
    # jsonb takes no NUL.
    assert told["Ws_Message"].encode("latin-1") == garbage[:500].replace(b"\0", rb"\x00")
    assert json.loads(sent.payload)["Message"] == "a message was sent that is not SIP"
    assert traced.tracer.counters["no_sip"] == 2


def test_what_is_no_sip_is_told_without_the_credentials_of_its_connection(bus, connection) -> None:
    request = UpgradeRequest(b"GET /?token=topsecret HTTP/1.1\r\n\r\n")
    traced = Traced(bus, connection.with_request(request), SIP)
    traced.receive(b"login topsecret")
    assert json.loads(traced.packets[0].payload)["Ws_Message"] == "login ***"


def test_what_is_no_sip_is_only_counted_where_events_are_not_traced(bus, connection) -> None:
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, trace_events=False))
    traced.receive(b"hello")
    assert traced.packets == []
    assert traced.tracer.counters["no_sip"] == 1


def test_folded_headers_are_read_as_if_they_were_not(bus, connection) -> None:
    folded = (
        b"INVITE sip:bob@example.com SIP/2.0\r\nFrom:\r\n <sip:alice@a.example>;tag=1\r\n"
        b"To: Bob\r\n\t<sip:bob@b.example>\r\nCall-ID:\r\n c1\r\nCSeq: 1\r\n INVITE\r\n"
        b"X-CID :\r\n  leg-a\r\n\r\n"
    )
    rules = MessageRules(methods=frozenset({"INVITE"}))
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, messages=rules))
    traced.receive(folded)
    # Of a response, the method is in CSeq.
    traced.receive(folded.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK"))
    traced.receive(
        folded.replace(b"INVITE sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK").replace(
            b"INVITE", b"BYE"
        )
    )
    sip = [each for each in traced.packets if each.protocol_type == hep.ProtocolType.SIP]
    assert [packet.correlation_id for packet in sip] == [b"c1", b"c1"]
    correlate = correlator(MessageRules(correlation_headers=("X-CID",)))
    assert correlate is not None
    assert correlate(folded, None, b"9") == b"leg-a"
    assert CallsOf([Party("alice")], [Party("bob@b.example")])(folded, b"c1")


def test_of_a_sampled_call_all_messages_are_traced_or_none(bus, connection) -> None:
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, messages=MessageRules(0.25)))
    for number in range(1000):
        traced.receive(message(f"call-{number}@example.com"))
        traced.send(answer(f"call-{number}@example.com"))
    calls = [packet.correlation_id for packet in traced.packets]
    assert calls[::2] == calls[1::2]
    assert 400 < len(calls) < 600
    assert traced.tracer.counters["left_out"] == 2000 - len(calls)


@pytest.mark.parametrize(("share", "traced"), [(0.0, False), (1.0, True)])
def test_nothing_and_everything_can_be_sampled(share, traced) -> None:
    select = selector(MessageRules(share))
    assert all((select is None or select(message(str(n)), b"%d" % n)) == traced for n in range(99))


def test_methods_are_chosen_with_their_responses(bus, connection) -> None:
    rules = MessageRules(methods=frozenset({"INVITE", "BYE"}))
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, messages=rules))
    for method in ("INVITE", "REGISTER", "BYE", "OPTIONS"):
        traced.receive(message(method=method))
        traced.send(answer(method=method))
    assert traced.payloads == [
        each(method=method) for method in ("INVITE", "BYE") for each in (message, answer)
    ]


def test_a_header_may_be_the_correlation_id(bus, connection) -> None:
    rules = MessageRules(correlation_headers=("X-CID", "X-Session"))
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, messages=rules))
    traced.receive(message(more="X-Session: s\r\nx-cid : leg-a \r\n"))
    traced.receive(message(more="X-Session: s\r\n"))
    traced.receive(message(more="\r\nX-CID: in the body\r\n"))
    assert [packet.correlation_id for packet in traced.packets] == [b"leg-a", b"s", b"c1"]


def test_a_call_is_told_of_an_error_and_of_the_end(bus, connection) -> None:
    traced = Traced(bus, connection, SIP)
    traced.receive(message("c1"))
    traced.receive(message("c2"))
    traced.fail()
    traced.close()
    logs = [packet for packet in traced.packets if packet.protocol_type == hep.ProtocolType.LOG]
    assert [packet.correlation_id for packet in logs] == [b"c1", b"c2"] * 2
    assert logs[0].payload == (
        b"WebSocket connection 9872991657742122745 192.0.2.5:50123 > 10.0.0.1:8080"
        b" (Call-ID c1) protocol-error: bad"
    )
    # A collector that drops what it has had already keeps the line of each call.
    assert len({packet.payload for packet in logs}) == 4
    assert all(packet.correlation_id in packet.payload for packet in logs)
    assert logs[2].payload.endswith(b" closed 1006 by the peer after 4.000 s")
    assert (logs[2].src_ip, logs[2].dst_ip) == ("192.0.2.5", "10.0.0.1")


@pytest.mark.parametrize("version", [1, 2])
def test_versions_without_a_protocol_type_have_no_log_lines(bus, connection, version) -> None:
    settings = TraceSettings(PacketSettings(version=version), trace_sip=True)
    traced = Traced(bus, connection, settings)
    traced.receive(message("c1"))
    traced.fail()
    traced.close()
    assert [payload[:1] for payload in traced.payloads] == [b"I", b"{", b"{"]


def test_the_end_names_the_latest_calls(bus, connection) -> None:
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, call_logs=50))
    for call in range(40):
        traced.receive(message(f"call-{call}"))
    traced.close()
    [closed] = [json.loads(each) for each in traced.payloads if b"CLOSED" in each[:60]]
    assert closed["Call_IDs"].split() == [f"call-{call}" for call in range(24, 40)]


def test_the_end_of_a_connection_without_calls_names_none(bus, connection) -> None:
    traced = Traced(bus, connection, SIP)
    traced.close()
    assert "Call_IDs" not in json.loads(traced.payloads[0])


def test_messages_can_carry_the_id_of_their_connection(bus, connection) -> None:
    rules = MessageRules(correlate_by="connection")
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, messages=rules))
    traced.receive(message("c1"))
    traced.send(answer("c1"))
    traced.receive(message("c2"))
    traced.close()
    ids = [(packet.protocol_type, packet.correlation_id) for packet in traced.packets]
    own = str(connection.id).encode()
    assert ids[:4] == [(hep.ProtocolType.SIP, own)] * 3 + [(hep.ProtocolType.NET, own)]
    assert ids[4:] == [(hep.ProtocolType.LOG, b"c1"), (hep.ProtocolType.LOG, b"c2")]


def test_only_the_latest_calls_are_told(bus, connection) -> None:
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, call_logs=2))
    for call in ("c1", "c2", "c1", "c3"):
        traced.receive(message(call))
    traced.close()
    logs = [packet for packet in traced.packets if packet.protocol_type == hep.ProtocolType.LOG]
    assert [packet.correlation_id for packet in logs] == [b"c1", b"c3"]


def test_what_each_call_is_told_is_bounded(bus, connection) -> None:
    # It goes to each of sixteen calls: an error that quotes much is not to be sent so often.
    traced = Traced(bus, connection, SIP)
    for call in range(20):
        traced.receive(message(f"{call}-" + "x" * 2000))
    traced.fail("é" * 60_000)
    logs = [packet for packet in traced.packets if packet.protocol_type == hep.ProtocolType.LOG]
    assert len({packet.correlation_id for packet in logs}) == len(logs) == 16
    assert {len(packet.correlation_id) for packet in logs} == {256}
    assert {len(packet.payload.decode()) for packet in logs} == {1000}


@pytest.mark.parametrize("settings", [TraceSettings(), TraceSettings(trace_sip=True, call_logs=0)])
def test_no_call_is_told_where_that_is_off(bus, connection, settings) -> None:
    traced = Traced(bus, connection, settings)
    traced.receive(message())
    traced.close()
    assert all(packet.protocol_type != hep.ProtocolType.LOG for packet in traced.packets)


def test_timestamps_increase_strictly_also_when_the_clock_steps_back(bus, connection) -> None:
    traced = Traced(bus, connection, SIP)
    for time in (1001.0, 1001.0, 1000.0, 1000.5, 1001.5):
        traced.receive(message(), time)
    times = [packet.seconds * 1_000_000 + packet.microseconds for packet in traced.packets]
    assert times == [1001_000_000 + n for n in range(4)] + [1001_500_000]


def test_a_clock_set_back_by_an_hour_turns_no_order_around(bus, connection) -> None:
    traced = Traced(bus, connection, SIP)
    for time in (5000.0, 1400.0, 1401.0, 5000.5):
        traced.receive(message(), time)
    times = [packet.seconds * 1_000_000 + packet.microseconds for packet in traced.packets]
    assert times == [5000_000_000, 5000_000_001, 5000_000_002, 5000_500_000]


def test_credentials_of_a_handshake_are_masked(bus, connection) -> None:
    request = b"GET /?token=abc HTTP/1.1\r\nCookie: sid=secret\r\n\r\n"
    reply = b"HTTP/1.1 101 Switching\r\nSet-Cookie: sid=secret\r\n\r\n"
    for masking, count in ((Masking(), 0), (None, 4)):
        traced = Traced(bus, connection, TraceSettings(masking=masking))
        bus.publish(Accepted(connection, 1001.0, request, reply))
        traced.tracer.close()
        payload = traced.payloads[0]
        assert payload.count(b"secret") + payload.count(b"abc") == count


def test_the_calls_of_a_caller_are_followed_in_both_directions() -> None:
    select = CallsOf([Party("alice")])
    assert select(message("c1"), b"c1")
    assert select(answer("c1"), b"c1")
    by_callee = b"BYE sip:a SIP/2.0\r\nFrom: <sip:bob@b.example>\r\nCall-ID: c1\r\n\r\n"
    assert select(by_callee, b"c1")
    assert not select(by_callee.replace(b"c1", b"c2"), b"c2")


@pytest.mark.parametrize(
    ("callers", "callees", "selected"),
    [
        (["alice@a.example"], [], True),
        (["alice@other.example"], [], False),
        (["al"], [], False),
        (["sip:alice"], ["bob"], True),
        (["alice"], ["carol"], False),
        ([], ["bob@b.example"], True),
        (["zoe", "alice"], [], True),
    ],
)
def test_parties_are_named_by_user_or_address(callers, callees, selected) -> None:
    select = CallsOf([Party(each) for each in callers], [Party(each) for each in callees])
    assert select(message(), b"c1") is selected


def test_calls_of_a_filter_are_bounded() -> None:
    select = CallsOf([Party("alice")])
    for number in range(3000):
        select(message(str(number)), b"%d" % number)
    assert len(select._calls) <= 1024


@pytest.mark.parametrize("value", [b" " * 65_000, b"\r\n" + b"\t" * 65_000])
def test_blanks_without_end_are_read_once(value: bytes) -> None:
    # Tried in every way, they would take most of a minute.
    message = b"OPTIONS sip:a SIP/2.0\r\nX-CID:" + value + b"\r\nCSeq:" + value + b"\r\n\r\n"
    correlate = correlator(MessageRules(correlation_headers=("X-CID",)))
    select = selector(MessageRules(methods=frozenset({"INVITE"})))
    assert correlate is not None
    assert correlate(message, b"c1", b"9") == b"c1"
    assert select is not None
    assert not select(message, b"c1")


@pytest.mark.parametrize(
    ("scope", "bearer", "digest"),
    [
        ("tokens", b"Bearer ***", b"Digest username=a"),
        ("all", b"Bearer ***", b"Digest ***"),
        ("none", b"Bearer z1", b"Digest username=a"),
    ],
)
def test_of_credentials_in_messages_so_much_is_traced(
    bus, connection, scope, bearer: bytes, digest: bytes
) -> None:
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, mask_sip=scope))
    lines = b"\r\n".join(
        [
            b"Call-ID: c1",
            b"CSeq: 1 OPTIONS",
            b"Authorization: Bearer z1",
            b"Proxy-Authorization: Digest username=a",
        ]
    )
    for start in (
        b"OPTIONS sip:a SIP/2.0\r\n",
        b"SUBSCRIBE sip:a SIP/2.0\r\n",
        b"\xef\xbb\xbfX\r\n",
    ):
        traced.receive(start + lines + b"\r\n\r\n")
    for payload in traced.payloads:
        assert b"Authorization: " + bearer in payload
        assert b"Proxy-Authorization: " + digest in payload
    assert [packet.correlation_id for packet in traced.packets[:2]] == [b"c1", b"c1"]


def test_where_all_is_masked_what_a_server_proves_is_too(bus, connection) -> None:
    traced = Traced(bus, connection, TraceSettings(trace_sip=True, mask_sip="all"))
    told = b"Authentication-Info: rspauth=abc\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    traced.receive(b"SIP/2.0 200 OK\r\n" + told)
    assert b"Authentication-Info: ***\r\n" in traced.payloads[0]


def test_a_long_body_is_not_taken_for_headers(bus, connection) -> None:
    traced = Traced(bus, connection, SIP)
    body = b"a=z\r\nAuthorization: Bearer of-the-body\r\nCall-ID: of-the-body\r\n" + b"z" * 2000
    sent = message("c1", more="Authorization: Bearer of-the-head\r\n") + body
    traced.receive(sent)
    assert traced.payloads == [sent.replace(b"of-the-head", b"***")]


@pytest.mark.parametrize("size", [0, 2000])
def test_a_body_that_is_sip_has_credentials_too(bus, connection, size: int) -> None:
    traced = Traced(bus, connection, SIP)
    body = b"INVITE sip:a SIP/2.0\r\nAuthorization: Bearer of-the-body\r\nX: " + b"y" * size
    sent = message("c1", more="Content-Type: message/sipfrag\r\n") + body
    traced.receive(sent)
    assert traced.payloads == [sent.replace(b"of-the-body", b"***")]


@pytest.mark.parametrize("name", [b"Authorization", b"AUTHORIZATION", b"aUtHoRiZaTiOn"])
@pytest.mark.parametrize("via", [b"", b"Via: SIP/2.0/WS a;branch=z9hG4bKx\r\n"])
def test_a_token_is_found_before_and_behind_other_letters(bus, connection, name, via) -> None:
    traced = Traced(bus, connection, SIP)
    line = name + b": Bearer secret\r\n"
    for head in (via + line, line + via):
        traced.receive(
            b"OPTIONS sip:a SIP/2.0\r\n" + head + b"Call-ID: c1\r\nCSeq: 1 OPTIONS\r\n\r\n"
        )
    assert len(traced.payloads) == 2
    assert not any(b"secret" in payload for payload in traced.payloads)


LINES = [
    *(b"Call-ID: c1", b"Call-ID: c2", b"call-id:c1", b"CALL-ID : c1", b"i: c1", b"I:c2"),
    *(b"CSeq: 1 INVITE", b"cseq:1 BYE", b"CSeq: 2 OPTIONS", b"CSeq: x", b" folded", b"Call-ID:"),
    *(b"Call-ID:\r\n c3", b"Via: SIP/2.0/WS a", b"From: <sip:a@b>;tag=1", b"X-Call-ID: c9"),
    *(b"Subject: i: c4", b""),
]


@given(st.lists(st.sampled_from(LINES), max_size=7), st.sampled_from([b"\r\n", b"\n"]))
@example([b"Call-ID: c1", b"CSeq: 1 INVITE"], b"\r\n")
@example([b"CSeq: 1 INVITE", b"Call-ID: c1"], b"\r\n")
@example([b"CSeq: 1 INVITE", b"Call-ID: c1", b" folded"], b"\r\n")
def test_the_call_that_is_traced_is_the_one_that_the_reader_finds(
    lines: list[bytes], end: bytes
) -> None:
    sip = end.join([b"INVITE sip:bob@example.com SIP/2.0", *lines, b"", b""])
    match = usual(sip)
    # Without a group the message goes to the reader itself.
    if match is not None and (group := match.lastindex) is not None:
        assert match[group] == call_id(sip)
