"""The connections that are alive."""

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from sipws import flow_token
from sipws.events import Connection


class Registered(Protocol):
    """What can be registered: anything that has a connection's identity."""

    @property
    def connection(self) -> Connection:
        """The identity that it is registered under."""


F = TypeVar("F", bound=Registered)


class Registry(Generic[F]):
    """Live connections by id, and the source of those ids."""

    def __init__(self) -> None:
        # A random start keeps the ids of two processes, or of two lives of one, apart in Homer,
        # where the id is the correlation id; counting on from it keeps them unique in this one.
        self._ids = itertools.count(secrets.randbits(48))
        self._alive: dict[int, F] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def next_id(self) -> int:
        """An id for a new connection."""
        return next(self._ids)

    def add(self, flow: F) -> None:
        """Note a connection that has come up."""
        self._alive[flow.connection.id] = flow
        self._empty.clear()

    def remove(self, flow: F) -> None:
        """Forget a connection that is gone."""
        self._alive.pop(flow.connection.id, None)
        if not self._alive:
            self._empty.set()

    def get(self, connection_id: int) -> F | None:
        """The live connection with that id."""
        return self._alive.get(connection_id)

    def by_token(self, token: str) -> F | None:
        """The live connection that a flow token names; None for one that is gone or made up."""
        connection_id = flow_token.read(token)
        return None if connection_id is None else self.get(connection_id)

    async def wait_empty(self) -> None:
        """Wait until no connection is alive."""
        await self._empty.wait()

    def __len__(self) -> int:
        return len(self._alive)

    def __iter__(self) -> Iterator[F]:
        """All live connections; a copy, so that they may go while one looks at them."""
        return iter(tuple(self._alive.values()))
