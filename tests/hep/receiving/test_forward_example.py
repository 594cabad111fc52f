"""The example that enriches and forwards, as a stranger runs it, between two agents and Homer."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

import hep

ROOT = Path(__file__).parents[3]
NODE = gethostname().encode()


@asynccontextmanager
async def forwarding(destination: str, said: list[str]) -> AsyncIterator[hep.HepId]:
    """Run the example; yields where it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "forward_hep.py"), "127.0.0.1:0", destination,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            words = (await process.stdout.readline()).decode().split()
        assert words[:2] == ["forwarding", "from"]
        yield hep.HepId.parse(f"{words[2]};transport=tcp")
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            said.append((await process.stdout.read()).decode())
            assert await process.wait() == 0


async def test_packets_are_enriched_and_forwarded(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    homer = await collect(tcp="127.0.0.1:0")
    bare = replace(packet, correlation_id=None)
    named = replace(packet, correlation_id=b"theirs", node_name=b"phone", auth_key=b"secret")
    foreign = (ROOT / "tests/data/kamailio-5.6.3/ws_hep_tcp_001_tcp.bin").read_bytes()
    said: list[str] = []
    to_homer = "127.0.0.1:{1};transport=tcp".format(*homer.tcp_address)
    async with forwarding(to_homer, said) as here, hep.open_sender(here) as agent:
        for each in (hep.encode(bare), hep.encode(named), foreign):
            agent.send(each)
        await inbox.wait_for(3)
    ours, theirs, kamailio = inbox.packets
    assert (ours.correlation_id, ours.node_name) == (b"call-1", NODE)
    assert replace(ours, node_name=None, layout=()) == replace(packet, layout=(), ip_family=2)
    assert (theirs.correlation_id, theirs.node_name) == (b"theirs", b"phone")
    assert hep.encode(theirs) == hep.encode(named)
    before = hep.decode(foreign)
    assert kamailio.correlation_id is not None
    assert kamailio.correlation_id in kamailio.payload
    added = {"correlation_id", "node_name", "layout"}
    assert {
        name for name in hep.Packet.__slots__ if getattr(before, name) != getattr(kamailio, name)
    } == added
    assert [kind for kind in kamailio.layout if kind in before.layout] == list(before.layout)
    assert said == ["{'accepted': 1, 'received': 3}, dropped: {}\n"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], b"two arguments"),
        (["127.0.0.1:0", "nowhere:x"], b"nowhere:x"),
        (["9060", "127.0.0.1"], b"'9060' is not HOST:PORT"),
    ],
)
async def test_wrong_arguments_are_reported_without_a_traceback(
    arguments: list[str], message: bytes
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "forward_hep.py"), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    async with asyncio.timeout(20):
        _, told = await process.communicate()
    assert message in told
    assert b"Traceback" not in told
    assert process.returncode == 1
