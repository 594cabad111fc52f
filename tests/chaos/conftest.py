"""A traced application, a phone that goes on asking it, and collectors that can be killed."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application

PAGE = Origin("https://phone.example.com")

Run = Callable[..., Awaitable[Application]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

SIP = 1
"""The HEP protocol type of messages."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def options(number: int) -> str:
    return (
        "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
        "From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\n"
        f"Call-ID: {number:06}\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """The application, tracing SIP alone to a port: ``await run(port, hep_queue_packets=10)``."""
    async with AsyncExitStack() as stack:

        async def start(
            port: int, transport: str = "tcp", host: str = "127.0.0.1", **settings: Any
        ) -> Application:
            table = {
                "transport": {"listen": "ws:127.0.0.1:0"},
                "hep": {"hep_retry_first": 10, "hep_retry_longest": 50, **settings},
                "tracing": {
                    "trace_on": True,
                    "trace_destination": f"{host}:{port};transport={transport}",
                    "trace_sip": True,
                    "trace_events": False,
                },
            }
            application = Application(ResolvedConfig.of(Config.of(table, "test")))
            return await stack.enter_async_context(application)

        yield start


class Phone:
    """Asks for options, again and again, and counts the answers."""

    def __init__(self, application: Application) -> None:
        self.asked = self.answered = 0
        self._url = f"ws://127.0.0.1:{application.server.listeners[0].port}/"
        self._traces = application.traces
        self._ledger = application.traces.senders[0].counters

    async def ask(self, count: int) -> None:
        """Ask so often, wait for every answer, and trace it; the ledger is right all along."""
        async with connect(self._url, subprotocols=[Subprotocol("sip")], origin=PAGE) as client:
            for _ in range(count):
                await client.send(options(self.asked))
                self.asked += 1
                async with asyncio.timeout(10):
                    await client.recv()
                self.answered += 1
                self.check()
        self._traces.bus.flush()

    def check(self) -> None:
        ledger = self._ledger
        gone = ledger.sent + ledger.dropped.total() + ledger.handed_over
        assert ledger.offered == gone + ledger.queued


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


class Listener:
    """``hep listen`` as a process that can be killed."""

    def __init__(self, address: str, transport: str = "tcp", prefix: Sequence[str] = ()) -> None:
        self.calls: list[int] = []
        self.lost: list[str] = []
        """What it was told that it did not get."""
        self._command = [*prefix, sys.executable, "-m", "hep.cli", "listen"]
        self._command += [f"--{transport}", address, "--json"]

    async def __aenter__(self) -> "Listener":
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        await self._process.stderr.readline()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._reading
        await self._process.communicate()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            with suppress(ValueError):  # it may die in the middle of a line
                packet = json.loads(line)
                if packet["protocol_type"] == SIP:
                    self.calls.append(int(packet["correlation_id"]))
                else:
                    self.lost.append(json.loads(packet["payload"])["Message"])


@pytest.fixture(name="free_port")
def _free_port() -> int:
    """A port that nobody has."""
    return free_port()


@pytest.fixture(name="options")
def _options() -> Callable[[int], str]:
    """A request of a call of its own: ``options(1)``."""
    return options


@pytest.fixture
def phone() -> type[Phone]:
    """A phone of an application: ``phone(application)``."""
    return Phone


@pytest.fixture
def listener() -> type[Listener]:
    """``hep listen`` as a process: ``async with listener("127.0.0.1:9060") as collector``."""
    return Listener


@pytest.fixture(name="until")
def _until() -> Until:
    """Waits for a condition: ``await until(lambda: …)``."""
    return until
