"""Phones with JsSIP register with Kamailio, and talk over it, through a relay."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.events import Connected, MessageReceived, Side
from sipws.service.app import Application
from sipws.transport.server import reachable_address

pytestmark = pytest.mark.e2e

REGISTRAR = """
alias="example.com"
tcp_accept_no_cl=yes
loadmodule "xlog.so"
loadmodule "xhttp.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "nathelper.so"
loadmodule "{websocket}"
modparam("nathelper|registrar", "received_avp", "$avp(RECEIVED)")
request_route {{
    if ($rm == "REGISTER") {{ fix_nated_register(); save("location"); exit; }}
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    t_relay();
}}
event_route[xhttp:request] {{
    xlog("L_ERR", "asked for $hu by $hdr(X-Forwarded-For) over $hdr(X-Forwarded-Proto)\\n");
    ws_handle_handshake();
}}
"""


@pytest.fixture
def websocket_module(find) -> str:
    if named := os.environ.get("KAMAILIO_WEBSOCKET"):
        return named
    installed = sorted(Path("/usr/lib").glob("*/kamailio/modules/websocket.so"))
    if not installed:
        find.missing("Kamailio's websocket", "install Debian's package kamailio-websocket-modules")
    return str(installed[0])


@pytest.fixture
async def registrar(kamailio, websocket_module) -> Any:
    """Kamailio, speaking WebSocket."""
    return await kamailio(REGISTRAR.format(websocket=websocket_module))


async def told_by(phones: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert phones.stdout is not None
    async for line in phones.stdout:
        yield json.loads(line)


async def test_phones_talk_over_kamailio_until_it_is_gone(find, registrar) -> None:
    node = find.node_with("jssip")
    table = {
        "transport": {"listen": "ws:127.0.0.1:0", "require_origin": False},
        "upstream": {"upstream_uri": f"ws://127.0.0.1:{registrar.port}"},
    }
    messages: list[MessageReceived] = []
    connected: list[Connected] = []
    async with Application(ResolvedConfig.of(Config.of(table, "test"))) as application:
        application.bus.message_received.subscribe(messages.append)
        application.bus.connected.subscribe(connected.append)
        phones = await asyncio.create_subprocess_exec(
            node, "two_jssip.cjs", f"ws://{reachable_address(application.server.listeners[0])}/sip",
            cwd=find.npm_packages.parent, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                lines = []
                async for line in told_by(phones):
                    lines.append(line)
                    if {"message", "answered"} <= {each["event"] for each in lines}:
                        break
                await registrar.stop()
                lines += [line async for line in told_by(phones)]
                await phones.wait()
        finally:
            if phones.returncode is None:
                phones.kill()
                await phones.wait()
    told = {(line.pop("event"), line.pop("who")): line for line in lines}
    assert told == {
        ("registered", "alice"): {"status": 200},
        ("registered", "bob"): {"status": 200},
        ("message", "bob"): {"body": "hello"},
        ("answered", "alice"): {"status": 200},
        ("disconnected", "alice"): {"code": 1011, "reason": "upstream lost"},
        ("disconnected", "bob"): {"code": 1011, "reason": "upstream lost"},
    }
    assert registrar.log.count("asked for /sip by 127.0.0.1 over http") == 2
    assert len(connected) == 2
    # REGISTER, MESSAGE and its answer from the phones; as many answers and requests to them.
    by_side = [event.connection.opened_by for event in messages if event.data.strip()]
    assert (by_side.count(Side.PEER), by_side.count(Side.LOCAL)) == (4, 4)
