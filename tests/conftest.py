"""What tests of every room share."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests on both event loops: they differ in how they tell what happens.

    End-to-end tests watch processes from outside: there one loop is enough.
    """
    factories = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if "/e2e/" in item.nodeid:
        del factories["uvloop"]
    return factories
