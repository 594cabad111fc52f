"""A page in Firefox registers: it cannot be driven, so what counts is what the traces tell."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import hep
from sipws.app import Application
from sipws.config import Config
from sipws.plan import Plan

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def firefox(find: Any) -> str:
    """Firefox, of whatever release."""
    return find.program("firefox-esr", "firefox", remedy="install Debian's package firefox-esr")


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def test_a_page_in_firefox_registers_and_is_traced(
    node, firefox, collected, tmp_path
) -> None:
    ip, port = collected.collector.tcp_address
    table = {
        "transport": {"listen": "ws:127.0.0.1:0"},
        "tracing": {"trace_on": True, "trace_destination": f"{ip}:{port}", "trace_sip": True},
    }
    async with Application(Plan.of(Config.of(table, "test"))) as application:
        url = f"ws://127.0.0.1:{application.server.listeners[0].port}/"
        pages = await asyncio.create_subprocess_exec(
            node, "page_server.mjs", url, cwd=HERE, start_new_session=True,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert pages.stdout is not None
        try:
            page = json.loads(await pages.stdout.readline())["url"]
            browser = await asyncio.create_subprocess_exec(
                firefox, "--headless", "--no-remote", "--profile", str(tmp_path), page,
                env={**os.environ, "HOME": str(tmp_path), "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
                start_new_session=True,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                answer = await collected.wait_for(
                    lambda packet: packet.payload.startswith(b"SIP/2.0 200 OK"), seconds=60
                )
            finally:
                await end(browser)
        finally:
            await end(pages)
        accepted = await collected.wait_for(
            lambda packet: packet.protocol_type == hep.ProtocolType.NET
        )
    request = json.loads(accepted.payload)["Ws-Request"]
    assert "Firefox/" in request
    assert "permessage-deflate" in request
    assert b"REGISTER" in answer.payload
