"""PostgreSQL, and a stand-in for heplify-server that writes to it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.homer.heplify import Heplify, create_tables
from tests.homer.postgresql import Postgres


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Wait for what PostgreSQL does: ``await until(lambda: …)``."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - it is not ours to signal
                await asyncio.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, started once for all tests."""
    from tests.conftest import Finder

    finder = Finder()
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4])
    )
    if not found:
        finder.missing("PostgreSQL", "install Debian's package postgresql")
    finder.program("setpriv", remedy="install Debian's package util-linux")
    server = Postgres(found[-1].parent)
    yield server
    server.stop()


@dataclass
class Database:
    """A database of Homer's shape."""

    server: Postgres
    name: str
    now: float
    """When its partitions were made, in seconds since the epoch."""

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def dsn_of(self, user: str, password: str) -> str:
        """Where it is for a user with a password."""
        return self.server.dsn(self.name, user, password)

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as superuser; returns its rows."""
        with self.server.connect(self.name) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def new_database(postgres: Postgres) -> Iterator[Callable[..., Database]]:
    """Make a database with partitions for some days: ``new_database(days=(0, 1))``."""
    made: list[str] = []

    def make(days: tuple[int, ...] = (-1, 0, 1), tables: bool = True) -> Database:
        database = Database(postgres, postgres.new_database(), time.time())
        made.append(database.name)
        if tables:
            with postgres.connect(database.name) as connection:
                create_tables(connection, database.now, days)
        return database

    yield make
    for name in made:
        postgres.drop_database(name)


@pytest.fixture
def database(new_database: Callable[..., Database]) -> Database:
    """A database with partitions from yesterday to tomorrow."""
    return new_database()


@pytest.fixture
async def heplify(database: Database) -> AsyncIterator[Callable[..., Awaitable[Heplify]]]:
    """Start the stand-in: ``collector = await heplify(force_payload=frozenset({89}))``."""
    async with AsyncExitStack() as stack:

        async def start(dsn: str = database.dsn, **settings: Any) -> Heplify:
            return await stack.enter_async_context(Heplify(dsn, **settings))

        yield start
