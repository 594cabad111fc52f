"""Changes reach browsers, and browsers that do not read cost nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hep.view.model.summary import CallSummary, ConnectionSummary
from hep.view.web import live
from hep.view.web.live import FeedClosedError, LiveFeed, Subscriber


def events(sent: bytes | None) -> list[tuple[str, Any]]:
    assert sent is not None
    found = []
    for block in sent.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def call(name: object, **more: Any) -> CallSummary:
    return CallSummary(str(name), **more)


async def next_of(subscriber: Subscriber) -> list[tuple[str, Any]]:
    async with asyncio.timeout(10):
        return events(await subscriber.next())


async def test_the_last_state_of_a_row_is_sent_once() -> None:
    feed = LiveFeed()
    subscriber = feed.subscribe()
    feed.publish([call("a", messages=1), call("b")])
    feed.publish([call("a", messages=2)], [ConnectionSummary("7")])
    [(name, data), (other, more)] = await next_of(subscriber)
    assert (name, other) == ("calls", "connections")
    assert [(row["call_id"], row["messages"]) for row in data["calls"]] == [("b", 0), ("a", 2)]
    assert data["more"] == 0
    assert [row["id"] for row in more["connections"]] == ["7"]


async def test_all_browsers_get_a_batch() -> None:
    feed = LiveFeed()
    first, second = feed.subscribe(), feed.subscribe()
    feed.publish([call("a")])
    feed.flush()
    assert await next_of(first) == await next_of(second)


async def test_rows_beyond_the_most_are_counted() -> None:
    feed = LiveFeed()
    subscriber = feed.subscribe()
    feed.publish(map(call, range(live.MOST_ROWS + 50)))
    feed.flush()
    [(_, data)] = await next_of(subscriber)
    assert (len(data["calls"]), data["more"]) == (live.MOST_ROWS, 50)
    assert data["calls"][-1]["call_id"] == str(live.MOST_ROWS + 49)
    feed.publish([call(1)])
    feed.flush()
    assert (await next_of(subscriber))[0][1]["more"] == 0


async def test_a_slow_browser_loses_batches_and_is_told_how_many_rows() -> None:
    feed = LiveFeed()
    slow = feed.subscribe()
    for number in range(live.MOST_BATCHES + 3):
        feed.publish([call(number), call(f"{number}b")])
        feed.flush()
        feed.status(b'{"n": %d}' % number)
    found = await next_of(slow)
    assert found[0] == ("calls", {"calls": [], "more": 6})
    assert [name for name, _ in found].count("calls") == live.MOST_BATCHES + 1
    # Of several statuses the last one is sent.
    assert [data for name, data in found if name == "status"] == [{"n": live.MOST_BATCHES + 2}]


async def test_without_browsers_nothing_is_kept() -> None:
    feed = LiveFeed()
    feed.publish([call("a")])
    subscriber = feed.subscribe()
    feed.publish([call("b")])
    feed.unsubscribe(subscriber)
    late = feed.subscribe()
    feed.publish([call("c")])
    [(_, data)] = await next_of(late)
    assert [row["call_id"] for row in data["calls"]] == ["c"]


async def test_the_number_of_browsers_is_bounded() -> None:
    feed = LiveFeed()
    subscribers = [feed.subscribe() for _ in range(live.MOST_CLIENTS)]
    with pytest.raises(FeedClosedError, match="100 browsers"):
        feed.subscribe()
    feed.unsubscribe(subscribers[0])
    feed.subscribe()
    feed.close()
    assert await subscribers[1].next() is None
    with pytest.raises(FeedClosedError, match="stopping"):
        feed.subscribe()


async def test_text_of_a_peer_stays_on_its_line() -> None:
    feed = LiveFeed()
    subscriber = feed.subscribe()
    hostile = "\n\nevent: status\r\rdata: {}\u2028\x00"
    feed.publish([call(hostile, from_user=hostile)])
    [(name, data)] = await next_of(subscriber)
    assert name == "calls"
    assert data["calls"][0]["from_user"] == hostile


class Stream:
    """The events of one browser."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._chunks = response.aiter_bytes()
        self._seen = b""

    async def until(self, wanted: bytes) -> bytes:
        async with asyncio.timeout(10):
            while wanted not in self._seen:
                self._seen += await anext(self._chunks)
        return self._seen

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return b"".join([chunk async for chunk in self._chunks])


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Stream]:
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", f"{url}/api/v1/live") as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        yield Stream(response)


async def none_left(feed: LiveFeed) -> None:
    async with asyncio.timeout(10):
        while feed.clients:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)


async def test_a_browser_follows_and_leaves(
    service: Any, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hep.view.web.status.PERIOD", 0.01)
    url, _ = await serve(service.app)
    feed = service.backend.live
    async with opened(url) as stream:
        assert (await stream.until(b'"version"')).startswith(b"retry: 2000\n\nevent: status\n")
        feed.publish([call("<script>")])
        await stream.until(b'"call_id":"<script>"')
        service.backend.dropped = {"a": 1}
        await stream.until(b"event: status\ndata: {")
        assert feed.clients == 1
    await none_left(feed)


async def test_a_silent_stream_is_kept_alive(
    service: Any, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "KEEP_ALIVE", 0.01)
    url, _ = await serve(service.app)
    async with opened(url) as stream:
        await stream.until(b": keep-alive\n\n: keep-alive\n\n")


async def test_closing_the_feed_lets_the_server_stop(
    service: Any, serve: Callable[..., Any]
) -> None:
    url, stop = await serve(service.app)
    async with opened(url) as stream:
        await stream.until(b"status")
        service.backend.live.close()
        await stop()
        await stream.rest()


async def test_a_browser_that_reads_nothing_does_not_stop_the_end(
    service: Any, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "END_TIMEOUT", 0.01)
    url, _ = await serve(service.app)
    feed = service.backend.live
    async with opened(url) as stream:
        await stream.until(b"status")
        # More than the system's buffers hold.
        long = "x" * 2_000_000
        for number in range(live.MOST_BATCHES):
            feed.publish([call(f"{number}{long}")])
            feed.flush()
            await asyncio.sleep(0)
        feed.close()
        await none_left(feed)


async def test_a_stream_is_limited_in_time(
    service: Any, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LONGEST_STREAM", 0.01)
    url, _ = await serve(service.app)
    async with opened(url) as stream:
        await stream.rest()


async def test_browsers_beyond_the_most_get_503(service: Any, client: httpx.AsyncClient) -> None:
    kept = [service.backend.live.subscribe() for _ in range(live.MOST_CLIENTS)]
    answer = await client.get("/api/v1/live")
    assert (answer.status_code, len(kept)) == (503, live.MOST_CLIENTS)
    assert "100 browsers" in answer.json()["error"]


async def test_hostile_requests_over_a_socket(service: Any, serve: Callable[..., Any]) -> None:
    url, _ = await serve(service.app)
    port = int(url.rpartition(":")[2])
    for request, status in (
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /static/%2e%2e%2foutside.js HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /api/v1/calls?q=" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", b"4"),
        (b"GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
        (b"GET http://evil.example/api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
        (b"\x16\x03\x01\x00\x00", b"4"),
        (
            b"POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\n\r\n" + b" " * 1_000_000,
            b"413",
        ),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        async with asyncio.timeout(10):
            line = await reader.readline()
        assert line.split(b" ")[1].startswith(status), (request[:60], line)
        writer.close()
