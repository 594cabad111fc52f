"""The connections that are alive."""

import asyncio
import itertools
import secrets
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from sipws import flow_token
from sipws.events import Connection


class Registered(Protocol):
    """Anything with the identity of a connection."""

    @property
    def connection(self) -> Connection:
        """The connection's identity: id, listener, both addresses, start."""


F = TypeVar("F", bound=Registered)


class Registry(Generic[F]):
    """Live connections by id, and the source of those ids."""

    def __init__(self) -> None:
        # The id is the correlation id in Homer. A random start keeps the ids of several processes,
        # and of restarts, apart there; counting keeps them unique in this process.
        self._ids = itertools.count(secrets.randbits(48))
        self._alive: dict[int, F] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def next_id(self) -> int:
        """Return an id for a new connection."""
        return next(self._ids)

    def add(self, flow: F) -> None:
        """Add a new connection."""
        self._alive[flow.connection.id] = flow
        self._empty.clear()

    def remove(self, flow: F) -> None:
        """Remove a connection that is gone."""
        self._alive.pop(flow.connection.id, None)
        if not self._alive:
            self._empty.set()

    def get(self, connection_id: int) -> F | None:
        """Return the live connection with an id; None if there is none."""
        return self._alive.get(connection_id)

    def by_token(self, token: str) -> F | None:
        """Return the live connection of a flow token; None if it is gone or the token invalid."""
        connection_id = flow_token.read(token)
        return None if connection_id is None else self.get(connection_id)

    async def wait_empty(self) -> None:
        """Wait until no connection is alive."""
        await self._empty.wait()

    def __len__(self) -> int:
        return len(self._alive)

    def __iter__(self) -> Iterator[F]:
        """Iterate over a copy: connections may end meanwhile."""
        return iter(tuple(self._alive.values()))
