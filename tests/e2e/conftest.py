"""The program as a process, a collector beside it, and clients that are not ours."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.events import MessageReceived
from sipws.service.app import Application

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node(find: Any) -> str:
    """Node, with JsSIP."""
    return find.node_with("jssip")


BROWSERS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
"""What they are called; the first is Debian's package."""


@pytest.fixture
def browser() -> str:
    """The one that pages open in."""
    return "chromium"


@pytest.fixture
def open_page(find: Any, browser: str) -> Callable[..., Awaitable[list[dict[str, Any]]]]:
    """A phone in a page, to its end: ``told = await open_page(url, "jssip", "leave")``."""
    remedy = f"install Debian's package {BROWSERS[browser][0]}"
    program = find.program(*BROWSERS[browser], remedy=remedy)
    node = find.node_with("playwright-core")

    async def start(url: str, library: str, end: str) -> list[dict[str, Any]]:
        return await _run_client(node, "page.mjs", url, browser, program, library, end)

    return start


@pytest.fixture
def run_client() -> Callable[..., Awaitable[list[dict[str, Any]]]]:
    """Run a client to its end: ``told = await run_client(command, argument, …)``."""
    return _run_client


async def _run_client(*command: str, env: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Run a client to its end; it must succeed. Returns what it told, an object a line."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=HERE, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, f"{command} failed:\n{out.decode()}\n{err.decode()}"
    # Some print more than they are asked for.
    return [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]


@dataclass
class Collected:
    """What a collector has received."""

    collector: hep.Collector
    packets: list[hep.Packet] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, packet: hep.Packet, source: object) -> None:
        self.packets.append(packet)
        self.arrived.set()

    async def wait_for(
        self, wanted: Callable[[hep.Packet], bool], seconds: float = 10
    ) -> hep.Packet:
        """Wait until a packet of some kind has come."""
        async with asyncio.timeout(seconds):
            while not (found := [packet for packet in self.packets if wanted(packet)]):
                self.arrived.clear()
                await self.arrived.wait()
        return found[0]


@pytest.fixture
async def collected() -> AsyncIterator[Collected]:
    """A HEP collector on free UDP and TCP ports."""
    box: list[Collected] = []
    collector = hep.Collector(
        lambda packet, source: box[0].take(packet, source), udp="127.0.0.1:0", tcp="127.0.0.1:0"
    )
    async with collector:
        box.append(Collected(collector))
        yield box[0]


@dataclass
class Program:
    """``sipws run`` as a process."""

    process: asyncio.subprocess.Process
    url: str

    async def stop(self) -> str:
        """End it as an operator does; returns what it logged."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(15):
            _, err = await self.process.communicate()
        return err.decode()


Run = Callable[..., Any]


@pytest.fixture
async def sipws_run(tmp_path: Path) -> AsyncIterator[Run]:
    """Start the program on a free port with a configuration: ``await sipws_run(toml)``.

    Settings of the transport come behind it.
    """
    async with AsyncExitStack() as stack:

        async def start(toml: str, transport: str = "") -> Program:
            config = tmp_path / "sipws.toml"
            listen = 'listen = ["ws:127.0.0.1:0"]'
            config.write_text(f"[transport]\n{listen}\n{transport}\n{toml}")
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-X", "dev", "-m", "sipws", "run", "-c", str(config),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert process.stderr is not None
            while b"listening on ws:" not in (line := await process.stderr.readline()):
                assert line, "the program ended before it listened"
            program = Program(process, f"ws://{line.decode().split('ws:')[-1].strip()}/")
            stack.push_async_callback(program.stop)
            return program

        yield start


Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path, collected: Any, record: Any) -> AsyncIterator[Serve]:
    """The application, traced to the collector: ``url = await serve("wss")``.

    What a client that is named sends may be recorded.
    """
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate = tmp_path / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    ip, port = collected.collector.tcp_address
    async with AsyncExitStack() as stack:

        async def start(
            proto: str,
            received: Callable[[MessageReceived], None] | None = None,
            client: str | None = None,
        ) -> str:
            table = {
                "transport": {
                    "listen": f"{proto}:127.0.0.1:0",
                    "tls_certificate": certificate,
                    # Node and baresip are no pages, and have no Origin.
                    "require_origin": False,
                },
                "tracing": {
                    "trace_on": True,
                    "trace_destination": f"{ip}:{port}",
                    "trace_sip": True,
                },
            }
            application = Application(ResolvedConfig.of(Config.of(table, "test")))
            if received is not None:
                application.bus.message_received.subscribe(received)
            if client is not None and proto == "ws":
                record(application.bus, client)
            await stack.enter_async_context(application)
            return f"{proto}://127.0.0.1:{application.server.listeners[0].port}/"

        yield start


@pytest.fixture
def day() -> list[dict[str, Any]]:
    """What a phone is told in the course of a day."""
    return [
        {"event": "register", "status": 200},
        {"event": "register again", "status": 200},
        {"event": "options", "status": 200},
        # The built-in responder is not a message store, and says so.
        {"event": "message", "status": 501},
        {"event": "unregister", "status": 200},
    ]


@pytest.fixture(name="closed")
def _closed() -> Callable[[hep.Packet], bool]:
    """Whether a packet tells that a connection was closed."""
    return closed


@pytest.fixture(name="methods")
def _methods() -> Callable[[list[hep.Packet]], list[str]]:
    """The requests among packets, by method."""
    return methods


@pytest.fixture
def assert_day_was_traced(collected: Any) -> Callable[..., Awaitable[None]]:
    """What sipws saw of a day: ``await assert_day_was_traced(received, "wss", "1005")``."""

    async def check(received: list[MessageReceived], proto: str, close_code: str) -> None:
        end = json.loads((await collected.wait_for(closed)).payload)
        packets = collected.packets
        assert methods(packets) == ["REGISTER", "REGISTER", "OPTIONS", "MESSAGE", "REGISTER"]
        assert statuses(packets) == ["200", "200", "200", "501", "200"]
        assert [event.is_text for event in received] == [True] * 5
        assert (end["Protocol"], end["Close_Code"]) == (proto.upper(), close_code)
        assert end["Closed_By"] == "peer"
        assert end["Messages_In"] == end["Messages_Out"] == "5"

    return check


def closed(packet: hep.Packet) -> bool:
    return packet.protocol_type == 0x59 and json.loads(packet.payload)["Event"] == "CLOSED"


def methods(packets: list[hep.Packet]) -> list[str]:
    """The requests that were traced, in order."""
    lines = [packet.payload.split(b" ", 1)[0].decode() for packet in packets
             if packet.protocol_type == hep.ProtocolType.SIP]  # fmt: skip
    return [line for line in lines if line != "SIP/2.0"]


def statuses(packets: list[hep.Packet]) -> list[str]:
    """The answers that were traced, in order."""
    return [packet.payload.split(b" ", 2)[1].decode() for packet in packets
            if packet.payload.startswith(b"SIP/2.0 ")]  # fmt: skip
