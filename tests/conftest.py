"""What tests of every room share."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings


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


# `make fuzz` looks much further than a test run has time for.
settings.register_profile("fuzz", max_examples=20_000, deadline=None)
# In CI the same examples are tried each time: what fails there was not there before.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
