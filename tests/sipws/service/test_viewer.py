"""The viewer beside a server: both as processes, as a person starts them."""

import asyncio
import json
import os
import re
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

pytest.importorskip("starlette", reason="the viewer needs the extra view")

SIP = Subprotocol("sip")


@dataclass
class Running:
    """``sipws`` with its viewer."""

    process: asyncio.subprocess.Process
    said: str = ""
    errors: list[str] = field(default_factory=list)
    error_came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The page."""
        return re.findall(r"http://127\.0\.0\.1:\d+/", self.said)[-1]

    @property
    def server(self) -> str:
        """The listener."""
        found = re.search(r"ws:(127\.0\.0\.1:\d+)", self.said)
        assert found
        return f"ws://{found[1]}/"

    async def json(self, path: str, body: Any = None) -> Any:
        """An answer of the viewer."""
        return await asyncio.to_thread(_ask, f"{self.url}api/v1/{path}", body)

    async def until(self, path: str, wanted: Callable[[Any], object]) -> Any:
        """Ask until the answer is as wanted; returns it."""
        async with asyncio.timeout(30):
            while not wanted(answer := await self.json(path)):  # noqa: ASYNC110 - it is not ours to signal
                await asyncio.sleep(0.02)
        return answer

    async def until_error(self, wanted: str) -> str:
        """Wait for a line of the log."""
        async with asyncio.timeout(30):
            while not (found := [line for line in self.errors if wanted in line]):
                self.error_came.clear()
                await self.error_came.wait()
        return found[0]

    async def read_errors(self) -> None:
        """Keep what it logs."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.errors.append(line.decode())
            self.error_came.set()

    def viewer_pid(self) -> int:
        """The process of the viewer."""
        [found] = [pid for pid in children(self.process.pid) if b"view" in command(pid)]
        return found


def _ask(url: str, body: Any) -> Any:
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def children(pid: int) -> list[int]:
    """The processes that it has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> list[bytes]:
    """The command of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def run() -> AsyncIterator[Start]:
    """Start the program: ``await run("demo")``, ``await run("run", "--view")``."""
    async with AsyncExitStack() as stack:

        async def start(*arguments: str) -> Running:
            # As at a terminal, where Ctrl-C goes to the whole group.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sipws", *arguments, "--listen", "ws:127.0.0.1:0",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
            stack.push_async_callback(_kill, process)
            assert process.stdout is not None
            running = Running(process)
            reading = asyncio.create_task(running.read_errors())
            stack.push_async_callback(asyncio.wait, [reading])
            stack.push_async_callback(_kill, process)
            async with asyncio.timeout(40):
                while "Ctrl-C ends it." not in running.said:
                    line = (await process.stdout.readline()).decode()
                    assert line, f"it ended: {running.said}{running.errors}"
                    running.said += line
            return running

        yield start


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def ended(pid: int) -> None:
    """Wait for the end of a process that is not ours."""
    gone = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(30):
            await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def request(number: int, call_id: str = "phone", method: str = "OPTIONS") -> str:
    contact = "Contact: <sip:alice@phone.invalid;transport=ws>\r\n" if method == "REGISTER" else ""
    return (
        f"{method} sip:example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/WS phone.invalid;branch=z9hG4bK{call_id}{number}\r\n"
        "Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {number} {method}\r\n{contact}Content-Length: 0\r\n\r\n"
    )


async def ask(phone: ClientConnection, number: int, method: str = "OPTIONS") -> None:
    await phone.send(request(number, method=method))
    async with asyncio.timeout(10):
        assert str(await phone.recv()).startswith("SIP/2.0 200 ")


def phone(running: Running) -> connect:
    return connect(running.server, subprotocols=[SIP], compression=None, proxy=None)


async def assert_ends(running: Running, number: signal.Signals = signal.SIGINT) -> str:
    """End it as a terminal does; returns what it said last."""
    os.killpg(running.process.pid, number)
    assert running.process.stdout is not None
    async with asyncio.timeout(15):
        rest = (await running.process.stdout.read()).decode()
        await running.process.wait()
    assert running.process.returncode == 0
    assert "Traceback" not in "".join(running.errors)
    return rest


async def test_a_demo_is_shown_with_its_three_stories(run: Start) -> None:
    running = await run("demo")
    assert f"See it in a browser: {running.url}" in running.said
    page = await running.until("connections", lambda page: len(page["connections"]) == 3)
    refused = next(each for each in page["connections"] if each["state"] == "refused")
    said = (await running.json(f"connection?id={refused['id']}"))["sentence"]
    assert said.startswith("Refused with 400: the WebSocket subprotocol 'sip' must be offered")
    assert {(each["state"], each["code"]) for each in page["connections"]} == {
        ("closed", 1000), ("refused", 0), ("closed", 1006),
    }  # fmt: skip
    calls = (await running.json("calls"))["calls"]
    assert [call["outcome"] for call in calls] == ["lost", "ok"]
    lost = await running.json(f"call?id={calls[0]['call_id']}")
    assert lost["verdict"]["text"].startswith(
        "Registered for 600 s, then lost: the phone's connection closed with 1006"
    )
    assert "closed 1006 by the peer" in json.dumps(lost["steps"])
    viewer = running.viewer_pid()
    assert "Stopped: 3 connections traced" in await assert_ends(running)
    await ended(viewer)
    assert running.errors == []


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_viewer_that_is_killed_does_no_harm(run: Start, workers: str) -> None:
    running = await run("run", "--view", "--workers", workers, "--no-require-origin")
    async with phone(running) as websocket:
        await ask(websocket, 1, "REGISTER")
        await running.until("calls", lambda page: page["calls"])
        os.kill(running.viewer_pid(), signal.SIGKILL)
        said = await running.until_error("the viewer has ended")
        assert "(status -9); sipws goes on without it" in said
        for number in range(2, 200):
            await ask(websocket, number)
    async with phone(running) as websocket:
        await ask(websocket, 200)
    rest = await assert_ends(running)
    assert "Stopped: 2 connections traced" in rest


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_no_viewer_outlives_a_server_that_is_killed(run: Start, workers: str) -> None:
    running = await run("run", "--view", "--workers", workers, "--no-require-origin")
    viewer = running.viewer_pid()
    others = children(running.process.pid)
    async with phone(running) as websocket:
        await ask(websocket, 1, "REGISTER")
        os.kill(running.process.pid, signal.SIGKILL)
        for pid in {viewer, *others}:
            await ended(pid)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()


async def test_the_page_switches_tracing_and_closes_connections_of_all_workers(run: Start) -> None:
    running = await run("run", "--view", "--workers", "2", "--no-require-origin")
    async with AsyncExitStack() as stack:
        phones = [await stack.enter_async_context(phone(running)) for _ in range(16)]
        for number, each in enumerate(phones):
            await ask(each, number + 1, "REGISTER")
        control = await running.until(
            "control", lambda control: len(control["connections"]) == len(phones)
        )
        assert control["reachable"]
        assert control["trace"] == {"ws": True, "wss": True}
        # The ids of a worker follow one another; the kernel spreads connections over both.
        assert len({each["ID"] >> 20 for each in control["connections"]}) == 2
        await running.json("control/trace", {"on": False, "only": "ws"})
        assert (await running.json("control"))["trace"] == {"ws": False, "wss": True}
        before = await running.json("status")
        for number, each in enumerate(phones):
            await ask(each, number + 100)
        await running.json("control/trace", {"on": True, "only": "ws"})
        after = await running.until(
            "status", lambda now: now["store"]["packets"] >= before["store"]["packets"]
        )
        assert after["calls"] == before["calls"]
        by_port = {int(str(each.local_address[1])): each for each in phones}
        for row in control["connections"]:
            await running.json(
                "control/close", {"id": str(row["ID"]), "code": 4001, "reason": "from the page"}
            )
            websocket = by_port[int(row["Remote"].rpartition(":")[2])]
            async with asyncio.timeout(10):
                await websocket.wait_closed()
            assert (websocket.close_code, websocket.close_reason) == (4001, "from the page")
    await running.until("control", lambda control: control["connections"] == [])
    await assert_ends(running)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_both_end_while_browsers_follow(run: Start, number: signal.Signals) -> None:
    running = await run("run", "--view", "--no-require-origin")
    viewer = running.viewer_pid()
    host = running.url.split("/")[2]
    writers = []
    for _ in range(5):
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write(f"GET /api/v1/live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        writers.append(writer)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await assert_ends(running, number)
    await ended(viewer)
    assert loop.time() - before < 5
    for writer in writers:
        writer.close()
