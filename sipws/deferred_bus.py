"""A bus that tells what happened a moment later, for subscribers that work over what they hear.

A tracer spends as much on a message as the transport does. Told at once, it would stand between a
request and its answer. Told a few milliseconds later, it works off what came meanwhile in one go,
which also costs less: a processor that does one thing again and again has all of it at hand.
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
"""Seconds that an event waits: enough to gather some, and nothing to whoever looks at a trace.
Events have the time at which they happened."""

MOST: Final = 64
"""Events that wait so long. As soon as there are more, telling begins."""

PORTION: Final = 8
"""Events that are told in one turn of the event loop, so that no request waits for more; or, where
that is more, a quarter of those that wait, so that they stay few however fast they come."""


class DeferredBus(Bus):
    """Hands on what is published on another bus, in its order, but later.

    Nobody is told what was published before it subscribed, and who unsubscribes is told first what
    was published until then.

    Args:
        bus: the other bus, whose publishers run in an event loop.
    """

    __slots__ = ("_bus", "_due", "_telling", "_waiting", "gatherings")

    def __init__(self, bus: Bus) -> None:
        self.gatherings: list[Gathering[Any]] = []
        """Those that are handed on whenever something has been told."""
        self._bus = bus
        self._waiting: deque[tuple[Hook[Any], Any]] = deque()
        self._due: asyncio.Handle | None = None
        self._telling = False
        super().__init__()

    def flush(self) -> None:
        """Tell all that waits now."""
        if self._telling:
            # Somebody leaves because of what he is told: the order is to stay that of the events.
            return
        if self._due is not None:
            self._due.cancel()
        self._due = None
        self._tell(len(self._waiting))

    def _make_hook(self, event_type: type[E]) -> Hook[E]:
        return _DeferredHook(self._bus.hook(event_type), self)

    def _putter(self, hook: Hook[E]) -> Callable[[E], None]:
        """What puts the events of a hook where they wait: a closure, as every event passes it."""
        waiting = self._waiting
        put = waiting.append

        def subscriber(event: E) -> None:
            put((hook, event))
            if self._due is None or len(waiting) == MOST:
                self._set_due()

        return subscriber

    def _set_due(self) -> None:
        """Have what waits told: in a while, or soon where it has become much."""
        loop = asyncio.get_running_loop()
        if self._due is None:
            self._due = loop.call_later(DELAY, self._tell_some)
        else:
            self._due.cancel()
            self._due = loop.call_soon(self._tell_some)

    def _tell_some(self) -> None:
        waiting = self._waiting
        self._tell(max(PORTION, len(waiting) // 4))
        self._due = asyncio.get_running_loop().call_soon(self._tell_some) if waiting else None

    def _tell(self, count: int) -> None:
        self._telling = True
        take = self._waiting.popleft
        for _ in range(min(count, len(self._waiting))):
            hook, event = take()
            hook.publish(event)
        for gathering in self.gatherings:
            gathering.hand_on()
        self._telling = False


class Gathering(Generic[T]):
    """Gathers what a subscriber makes of events that are told together, to hand it on together.

    Args:
        bus: which tells the events.
        taker: takes what was gathered, in its order, and does not keep the list; one that raises is
            logged, and what it was given is lost.
    """

    __slots__ = ("_bus", "_gathered", "_taker", "put")

    def __init__(self, bus: DeferredBus, taker: Callable[[list[T]], object]) -> None:
        self._bus = bus
        self._taker = taker
        self._gathered: list[T] = []
        self.put: Callable[[T], object] = self._gathered.append
        """Takes one thing."""
        bus.gatherings.append(self)

    def hand_on(self) -> None:
        """Hand on what was gathered."""
        if self._gathered:
            try:
                self._taker(self._gathered)
            except Exception:
                # As with a subscriber: it is not to be the end of all telling.
                log.exception("what was gathered could not be handed on")
            self._gathered.clear()

    def close(self) -> None:
        """Hand on what was gathered, and end."""
        self.hand_on()
        self._bus.gatherings.remove(self)


class _DeferredHook(Hook[E]):
    """A hook that is subscribed to the one of the other bus while somebody is subscribed to it."""

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
