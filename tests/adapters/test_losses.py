"""A collector that was away while a server of another library was traced gets a report of that."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

import hep
import sipws.tracing.trace
from sipws.tracing.pipeline import Pipeline

from . import test_aiohttp, test_asgi, test_websockets
from .support import Homer, sip

Serving = Callable[[Pipeline], AbstractAsyncContextManager[int]]
SERVERS: dict[str, Serving] = {
    "websockets": test_websockets.serving,
    "asgi": test_asgi.serving,
    "aiohttp": test_aiohttp.serving,
}
SENDING = hep.SenderSettings(queue_limit=5, retry_first=0.01, retry_longest=0.02)
MESSAGES = 10


@pytest.mark.parametrize("adapter", SERVERS)
async def test_a_collector_that_was_away_is_told_what_it_missed(
    adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sipws.tracing.trace, "LOOK_INTERVAL", 0.01)
    homer = Homer()
    async with hep.Collector(homer.receive, tcp="127.0.0.1:0") as gone:
        address = "{}:{}".format(*gone.tcp_address)
    async with (
        Pipeline(f"{address};transport=tcp", sending=SENDING, trace_sip=True) as trace,
        SERVERS[adapter](trace) as port,
        test_websockets.client(port) as phone,
    ):
        for _ in range(MESSAGES):
            await phone.send(sip())
            await phone.recv()
        trace.flush()
        assert trace.sender is not None
        missed = trace.sender.counters.dropped.total()
        # The handshake, and each message in both directions.
        assert missed == 1 + 2 * MESSAGES - SENDING.queue_limit
        async with hep.Collector(homer.receive, tcp=address):
            lost = (await homer.wait_for(lambda: homer.of("LOST")))[0]
    assert lost["Packets"] == str(missed)
    assert "queue-full" in lost["Message"]
