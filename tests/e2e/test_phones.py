"""A day of a phone: what real SIP stacks do over ws and wss, and what is traced of it."""

import asyncio
import importlib.util
import json
import os
import re
import ssl
import sys

import pytest

from sipws.events import MessageReceived

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("proto", ["ws", "wss"])
@pytest.mark.parametrize(
    ("library", "package", "close_code"),
    [("jssip", "jssip", "1005"), ("sipjs", "sip.js", "1000")],
)
async def test_a_day_of_a_phone_under_node(
    find,
    run_client,
    serve,
    day,
    assert_day_was_traced,
    tmp_path,
    library,
    package,
    close_code,
    proto,
) -> None:
    received: list[MessageReceived] = []
    url = await serve(proto, received.append, f"node-{library}")
    trusting = {**os.environ, "NODE_EXTRA_CA_CERTS": str(tmp_path / "authority.pem")}
    told = await run_client(find.node_with(package), "day_node.cjs", url, library, env=trusting)
    assert told == day
    await assert_day_was_traced(received, proto, close_code)


@pytest.fixture
def baresip(find) -> str:
    """Python, with baresip."""
    if importlib.util.find_spec("baresip") is None:
        find.missing("baresip", "pip install baresip-python")
    return sys.executable


@pytest.mark.parametrize("proto", ["ws", "wss"])
async def test_baresip_registers_with_binary_frames(
    baresip, run_client, serve, collected, methods, closed, proto
) -> None:
    received: list[MessageReceived] = []
    url = await serve(proto, received.append, "baresip")
    told = await run_client(baresip, "phone_baresip.py", proto, url.split("/")[2])
    assert [line["event"] for line in told] == ["register", "register again", "unregister"]
    end = await collected.wait_for(closed)
    assert json.loads(end.payload)["Close_Code"] == "1001"
    # Told to register again, it withdraws its binding first and starts anew.
    expires = [re.search(rb"\r\nContact: [^\r]*;expires=(\d+)", each.data) for each in received]
    assert [found and found[1] for found in expires] == [b"600", b"0", b"600", b"0"]
    assert methods(collected.packets) == ["REGISTER"] * 4
    assert [event.is_text for event in received] == [False] * 4


@pytest.mark.parametrize("proto", ["ws", "wss"])
async def test_baresip_that_dies_is_closed_with_1006(
    baresip, run_client, serve, collected, methods, closed, proto
) -> None:
    url = await serve(proto)
    with pytest.raises(AssertionError, match="register again"):
        await run_client(baresip, "phone_baresip.py", proto, url.split("/")[2], "die")
    end = await collected.wait_for(closed)
    assert json.loads(end.payload)["Close_Code"] == "1006"
    assert methods(collected.packets) == ["REGISTER"] * 3


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
    assert "the client" in json.loads(failed.payload)["Error_Detail"]
