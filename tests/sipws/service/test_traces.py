"""Several destinations, some of them for a while, and what each is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.control.mi import MiError
from sipws.errors import ConfigurationError, TraceError
from sipws.service.app import Application
from sipws.service.trace_commands import trace_commands

PAGE = Origin("https://phone.example.com")


class Inbox(list[hep.Packet]):
    """What a collector on loopback has received."""

    def __init__(self) -> None:
        super().__init__()
        self.collector = hep.Collector(lambda packet, _: self.append(packet), tcp="127.0.0.1:0")

    @property
    def hep_id(self) -> str:
        ip, port = self.collector.tcp_address
        return f"{ip}:{port};transport=tcp"

    def of(self, kind: int) -> list[hep.Packet]:
        return [packet for packet in self if packet.protocol_type == kind]


SIP, NET = hep.ProtocolType.SIP, hep.ProtocolType.NET


@pytest.fixture
async def collectors() -> AsyncIterator[list[Inbox]]:
    inboxes = [Inbox(), Inbox()]
    async with AsyncExitStack() as stack:
        for inbox in inboxes:
            await stack.enter_async_context(inbox.collector)
        yield inboxes


Run = Callable[..., Awaitable[Application]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:

        async def start(**sections: dict[str, Any]) -> Application:
            table = {"transport": {"listen": "ws:127.0.0.1:0"}, **sections}
            resolved = ResolvedConfig.of(Config.of(table, "test"))
            return await stack.enter_async_context(Application(resolved))

        yield start


def options(user: str = "alice", call: str = "c1") -> str:
    return (
        f"OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
        f"From: <sip:{user}@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: {call}\r\n"
        "CSeq: 1 OPTIONS\r\n\r\n"
    )


async def phone(application: Application, *messages: str) -> None:
    port = application.server.listeners[0].port
    url = f"ws://127.0.0.1:{port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as client:
        for message in messages:
            await client.send(message)
            await client.recv()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_each_destination_has_its_own_filter_and_format(collectors, run, tmp_path) -> None:
    script = tmp_path / "filter.cfg"
    script.write_text('route[nobody] { drop; }\nroute[all] { xlog("seen"); }\n')
    first, second = collectors
    application = await run(
        tracing={
            "trace_on": True,
            "trace_destination": first.hep_id,
            "script": script,
            "trace_filter_route": "nobody",
            "also": [
                {
                    "trace_destination": second.hep_id,
                    "trace_filter_route": "all",
                    "trace_sip": True,
                    "homer5_on": True,
                }
            ],
        }
    )
    await phone(application, options())
    await until(lambda: len(second) == 5)
    assert first == []
    assert second.of(NET)[0].payload.startswith(b"WS:ACCEPTED:GET / HTTP/1.1")
    assert [packet.correlation_id for packet in second.of(SIP)] == [b"c1", b"c1"]


@pytest.mark.parametrize("distribution", ["duplicate", "balanced"])
async def test_a_group_of_destinations_shares_or_repeats(collectors, run, distribution) -> None:
    application = await run(
        tracing={
            "trace_on": True,
            "trace_destination": [inbox.hep_id for inbox in collectors],
            "trace_distribution": distribution,
            "trace_sip": True,
            "trace_events": False,
        }
    )
    await phone(application, *(options(call=f"c{number}") for number in range(20)))
    first, second = collectors
    expected = 80 if distribution == "duplicate" else 40
    await until(lambda: len(first) + len(second) == expected)
    if distribution == "balanced":
        calls = [{packet.correlation_id for packet in inbox} for inbox in collectors]
        assert not calls[0] & calls[1]


async def test_versions_cannot_be_mixed_in_a_group() -> None:
    table = {"tracing": {"trace_destination": ["a;version=3", "b;version=2"]}}
    with pytest.raises(ConfigurationError, match=r"different versions of HEP"):
        ResolvedConfig.of(Config.of(table, "test"))


async def test_a_trace_is_started_and_stopped_while_connections_are_open(collectors, run) -> None:
    inbox, _ = collectors
    application = await run()
    mi = trace_commands(application)
    url = f"ws://127.0.0.1:{application.server.listeners[0].port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as client:
        assert mi["trace_start"](id="live", uri=f"hep:{inbox.hep_id};version=3") == "OK"
        await client.send(options())
        await client.recv()
        await until(lambda: len(inbox.of(SIP)) == 2)
        [trace] = mi["trace_list"]()["Traces"]
        assert trace["ID"] == "live"
        assert (trace["Started"], trace["State"]) == ("by hand", "on")
        assert mi["trace_stop"](id="live") == "OK"
        await client.send(options())
        await client.recv()
    assert mi["trace_list"]() == {"Traces": []}
    await application.server.flows.wait_empty()
    assert len(inbox) == 2


@pytest.mark.parametrize(
    ("filters", "calls"),
    [
        (["caller=alice"], [b"a"]),
        (["caller=alice", "caller=carol@example.com"], [b"a", b"c"]),
        (["callee=bob", "ip=127.0.0.0/8"], [b"a", b"b", b"c"]),
        (["ip=192.0.2.1"], []),
    ],
)
async def test_a_trace_can_be_of_a_party_or_an_address(collectors, run, filters, calls) -> None:
    inbox, _ = collectors
    application = await run()
    application.start_trace("live", inbox.hep_id, filters)
    await phone(application, options("alice", "a"), options("bob", "b"), options("carol", "c"))
    await application.server.flows.wait_empty()
    [sender] = application.traces.senders
    application.traces.stop("live")
    await until(lambda: not sender.counters.queued)
    await until(lambda: len(inbox.of(SIP)) == 2 * len(calls))
    assert [packet.correlation_id for packet in inbox.of(SIP)[::2]] == calls


async def test_a_started_trace_shows_what_the_configuration_leaves_out(collectors, run) -> None:
    inbox, other = collectors
    application = await run(
        tracing={
            "trace_on": True,
            "trace_destination": other.hep_id,
            "trace_sip": True,
            "trace_sample": 0.0,
            "trace_methods": ["INVITE"],
        }
    )
    application.start_trace("live", inbox.hep_id, [])
    await phone(application, options())
    await until(lambda: len(inbox.of(SIP)) == 2)
    assert other.of(SIP) == []


async def test_a_destination_is_in_a_group_once() -> None:
    table = {"tracing": {"trace_destination": ["a:9060", "b:9060", "a:9060"]}}
    with pytest.raises(ConfigurationError, match=r"one of them is there twice"):
        ResolvedConfig.of(Config.of(table, "test"))


async def test_a_trace_whose_peer_goes_away_is_removed(run) -> None:
    application = await run()
    collector = hep.Collector(lambda packet, source: None, tcp="127.0.0.1:0")
    await collector.start()
    ip, port = collector.tcp_address
    application.start_trace("live", f"{ip}:{port}", [])
    traces = application.traces
    await until(lambda: traces.started["live"].senders[0].connected)
    traces.stop_gone()
    assert list(traces.started) == ["live"]
    await collector.aclose()
    await until(lambda: traces.started["live"].peer_has_gone)
    traces.stop_gone()
    assert traces.started == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("live", "hep:127.0.0.1:9", []), "is taken"),
        (("new", "hep:127.0.0.1:0", []), "port 0"),
        (("new", "hep:127.0.0.1:9", ["from=alice"]), "is none of caller="),
        (("new", "hep:127.0.0.1:9", ["ip=alice"]), "ip="),
    ],
)
async def test_a_trace_that_cannot_be_is_refused_with_a_reason(run, arguments, message) -> None:
    application = await run()
    application.start_trace("live", "127.0.0.1:9", [])
    with pytest.raises(TraceError, match=message):
        application.start_trace(*arguments)
    with pytest.raises(TraceError, match="there is no trace 'other'"):
        application.traces.stop("other")


async def test_the_switch_is_for_what_is_configured(collectors, run) -> None:
    first, second = collectors
    application = await run(tracing={"trace_on": True, "trace_destination": first.hep_id})
    application.start_trace("live", second.hep_id, [])
    application.traces.switch(on=False)
    await phone(application)
    await until(lambda: len(second) == 2)
    assert first == []


async def test_what_was_lost_is_told_in_the_trace_once_the_collector_is_back(run) -> None:
    collector = Inbox()
    await collector.collector.start()
    ip, port = collector.collector.tcp_address
    await collector.collector.aclose()
    application = await run(
        hep={"hep_queue_packets": 10, "hep_retry_first": 10, "hep_retry_longest": 20},
        tracing={"trace_on": True, "trace_destination": f"{ip}:{port}", "trace_sip": True},
    )
    traces = application.traces
    [trace] = traces.configured
    [sender] = trace.senders
    await phone(application, *(options(call=f"c{number}") for number in range(20)))
    await application.server.flows.wait_empty()
    traces.bus.flush()
    lost = sender.counters.dropped.total()
    assert lost > 0
    trace.look(1000.0)
    received: list[hep.Packet] = []
    again = hep.Collector(lambda packet, _: received.append(packet), tcp=f"{ip}:{port}")
    async with again:
        await until(lambda: len(received) == 10)
        trace.look(1002.0)
        await until(lambda: len(received) == 11)
    told = json.loads(received[-1].payload)
    assert told["Event"] == "LOST"
    assert told["Message"].startswith(f"{lost} packets lost from ")
    assert (told["Packets"], told["To"]) == (str(lost), "1000")
    assert received[-1].correlation_id == b"sipws-1"
    counters = sender.counters
    assert counters.offered == counters.sent + counters.dropped.total() + counters.queued


async def test_a_spool_that_cannot_be_used_is_the_users_mistake_and_leaves_nothing(
    collectors, tmp_path
) -> None:
    first, second = collectors
    (tmp_path / "spool").mkdir()
    ip, port = second.collector.tcp_address
    # Of two senders the second cannot have its directory.
    (tmp_path / "spool" / f"{ip}_{port}_tcp").touch()
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "hep": {"hep_spool": tmp_path / "spool"},
        "tracing": {"trace_on": True, "trace_destination": [first.hep_id, second.hep_id]},
    }
    before = asyncio.all_tasks()
    application = Application(ResolvedConfig.of(Config.of(table, "test")))
    with pytest.raises(ConfigurationError, match=r"hep_spool: spool .* cannot be used"):
        await application.__aenter__()
    assert asyncio.all_tasks() == before


async def test_nothing_is_told_of_losses_while_tracing_is_off(collectors, run) -> None:
    inbox, _ = collectors
    application = await run(tracing={"trace_on": True, "trace_destination": inbox.hep_id})
    traces = application.traces
    [trace] = traces.configured
    [sender] = trace.senders
    await until(lambda: sender.connected)
    sender.counters.refuse("example")
    traces.switch(on=False)
    for now in (1000.0, 1001.0, 1002.0):
        trace.look(now)
    assert sender.counters.sent == 0
    # Nor does a report wait to be sent.
    assert sender.counters.queued == 0
    traces.switch(on=True)
    trace.look(1003.0)
    trace.look(1004.0)
    await until(lambda: len(inbox) == 1)
    assert json.loads(inbox[0].payload)["Event"] == "LOST"


async def test_a_version_without_room_for_the_capture_id_is_refused(run) -> None:
    application = await run(hep={"hep_capture_id": 65536})
    start = trace_commands(application)["trace_start"]
    with pytest.raises(MiError) as refused:
        start(id="old", uri="hep:127.0.0.1:1;version=2")
    assert "version=2 has no room for hep_capture_id = 65536; use" in refused.value.data
    assert start(id="new", uri="hep:127.0.0.1:1;transport=udp") == "OK"
