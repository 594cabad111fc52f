"""A day of a phone: what real SIP stacks do over ws and wss, and what is traced of it."""

import asyncio
import importlib.util
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

import hep
from sipws.app import Application
from sipws.config import Config
from sipws.events import MessageReceived
from sipws.plan import Plan

pytestmark = pytest.mark.e2e

DAY = [
    {"event": "register", "status": 200},
    {"event": "register again", "status": 200},
    {"event": "options", "status": 200},
    # The built-in responder is no message store, and says so.
    {"event": "message", "status": 501},
    {"event": "unregister", "status": 200},
]

Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path, collected: Any) -> AsyncIterator[Serve]:
    """The application, traced to the collector: ``url = await serve("wss")``."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate = tmp_path / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    ip, port = collected.collector.tcp_address
    async with AsyncExitStack() as stack:

        async def start(
            proto: str, received: Callable[[MessageReceived], None] | None = None
        ) -> str:
            table = {
                "transport": {"listen": f"{proto}:127.0.0.1:0", "tls_certificate": certificate},
                "tracing": {
                    "trace_on": True,
                    "trace_destination": f"{ip}:{port}",
                    "trace_sip": True,
                },
            }
            application = Application(Plan.of(Config.of(table, "test")))
            if received is not None:
                application.bus.message_received.subscribe(received)
            await stack.enter_async_context(application)
            return f"{proto}://127.0.0.1:{application.server.listeners[0].port}/"

        yield start


def closed(packet: hep.Packet) -> bool:
    return packet.protocol_type == 0x59 and json.loads(packet.payload)["Event"] == "CLOSED"


def methods(packets: list[hep.Packet]) -> list[str]:
    """The requests that were traced, in order."""
    lines = [packet.payload.split(b" ", 1)[0].decode() for packet in packets
             if packet.protocol_type == hep.ProtocolType.SIP]  # fmt: skip
    return [line for line in lines if line != "SIP/2.0"]


@pytest.mark.parametrize("proto", ["ws", "wss"])
@pytest.mark.parametrize(
    ("script", "package", "close_code"),
    [("phone_jssip.cjs", "jssip", "1005"), ("phone_sipjs.cjs", "sip.js", "1000")],
)
async def test_a_day_of_a_phone_under_node(
    find, run_client, serve, collected, tmp_path, script, package, close_code, proto
) -> None:
    url = await serve(proto)
    trusting = {**os.environ, "NODE_EXTRA_CA_CERTS": str(tmp_path / "authority.pem")}
    told = await run_client(find.node_with(package), script, url, env=trusting)
    assert told == DAY
    end = await collected.wait_for(closed)
    assert methods(collected.packets) == ["REGISTER", "REGISTER", "OPTIONS", "MESSAGE", "REGISTER"]
    parts = json.loads(end.payload)
    assert parts["Protocol"] == proto.upper()
    assert parts["Close-Code"] == close_code
    assert parts["Messages-In"] == parts["Messages-Out"] == "5"


@pytest.fixture
def baresip(find) -> str:
    """Python, with baresip."""
    if importlib.util.find_spec("baresip") is None:
        find.missing("baresip", "pip install baresip-python")
    return sys.executable


@pytest.mark.parametrize("proto", ["ws", "wss"])
async def test_baresip_registers_with_binary_frames(
    baresip, run_client, serve, collected, proto
) -> None:
    received: list[MessageReceived] = []
    url = await serve(proto, received.append)
    told = await run_client(baresip, "phone_baresip.py", proto, url.split("/")[2])
    assert [line["event"] for line in told] == ["register", "unregister"]
    end = await collected.wait_for(closed)
    assert json.loads(end.payload)["Close-Code"] == "1001"
    assert methods(collected.packets) == ["REGISTER", "REGISTER"]
    assert [event.is_text for event in received] == [False, False]


async def test_a_client_that_does_not_trust_us_is_traced_as_that(find, serve, collected) -> None:
    url = await serve("wss")
    address = url.split("/")[2]
    host, _, port = address.partition(":")
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection(host, int(port), ssl=ssl.create_default_context())
    failed = await collected.wait_for(
        lambda packet: json.loads(packet.payload).get("Error") == "tls-failure"
    )
    # Whether it says why or just leaves is the client's choice.
    assert "the client" in json.loads(failed.payload)["Error-Detail"]


@pytest.mark.parametrize("proto", ["ws", "wss"])
@pytest.mark.parametrize("library", ["jssip", "sip.js"])
async def test_a_page_in_chromium_registers(
    find, chromium, run_client, serve, collected, library, proto
) -> None:
    url = await serve(proto)
    node = find.node_with(library)
    told = await run_client(node, "page_chromium.mjs", url, chromium, library)
    assert told == [{"event": "registered", "status": 200}]
    end = await collected.wait_for(closed)
    # The page was left: RFC 6455 section 7.4.1, "browser having navigated away from a page".
    assert json.loads(end.payload)["Close-Code"] == "1001"


async def test_a_page_that_is_reloaded_comes_back_on_another_connection(
    node, chromium, run_client, serve, collected
) -> None:
    url = await serve("ws")
    told = await run_client(node, "page_chromium.mjs", url, chromium, "jssip", "reload")
    assert told == [{"event": "registered", "status": 200}] * 2
    await collected.wait_for(
        lambda packet: sum(map(closed, collected.packets)) == 2 and closed(packet)
    )
    codes = [json.loads(each.payload)["Close-Code"] for each in filter(closed, collected.packets)]
    assert codes == ["1001", "1001"]
    assert methods(collected.packets) == ["REGISTER", "REGISTER"]


async def test_a_browser_that_dies_is_told_inside_of_the_registration(
    node, chromium, run_client, serve, collected
) -> None:
    url = await serve("ws")
    await run_client(node, "page_chromium.mjs", url, chromium, "jssip", "kill")
    end = await collected.wait_for(closed)
    assert json.loads(end.payload)["Close-Code"] == "1006"
    [register] = [packet for packet in collected.packets
                  if packet.payload.startswith(b"REGISTER ")]  # fmt: skip
    told = await collected.wait_for(
        lambda packet: (
            packet.protocol_type == hep.ProtocolType.LOG
            and b" closed 1006 by the peer " in packet.payload
        )
    )
    assert told.correlation_id == register.correlation_id
