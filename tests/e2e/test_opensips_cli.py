"""PyPI's opensips-cli, unchanged, steers a running application over HTTP."""

import asyncio
import json
import sys

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application

PAGE = Origin("https://phone.example.com")

pytestmark = pytest.mark.e2e


async def opensips_cli(running: Application, *words: str) -> tuple[str, str]:
    """What it prints and complains of."""
    assert running.control is not None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from opensipscli.main import main; main()"),
        *("-o", "communication_type=http", "-o", f"url=http://{running.control.address}/mi"),
        *("-x", "mi", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_opensips_cli_reads_lists_and_closes() -> None:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "control": {"listen": "127.0.0.1:0"}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
        url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
        async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as phone:
            peer = "{}:{}".format(*phone.local_address)
            statistics, listed, trace, missing = await asyncio.gather(
                opensips_cli(running, "get_statistics", "ws:connections", "hep:"),
                opensips_cli(running, "list_tcp_conns"),
                opensips_cli(running, "ws:trace"),
                opensips_cli(running, "tcp:close", "id=1"),
            )
            assert json.loads(statistics[0])["ws:connections"] == 1
            assert json.loads(listed[0])["Connections"][0]["Remote"] == peer
            assert json.loads(trace[0]) == {"WS tracing": "off"}
            assert "404: Connection not found" in missing[1]
            closed, _ = await opensips_cli(running, "tcp:close", peer)
            assert json.loads(closed) == "OK"
            with pytest.raises(ConnectionClosed):
                await phone.recv()


OK = "OK"

ASKED: list[tuple[tuple[str, ...], object]] = [
    (("wss_trace",), {"WSS tracing": "off"}),
    (("wss_trace", "ON"), OK),
    (("ws_trace", "on"), OK),
    (("trace",), {"global": "on", "trace destinations": []}),
    (("trace", "mode=off"), OK),
    (("ws_trace",), {"WS tracing": "off"}),
    (("get_statistics", "nosuch"), {}),
    (("get_statistics", "net:"), {f"net:waiting_{each}": 0 for each in ("udp", "tcp", "tls")}),
    (("list_statistics", "accepted"), {"accepted": "incremental"}),
    (("reset_statistics", "accepted"), OK),
    (("xlog_level",), {"xLog Level": 4}),
    (("tls_list",), {"Domains": []}),
    (("help",), "Usage: help mi_cmd - returns information about 'mi_cmd'"),
    (("which", "wss_trace"), [[], ["trace_mode"]]),
]

REFUSED: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("wss_trace", "sideways"), ("500", "Bad parameter value", "trace_mode should be 'on' or")),
    (("trace", "id=nosuch"), ("400", "Bad trace id value")),
    (("trace", "id=nosuch", "mode=on"), ("400", "Bad parameter value")),
    (("trace_stop", "nosuch"), ("400", "Bad parameter value")),
    (("reset_statistics", "nosuch"), ("404", "Statistics Not Found")),
    (("log_level", "level=3", "pid=1"), ("-32602", "Invalid params", "Bad PID")),
    (("uptime", "x"), ("-32602", "Invalid params", "Too few or too many parameters")),
    (("help", "nosuch"), ("404", "unknown MI command")),
]


async def test_opensips_cli_gets_opensips_answers() -> None:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "control": {"listen": "127.0.0.1:0"}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
        for words, answer in ASKED:
            out, err = await opensips_cli(running, *words)
            assert json.loads(out) == answer, (words, err)
        for words, texts in REFUSED:
            out, err = await opensips_cli(running, *words)
            assert [each for each in texts if each not in out + err] == [], (words, out, err)


def options(user: str) -> str:
    return (
        "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
        f"From: <sip:{user}@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\n"
        f"Call-ID: of-{user}\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )


async def test_opensips_cli_shows_a_callers_messages_live() -> None:
    table = {"transport": {"listen": "ws:127.0.0.1:0"}, "control": {"listen": "127.0.0.1:0"}}
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as running:
        assert running.control is not None
        url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
        async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as phone:
            # The connection stands before the trace is asked for.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from opensipscli.main import main; main()"),
                *(
                    "-o",
                    "communication_type=http",
                    "-o",
                    f"url=http://{running.control.address}/mi",
                ),
                *("-x", "trace", "caller=alice"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            started = running.traces.started
            async with asyncio.timeout(30):
                while not any(trace.senders[0].connected for trace in started.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            for user in ("bob", "alice"):
                await phone.send(options(user))
                await phone.recv()
            [trace] = started.values()
            async with asyncio.timeout(30):
                while trace.senders[0].counters.sent < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            running.traces.stop(trace.name)
            # The end of the connection ends it too.
            async with asyncio.timeout(30):
                out, err = await process.communicate()
    shown = out.decode()
    assert "OPTIONS sip:bob@example.com SIP/2.0" in shown, err.decode()
    assert "SIP/2.0 200 OK" in shown
    assert "of-alice" in shown
    assert "of-bob" not in shown
