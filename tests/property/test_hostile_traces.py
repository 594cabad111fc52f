"""Whatever a peer sends, however it is traced: no subscriber raises, and nothing stays behind."""

import gc
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import hep
from hep.codec.correlation import LONGEST_ID
from hep.sending.fitting import LONGEST
from sipws import Address, Bus, Listener
from sipws.events import (
    Accepted,
    Closed,
    Connection,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    Side,
    Superseded,
)
from sipws.tracing.messages import MessageRules
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import NOT_ENCODED, Tracer, TraceSettings

LISTENER = Listener("ws", "10.0.0.1", 80)
START = b"OPTIONS sip:a SIP/2.0\r\n"


def connection(number: int, peer: Address = Address("192.0.2.5", 50123)) -> Connection:  # noqa: B008
    return Connection(number, LISTENER, Address("10.0.0.1", 80), peer, 1000.0)


def repeated(unit: bytes, longest: int = 70_000) -> st.SearchStrategy[bytes]:
    """A few bytes, so often that they are short, as long as fits, or longer."""
    sizes = st.sampled_from([0, 1, 100, 255, 256, 257, 5600, 60_000, 65_000, 65_400, 65_535])
    return st.one_of(sizes, st.integers(0, longest)).map(lambda size: (unit * size)[:size])


values = st.sampled_from([b"x", b"\0", b"\xff", b'"\\', b" ", b"\xc3\xbc", b"\x1b[2J"]).flatmap(
    repeated
) | st.binary(max_size=40)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    lines = draw(
        st.lists(
            st.tuples(
                st.sampled_from(
                    [b"Call-ID: ", b"i:", b"CALL-ID :\r\n ", b"X-CID: ", b"Via: ", b"From: sip:"]
                ),
                values,
            ),
            max_size=4,
        )
    )
    start = draw(st.sampled_from([START, b"SIP/2.0 200 OK\r\n", b"", b"\r\n", b"\xef\xbb\xbf"]))
    head = b"".join(name + value + b"\r\n" for name, value in lines)
    return (start + head + b"\r\n" + draw(values))[:70_000]


names = values.map(lambda data: data.decode("latin-1"))
events: st.SearchStrategy[Callable[[Connection, float], Any]] = st.one_of(
    messages().map(lambda data: lambda at, now: MessageReceived(at, now, data, True)),
    messages().map(lambda data: lambda at, now: MessageSent(at, now, data, False)),
    st.tuples(values, values).map(lambda raw: lambda at, now: Accepted(at, now, *raw)),
    st.tuples(values, values, names).map(
        lambda raw: (
            lambda at, now: HandshakeFailed(at, now, raw[0], raw[1], ErrorKind.BAD_REQUEST, raw[2])
        )
    ),
    names.map(lambda text: lambda at, now: ErrorOccurred(at, now, ErrorKind.BAD_UTF8, text)),
    names.map(lambda text: lambda at, now: Superseded(at, now, text, 7)),
)
times = st.sampled_from([1000.0, 1000.5, 0.0, 4e9, 2.0**33, -5.0])
peers = st.sampled_from([("192.0.2.5", 1), ("2001:db8::1", 65535), ("fe80::1%eth0", 1), ("", 0)])


def closed(at: Connection, now: float, reason: str) -> Closed:
    return Closed(
        at, now, code=1006, reason=reason, closed_by=Side.PEER, clean=False, accepted=True,
        duration=now, messages_in=1, messages_out=1, bytes_in=1, bytes_out=1,
    )  # fmt: skip


trace_settings = st.builds(
    TraceSettings,
    packets=st.builds(
        PacketSettings,
        version=st.sampled_from([1, 2, 3, 3, 3]),
        capture_id=st.sampled_from([1, 0xFFFF]),
        auth_key=st.sampled_from([None, b"secret", b"k" * 1024]),
    ),
    homer5=st.booleans(),
    trace_sip=st.sampled_from([True, True, False]),
    trace_events=st.sampled_from([True, True, False]),
    messages=st.builds(
        MessageRules,
        sample=st.sampled_from([1.0, 0.5]),
        methods=st.sampled_from([frozenset(), frozenset({"OPTIONS"})]),
        correlation_headers=st.sampled_from([(), ("X-CID",), ("X-CID", "Via")]),
    ),
    call_logs=st.sampled_from([0, 1, 16]),
)


@settings(deadline=None)
@given(
    how=trace_settings,
    lives=st.lists(
        st.tuples(peers, st.lists(st.tuples(events, times), max_size=6), names), max_size=4
    ),
)
@example(
    # Ten messages whose Call-ID does not fit beside a payload that is cut.
    how=TraceSettings(trace_sip=True),
    lives=[
        (
            ("192.0.2.5", 1),
            [
                (
                    lambda at, now: MessageReceived(
                        at, now, START + b"i: " + b"x" * 5600 + b"\r\n\r\n" + b"y" * 59_800, False
                    ),
                    1000.0,
                )
            ]
            * 12,
            "",
        )
    ],
)
@example(
    # Binary garbage, six bytes of JSON for each, in each of many parts.
    how=TraceSettings(),
    lives=[
        (
            ("192.0.2.5", 1),
            [
                (
                    lambda at, now: HandshakeFailed(
                        at,
                        now,
                        b"\1" * 30_000,
                        b"\2" * 30_000,
                        ErrorKind.BAD_REQUEST,
                        "\3" * 30_000,
                    ),
                    1000.0,
                )
            ],
            "\4" * 30_000,
        )
    ],
)
def test_no_subscriber_raises_and_every_packet_is_one(how: TraceSettings, lives: list[Any]) -> None:
    bus, sent = Bus(), list[bytes]()
    tracer = Tracer(bus, sent.append, how)
    for number, (peer, happened, reason) in enumerate(lives):
        at = connection(number, Address(*peer))
        bus.publish(ConnectionOpened(at, 1000.0))
        for event, now in happened:
            bus.publish(event(at, now))
        bus.publish(closed(at, 1001.0, reason))
    assert bus.failed == 0
    assert tracer.dropped.keys() <= {NOT_ENCODED}
    for data in sent:
        assert len(data) <= LONGEST
        packet = hep.decode(data)
        if packet.correlation_id is not None:
            assert len(packet.correlation_id) <= LONGEST_ID
            assert "\0" not in packet.correlation_id.decode()
        if packet.protocol_type == hep.ProtocolType.NET and not how.homer5:
            # A payload that was cut would be no JSON, and a collector may lose others with it.
            json.loads(packet.payload)
    assert tracer.offered == len(sent)
    assert tracer.remembered == 0


def hostile_life(bus: Bus, number: int) -> None:
    """A connection whose peer sends what is longest wherever it is kept, and goes."""
    at = connection(number)
    bus.publish(ConnectionOpened(at, 1000.0))
    for call in range(32):
        call_id = b"%d-%d-" % (number, call) + b"x" * 60_000
        bus.publish(MessageReceived(at, 1000.0, START + b"i: " + call_id + b"\r\n\r\n", True))
    bus.publish(closed(at, 1001.0, "y" * 60_000))


def test_memory_returns_to_where_it_was() -> None:
    bus = Bus()
    tracer = Tracer(
        bus,
        len,
        TraceSettings(
            trace_sip=True, messages=MessageRules(correlation_headers=("X-CID",), sample=0.5)
        ),
    )
    for number in range(5):
        hostile_life(bus, number)
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(5, 30):
            hostile_life(bus, number)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bus.failed == 0
    # One connection had 2 MB of Call-IDs, of which 16 were kept while it lived, each bounded.
    # What replaces values that other tests left in caches counts as growth. The Call-IDs that are
    # kept of 25 connections would be 120,000 bytes.
    assert after - before < 60_000
    assert peak - before < 1_000_000
    assert tracer.offered > 0


def test_the_end_of_a_connection_is_forgotten_even_while_its_report_raises() -> None:
    bus = Bus()

    def broken(packet: bytes) -> None:
        raise RuntimeError("a mistake of ours")

    tracer = Tracer(bus, broken, TraceSettings())
    for number in range(100):
        hostile_life(bus, number)
    assert tracer.suspended == ["Closed"]
    assert tracer.remembered == 0


@pytest.mark.parametrize("on_again", [False, True])
def test_an_end_is_reported_after_tracing_was_off_in_between(on_again: bool) -> None:
    bus, sent = Bus(), list[bytes]()
    tracer = Tracer(bus, sent.append, TraceSettings())
    at = connection(1)
    bus.publish(ConnectionOpened(at, 1000.0))
    tracer.switch(on=False)
    tracer.switch(on=on_again)
    bus.publish(closed(at, 1001.0, ""))
    assert len(sent) == int(on_again)
    assert tracer.remembered == 0


def test_settings_that_fit_no_packet_are_refused_at_once() -> None:
    with pytest.raises(hep.HepEncodeError):
        Tracer(Bus(), len, TraceSettings(PacketSettings(auth_key=b"k" * 70_000)))
    with pytest.raises(hep.HepEncodeError):
        Tracer(Bus(), len, replace(TraceSettings(), packets=PacketSettings(capture_id=-1)))
