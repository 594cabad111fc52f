"""The event bus between the transport and its observers.

A `Hook` for each event type holds a tuple of callables. The transport tests ``hook.subscribers``
before it builds an event, so an unused hook costs one test.

Subscribers are plain callables that must return at once: they run on the SIP path. For slow work
use `Bus.stream`, a bounded queue that drops and counts events rather than block the publisher. An
exception of a subscriber never reaches the transport or other subscribers; it is logged and
counted. A subscriber that only raises is suspended, and tried again after a while: the cause may
come from one peer, and may end.
"""

import asyncio
import inspect
import logging
import math
import time
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

__all__ = ["STREAM_LIMIT", "Bus", "EventStream", "Hook"]

E = TypeVar("E", bound=Event)

log = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW: Final = 10
"""Exceptions without a success in between after which a subscriber is suspended: one odd event does
not silence it, and a broken one does not log a traceback for every message."""

FIRST_SUSPENSION: Final = 1.0
"""Seconds of the first suspension of a subscriber."""

LONGEST_SUSPENSION: Final = 60.0
"""Seconds of the longest one: each failed try doubles the time."""

LOG_INTERVAL: Final = 1.0
"""Seconds between two logged tracebacks of one event type; all failures are counted."""

STREAM_LIMIT: Final = 1000
"""Events that an `EventStream` holds by default: some seconds of a busy server's events."""

_STREAM_FORM: Final = "async with bus.stream(...) as stream: async for event in stream: ..."


class Hook(Generic[E]):
    """Holds the subscribers to one event type."""

    __slots__ = ("_failures", "_next_log", "event_type", "failed", "subscribers")

    def __init__(self, event_type: type[E]) -> None:
        self.event_type = event_type
        self.subscribers: tuple[Callable[[E], object], ...] = ()
        """In order of subscription. Test it before building an event for this hook alone."""
        self.failed = 0
        """Calls of subscribers that raised, in total."""
        self._failures: dict[Callable[[E], object], int] = {}
        self._next_log = -math.inf

    @property
    def suspended(self) -> tuple[Callable[[E], object], ...]:
        """Subscribers that raised too often and are suspended."""
        return tuple(s.subscriber for s in self.subscribers if isinstance(s, _Suspended))

    def subscribe(self, subscriber: Callable[[E], object]) -> None:
        """Call ``subscriber`` with every event of this type from now on.

        Raises:
            TypeError: it cannot be called, or it is a coroutine function, which is never awaited;
                see `Bus.stream`.
        """
        if not callable(subscriber):
            raise TypeError(
                f"{subscriber!r} is not callable: a subscriber is called with the event"
            )
        if _is_coroutine_function(subscriber):
            raise TypeError(
                f"{_name(subscriber)} is a coroutine function: subscribers are called, not awaited;"
                f" use '{_STREAM_FORM}' instead"
            )
        self.subscribers = (*self.subscribers, subscriber)

    def unsubscribe(self, subscriber: Callable[[E], object]) -> None:
        """Stop calling ``subscriber``; does nothing if it is not subscribed."""
        self.subscribers = tuple(s for s in self.subscribers if _called_by(s) != subscriber)
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
        name, what = _name(_called_by(subscriber)), self.event_type.__name__
        # A subscriber that raises on every second event is not suspended: a peer may send many.
        if (now := time.monotonic()) >= self._next_log:
            log.exception("subscriber %s raised on %s", name, what)
            self._next_log = now + LOG_INTERVAL
        if isinstance(subscriber, _Suspended):
            pause = subscriber.prolong()
        else:
            in_a_row = self._failures[subscriber] = self._failures.get(subscriber, 0) + 1
            if in_a_row < MAX_FAILURES_IN_A_ROW:
                return
            self._failures.pop(subscriber)
            self._replace(subscriber, suspended := _Suspended(subscriber, self._resume))
            pause = suspended.pause
        log.error("subscriber %s gets no %s for %g s: it only raises", name, what, pause)

    def _resume(self, suspended: "_Suspended[E]") -> None:
        self._replace(suspended, suspended.subscriber)
        name, what = _name(suspended.subscriber), self.event_type.__name__
        log.warning("subscriber %s gets %s again; it missed %d", name, what, suspended.missed)

    def _replace(self, old: Callable[[E], object], new: Callable[[E], object]) -> None:
        """Replace a subscriber by another, which gets its position."""
        self.subscribers = tuple(new if s is old else s for s in self.subscribers)


class _Suspended(Generic[E]):
    """Replaces a subscriber that only raises, until it accepts an event again.

    It needs no timer: the first event after the pause is the next try.

    Args:
        subscriber: the suspended subscriber.
        resume: called with this object after a successful try.
    """

    __slots__ = ("_resume", "_until", "missed", "pause", "subscriber")

    def __init__(
        self, subscriber: Callable[[E], object], resume: Callable[["_Suspended[E]"], None]
    ) -> None:
        self.subscriber = subscriber
        self.pause = FIRST_SUSPENSION
        """Seconds from one try to the next."""
        self.missed = 0
        """Events that the subscriber missed."""
        self._resume = resume
        self._until = time.monotonic() + self.pause

    def __call__(self, event: E) -> None:
        """Count an event as missed, or try the subscriber after the pause; passes exceptions on."""
        if time.monotonic() < self._until:
            self.missed += 1
            return
        self.subscriber(event)
        self._resume(self)

    def prolong(self) -> float:
        """Start a pause twice as long, and return its seconds."""
        self.missed += 1
        self.pause = min(self.pause * 2, LONGEST_SUSPENSION)
        self._until = time.monotonic() + self.pause
        return self.pause


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
        """The hook for an event type.

        Raises:
            TypeError: this is not an event type of `sipws.events`.
        """
        try:
            return self._hooks[event_type]
        except (KeyError, TypeError):
            # Another value, such as a name or an event, is an easy slip.
            raise TypeError(
                f"{event_type!r} is not an event type; use a class of sipws.events, such as Closed"
            ) from None

    def publish(self, event: Event) -> None:
        """Hand an event to the subscribers of its type; never raises."""
        hook = self._hooks[type(event)]
        if hook.subscribers:
            hook.publish(event)

    def subscribe(self, subscriber: Callable[[Any], object], *event_types: type[Event]) -> None:
        """Subscribe to several event types; to all if none is given.

        Raises:
            TypeError: see `Hook.subscribe` and `hook`. Nothing is subscribed then.
        """
        hooks = [self.hook(event_type) for event_type in event_types or get_args(Event)]
        for hook in hooks:
            hook.subscribe(subscriber)

    def unsubscribe(self, subscriber: Callable[[Any], object]) -> None:
        """Remove a subscriber from every hook."""
        for hook in self._hooks.values():
            hook.unsubscribe(subscriber)

    def stream(self, *event_types: type[Event], limit: int = STREAM_LIMIT) -> "EventStream":
        """Return events as an asynchronous iterator, for consumers that await something.

        The stream has the events of its ``async with`` block::

            async with bus.stream(Closed) as stream:
                async for event in stream:
                    await note(event)

        Args:
            event_types: the event types; all if none is given.
            limit: events that may wait, 1 or more; beyond it the oldest is dropped and counted.

        Raises:
            TypeError: an event type is none.
            ValueError: the limit is below 1.
        """
        return EventStream(self, event_types, limit)

    @property
    def failed(self) -> int:
        """Calls of subscribers that raised, over all hooks."""
        return sum(hook.failed for hook in self._hooks.values())

    @property
    def suspended(self) -> list[tuple[type[ConnectionEvent], Callable[[Any], object]]]:
        """Suspended subscribers, with their event type."""
        hooks = self._hooks.values()
        return [(hook.event_type, each) for hook in hooks for each in hook.suspended]


class EventStream:
    """A bounded queue of events: ``async with bus.stream(Closed) as stream: async for …``.

    Iteration ends after the ``async with`` block, when the queued events have been taken.

    Args:
        bus: source of the events.
        event_types: the types of the events that are queued.
        limit: queued events at most; the oldest is dropped for a new one.
    """

    def __init__(self, bus: Bus, event_types: tuple[type[Event], ...], limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a stream with the limit {limit} holds no event; use 1 or more")
        for event_type in event_types:
            bus.hook(event_type)
        self.dropped = 0
        """Events dropped because the consumer was too slow."""
        self._bus = bus
        self._event_types = event_types
        self._events: deque[Event] = deque(maxlen=limit)
        self._arrived = asyncio.Event()
        # None before the block, False after it.
        self._subscribed: bool | None = None

    async def __aenter__(self) -> Self:
        if self._subscribed:
            raise RuntimeError("this stream is in use; call bus.stream again for another one")
        self._bus.subscribe(self._put, *self._event_types)
        self._subscribed = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._bus.unsubscribe(self._put)
        self._subscribed = False
        # A consumer in another task may wait for an event.
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._subscribed is None:
            raise RuntimeError(f"this stream gets no events yet; write '{_STREAM_FORM}'")
        while not self._events:
            if not self._subscribed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    def _put(self, event: Event) -> None:
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        self._arrived.set()


def _is_coroutine_function(subscriber: Callable[..., object]) -> bool:
    """Whether a call returns a coroutine; of an object its ``__call__`` says so."""
    return inspect.iscoroutinefunction(subscriber) or inspect.iscoroutinefunction(
        type(subscriber).__call__
    )


def _name(subscriber: Callable[..., object]) -> str:
    return getattr(subscriber, "__qualname__", None) or repr(subscriber)


def _called_by(subscriber: Callable[[E], object]) -> Callable[[E], object]:
    """Return the subscriber itself, also while it is suspended."""
    return subscriber.subscriber if isinstance(subscriber, _Suspended) else subscriber


def __dir__() -> list[str]:
    return sorted(__all__)
