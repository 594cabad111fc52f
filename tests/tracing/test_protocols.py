"""Tracing of ws and of wss is switched, and filtered, apart."""

from dataclasses import replace

import pytest

import hep
from sipws import Bus, Listener
from sipws.deferred_bus import DeferredBus
from sipws.events import Connection
from sipws.tracing.protocols import decide_by_protocol
from sipws.tracing.tracer import Decide, Tracer, TraceSettings, Verdict
from tests.tracing.test_tracer import Life

SIP = TraceSettings(trace_sip=True)


@pytest.fixture
def ws(bus: Bus, connection: Connection) -> Life:
    return Life(bus, connection)


@pytest.fixture
def wss(bus: Bus, connection: Connection) -> Life:
    return Life(bus, replace(connection, id=2, listener=Listener.parse("wss:10.0.0.1:443")))


def protocols(sent: list[bytes]) -> list[str]:
    """The protocol of each packet, by its connection's id or the port of the SIP packet."""
    packets = [hep.decode(data) for data in sent]
    return ["WSS" if b'"WSS"' in packet.payload else "WS" for packet in packets]


def test_a_switch_is_for_one_protocol(bus: Bus, ws: Life, wss: Life) -> None:
    sent: list[bytes] = []
    tracer = Tracer(bus, sent.append, TraceSettings())
    for life in (ws, wss):
        life.open()
        life.accept()
    assert protocols(sent) == ["WS", "WSS"]
    sent.clear()
    tracer.switch(on=False, proto="ws")
    assert tracer.on
    ws.err()
    wss.err()
    assert protocols(sent) == ["WSS"]
    sent.clear()
    tracer.switch(on=False, proto="wss")
    assert not tracer.on
    ws.err()
    wss.err()
    assert sent == []
    # What was chosen before goes on.
    tracer.switch(on=True, proto="ws")
    ws.err()
    wss.err()
    assert protocols(sent) == ["WS"]


def test_messages_of_a_protocol_that_is_off_are_not_traced(bus: Bus, ws: Life, wss: Life) -> None:
    sent: list[bytes] = []
    tracer = Tracer(bus, sent.append, SIP)
    ws.open()
    wss.open()
    tracer.switch(on=False, proto="wss")
    wss.receive()
    assert sent == []
    ws.receive()
    assert len(sent) == 1


def test_a_connection_that_opens_while_its_protocol_is_off_is_never_traced(
    bus: Bus, ws: Life, wss: Life
) -> None:
    sent: list[bytes] = []
    tracer = Tracer(bus, sent.append, SIP, on=["ws"])
    wss.open()
    tracer.switch(on=True, proto="wss")
    wss.accept()
    wss.receive()
    wss.close()
    assert sent == []


def test_nothing_is_kept_of_connections_that_end_while_their_protocol_is_off(
    bus: Bus, ws: Life, wss: Life
) -> None:
    tracer = Tracer(bus, [].append, SIP)
    ws.open()
    wss.open()
    tracer.switch(on=False, proto="wss")
    wss.close()
    ws.close()
    assert tracer.remembered == 0


def test_a_tracer_of_one_protocol_stays_with_it(bus: Bus, ws: Life, wss: Life) -> None:
    sent: list[bytes] = []
    tracer = Tracer(bus, sent.append, TraceSettings(), protocols=["wss"])
    tracer.switch(on=True)
    tracer.switch(on=True, proto="ws")
    for life in (ws, wss):
        life.open()
        life.accept()
    assert protocols(sent) == ["WSS"]


async def test_events_before_the_switch_are_those_of_a_tracer_that_is_on(
    bus: Bus, ws: Life, wss: Life
) -> None:
    sent: list[bytes] = []
    tracer = Tracer(DeferredBus(bus), sent.append, TraceSettings())
    wss.open()
    wss.err()
    tracer.switch(on=False, proto="wss")
    assert protocols(sent) == ["WSS"]


def test_filters_of_protocols_decide_apart(ws: Life, wss: Life) -> None:
    def drop(connection: Connection) -> Verdict:
        return Verdict(False)

    one = decide_by_protocol(drop, None)
    assert one is not None
    assert [one(life.connection).traced for life in (ws, wss)] == [False, True]
    other = decide_by_protocol(None, drop)
    assert other is not None
    assert [other(life.connection).traced for life in (ws, wss)] == [True, False]


@pytest.mark.parametrize("decide", [None, lambda connection: Verdict(True)])
def test_one_filter_for_both_costs_nothing(decide: Decide | None) -> None:
    assert decide_by_protocol(decide, decide) is decide
