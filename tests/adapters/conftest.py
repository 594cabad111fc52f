"""A collector, and a pipeline to it."""

from collections.abc import AsyncIterator

import pytest

import hep
from sipws.tracing.pipeline import Pipeline

from .support import Homer


@pytest.fixture
async def homer() -> AsyncIterator[Homer]:
    received = Homer()
    async with hep.Collector(received.receive, udp="127.0.0.1:0") as collector:
        received.port = collector.udp_address[1]
        yield received


@pytest.fixture
async def trace(homer: Homer) -> AsyncIterator[Pipeline]:
    async with Pipeline(homer.destination, trace_sip=True) as pipeline:
        yield pipeline
