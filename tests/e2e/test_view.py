"""The viewer beside a real sipws, in Chromium and Firefox."""

import asyncio
import base64
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from hep.captures.pcap import Capture
from sipws import Flow, Server
from sipws.service import responder

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

pytest.importorskip("starlette", reason="the viewer needs the extra view")

HERE = Path(__file__).parent
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "firefox": ("firefox-esr", "firefox"),
}
SECONDS = 150
SIP = Subprotocol("sip")


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> str:
    """Every browser in turn."""
    return str(request.param)


Action = Callable[..., Awaitable[Any]]
Drive = Callable[..., Awaitable[None]]


@pytest.fixture
def drive(find: Any, browser: str) -> Drive:
    """Play a scenario, and do what it wants: ``await drive(url, "demo", phone=join)``."""
    remedy = f"install Debian's package {PROGRAMS[browser][0]}"
    program = find.program(*PROGRAMS[browser], remedy=remedy)
    node = find.node_with("playwright-core")

    async def play(url: str, scenario: str, **actions: Action) -> None:
        client = await asyncio.create_subprocess_exec(
            node, "view.mjs", url, browser, program, scenario, cwd=HERE, limit=1 << 24,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        told: dict[str, Any] = {}
        try:
            async with asyncio.timeout(SECONDS):
                async for line in client.stdout:
                    told = json.loads(line)
                    if (wanted := told.get("want")) is not None:
                        having = [] if told["having"] is None else [told["having"]]
                        answer = await actions[wanted](*having)
                        client.stdin.write(json.dumps(answer).encode() + b"\n")
                err = await client.stderr.read()
                assert await client.wait() == 0, err.decode()
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        assert told == {"done": scenario}

    return play


class Sipws:
    """A sipws with its viewer, as a process."""

    def __init__(self, process: asyncio.subprocess.Process, said: str) -> None:
        self.process = process
        self.page = re.findall(r"http://127\.0\.0\.1:\d+/", said)[-1]
        self.listener = "ws://" + re.findall(r"ws:(127\.0\.0\.1:\d+)", said)[0] + "/"


Start = Callable[..., Awaitable[Sipws]]


@pytest.fixture
async def sipws() -> AsyncIterator[Start]:
    """Start it: ``await sipws("demo")``."""
    async with AsyncExitStack() as stack:

        async def start(*arguments: str) -> Sipws:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sipws", *arguments, "--listen", "ws:127.0.0.1:0",
                stdout=asyncio.subprocess.PIPE, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            stack.push_async_callback(_end, process)
            assert process.stdout is not None
            said = ""
            async with asyncio.timeout(60):
                while "Ctrl-C ends it." not in said:
                    line = (await process.stdout.readline()).decode()
                    assert line, said
                    said += line
            # What it prints later is read, so that it never waits.
            reading = asyncio.create_task(process.stdout.read())
            stack.push_async_callback(asyncio.wait, [reading])
            stack.push_async_callback(_end, process)
            return Sipws(process, said)

        yield start


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


def request(method: str, call_id: str, user: str = "alice", more: str = "") -> str:
    return (
        f"{method} sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS p.invalid;branch=z9hG4bK1\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:{user}@example.com>;tag=1\r\n"
        f"To: <sip:{user}@example.com>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n"
        f"Contact: <sip:{user}@p.invalid;transport=ws>\r\n{more}Content-Length: 0\r\n\r\n"
    )


def phone(url: str, **more: Any) -> connect:
    return connect(url, subprotocols=[SIP], compression=None, proxy=None, **more)


async def test_a_demo_and_a_phone_are_seen_and_controlled(
    drive: Drive, sipws: Start, find: Any
) -> None:
    running = await sipws("demo")
    node = find.node_with("jssip")
    async with AsyncExitStack() as stack:

        async def join() -> None:
            process = await asyncio.create_subprocess_exec(
                node, "stay_jssip.cjs", running.listener, cwd=HERE, stdout=asyncio.subprocess.PIPE
            )
            stack.push_async_callback(process.wait)
            stack.callback(lambda: process.kill() if process.returncode is None else None)
            assert process.stdout is not None
            assert json.loads(await process.stdout.readline())["event"] == "registered"
            stays.append(process)

        stays: list[asyncio.subprocess.Process] = []

        async def say(user: str) -> None:
            async with phone(running.listener) as websocket:
                await websocket.send(request("REGISTER", user, user))
                await websocket.recv()

        async def closed() -> Any:
            assert stays[0].stdout is not None
            async with asyncio.timeout(20):
                told = json.loads(await stays[0].stdout.readline())
            assert told.pop("event") == "disconnected"
            return told

        await drive(
            running.page, "demo", phone=join, closed=closed,
            untraced=lambda: say("untraced-one"), traced=lambda: say("traced-one"),
        )  # fmt: skip


async def test_the_control_tab_shows_the_connections_of_all_workers(
    drive: Drive, sipws: Start
) -> None:
    running = await sipws("run", "--workers", "2", "--view", "--no-require-origin")
    async with AsyncExitStack() as stack:

        async def phones() -> Any:
            for _ in range(12):
                websocket = await stack.enter_async_context(phone(running.listener))
                await websocket.send(request("REGISTER", "workers"))
                await websocket.recv()
            reader, writer = await asyncio.open_connection(*running.page.split("/")[2].split(":"))
            host = running.page.split("/")[2]
            head = f"GET /api/v1/control HTTP/1.1\r\nHost: {host}\r\nConnection: close"
            writer.write(f"{head}\r\n\r\n".encode())
            answer = (await reader.read()).partition(b"\r\n\r\n")[2]
            writer.close()
            ids = [each["ID"] for each in json.loads(answer)["connections"]]
            # The ids of a worker follow one another.
            assert len({each >> 20 for each in ids}) == 2
            return {"ids": ids}

        await drive(running.page, "workers", phones=phones)


class Exchange:
    """Registers phones, and carries every other message to the other phone unchanged."""

    def __init__(self) -> None:
        self.phones: list[Flow] = []

    def take(self, flow: Flow, message: bytes) -> None:
        if message.startswith(b"REGISTER "):
            self.phones.append(flow)
            responder.answer(flow, message)
            return
        for other in self.phones:
            if other is not flow:
                other.send(message)


async def test_a_relayed_call_is_one_ladder_and_can_be_exported(
    drive: Drive, sipws: Start, open_page: Any, tmp_path: Path
) -> None:
    async with Server(["ws:127.0.0.1:0"], Exchange().take) as upstream:
        url = f"ws://127.0.0.1:{upstream.listeners[0].port}/"
        running = await sipws("run", "--view", "--upstream", url)

        async def call() -> None:
            told = await open_page(running.listener, "sipjs", "call")
            assert [line["status"] for line in told] == [200] * 4

        files: dict[str, bytes] = {}

        async def html(read: dict[str, str]) -> Any:
            files.update({name: base64.b64decode(data) for name, data in read.items()})
            path = tmp_path / "call.html"
            path.write_bytes(files["html"])
            return {"path": str(path)}

        await drive(running.page, "relayed", call=call, html=html)
    assert set(files) == {"pcap", "text", "json", "mermaid", "html"}
    capture = tmp_path / "call.pcap"
    capture.write_bytes(files["pcap"])
    with Capture(capture) as found:
        payloads = [packet.payload for _, packet in found.packets()]
    assert sum(payload.startswith(b"INVITE ") for payload in payloads) == 4
    assert sum(payload.startswith(b"BYE ") for payload in payloads) == 4
    assert files["mermaid"].startswith(b"sequenceDiagram\n")
    assert json.loads(files["json"])
    assert b"INVITE sip:bob@example.com" in files["text"]


HOSTILE = [
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "javascript:window.pwned=1",
    "a/b/../c",
    "100%25%zz",
    "#/calls?user=x",
    "?id=1&format=html",
    "'\"`;--",
    "ümläut-日本-🎉",
    "\u202eevil\u2066",
    "\x1b[2J\x1b]0;owned\x07",
    "{{7*7}}${7*7}",
    "__proto__",
]


async def test_hostile_content_shows_as_text(drive: Drive, sipws: Start) -> None:
    running = await sipws("run", "--view", "--no-require-origin")

    async def attack() -> Any:
        for number, text in enumerate(HOSTILE):
            address = f"<sip:u{number}@example.com>"
            more = (
                f"User-Agent: {text}\r\nSubject: {text}\r\nX-{number}: {'<b>' * 20_000}\r\n"
                f'X-Name: "{text}" <javascript:alert(1)>\r\n'
            )
            message = request("REGISTER", text, more=more).replace(
                "From: <sip:alice@example.com>", f'From: "{text}" {address}'
            )
            headers = {"User-Agent": text.encode().decode("latin-1").translate(PRINTABLE)}
            with suppress(WebSocketException, OSError):
                async with phone(
                    running.listener, additional_headers=headers, user_agent_header=None
                ) as websocket:
                    await websocket.send(message)
                    async with asyncio.timeout(10):
                        await websocket.recv()
            # NUL, what is no UTF-8, and a header that is none.
            async with phone(running.listener) as websocket:
                raw = request(
                    "MESSAGE", f"raw-{number}", more="X-Raw: \0\xff\xfe\r\n<svg/onload=x>\r\n"
                )
                await websocket.send(raw.encode("latin-1"))
                with suppress(TimeoutError, WebSocketException):
                    async with asyncio.timeout(2):
                        await websocket.recv()
        # Handshakes that are refused.
        host = running.listener.split("/")[2]
        for text in HOSTILE:
            reader, writer = await asyncio.open_connection(*host.split(":"))
            target = text.translate(PRINTABLE).replace(" ", "+")
            writer.write(
                f"GET /{target} HTTP/1.1\r\nHost: {host}\r\nOrigin: {target}\r\n"
                f"Upgrade: websocket\r\nUser-Agent: {text}\r\nConnection: Upgrade\r\n\r\n".encode()
            )
            await reader.read(100)
            writer.close()
        return {"ids": HOSTILE}

    await drive(running.page, "hostile", attack=attack)


PRINTABLE = dict.fromkeys((*range(32), *range(127, 256)), "?")
"""What a handshake may not hold."""
