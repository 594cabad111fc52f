"""The spool of the program: its settings, and what metrics and commands say of it."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep
from hep.sending.spool import Spool
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.errors import ConfigurationError
from sipws.service.app import Application
from sipws.service.commands import methods_of

PATIENCE = 20
"""Seconds until something must have happened."""

OPTIONS = (
    "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid\r\nFrom: <sip:a@b>;tag=1\r\n"
    "To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def application(spool: Path, **tracing: Any) -> Application:
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "control": {"listen": "127.0.0.1:0"},
        "hep": {
            "hep_spool": str(spool),
            "hep_spool_fsync": "batch",
            "hep_queue_packets": 10,
            "hep_retry_first": 10,
            "hep_retry_longest": 20,
        },
        "tracing": {"trace_on": True, "trace_sip": True, **tracing},
    }
    return Application(ResolvedConfig.of(Config.of(table, "test")))


async def send(running: Application, count: int) -> None:
    url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
    origin = Origin("https://phone.example.com")
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=origin) as client:
        for _ in range(count):
            await client.send(OPTIONS)
            await client.recv()
    await running.server.flows.wait_empty()
    running.traces.bus.flush()


def metrics(running: Application, name: str) -> dict[str, float]:
    """The values of a metric by destination, or by cause where it has one."""
    assert running.control is not None
    text = running.control.pages["/metrics"].read()[1]
    return {
        sample.labels.get("cause", sample.labels["destination"]): sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == name
    }


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.spool"))


async def test_what_another_destination_takes_over_is_counted_and_no_counter_falls(
    tmp_path: Path,
) -> None:
    down, up = (f"127.0.0.1:{free_port()};transport=tcp;version=3" for _ in range(2))
    received: list[hep.Packet] = []
    destinations = {"trace_destination": [down, up], "trace_distribution": "failover"}
    async with application(tmp_path, **destinations) as running:
        await send(running, 20)
        first, second = running.traces.senders
        offered = first.counters.offered
        assert offered > 30
        await until(lambda: first.counters.spooled == offered - 10)
        assert metrics(running, "sipws_hep_spooled_packets") == {down: offered - 10, up: 0}
        where = up.partition(";")[0]
        async with hep.Collector(lambda packet, _: received.append(packet), tcp=where):
            await until(lambda: len(received) == offered and not second.counters.queued)
            await until(lambda: not segments(tmp_path))
            told = {
                name: metrics(running, f"sipws_hep_{name}_packets_total")
                for name in ("offered", "sent", "handed_over")
            }
            assert told == {
                "offered": {down: offered, up: offered},
                "sent": {down: 0, up: offered},
                "handed_over": {down: offered, up: 0},
            }
            mi = methods_of(running)
            assert mi["get_statistics"](["hep:"])["hep:handed_over"] == offered
            [listed] = mi["trace_list"]()["Traces"]
            assert (listed["Offered"], listed["Handed over"]) == (2 * offered, offered)


async def test_failures_of_the_spool_are_in_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = f"127.0.0.1:{free_port()}"
    spool = Spool(tmp_path / f"{down.replace(':', '_')}_tcp")
    spool.append([b"HEP3 damaged"])
    spool.close()
    [segment] = segments(tmp_path)
    segment.write_bytes(bytes(1000))

    def full(self: Spool, packets: list[bytes]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "append", full)
    async with application(tmp_path, trace_destination=down) as running:
        [sender] = running.traces.senders
        await until(lambda: not sender.counters.spooled)
        await send(running, 20)
        await until(lambda: not sender.counters.spooled)
        dropped = metrics(running, "sipws_hep_dropped_packets_total")
        assert dropped == {"spool-damaged": 1, "spool-failed": sender.counters.offered - 11}


async def test_the_policy_of_fsync_reaches_the_senders(tmp_path: Path) -> None:
    resolved = application(tmp_path, trace_destination="127.0.0.1").resolved
    [trace] = resolved.traces
    assert trace.destinations.senders[0].spool_fsync == "batch"
    assert hep.SenderSettings().spool_fsync == Config().hep.hep_spool_fsync == "segment"
    with pytest.raises(ConfigurationError, match=r"hep\.hep_spool_fsync = 'always'"):
        Config.of({"hep": {"hep_spool_fsync": "always"}}, "test")
