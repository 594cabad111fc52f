"""Staying connected to one destination (RFC 6455 section 7.2.3)."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from sipws.errors import ConnectError, TransportError
from sipws.transport.client_flow import ClientFlow
from sipws.ws.destination import Destination

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before connecting again, so that clients do not all return at once."""

    first: float = 5.0
    """Seconds: the first delay is a random part of this."""

    longest: float = 60.0
    """Seconds: no delay is longer."""

    factor: float = 2.0
    """How many times the bound of one delay that of the next is."""

    def when_asked(
        self, delay: float, asked: float | None, rng: Callable[[], float] = random.random
    ) -> float:
        """Seconds to wait where a server asked to be left alone (``Retry-After``).

        They are never fewer than it asked for, ``longest`` or not, and up to ``first`` more: all
        that were asked the same do not return at once.

        Args:
            delay: what it would be otherwise; a longer one stays.
            asked: seconds; None where the server did not ask.
            rng: random numbers from 0 to 1.
        """
        if not asked:
            return delay
        return max(delay, asked + rng() * min(asked, self.first))

    def delays(self, rng: Callable[[], float] = random.random) -> Iterator[float]:
        """Seconds to wait before each try, without end.

        The first is random from 0 to ``first``. The bound then grows up to ``longest``, and each
        delay is random from half its bound to the whole.

        Args:
            rng: random numbers from 0 to 1.
        """
        yield rng() * self.first
        bound = self.first
        while True:
            bound = min(bound * self.factor, self.longest)
            yield bound * (0.5 + rng() / 2)


class KeptConnection:
    """A connection that is opened again whenever it is gone; `Client.keep_connected` makes one."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[ClientFlow]],
        destination: Destination,
        backoff: Backoff,
    ) -> None:
        self.destination = destination
        self.flow: ClientFlow | None = None
        """The connection while there is one."""
        self._connect = connect
        self._backoff = backoff
        self._connected = asyncio.Event()
        self.task = asyncio.create_task(self._run())
        """What keeps it; done when it is stopped."""
        self.task.add_done_callback(lambda task: self._connected.set())

    async def connected(self) -> ClientFlow:
        """The connection, as soon as there is one.

        Raises:
            TransportError: it is no longer kept.
        """
        while (flow := self.flow) is None or not flow.is_open:
            if self.task.done():
                raise TransportError(f"{self.destination.shown} is no longer kept connected")
            self._connected.clear()
            await self._connected.wait()
        return flow

    async def stop(self) -> None:
        """Connect no more; a connection that is open stays so."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self) -> None:
        delays = self._backoff.delays()
        while True:
            asked = None
            try:
                self.flow = await self._connect()
            except ConnectError as exc:
                log.info("%s", exc)
                asked = exc.retry_after
            else:
                self._connected.set()
                closed = await self.flow.wait_closed()
                self.flow = None
                if closed.duration > self._backoff.longest:
                    # That was no server that takes connections only to drop them.
                    delays = self._backoff.delays()
            await asyncio.sleep(self._backoff.when_asked(next(delays), asked))
