"""The three controls: destination, switch and filter, connection by connection."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest

import hep
from sipws import Bus
from sipws.events import (
    Accepted,
    Closed,
    Connection,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    Event,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    Side,
)
from sipws.request import UpgradeRequest
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import Tracer, TraceSettings, Verdict

MESSAGE = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: c1\r\nCSeq: 1 OPTIONS\r\n\r\n"


class Life:
    """A connection whose life is told on a bus, step by step."""

    def __init__(self, bus: Bus, connection: Connection) -> None:
        self.bus = bus
        self.connection = connection

    def open(self) -> None:
        self.bus.publish(ConnectionOpened(self.connection, 1000.0))

    def accept(self) -> None:
        self.bus.publish(Accepted(self.connection, 1000.25, b"GET / HTTP/1.1", b"HTTP/1.1 101"))

    def receive(self, data: bytes = MESSAGE) -> None:
        self.bus.publish(MessageReceived(self.connection, 1001.0, data, is_text=True))

    def send(self, data: bytes = MESSAGE) -> None:
        self.bus.publish(MessageSent(self.connection, 1002.0, data, is_text=True))

    def err(self) -> None:
        self.bus.publish(ErrorOccurred(self.connection, 1003.0, ErrorKind.PROTOCOL_ERROR, "bad"))

    def close(self) -> None:
        self.bus.publish(
            Closed(
                self.connection, 1004.000001, code=1000, reason="", closed_by=Side.PEER,
                clean=True, accepted=True, duration=4.0, messages_in=1, messages_out=1,
                bytes_in=1, bytes_out=1,
            )
        )  # fmt: skip


@pytest.fixture
def life(bus: Bus, connection: Connection) -> Life:
    return Life(bus, connection)


@pytest.fixture
def sent() -> list[bytes]:
    return []


Make = Callable[..., Tracer]


@pytest.fixture
def tracer(bus: Bus, sent: list[bytes]) -> Make:
    def make(settings: TraceSettings | None = None, **controls: object) -> Tracer:
        return Tracer(bus, sent.append, settings or TraceSettings(), **controls)

    return make


def events_of(sent: list[bytes]) -> list[str]:
    return [json.loads(hep.decode(data).payload)["Event"] for data in sent]


def test_the_accepted_and_the_closed_packet_are_opensips_chunks_with_real_addresses(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    tracer(TraceSettings(PacketSettings(capture_id=2001)))
    life.open()
    life.accept()
    life.close()
    accepted, closed = map(hep.decode, sent)
    for packet in (accepted, closed):
        assert [kind for _, kind in packet.layout] == [1, 2, 7, 8, 9, 10, 11, 12, 3, 4, 15, 17]
        assert (packet.ip_family, packet.ip_protocol, packet.protocol_type) == (2, 6, 0x59)
        assert (packet.src_ip, packet.src_port) == ("192.0.2.5", 50123)
        assert (packet.dst_ip, packet.dst_port) == ("10.0.0.1", 8080)
        assert packet.capture_id == 2001
        assert packet.correlation_id == b"9872991657742122745"
    assert (accepted.seconds, accepted.microseconds) == (1000, 250000)
    assert (closed.seconds, closed.microseconds) == (1004, 1)
    assert events_of(sent) == ["ACCEPTED", "CLOSED"]


def test_the_ip_protocol_can_be_opensips_own(tracer: Make, life: Life, sent: list[bytes]) -> None:
    tracer(TraceSettings(PacketSettings(ip_protocol=50)))
    life.open()
    life.accept()
    assert hep.decode(sent[0]).ip_protocol == 50


def test_errors_are_traced(tracer: Make, life: Life, sent: list[bytes]) -> None:
    tracer()
    life.open()
    life.err()
    assert events_of(sent) == ["ERROR"]


def test_text_payloads_on_request(tracer: Make, life: Life, sent: list[bytes]) -> None:
    tracer(TraceSettings(homer5=True, homer5_delimiter="#"))
    life.open()
    life.err()
    assert hep.decode(sent[0]).payload == b"WS#ERROR#FAILURE#bad"


@pytest.mark.parametrize("version", [1, 2])
def test_old_versions_carry_the_payload(
    tracer: Make, life: Life, sent: list[bytes], version: int
) -> None:
    tracer(TraceSettings(PacketSettings(version=version)))
    life.open()
    life.accept()
    packet = hep.decode(sent[0])
    assert packet.version == version
    assert (packet.src_ip, packet.src_port) == ("192.0.2.5", 50123)
    assert json.loads(packet.payload)["Event"] == "ACCEPTED"


def test_a_large_request_of_garbage_is_traced_shortened(
    tracer: Make, life: Life, bus: Bus, sent: list[bytes]
) -> None:
    tracer()
    life.open()
    garbage = b"GET \x00" + bytes(16_000)
    kind = ErrorKind.REQUEST_TOO_LARGE
    bus.publish(
        HandshakeFailed(life.connection, 1000.1, garbage, b"HTTP/1.1 431", kind, "too large")
    )
    parts = json.loads(hep.decode(sent[0]).payload)
    assert parts["Ws-Request"].startswith(r"GET \x00")
    assert parts["Ws-Request"].endswith("… (16005 characters)")
    assert (parts["Ws-Reply"], parts["Error"]) == ("HTTP/1.1 431", "request-too-large")


# The switch.


def test_off_nothing_is_traced_and_no_filter_runs(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    asked: list[Connection] = []
    tracer(on=False, decide=asked.append)
    life.open()
    life.accept()
    life.close()
    assert (sent, asked) == ([], [])


def test_off_the_transport_finds_empty_hooks(tracer: Make, bus: Bus) -> None:
    tracer(TraceSettings(trace_sip=True), on=False)
    control = tracer(TraceSettings(trace_sip=True), on=True)
    assert bus.accepted.subscribers
    control.switch(on=False)
    for event_type in get_args(Event):
        assert not bus.hook(event_type).subscribers


def test_a_connection_opened_while_off_is_never_traced(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    control = tracer(on=False)
    life.open()
    control.switch(on=True)
    life.accept()
    life.close()
    assert sent == []


def test_switched_off_everything_stops_and_switched_on_the_chosen_go_on(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    control = tracer()
    life.open()
    life.accept()
    control.switch(on=False)
    life.err()
    control.switch(on=True)
    life.close()
    assert events_of(sent) == ["ACCEPTED", "CLOSED"]


def test_a_connection_that_closes_while_off_is_forgotten(
    tracer: Make, life: Life, bus: Bus
) -> None:
    control = tracer()
    life.open()
    control.switch(on=False)
    assert bus.closed.subscribers
    life.close()
    assert control.remembered == 0
    assert not bus.closed.subscribers


# The filter.


def test_the_filter_is_asked_once_a_connection_and_not_before_there_is_something_to_send(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    asked: list[Connection] = []

    def decide(connection: Connection) -> Verdict:
        asked.append(connection)
        return Verdict(True)

    tracer(decide=decide)
    life.open()
    assert asked == []
    life.accept()
    life.err()
    life.close()
    assert asked == [life.connection]
    assert len(sent) == 3


def test_a_dropped_connection_is_left_out_to_its_end(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    control = tracer(TraceSettings(trace_sip=True), decide=lambda connection: Verdict(False))
    life.open()
    life.accept()
    life.receive()
    life.close()
    assert sent == []
    assert control.counters["excluded"] == 1


def test_each_connection_gets_its_own_decision(
    tracer: Make, life: Life, bus: Bus, sent: list[bytes]
) -> None:
    other = Life(bus, replace(life.connection, id=2))
    tracer(decide=lambda connection: Verdict(connection.id == 2))
    for each in (life, other):
        each.open()
        each.accept()
    assert [hep.decode(data).correlation_id for data in sent] == [b"2"]


def test_a_filter_that_fails_excludes_nothing(
    tracer: Make, life: Life, sent: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    control = tracer(decide=lambda connection: 1 / 0)
    life.open()
    life.accept()
    assert events_of(sent) == ["ACCEPTED"]
    assert control.counters["failed"] == 1
    assert "the trace filter failed" in caplog.text
    remark = json.loads(hep.decode(sent[0]).payload)["Filter_Remark"]
    assert remark == "the filter failed (ZeroDivisionError: division by zero)"


def test_what_a_filter_remarks_is_said_once_in_the_first_packet(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    control = tracer(decide=lambda connection: Verdict(True, "stopped after 10000 rounds"))
    life.open()
    life.accept()
    life.close()
    first, last = (json.loads(hep.decode(data).payload) for data in sent)
    assert first["Filter_Remark"] == "stopped after 10000 rounds"
    assert "Filter_Remark" not in last
    assert control.counters["remarked"] == 1
    assert control.remembered == 0


def test_what_a_filter_remarks_is_forgotten_with_the_connection(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    settings = TraceSettings(trace_sip=True, trace_events=False)
    control = tracer(settings, decide=lambda connection: Verdict(True, "stopped"))
    life.open()
    life.receive()
    # No packet has said it: of SIP messages the bytes are traced and nothing else.
    assert [hep.decode(data).payload for data in sent] == [MESSAGE]
    assert control.remembered == 2
    life.close()
    assert control.remembered == 0


def test_what_a_filter_quotes_of_a_request_is_masked(
    tracer: Make, life: Life, sent: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    tracer(decide=lambda connection: Verdict(True, "who is topsecret?"))
    request = UpgradeRequest(b"GET /?token=topsecret HTTP/1.1\r\n\r\n")
    life.connection = life.connection.with_request(request)
    life.open()
    life.accept()
    assert json.loads(hep.decode(sent[0]).payload)["Filter_Remark"] == "who is ***?"
    assert "who is ***?" in caplog.text


def test_a_filter_may_be_replaced_and_decisions_stay(
    tracer: Make, life: Life, bus: Bus, sent: list[bytes]
) -> None:
    control = tracer(decide=lambda connection: Verdict(True))
    other = Life(bus, replace(life.connection, id=2))
    life.open()
    life.accept()
    control.decide = lambda connection: Verdict(False)
    other.open()
    other.accept()
    life.close()
    assert events_of(sent) == ["ACCEPTED", "CLOSED"]


# SIP messages.


def test_messages_are_traced_on_request_with_their_call_id_and_direction(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    tracer(TraceSettings(trace_sip=True))
    life.open()
    life.receive()
    life.send()
    received, answered = map(hep.decode, sent)
    assert (received.payload, received.protocol_type) == (MESSAGE, 1)
    assert received.correlation_id == answered.correlation_id == b"c1"
    assert (received.src_ip, received.dst_ip) == ("192.0.2.5", "10.0.0.1")
    assert (answered.src_ip, answered.dst_ip) == ("10.0.0.1", "192.0.2.5")
    assert (answered.src_port, answered.dst_port) == (8080, 50123)


def test_messages_are_not_traced_unless_asked_for(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    tracer()
    life.open()
    life.receive()
    life.send()
    assert sent == []


def test_keep_alives_are_not_traced(tracer: Make, life: Life, sent: list[bytes]) -> None:
    tracer(TraceSettings(trace_sip=True))
    life.open()
    life.receive(b"\r\n\r\n")
    life.send(b"\r\n")
    assert sent == []


def test_a_message_that_no_packet_can_carry_is_traced_without_its_end(
    tracer: Make, life: Life, sent: list[bytes]
) -> None:
    control = tracer(TraceSettings(trace_sip=True))
    life.open()
    life.receive(MESSAGE + b"x" * 70_000)
    assert control.counters["too_long"] == 1
    packet = hep.decode(sent[0])
    assert packet.payload == (MESSAGE + b"x" * 70_000)[: len(packet.payload)]
    assert len(sent[0]) <= 65_507
    # What is left out beside the packet's own chunks is room for the longest correlation id.
    assert len(packet.payload) > 65_000
