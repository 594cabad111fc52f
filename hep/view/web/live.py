"""Changes as server-sent events: one feed, any number of browsers, bounded memory.

A batch is written once for all browsers. A browser that does not keep up loses whole batches; it
then gets an event with no rows whose ``more`` counts the lost ones, and reads its list again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from hep.view.model.summary import CallSummary, ConnectionSummary

BATCHES_A_SECOND: Final = 4
"""A person sees no difference to more."""

MOST_ROWS: Final = 200
"""Rows of a batch: more than a screen shows. Further ones are counted in ``more``."""

MOST_BATCHES: Final = 8
"""Batches that wait for a browser: two seconds of changes."""

MOST_CLIENTS: Final = 100
"""Browsers at once; each has a connection and takes all changes."""

KEEP_ALIVE: Final = 15.0
"""Seconds without an event before a comment is sent. Proxies end connections that are silent for 30
or 60 seconds."""

SEND_TIMEOUT: Final = 30.0
"""Seconds for which a browser may take nothing of what is sent before its stream ends."""

END_TIMEOUT: Final = 1.0
"""Seconds to take the end of a stream when the feed is closed."""

LONGEST_STREAM: Final = 3600.0
"""Seconds after which a stream ends. The browser opens another one, for which it needs a valid
session."""

RETRY: Final = b"retry: 2000\n\n"
"""The first line of a stream: milliseconds before a browser connects again."""

COMMENT: Final = b": keep-alive\n\n"

_CALLS: Final = TypeAdapter(list[CallSummary])
_CONNECTIONS: Final = TypeAdapter(list[ConnectionSummary])


class FeedClosedError(Exception):
    """The feed is closed, or has its most clients."""


class Subscriber:
    """The events that wait for one browser."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes, int]] = deque()
        self._lost: dict[str, int] = {}
        self._came = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when the stream ends."""

    def put(self, name: str, event: bytes, rows: int) -> None:
        """Add an event; the oldest one is dropped if too many wait.

        Args:
            name: of the list that it changes; empty for others, of which only the last one counts.
            event: as it is sent.
            rows: rows that are lost with it.
        """
        if not name:
            self._waiting = deque(each for each in self._waiting if each[0])
        elif sum(1 for each in self._waiting if each[0]) >= MOST_BATCHES:
            oldest = next(each for each in self._waiting if each[0])
            self._waiting.remove(oldest)
            self._lost[oldest[0]] = self._lost.get(oldest[0], 0) + oldest[2]
        self._waiting.append((name, event, rows))
        self._came.set()

    def end(self) -> None:
        """End the stream."""
        self.ended.set()
        self._came.set()

    async def next(self) -> bytes | None:
        """Return what is to be sent; None if the stream is to end."""
        await self._came.wait()
        if self.ended.is_set():
            return None
        self._came.clear()
        lost = b"".join(_event(name, b"[]", count) for name, count in self._lost.items())
        self._lost.clear()
        events = b"".join(event for _, event, _ in self._waiting)
        self._waiting.clear()
        return lost + events


class LiveFeed:
    """Collects changes and hands them to the browsers. All methods run on one event loop."""

    def __init__(self) -> None:
        self.closed = False
        """Whether it takes no more browsers."""
        self._subscribers: set[Subscriber] = set()
        self._calls: dict[str, CallSummary] = {}
        self._connections: dict[str, ConnectionSummary] = {}
        self._more = {"calls": 0, "connections": 0}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def clients(self) -> int:
        """Browsers that are connected."""
        return len(self._subscribers)

    def publish(
        self, calls: Iterable[CallSummary] = (), connections: Iterable[ConnectionSummary] = ()
    ) -> None:
        """Take note of rows that are new or have changed.

        Of several states of a row the last one counts. Rows are written up to a quarter of a second
        later. Without a browser nothing is kept.

        Args:
            calls: changed calls.
            connections: changed connections.
        """
        if not self._subscribers:
            return
        for call in calls:
            self._note("calls", self._calls, call.call_id, call)
        for connection in connections:
            self._note("connections", self._connections, connection.id, connection)
        if self._timer is None and (self._calls or self._connections):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(1 / BATCHES_A_SECOND, self.flush)

    def _note(self, name: str, rows: dict[str, Any], key: str, row: object) -> None:
        if rows.pop(key, None) is None and len(rows) >= MOST_ROWS:
            del rows[next(iter(rows))]
            self._more[name] += 1
        rows[key] = row

    def flush(self) -> None:
        """Hand the changes to the browsers now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._write("calls", self._calls, _CALLS.dump_json)
        self._write("connections", self._connections, _CONNECTIONS.dump_json)

    def _write(self, name: str, rows: dict[str, Any], dump: Callable[[Any], bytes]) -> None:
        if not rows:
            return
        more, self._more[name] = self._more[name], 0
        event = _event(name, dump([*rows.values()]), more)
        count = len(rows) + more
        rows.clear()
        for each in self._subscribers:
            each.put(name, event, count)

    def status(self, body: bytes) -> None:
        """Hand a new status to the browsers.

        Args:
            body: the status as JSON on one line.
        """
        for each in self._subscribers:
            each.put("", status_event(body), 0)

    def subscribe(self) -> Subscriber:
        """Add a browser.

        Raises:
            FeedClosedError: there are `MOST_CLIENTS` already, or the feed is closed.
        """
        if self.closed:
            raise FeedClosedError("the viewer is stopping; try again in some seconds")
        if len(self._subscribers) >= MOST_CLIENTS:
            raise FeedClosedError(
                f"{MOST_CLIENTS} browsers follow the live list already; close one of them"
            )
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a browser.

        Args:
            subscriber: from `subscribe`.
        """
        self._subscribers.discard(subscriber)
        if not self._subscribers:
            self._calls.clear()
            self._connections.clear()
            self._more = dict.fromkeys(self._more, 0)

    def close(self) -> None:
        """End all streams. The server cannot stop before they have ended."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for each in self._subscribers:
            each.end()


def _event(name: str, rows: bytes, more: int) -> bytes:
    written = name.encode()
    return b'event: %b\ndata: {"%b":%b,"more":%d}\n\n' % (written, written, rows, more)


def status_event(body: bytes) -> bytes:
    """Write a status as an event.

    Args:
        body: the status as JSON on one line.
    """
    return b"event: status\ndata: %b\n\n" % body


class EventStream:
    """The answer that sends a subscriber's events (ASGI).

    Args:
        feed: where the subscriber is removed at the end.
        subscriber: whose events are sent.
        first: sent before them.
    """

    def __init__(self, feed: LiveFeed, subscriber: Subscriber, first: bytes) -> None:
        self._feed = feed
        self._subscriber = subscriber
        self._first = first
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the browser leaves, the feed is closed or a time limit is reached."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        ending = asyncio.ensure_future(self._subscriber.ended.wait())
        tasks = (sending, leaving, ending)
        try:
            await asyncio.wait(tasks, timeout=LONGEST_STREAM, return_when=asyncio.FIRST_COMPLETED)
            left = leaving.done()
        finally:
            self._feed.unsubscribe(self._subscriber)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._started and not left:
            # A browser that takes nothing does not take the end either.
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(END_TIMEOUT):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._started = True
        body: bytes | None = RETRY + self._first
        while body is not None:
            async with asyncio.timeout(SEND_TIMEOUT):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    body = await self._subscriber.next()
            except TimeoutError:
                body = COMMENT


async def _left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
