"""OpenSIPS' ``trace``, ``trace_start`` and ``trace_stop``, as its tracer answers them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control import mi
from sipws.service.app import Application
from sipws.service.commands import methods_of

ONE, TWO = (
    {"name": name, "type": "HEP", "uri": f"127.0.0.1:{port}"}
    for name, port in (("one", 9), ("two", 10))
)
ON, OFF = {"state": "on"}, {"state": "off"}
BAD = {"code": 400, "message": "Bad parameter value"}


@pytest.fixture
async def running() -> AsyncIterator[Application]:
    ids = [f"[{each['name']}]{each['uri']};transport=udp" for each in (ONE, TWO)]
    table = {
        "transport": {"listen": "ws:127.0.0.1:0", "require_origin": False},
        "hep": {"hep_id": ids},
        "tracing": {
            "trace_destination": "one", "trace_on": True, "also": [{"trace_destination": "two"}],
        },
    }  # fmt: skip
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        yield application


def ask(running: Application, method: str, *in_order: Any, **by_name: Any) -> Any:
    """The result of a method, or its error."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(in_order) or by_name}
    reply = json.loads(mi.reply(mi.parse(json.dumps(call).encode()), methods_of(running)))
    return reply["result"] if "result" in reply else reply["error"]


async def come_and_go(running: Application) -> list[int]:
    """Open and close a connection; returns the packets of each trace about it."""
    before = [trace.tracer.offered for trace in running.traces.read()]
    port = running.server.listeners[0].port
    subprotocols, origin = [Subprotocol("sip")], Origin("https://phone.example.com")
    async with connect(f"ws://127.0.0.1:{port}/", subprotocols=subprotocols, origin=origin):
        pass
    async with asyncio.timeout(5):
        while any(True for _ in running.server.flows):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.005)
    after = [trace.tracer.offered for trace in running.traces.read()]
    return [now - then for now, then in zip(after, before, strict=True)]


def test_traces_are_listed_as_opensips_lists_them(running: Application) -> None:
    assert ask(running, "trace") == {
        "global": "on",
        "trace destinations": [{**ONE, **ON}, {**TWO, **ON}],
    }
    assert ask(running, "trace", id="two") == {"trace destinations": [{**TWO, **ON}]}
    assert ask(running, "trace", id="six") == {"code": 400, "message": "Bad trace id value"}


async def test_one_trace_is_switched_and_stays_so(running: Application) -> None:
    assert ask(running, "trace", id="one", mode="OFF") == "OK"
    assert ask(running, "trace")["trace destinations"] == [{**ONE, **OFF}, {**TWO, **ON}]
    assert await come_and_go(running) == [0, 2]
    # Tracing as a whole does not switch it on.
    assert ask(running, "trace", mode="off") == "OK"
    assert ask(running, "trace") == {
        "global": "off",
        "trace destinations": [{**ONE, **OFF}, {**TWO, **ON}],
    }
    assert await come_and_go(running) == [0, 0]
    assert ask(running, "ws_trace", "on") == "OK"
    assert await come_and_go(running) == [0, 2]
    assert ask(running, "trace", id="one", mode="on") == "OK"
    assert await come_and_go(running) == [2, 2]


async def test_a_trace_that_is_switched_on_waits_for_tracing(running: Application) -> None:
    assert ask(running, "trace", id="one", mode="off") == "OK"
    assert ask(running, "trace", mode="off") == "OK"
    assert ask(running, "trace", id="one", mode="on") == "OK"
    assert await come_and_go(running) == [0, 0]
    assert ask(running, "trace", mode="on") == "OK"
    assert await come_and_go(running) == [2, 2]


@pytest.mark.parametrize("mode", ["", "o", "once", "offline", 1])
def test_a_mode_is_on_or_off(running: Application, mode: object) -> None:
    data = "trace mode should be 'on' or 'off'"
    refused = {"code": 500, "message": "Bad parameter value", "data": data}
    assert ask(running, "trace", mode=mode) == refused
    # The mode is looked at before the trace.
    assert ask(running, "trace", id="six", mode=mode) == refused
    assert ask(running, "trace", id="six", mode="on") == BAD


def test_trace_takes_only_named_parameters(running: Application) -> None:
    data = "Command only supports named parameters"
    assert ask(running, "trace", "one")["data"] == data
    assert ask(running, "trace", name="one")["data"] == "Named parameters do not match"


async def test_a_started_trace_is_dynamic_and_has_its_filters(running: Application) -> None:
    uri = "hep:127.0.0.1:11;transport=udp"
    filters = ["caller=alice", "ip=192.0.2.1"]
    assert ask(running, "trace_start", id="live", uri=uri, filter=filters) == "OK"
    live = {"name": "live", "type": "HEP", "uri": "127.0.0.1:11", "state": "dynamic"}
    with_filters = {**live, "filters": [{"ip": "192.0.2.1"}, {"caller": "alice"}]}
    assert ask(running, "trace", id="live") == {"trace destinations": [with_filters]}
    # It is started and stopped, and not switched.
    assert ask(running, "trace", id="live", mode="off") == BAD
    assert ask(running, "trace_start", 7, uri) == "OK"
    assert ask(running, "trace")["trace destinations"][-1] == {**live, "name": "7"}
    assert ask(running, "trace_stop", 7) == "OK"
    # OpenSIPS takes a number for its digits: here a host.
    assert ask(running, "trace_start", 0, 0) == "OK"
    assert ask(running, "trace_stop", 0) == "OK"
    assert ask(running, "trace_stop", "live") == "OK"
    assert ask(running, "trace_stop", "live") == BAD


@pytest.mark.parametrize(
    ("params", "data"),
    [
        ({"id": "one", "uri": "hep:127.0.0.1:9"}, "trace id already used"),
        ({"id": "live", "uri": "hep:127.0.0.1:9"}, "dynamic trace id already used"),
        ({"id": "new", "uri": "hep:127.0.0.1:0"}, "port"),
        ({"id": "new", "uri": "hep:127.0.0.1:9", "filter": ["a=b"]}, "filter 'a=b' is none of"),
    ],
)
async def test_what_cannot_be_started_has_opensips_code(
    running: Application, params: dict[str, Any], data: str
) -> None:
    assert ask(running, "trace_start", "live", "hep:127.0.0.1:9;transport=udp") == "OK"
    refused = ask(running, "trace_start", **params)
    assert (refused["code"], refused["message"]) == (500, "Bad parameter value")
    assert data in refused["data"]
    assert ask(running, "trace_start", "new")["data"] == "Too few or too many parameters"
