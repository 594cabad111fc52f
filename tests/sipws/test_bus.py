"""Subscribers: called in order, isolated from the transport and from each other."""

import asyncio
import logging
from typing import Any

import pytest

from sipws import Bus
from sipws.bus import (
    FIRST_SUSPENSION,
    LOG_INTERVAL,
    LONGEST_SUSPENSION,
    MAX_FAILURES_IN_A_ROW,
)
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


class Clock:
    """The monotonic clock that pauses are measured by."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("sipws.bus.time", clock)
    return clock


class Moody:
    """A subscriber that raises while it is ``broken``."""

    def __init__(self) -> None:
        self.broken = True
        self.tried = 0
        self.got: list[Event] = []

    def take(self, event: Event) -> None:
        self.tried += 1
        if self.broken:
            raise ValueError("no")
        self.got.append(event)


def test_one_that_only_raises_is_suspended_and_shown(
    bus: Bus, opened: ConnectionOpened, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    moody, others = Moody(), list[Event]()
    bus.connection_opened.subscribe(moody.take)
    bus.connection_opened.subscribe(others.append)
    for _ in range(MAX_FAILURES_IN_A_ROW + 5):
        bus.publish(opened)
    assert moody.tried == MAX_FAILURES_IN_A_ROW
    assert len(others) == MAX_FAILURES_IN_A_ROW + 5
    assert bus.suspended == [(ConnectionOpened, moody.take)]
    assert "Moody.take gets no ConnectionOpened for 1 s" in caplog.text


def test_one_that_is_suspended_is_tried_again_and_goes_on(
    bus: Bus, opened: ConnectionOpened, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    moody, calls = Moody(), list[str]()
    bus.connection_opened.subscribe(moody.take)
    bus.connection_opened.subscribe(lambda event: calls.append("second"))
    for _ in range(MAX_FAILURES_IN_A_ROW + 3):
        bus.publish(opened)
    moody.broken = False
    bus.publish(opened)
    assert moody.got == []
    clock.now += FIRST_SUSPENSION
    bus.publish(opened)
    bus.publish(opened)
    assert moody.got == [opened, opened]
    assert bus.suspended == []
    assert "gets ConnectionOpened again; it missed 4" in caplog.text
    # The order of subscription is as before.
    bus.connection_opened.unsubscribe(moody.take)
    assert len(bus.connection_opened.subscribers) == 1


def test_each_failed_try_doubles_the_pause_up_to_the_longest(
    bus: Bus, opened: ConnectionOpened, clock: Clock
) -> None:
    moody = Moody()
    bus.connection_opened.subscribe(moody.take)
    for _ in range(MAX_FAILURES_IN_A_ROW):
        bus.publish(opened)
    pause, tries = FIRST_SUSPENSION, MAX_FAILURES_IN_A_ROW
    for _ in range(10):
        clock.now += pause - 0.01
        bus.publish(opened)
        assert moody.tried == tries
        clock.now += 0.01
        bus.publish(opened)
        tries += 1
        assert moody.tried == tries
        pause = min(pause * 2, LONGEST_SUSPENSION)
    assert pause == LONGEST_SUSPENSION


def test_one_that_is_suspended_can_leave(bus: Bus, opened: ConnectionOpened, clock: Clock) -> None:
    moody = Moody()
    bus.connection_opened.subscribe(moody.take)
    for _ in range(MAX_FAILURES_IN_A_ROW):
        bus.publish(opened)
    bus.unsubscribe(moody.take)
    assert not bus.connection_opened.subscribers
    assert bus.suspended == []


def test_tracebacks_are_logged_once_a_second_and_all_failures_are_counted(
    bus: Bus, opened: ConnectionOpened, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    turns = iter(range(1000))

    def every_second_time(event: Event) -> None:
        if next(turns) % 2:
            raise ValueError("not today")

    bus.connection_opened.subscribe(every_second_time)
    for _ in range(100):
        bus.publish(opened)
    clock.now += LOG_INTERVAL
    for _ in range(100):
        bus.publish(opened)
    assert bus.failed == 100
    assert len([entry for entry in caplog.records if entry.exc_info]) == 2


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

    class Asynchronous:
        async def __call__(self, event: Event) -> None: ...

    for each in (asynchronous, Asynchronous()):
        with pytest.raises(TypeError, match=r"use 'async with bus\.stream\(\.\.\.\) as stream"):
            bus.closed.subscribe(each)


def test_what_is_no_subscriber_or_no_event_type_is_refused(bus: Bus) -> None:
    nothing: Any = None
    name: Any = "Closed"
    with pytest.raises(TypeError, match="None is not callable"):
        bus.subscribe(nothing, Closed)
    with pytest.raises(TypeError, match=r"'Closed' is not an event type; use a class of sipws\.ev"):
        bus.subscribe(print, Closed, name)
    assert not bus.closed.subscribers
    for wrong in ("Closed", [Closed], int):
        with pytest.raises(TypeError, match="is not an event type"):
            bus.stream(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the limit 0 holds no event"):
        bus.stream(Closed, limit=0)


async def test_a_stream_without_its_block_says_what_to_write(bus: Bus) -> None:
    with pytest.raises(
        RuntimeError, match=r"write 'async with bus\.stream\(\.\.\.\) as stream: async"
    ):
        async for _ in bus.stream(Closed):
            pass


async def test_a_stream_ends_behind_its_block_with_the_events_that_it_has(
    bus: Bus, opened: ConnectionOpened
) -> None:
    stream = bus.stream(ConnectionOpened)
    async with stream:
        waiting = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="this stream is in use"):
            await stream.__aenter__()
    async with asyncio.timeout(5):
        assert await waiting is None, "a consumer in another task is not left waiting"
    async with stream:
        bus.publish(opened)
    bus.publish(opened)
    assert [event async for event in stream] == [opened]


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
