"""The event bus between the transport and whoever watches it.

A `Hook` for each event type holds a tuple of callables. The transport asks ``if hook.subscribers``
before it builds an event that nobody else needs, so an unused hook costs one test.

Subscribers are plain callables that must return at once: they run on the SIP path. Whoever wants
to take time over events uses `Bus.stream`, a bounded queue that drops and counts rather than
holding anyone up. A subscriber that raises never reaches the transport or its fellow
subscribers; it is logged and counted, and taken off when it does nothing but raise.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, Self, TypeVar, get_args

from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    ConnectionEvent,
    ConnectionOpened,
    ConnectStarted,
    ErrorOccurred,
    Event,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    MessageReceived,
    MessageSent,
    Superseded,
)

E = TypeVar("E", bound=Event)

log = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW: Final = 10
"""A subscriber that raises this often without one success between is taken off: one odd event
does not silence it, and a broken one does not burn a traceback a message for ever."""

STREAM_LIMIT: Final = 1000
"""Events that an `EventStream` holds unless told: some seconds of a busy server's events."""


class Hook(Generic[E]):
    """The place where subscribers to one event type are kept."""

    __slots__ = ("_failures", "event_type", "failed", "subscribers")

    def __init__(self, event_type: type[E]) -> None:
        self.event_type = event_type
        self.subscribers: tuple[Callable[[E], object], ...] = ()
        """In order of subscription. Test it before building an event for this hook alone."""
        self.failed = 0
        """Calls of a subscriber that raised, ever."""
        self._failures: dict[Callable[[E], object], int] = {}

    def subscribe(self, subscriber: Callable[[E], object]) -> None:
        """Call ``subscriber`` with every event of this type from now on.

        Raises:
            TypeError: it is a coroutine function, which would never run; see `Bus.stream`.
        """
        if inspect.iscoroutinefunction(subscriber):
            raise TypeError(
                f"{_name(subscriber)} is a coroutine function: subscribers are called, not awaited;"
                " use 'async for event in bus.stream(...)' instead"
            )
        self.subscribers = (*self.subscribers, subscriber)

    def unsubscribe(self, subscriber: Callable[[E], object]) -> None:
        """Stop calling ``subscriber``; one that is not subscribed is let pass."""
        self.subscribers = tuple(s for s in self.subscribers if s != subscriber)
        self._failures.pop(subscriber, None)

    def publish(self, event: E) -> None:
        """Call every subscriber in turn; never raises."""
        for subscriber in self.subscribers:
            try:
                subscriber(event)
            except Exception:
                self._note_failure(subscriber)
            else:
                # The table is empty unless something failed, so this costs one test.
                if self._failures:
                    self._failures.pop(subscriber, None)

    def _note_failure(self, subscriber: Callable[[E], object]) -> None:
        self.failed += 1
        in_a_row = self._failures[subscriber] = self._failures.get(subscriber, 0) + 1
        log.exception("subscriber %s raised on %s", _name(subscriber), self.event_type.__name__)
        if in_a_row >= MAX_FAILURES_IN_A_ROW:
            self.unsubscribe(subscriber)
            log.error(
                "subscriber %s raised %d times in a row and no longer gets %s",
                _name(subscriber),
                in_a_row,
                self.event_type.__name__,
            )


class Bus:
    """A hook for each event type, by name."""

    __slots__ = (
        "_hooks",
        "accepted",
        "closed",
        "connect_failed",
        "connect_started",
        "connected",
        "connection_opened",
        "error_occurred",
        "handshake_failed",
        "handshake_reply",
        "handshake_request",
        "message_received",
        "message_sent",
        "superseded",
    )

    def __init__(self) -> None:
        self.connect_started = self._make_hook(ConnectStarted)
        self.connect_failed = self._make_hook(ConnectFailed)
        self.connection_opened = self._make_hook(ConnectionOpened)
        self.handshake_request = self._make_hook(HandshakeRequest)
        self.handshake_reply = self._make_hook(HandshakeReply)
        self.accepted = self._make_hook(Accepted)
        self.connected = self._make_hook(Connected)
        self.handshake_failed = self._make_hook(HandshakeFailed)
        self.message_received = self._make_hook(MessageReceived)
        self.message_sent = self._make_hook(MessageSent)
        self.error_occurred = self._make_hook(ErrorOccurred)
        self.superseded = self._make_hook(Superseded)
        self.closed = self._make_hook(Closed)
        hooks = (getattr(self, name) for name in Bus.__slots__ if name != "_hooks")
        self._hooks: dict[type[ConnectionEvent], Hook[Any]] = {
            hook.event_type: hook for hook in hooks
        }

    def _make_hook(self, event_type: type[E]) -> Hook[E]:
        return Hook(event_type)

    def hook(self, event_type: type[E]) -> Hook[E]:
        """The hook for an event type."""
        return self._hooks[event_type]

    def publish(self, event: Event) -> None:
        """Hand an event to the subscribers of its type; never raises."""
        hook = self._hooks[type(event)]
        if hook.subscribers:
            hook.publish(event)

    def subscribe(self, subscriber: Callable[[Any], object], *event_types: type[Event]) -> None:
        """Subscribe to several event types at once; to all of them when none is named."""
        for event_type in event_types or get_args(Event):
            self._hooks[event_type].subscribe(subscriber)

    def unsubscribe(self, subscriber: Callable[[Any], object]) -> None:
        """Take a subscriber off every hook."""
        for hook in self._hooks.values():
            hook.unsubscribe(subscriber)

    def stream(self, *event_types: type[Event], limit: int = STREAM_LIMIT) -> "EventStream":
        """Events as an asynchronous iterator, for consumers that need to await something.

        Args:
            event_types: which events; all when none is named.
            limit: how many events may wait; beyond it the oldest is dropped and counted.
        """
        return EventStream(self, event_types, limit)

    @property
    def failed(self) -> int:
        """Calls of subscribers that raised, over all hooks."""
        return sum(hook.failed for hook in self._hooks.values())


class EventStream:
    """A bounded queue of events: ``async with bus.stream(Closed) as stream: async for …``."""

    def __init__(self, bus: Bus, event_types: tuple[type[Event], ...], limit: int) -> None:
        self.dropped = 0
        """Events lost because the consumer was too slow."""
        self._bus = bus
        self._event_types = event_types
        self._events: deque[Event] = deque(maxlen=limit)
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._bus.subscribe(self._put, *self._event_types)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._bus.unsubscribe(self._put)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    def _put(self, event: Event) -> None:
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        self._arrived.set()


def _name(subscriber: Callable[..., object]) -> str:
    return getattr(subscriber, "__qualname__", None) or repr(subscriber)
