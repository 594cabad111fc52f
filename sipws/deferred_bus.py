"""A bus that delivers events some milliseconds later, for subscribers that do expensive work.

A tracer spends as much time on a message as the transport does. Called at once, it would delay the
answer to a request. Called later, it processes several events together, which also costs less: its
code and data are in the processor's caches.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from sipws.bus import Bus, E, Hook

T = TypeVar("T")

log = logging.getLogger(__name__)

DELAY: Final = 0.005
"""Seconds that an event waits: enough to collect some, and too short to notice in a trace. Events
carry the time at which they happened."""

MOST: Final = 64
"""Events that may wait that long. With more, delivery starts at once."""

PORTION: Final = 8
"""Events that are delivered in one turn of the event loop, so that no request waits for more. If a
quarter of the waiting events is more, that many are delivered, so that the queue stays short at any
rate of events."""


class DeferredBus(Bus):
    """Delivers the events of another bus later, in their order.

    A subscriber gets no event that was published before it subscribed. One that unsubscribes first
    gets all events published until then.

    Args:
        bus: the other bus, whose publishers run in an event loop.
    """

    __slots__ = ("_bus", "_delivering", "_due", "_waiting", "gatherings")

    def __init__(self, bus: Bus) -> None:
        self.gatherings: list[Gathering[Any]] = []
        """They hand on what they gathered after each delivery."""
        self._bus = bus
        self._waiting: deque[tuple[Hook[Any], Any]] = deque()
        self._due: asyncio.Handle | None = None
        self._delivering = False
        super().__init__()

    def flush(self) -> None:
        """Deliver all waiting events now."""
        if self._delivering:
            # A subscriber unsubscribes while it handles an event: the order of events has to stay.
            return
        if self._due is not None:
            self._due.cancel()
        self._due = None
        self._deliver(len(self._waiting))

    def _make_hook(self, event_type: type[E]) -> Hook[E]:
        return _DeferredHook(self._bus.hook(event_type), self)

    def _putter(self, hook: Hook[E]) -> Callable[[E], None]:
        """Return a subscriber that queues the events of a hook; a closure is the fastest form."""
        waiting = self._waiting
        put = waiting.append

        def subscriber(event: E) -> None:
            put((hook, event))
            if self._due is None or len(waiting) == MOST:
                self._set_due()

        return subscriber

    def _set_due(self) -> None:
        """Schedule a delivery: after `DELAY`, or in the next turn if many events wait."""
        loop = asyncio.get_running_loop()
        if self._due is None:
            self._due = loop.call_later(DELAY, self._deliver_some)
        else:
            self._due.cancel()
            self._due = loop.call_soon(self._deliver_some)

    def _deliver_some(self) -> None:
        waiting = self._waiting
        self._deliver(max(PORTION, len(waiting) // 4))
        self._due = asyncio.get_running_loop().call_soon(self._deliver_some) if waiting else None

    def _deliver(self, count: int) -> None:
        self._delivering = True
        take = self._waiting.popleft
        for _ in range(min(count, len(self._waiting))):
            hook, event = take()
            hook.publish(event)
        for gathering in self.gatherings:
            gathering.hand_on()
        self._delivering = False


class Gathering(Generic[T]):
    """Gathers the results of a subscriber for events that are delivered together.

    Args:
        bus: delivers the events.
        taker: takes the results, in their order, and does not keep the list. If it raises, that is
            logged, and the results are lost.
    """

    __slots__ = ("_bus", "_gathered", "_taker", "put")

    def __init__(self, bus: DeferredBus, taker: Callable[[list[T]], object]) -> None:
        self._bus = bus
        self._taker = taker
        self._gathered: list[T] = []
        self.put: Callable[[T], object] = self._gathered.append
        """Adds one result."""
        bus.gatherings.append(self)

    def hand_on(self) -> None:
        """Pass the gathered results to the taker."""
        if self._gathered:
            try:
                self._taker(self._gathered)
            except Exception:
                # As for a subscriber: delivery goes on.
                log.exception("the gathered results could not be passed on and are lost")
            self._gathered.clear()

    def close(self) -> None:
        """Pass on the gathered results, and unregister."""
        self.hand_on()
        self._bus.gatherings.remove(self)


class _DeferredHook(Hook[E]):
    """A hook that is subscribed to the one of the other bus while it has subscribers."""

    __slots__ = ("_other", "_owner", "_put")

    def __init__(self, other: Hook[E], owner: DeferredBus) -> None:
        super().__init__(other.event_type)
        self._other = other
        self._owner = owner
        self._put = owner._putter(self)

    def subscribe(self, subscriber: Callable[[E], object]) -> None:
        self._owner.flush()
        super().subscribe(subscriber)
        if len(self.subscribers) == 1:
            self._other.subscribe(self._put)

    def unsubscribe(self, subscriber: Callable[[E], object]) -> None:
        self._owner.flush()
        super().unsubscribe(subscriber)
        if not self.subscribers:
            self._other.unsubscribe(self._put)
