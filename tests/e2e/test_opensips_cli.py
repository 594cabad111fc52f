"""PyPI's opensips-cli, unchanged, steers a running application over HTTP."""

import asyncio
import json
import sys

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from sipws.app import Application, Plan
from sipws.config import Config

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
    async with Application(Plan.of(Config.of(table, "test"))) as running:
        url = f"ws://127.0.0.1:{running.server.listeners[0].port}/"
        async with connect(url, subprotocols=[Subprotocol("sip")]) as phone:
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
