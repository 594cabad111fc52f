"""Staying connected: delays that spread clients, and a connection that comes back."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import (
    AddressError,
    Backoff,
    Client,
    ConnectError,
    Destination,
    Server,
    TransportError,
)
from sipws.events import Connected, ConnectFailed, ConnectStarted, ErrorKind
from sipws.transport.reconnect import KeptConnection

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
AT_ONCE = Backoff(first=0, longest=0)


def test_the_first_delay_is_random_and_the_others_grow_up_to_the_longest() -> None:
    delays = Backoff(first=5, longest=60).delays(lambda: 1.0)
    assert list(islice(delays, 6)) == [5, 10, 20, 40, 60, 60]
    delays = Backoff(first=5, longest=60).delays(lambda: 0.0)
    assert list(islice(delays, 6)) == [0, 5, 10, 20, 30, 30]


@given(st.floats(0, 100), st.floats(0, 100), st.floats(1, 4), st.lists(st.floats(0, 1), min_size=9))
def test_no_delay_is_negative_or_beyond_the_longest(
    first: float, longest: float, factor: float, chances: list[float]
) -> None:
    chance = iter(chances)
    delays = Backoff(first, longest, factor).delays(lambda: next(chance))
    assert 0 <= next(delays) <= first
    assert all(0 <= delay <= longest for delay in islice(delays, 8))


@given(st.floats(0, 60), st.floats(0, 3600) | st.none(), st.floats(0, 1))
def test_a_server_is_left_alone_for_as_long_as_it_asks(
    delay: float, asked: float | None, chance: float
) -> None:
    wait = Backoff(first=5, longest=60).when_asked(delay, asked, lambda: chance)
    if not asked:
        assert wait == delay
    else:
        assert max(delay, asked) <= wait <= max(delay, asked + 5)


async def test_staying_connected_heeds_what_a_server_asks() -> None:
    asked: list[float | None] = []
    enough = asyncio.Event()

    class Noted(Backoff):
        def when_asked(self, delay: float, seconds: float | None, rng: object = None) -> float:
            asked.append(seconds)
            if len(asked) < 3:
                return 0
            enough.set()
            return 3600

    tries: list[object] = []

    async def connect() -> Any:
        tries.append(None)
        kind = ErrorKind.HANDSHAKE_REFUSED
        raise ConnectError("ws://a/", kind, "", "", retry_after=[None, 30.0, 40.0][len(tries) - 1])

    kept = KeptConnection(connect, Destination.parse("ws://a/"), Noted())
    async with asyncio.timeout(5):
        await enough.wait()
    await kept.stop()
    assert asked == [None, 30.0, 40.0]


def url(server: Server) -> str:
    return f"ws://127.0.0.1:{server.listeners[0].port}/"


async def test_a_lost_connection_comes_back(serve: Serve) -> None:
    server, _ = await serve()
    async with asyncio.timeout(5), Client() as client:
        kept = client.keep_connected(url(server), AT_ONCE)
        first = await kept.connected()
        assert kept.flow is first
        assert await client.connect(url(server)) is first, "it is the destination's connection"
        [at_the_server] = server.flows
        at_the_server.abort(ErrorKind.CONNECTION_LOST, "the test cuts the connection")
        await first.wait_closed()
        second = await kept.connected()
        assert second is not first
        assert second.is_open


async def test_a_server_that_is_not_there_is_tried_again_and_again(serve: Serve) -> None:
    async with asyncio.timeout(5), Client() as client:
        async with client.bus.stream(ConnectFailed) as failures:
            kept = client.keep_connected("ws://127.0.0.1:1/", AT_ONCE)
            for _ in range(3):
                await anext(failures)
        assert kept.flow is None
        await kept.stop()
        with pytest.raises(TransportError, match="no longer kept connected"):
            await kept.connected()


async def test_a_server_that_drops_every_connection_is_not_hammered(serve: Serve) -> None:
    server, _ = await serve()
    server.bus.accepted.subscribe(
        lambda event: server.flows.get(event.connection.id).close()  # type: ignore[union-attr]
    )
    delays = iter([0.0, 0.0, 0.0])
    waiting = asyncio.Event()

    class Counted(Backoff):
        def delays(self, rng: object = None) -> Any:
            yield from delays
            waiting.set()
            yield 3600

    async with asyncio.timeout(5), Client() as client:
        connected: list[Connected] = []
        client.bus.connected.subscribe(connected.append)
        client.keep_connected(url(server), Counted())
        await waiting.wait()
    assert len(connected) == 4, "short connections do not begin the delays anew"


async def test_stopping_leaves_the_connection_open(serve: Serve) -> None:
    server, _ = await serve()
    async with Client() as client:
        kept = client.keep_connected(url(server), AT_ONCE)
        flow = await kept.connected()
        await kept.stop()
        assert flow.is_open


async def test_closing_the_client_stops_it_and_whoever_waits(serve: Serve) -> None:
    async with Client() as client, client.bus.stream(ConnectStarted) as starts:
        kept = client.keep_connected("ws://127.0.0.1:1/", Backoff(3600, 3600))
        waiter = asyncio.create_task(kept.connected())
        await anext(starts)
        await client.aclose()
        assert kept.task.done()
        with pytest.raises(TransportError, match="no longer kept connected"):
            await waiter
    with pytest.raises(TransportError, match="this client is closed"):
        client.keep_connected("ws://127.0.0.1:1/")


async def test_what_is_no_destination_is_said_at_once() -> None:
    async with Client() as client:
        with pytest.raises(AddressError):
            client.keep_connected("sip:example.com")
