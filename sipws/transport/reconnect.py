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
    """The delays before connecting again, random so that clients do not all return at once."""

    first: float = 5.0
    """Seconds: the first delay is a random part of this."""

    longest: float = 60.0
    """Seconds: no delay is longer."""

    factor: float = 2.0
    """The bound of each delay is this many times the bound of the one before."""

    def when_asked(
        self, delay: float, asked: float | None, rng: Callable[[], float] = random.random
    ) -> float:
        """The delay if a server asked for one (``Retry-After``).

        It is at least what the server asked for, even beyond ``longest``, and up to ``first`` more,
        so that clients with the same ``Retry-After`` do not all return at once.

        Args:
            delay: seconds otherwise; a longer one is kept.
            asked: seconds that the server asked for; None without ``Retry-After``.
            rng: random numbers from 0 to 1.
        """
        if not asked:
            return delay
        return max(delay, asked + rng() * min(asked, self.first))

    def delays(self, rng: Callable[[], float] = random.random) -> Iterator[float]:
        """An endless iterator of the seconds before each try.

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
    """A connection that is opened again after each loss; `Client.keep_connected` makes one.

    Args:
        connect: opens the connection.
        destination: where to, for messages.
        backoff: the delays before each try.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[ClientFlow]],
        destination: Destination,
        backoff: Backoff,
    ) -> None:
        self.destination = destination
        self.flow: ClientFlow | None = None
        """The connection; None while there is none."""
        self._connect = connect
        self._backoff = backoff
        self._connected = asyncio.Event()
        self.task = asyncio.create_task(self._run())
        """The task that connects; done after `stop`."""
        self.task.add_done_callback(lambda task: self._connected.set())

    async def connected(self) -> ClientFlow:
        """Wait for the connection.

        Raises:
            TransportError: `stop` was called.
        """
        while (flow := self.flow) is None or not flow.is_open:
            if self.task.done():
                raise TransportError(f"{self.destination.shown} is no longer kept connected")
            self._connected.clear()
            await self._connected.wait()
        return flow

    async def stop(self) -> None:
        """Stop connecting; an open connection stays open."""
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
                    # The server works: the next delay starts from `first` again.
                    delays = self._backoff.delays()
            await asyncio.sleep(self._backoff.when_asked(next(delays), asked))
