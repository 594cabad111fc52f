"""Who works over what happens is told of it a moment later."""

import asyncio

import pytest

from sipws import Bus
from sipws.deferred_bus import MOST, PORTION, DeferredBus, Gathering
from sipws.events import Connection, ConnectionOpened, ErrorKind, ErrorOccurred, Event


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def later(bus: Bus) -> DeferredBus:
    return DeferredBus(bus)


@pytest.fixture
def told(later: DeferredBus) -> list[Event]:
    """What a subscriber to both kinds of `happen` has been told."""
    told: list[Event] = []
    later.subscribe(told.append, ConnectionOpened, ErrorOccurred)
    return told


def happen(bus: Bus, connection: Connection, count: int = 1) -> list[Event]:
    """Something happens, of two kinds in turns."""
    happened: list[Event] = []
    for number in range(count):
        if number % 2:
            happened.append(ErrorOccurred(connection, number, ErrorKind.CONNECTION_LOST, ""))
        else:
            happened.append(ConnectionOpened(connection, number))
        bus.publish(happened[-1])
    return happened


async def until_told(told: list[Event], count: int) -> None:
    async with asyncio.timeout(10):
        while len(told) < count:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)


async def test_events_are_told_later_and_in_their_order(
    bus: Bus, connection: Connection, told: list[Event]
) -> None:
    happened = happen(bus, connection, 5)
    assert told == []
    await until_told(told, 5)
    assert told == happened
    happened += happen(bus, connection, 2)
    await until_told(told, 7)
    assert told == happened


async def turn() -> None:
    """A turn of the event loop, whatever kind it is, and not more than two."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_many_events_are_told_at_once_and_in_portions(
    bus: Bus, connection: Connection, told: list[Event]
) -> None:
    happened = happen(bus, connection, 2 * MOST)
    assert told == []
    await turn()
    assert PORTION <= len(told) < 2 * MOST
    async with asyncio.timeout(10):
        while len(told) < 2 * MOST:
            before = len(told)
            await turn()
            assert len(told) > before
    assert told == happened


async def test_however_fast_they_come_few_wait(
    bus: Bus, connection: Connection, told: list[Event]
) -> None:
    happened: list[Event] = []
    for _ in range(200):
        happened += happen(bus, connection, 100)
        await turn()
        assert len(happened) - len(told) <= 400
    await until_told(told, len(happened))
    assert told == happened


async def test_one_that_leaves_while_it_is_told_misses_what_is_behind(
    bus: Bus, later: DeferredBus, connection: Connection, told: list[Event]
) -> None:
    one: list[Event] = []

    def once(event: Event) -> None:
        one.append(event)
        later.connection_opened.unsubscribe(once)

    later.connection_opened.subscribe(once)
    happened = happen(bus, connection, 20)
    await until_told(told, 20)
    assert sorted(told, key=lambda event: event.time) == happened
    assert one == happened[:1]


async def test_what_waits_is_told_when_asked_for(
    bus: Bus, later: DeferredBus, connection: Connection, told: list[Event]
) -> None:
    happened = happen(bus, connection, 3)
    later.flush()
    assert told == happened
    later.flush()
    await asyncio.sleep(0.02)
    assert told == happened


async def test_who_leaves_has_been_told_all_and_hears_no_more(
    bus: Bus, later: DeferredBus, connection: Connection, told: list[Event]
) -> None:
    happened = happen(bus, connection, 3)
    later.unsubscribe(told.append)
    happen(bus, connection, 3)
    later.flush()
    assert told == happened


async def test_who_comes_is_not_told_what_was_before(
    bus: Bus, later: DeferredBus, connection: Connection, told: list[Event]
) -> None:
    happened = happen(bus, connection, 3)
    new: list[Event] = []
    later.error_occurred.subscribe(new.append)
    assert told == happened
    [_, error] = happen(bus, connection, 2)
    later.flush()
    assert new == [error]


async def test_nobody_there_costs_the_other_bus_nothing(bus: Bus, later: DeferredBus) -> None:
    assert not bus.closed.subscribers
    one: list[Event] = []
    two: list[Event] = []
    later.closed.subscribe(one.append)
    later.closed.subscribe(two.append)
    assert len(bus.closed.subscribers) == 1
    later.closed.unsubscribe(one.append)
    assert len(bus.closed.subscribers) == 1
    later.closed.unsubscribe(two.append)
    later.closed.unsubscribe(two.append)
    assert not bus.closed.subscribers


async def test_one_that_raises_is_counted_and_keeps_nothing_from_the_others(
    bus: Bus, later: DeferredBus, connection: Connection, told: list[Event]
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("broken")

    later.connection_opened.subscribe(broken)
    happened = happen(bus, connection, 3)
    later.flush()
    assert told == happened
    assert (later.failed, bus.failed) == (2, 0)


async def test_what_is_made_of_events_told_together_is_handed_on_together(
    bus: Bus, later: DeferredBus, connection: Connection
) -> None:
    handed_on: list[list[Event]] = []
    gathering = Gathering[Event](later, lambda gathered: handed_on.append(gathered.copy()))
    later.subscribe(gathering.put, ConnectionOpened)
    happened = happen(bus, connection, 6)
    later.flush()
    happened += happen(bus, connection, 2)
    later.flush()
    assert handed_on == [happened[0:6:2], happened[6:8:2]]
    # Nothing is handed on where nothing was gathered.
    later.subscribe(lambda _: None, ErrorOccurred)
    bus.publish(ErrorOccurred(connection, 1.0, ErrorKind.CONNECTION_LOST, ""))
    later.flush()
    assert len(handed_on) == 2


async def test_what_was_gathered_is_handed_on_at_the_end(
    bus: Bus, later: DeferredBus, connection: Connection
) -> None:
    handed_on: list[Event] = []
    gathering = Gathering[Event](later, handed_on.extend)
    later.subscribe(gathering.put, ConnectionOpened)
    happened = happen(bus, connection, 1)
    later.unsubscribe(gathering.put)
    gathering.close()
    assert handed_on == happened
    assert not later.gatherings


async def test_a_taker_that_raises_is_logged_and_keeps_nothing_from_the_others(
    bus: Bus, later: DeferredBus, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    handed_on: list[Event] = []
    for taker in (lambda _: 1 / 0, handed_on.extend):
        later.subscribe(Gathering[Event](later, taker).put, ConnectionOpened)
    happened = happen(bus, connection, 1)
    later.flush()
    happened += happen(bus, connection, 1)
    await until_told(handed_on, 2)
    assert handed_on == happened
    assert "the gathered results could not be passed on" in caplog.text
