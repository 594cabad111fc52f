"""The examples as a stranger runs them, and their traces beside those of our own transport."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import hep
import sipws
from sipws.tracing.pipeline import Pipeline

from .support import NETWORK, SIP, Homer, sip

ROOT = Path(__file__).parents[2]
EXAMPLES = ["trace_websockets", "trace_asgi", "trace_aiohttp"]


@asynccontextmanager
async def running(example: str, homer: Homer) -> AsyncIterator[int]:
    """Run an example; yields the port that it says it listens on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / f"{example}.py"),
        "0",
        f"127.0.0.1:{homer.port}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            said = b""
            while not (found := re.search(rb"(?:http://127\.0\.0\.1:|listening on )(\d+)", said)):
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
        # What it says next must not fill the pipe.
        reading = asyncio.ensure_future(process.stdout.read())
        yield int(found[1])
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()
            await reading


async def visit(port: int) -> tuple[str, int]:
    """A phone that registers, looks around and leaves; returns its address."""
    url = f"ws://127.0.0.1:{port}/"
    async with connect(url, subprotocols=["sip"], proxy=None) as websocket:  # type: ignore[list-item]
        for method in ("REGISTER", "OPTIONS"):
            await websocket.send(sip(method, f"{method}@phone"))
            assert str(await websocket.recv()).startswith("SIP/2.0 200 OK\r\n")
        ip, port = websocket.local_address[:2]
        await websocket.close(4001, "enough")
    return ip, port


async def visit_without_sip(port: int) -> int:
    """A client that does not know SIP; returns the status that it is refused with."""
    with pytest.raises(InvalidStatus) as told:
        await connect(f"ws://127.0.0.1:{port}/", proxy=None)
    return told.value.response.status_code


async def visit_and_break(port: int) -> int:
    """A phone that sends what the application fails on; returns the close code that it sees."""
    url = f"ws://127.0.0.1:{port}/"
    async with connect(url, subprotocols=["sip"], proxy=None) as websocket:  # type: ignore[list-item]
        await websocket.send(b"binary")
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
    assert websocket.close_code is not None
    return websocket.close_code


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_is_traced(example: str, homer: Homer) -> None:
    async with running(example, homer) as port:
        peer = await visit(port)
        closed = await homer.closed()
        status = await visit_without_sip(port)
        await homer.closed(2)
        code = await visit_and_break(port)
        broken = await homer.closed(3)

    accepted, failed, _ = homer.of("ACCEPTED")
    assert accepted["Status"] == "SUCCESS"
    assert accepted["Ws-Request"].startswith("GET / HTTP/1.1\r\n")
    assert "sec-websocket-protocol: sip\r\n" in accepted["Ws-Request"].lower()
    assert accepted["Ws-Reply"].startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert (closed["Close_Code"], closed["Close_Reason"]) == ("4001", "enough")
    assert 0 < float(closed["Duration"]) < 60

    told = [(m.payload.split(b" ")[0], m.correlation_id) for m in homer.messages[:4]]
    assert told == [
        (b"REGISTER", b"REGISTER@phone"),
        (b"SIP/2.0", b"REGISTER@phone"),
        (b"OPTIONS", b"OPTIONS@phone"),
        (b"SIP/2.0", b"OPTIONS@phone"),
    ]
    for message in homer.messages[0:4:2]:
        assert (message.src_ip, message.src_port) == peer
        assert (message.dst_ip, message.dst_port) == ("127.0.0.1", port)

    assert (failed["Status"], status) == ("FAILURE", int(failed["Ws-Reply"].split(" ")[1]))
    assert status in (400, 403)

    (error,) = homer.of("ERROR")
    assert error["Error"] == "handler-failed"
    assert error["Message"] == "ValueError: this example only knows text"
    assert broken["Close_Code"] == str(code)
    # ASGI and aiohttp applications that raise are cut off without a close frame.
    assert code == (1011 if example == "trace_websockets" else 1006)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_the_packets_of_an_example_are_those_of_our_transport(
    example: str, homer: Homer
) -> None:
    async def traces(port: int) -> list[tuple[Any, ...]]:
        del homer.packets[:]
        await visit(port)
        await homer.closed()
        await visit_without_sip(port)
        await homer.closed(2)
        events = iter(homer.events)

        def said(packet: hep.Packet) -> object:
            if packet.protocol_type == NETWORK:
                return tuple(next(events))
            # What is told for people has ids, ports and times in it.
            return (
                packet.payload if packet.protocol_type == SIP else DIGITS.sub(b"", packet.payload)
            )

        return [
            (
                packet.version,
                packet.protocol_type,
                packet.ip_protocol,
                packet.capture_id,
                said(packet),
                packet.dst_port == port,
            )
            for packet in homer.packets
        ]

    def answer(flow: sipws.Flow, message: bytes) -> None:
        copied = [line for line in message.split(b"\r\n") if line.startswith(COPIED)]
        flow.send(b"\r\n".join([b"SIP/2.0 200 OK", *copied, b"Content-Length: 0", b"", b""]))

    async with running(example, homer) as port:
        theirs = await traces(port)
    async with (
        sipws.Server(["ws:127.0.0.1:0"], answer) as server,
        Pipeline(homer.destination, trace_sip=True, bus=server.bus),
    ):
        ours = await traces(server.listeners[0].port)
    assert theirs == ours


DIGITS = re.compile(rb"\d+")
COPIED = (b"Via:", b"From:", b"To:", b"Call-ID:", b"CSeq:")


BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adapters.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_what_the_document_shows_runs(block: str) -> None:
    exec(compile(block, "adapters.md", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_short(example: str) -> None:
    assert len((ROOT / "examples" / f"{example}.py").read_text().splitlines()) <= 60
