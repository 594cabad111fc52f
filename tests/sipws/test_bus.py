"""Subscribers: called in order, isolated from the transport and from each other."""

import asyncio
import logging

import pytest

from sipws import Bus
from sipws.bus import MAX_FAILURES_IN_A_ROW
from sipws.events import (
    Closed,
    Connection,
    ConnectionOpened,
    Event,
    HandshakeReply,
    MessageReceived,
)


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def opened(connection: Connection) -> ConnectionOpened:
    return ConnectionOpened(connection, 1000.0)


def test_a_subscriber_gets_the_events_of_its_type(bus: Bus, opened: ConnectionOpened) -> None:
    got: list[Event] = []
    bus.connection_opened.subscribe(got.append)
    bus.publish(opened)
    bus.publish(HandshakeReply(opened.connection, 1000.0, 101, b""))
    assert got == [opened]


def test_subscribers_are_called_in_the_order_they_came(bus: Bus, opened: ConnectionOpened) -> None:
    calls: list[int] = []
    bus.connection_opened.subscribe(lambda event: calls.append(1))
    bus.connection_opened.subscribe(lambda event: calls.append(2))
    bus.publish(opened)
    assert calls == [1, 2]


def test_all_events_can_be_had_with_one_call(bus: Bus, opened: ConnectionOpened) -> None:
    got: list[Event] = []
    bus.subscribe(got.append)
    reply = HandshakeReply(opened.connection, 1000.0, 101, b"")
    bus.publish(opened)
    bus.publish(reply)
    assert got == [opened, reply]
    bus.unsubscribe(got.append)
    bus.publish(opened)
    assert got == [opened, reply]


def test_every_event_type_has_its_hook(bus: Bus) -> None:
    assert bus.hook(MessageReceived) is bus.message_received
    assert bus.hook(Closed) is bus.closed


def test_one_that_raises_is_logged_counted_and_keeps_nobody_from_the_event(
    bus: Bus, opened: ConnectionOpened, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("no")

    bus.connection_opened.subscribe(broken)
    bus.connection_opened.subscribe(got.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(opened)
    assert got == [opened]
    assert (bus.failed, bus.connection_opened.failed) == (1, 1)
    assert "broken raised on ConnectionOpened" in caplog.text


def test_one_that_only_raises_is_taken_off(
    bus: Bus, opened: ConnectionOpened, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise ValueError("no")

    bus.connection_opened.subscribe(broken)
    for _ in range(MAX_FAILURES_IN_A_ROW + 5):
        bus.publish(opened)
    assert len(calls) == MAX_FAILURES_IN_A_ROW
    assert "no longer gets ConnectionOpened" in caplog.text


def test_one_that_raises_now_and_then_stays(bus: Bus, opened: ConnectionOpened) -> None:
    calls = []

    def moody(event: Event) -> None:
        calls.append(event)
        if len(calls) % 2:
            raise ValueError("not today")

    bus.connection_opened.subscribe(moody)
    for _ in range(MAX_FAILURES_IN_A_ROW * 4):
        bus.publish(opened)
    assert len(calls) == MAX_FAILURES_IN_A_ROW * 4


def test_a_coroutine_function_is_refused_with_what_to_use_instead(bus: Bus) -> None:
    async def asynchronous(event: Event) -> None: ...

    with pytest.raises(TypeError, match=r"bus\.stream"):
        bus.closed.subscribe(asynchronous)


async def test_a_stream_hands_events_to_who_takes_time(bus: Bus, opened: ConnectionOpened) -> None:
    async with bus.stream(ConnectionOpened) as stream:
        asyncio.get_running_loop().call_soon(bus.publish, opened)
        async with asyncio.timeout(5):
            async for event in stream:
                assert event == opened
                break
    assert not bus.connection_opened.subscribers


async def test_a_stream_nobody_reads_drops_the_oldest_and_counts(
    bus: Bus, connection: Connection
) -> None:
    async with bus.stream(ConnectionOpened, limit=2) as stream:
        for time in (1.0, 2.0, 3.0):
            bus.publish(ConnectionOpened(connection, time))
        assert stream.dropped == 1
        assert (await anext(stream)).time == 2.0
