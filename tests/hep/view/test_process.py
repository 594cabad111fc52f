"""``hep view`` as a process: how it starts, what it survives, and how it ends."""

import asyncio
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import hep

pytest.importorskip("starlette", reason="the viewer needs the extra view")

END = 3.0
"""Seconds within which it has ended."""

MEGABYTE = 1 << 20


@dataclass
class View:
    """The command, which runs."""

    process: asyncio.subprocess.Process
    url: str
    port: int
    tcp: int

    async def get(self, path: str) -> bytes:
        """The body of an answer that is 200."""
        return await asyncio.to_thread(_get, self.port, path)

    async def json(self, path: str) -> Any:
        """An answer of its API."""
        return json.loads(await self.get(f"/api/v1/{path}"))

    async def until(self, path: str, wanted: Callable[[Any], object]) -> Any:
        """Ask until the answer is as wanted; returns it."""
        async with asyncio.timeout(60):
            while not wanted(answer := await self.json(path)):  # noqa: ASYNC110 - it is not ours to signal
                await asyncio.sleep(0.02)
        return answer

    async def end(self, number: signal.Signals) -> float:
        """Send a signal; returns the seconds until it has ended."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            await self.process.communicate()
        return loop.time() - before


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, answer.status, body)
        return body
    finally:
        connection.close()


Start = Callable[..., Awaitable[View]]


@pytest.fixture
async def view() -> AsyncIterator[Start]:
    """Start the command with free ports: ``view = await view("--store", folder)``."""
    async with AsyncExitStack() as stack:

        async def start(*arguments: str, **more: Any) -> View:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hep.cli", "view", "--http", "127.0.0.1:0",
                "--tcp", "127.0.0.1:0", *arguments,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **more,
            )  # fmt: skip
            stack.push_async_callback(_kill, process)
            assert process.stdout is not None
            said = ""
            async with asyncio.timeout(30):
                while not said.endswith("Ctrl-C ends it.\n"):
                    line = await process.stdout.readline()
                    assert line, f"it ended: {said}"
                    said += line.decode()
            web = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
            tcp = re.search(r"tcp:127\.0\.0\.1:(\d+)", said)
            assert web is not None, said
            assert tcp is not None, said
            return View(process, web[0], int(web[1]), int(tcp[1]))

        yield start


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


def refused(*arguments: str, **more: Any) -> str:
    """The message of a command that does not start: status 2, and one line."""
    done = subprocess.run(
        [sys.executable, "-m", "hep.cli", "view", *arguments],
        capture_output=True, text=True, timeout=30, check=False, **more,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def message(call_id: str, size: int = 0) -> bytes:
    return (
        "OPTIONS sip:example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/TCP 192.0.2.5;branch=z9hG4bK{call_id}\r\n"
        "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\n"
        f"Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\nContent-Length: {size}\r\n\r\n" + "x" * size
    ).encode()


class Sender:
    """Sends calls over TCP."""

    def __init__(self, packet: hep.Packet, port: int) -> None:
        self._packet = packet
        self._port = port
        self.sent = 0

    async def send(self, count: int, size: int = 0, name: str = "call") -> None:
        """Send calls of one message. What a collector that dies does not take is lost."""
        packets = []
        for _ in range(count):
            self.sent += 1
            payload = message(f"{name}-{self.sent}", size)
            packets.append(hep.encode(replace(self._packet, payload=payload)))
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(b"".join(packets))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            writer.close()


# What does not start, says why.


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert "nowhere.pcap" in refused(str(tmp_path / "nowhere.pcap"))


def test_a_folder_in_use_by_another_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    first = subprocess.Popen(
        [sys.executable, "-m", "hep.cli", "view", "--http", "0", "--tcp", "0", "--store", folder],
        stdout=subprocess.PIPE,
    )
    with first:
        assert first.stdout is not None
        first.stdout.readline()
        said = refused("--http", "0", "--tcp", "0", "--store", str(folder))
        first.terminate()
    assert f"{folder} is in use: another hep view stores there" in said


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("option", ["--http", "--tcp"])
def test_a_port_that_is_taken_is_named(taken: int, option: str) -> None:
    other = {"--http": "--tcp", "--tcp": "--http"}[option]
    said = refused(other, "127.0.0.1:0", option, f"127.0.0.1:{taken}")
    assert f"127.0.0.1:{taken}" in said
    assert "in use" in said


def test_a_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "store"
    file.touch()
    assert f"{file} is a file: name a folder" in refused("--http", "0", "--store", str(file))


def test_a_folder_that_cannot_be_written_is_named() -> None:
    # A kernel's folder, where nobody but root makes folders, and root none either.
    said = refused("--http", "0", "--tcp", "0", "--store", "/proc/store")
    assert "/proc/store: no store can be kept there" in said


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_ends_within_seconds_while_browsers_follow(view: Start, number: Any) -> None:
    running = await view()
    browsers = []
    for path in ["/api/v1/live"] * 10 + ["/"] * 3:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        host = f"127.0.0.1:{running.port}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        browsers.append(writer)
    # One that asks for nothing, and one that has not ended its request.
    for begun in (b"", b"GET / HTTP/1.1\r\nHost: "):
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(begun)
        browsers.append(writer)
    assert await running.end(number) < END
    assert running.process.returncode == 0
    for writer in browsers:
        writer.close()


async def test_what_has_come_is_stored_before_it_ends(
    view: Start, packet: hep.Packet, tmp_path: Path
) -> None:
    running = await view("--store", str(tmp_path))
    await Sender(packet, running.tcp).send(2000)
    await running.until("status", lambda status: status["listening"][0]["received"] == 2000)
    running.process.terminate()
    out, err = await running.process.communicate()
    assert "2000 packets\n" in out.decode()
    assert err == b""
    again = await view("--store", str(tmp_path))
    assert (await again.json("status"))["store"]["packets"] == 2000


async def test_one_that_was_killed_under_load_opens_again_with_its_calls(
    view: Start, packet: hep.Packet, tmp_path: Path
) -> None:
    stored = 0
    for name in ("first", "second", "third"):
        running = await view("--store", str(tmp_path))
        before = (await running.json("status"))["store"]["packets"]
        assert before >= stored
        sender = Sender(packet, running.tcp)

        async def flood(sender: Sender = sender, name: str = name) -> None:
            while True:
                await sender.send(200, name=name)

        flooding = asyncio.create_task(flood())
        seen = await running.until("status", lambda status: status["store"]["stored"] > 2000)
        stored = before + seen["store"]["stored"]
        running.process.kill()
        await running.process.communicate()
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
    assert not any(name.endswith(".damaged") for name in os.listdir(tmp_path))
    running = await view("--store", str(tmp_path))
    for name in ("first", "second", "third"):
        assert (await running.json(f"call?id={name}-1"))["call"]["from_user"] == "alice"
    status = await running.json("status")
    assert (status["store"]["problem"], status["store"]["dropped"]) == ("", 0)
    await Sender(packet, running.tcp).send(1, name="after")
    await running.until("calls?limit=1", lambda page: page["calls"][0]["call_id"] == "after-1")


# A disk that is full.


async def metrics(running: View) -> dict[str, float]:
    lines = (await running.get("/metrics")).decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def _settled(status: Any) -> int:
    """Packets that were stored or dropped."""
    return int(status["store"]["stored"] + status["store"]["dropped"])


async def assert_full_and_recovered(
    running: View, sender: Sender, make_room: Callable[[], object]
) -> None:
    """Fill the disk, see what is said, make room, and see that packets are stored again."""
    stored = 0
    async with asyncio.timeout(60):
        while not (status := await running.json("status"))["store"]["problem"]:
            await sender.send(50, 8000)
            status = await running.until("status", lambda now: _settled(now) == sender.sent)
            stored = status["store"]["stored"]
    assert stored > 0
    assert status["store"]["problem"] == "the disk is full"
    assert (await metrics(running))["hep_view_store_problem"] == 1
    # Collecting goes on, and what it loses is counted.
    received = status["listening"][0]["received"]
    await sender.send(50, 8000)
    status = await running.until(
        "status",
        lambda now: now["listening"][0]["received"] >= received + 50 and now["store"]["dropped"],
    )
    # Old calls are there.
    assert (await running.json("call?id=call-1"))["call"]["call_id"] == "call-1"
    make_room()
    async with asyncio.timeout(60):
        while (await running.json("status"))["store"]["problem"]:
            await sender.send(1, name="room")
            await asyncio.sleep(0.05)
    found = (await running.json("calls?limit=1"))["calls"][0]["call_id"]
    assert found == f"room-{sender.sent}"
    said = await metrics(running)
    assert said["hep_view_store_problem"] == 0
    dropped = said['hep_view_packets_dropped_total{reason="not written"}']
    assert dropped > 0
    status = await running.json("status")
    # Every packet was stored or counted.
    assert status["store"]["stored"] + status["store"]["dropped"] == sender.sent
    assert status["store"]["packets"] == status["store"]["stored"]


async def run(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the system."""
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )


async def test_a_disk_that_is_full_is_said_and_storing_goes_on_with_room(
    view: Start, packet: hep.Packet, tmp_path: Path, find: Any
) -> None:
    made = await run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path))
    if made.returncode:
        find.not_allowed("a small file system", made.stderr)
    try:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(4 * MEGABYTE))
        running = await view("--store", str(tmp_path / "store"))
        await assert_full_and_recovered(running, Sender(packet, running.tcp), ballast.unlink)
        assert await running.end(signal.SIGTERM) < END
    finally:
        assert (await run("umount", "-l", str(tmp_path))).returncode == 0


async def test_a_limit_for_files_is_a_full_disk_too(
    view: Start, packet: hep.Packet, tmp_path: Path
) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MEGABYTE, resource.RLIM_INFINITY))

    running = await view("--store", str(tmp_path), preexec_fn=limited)
    most = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    await assert_full_and_recovered(
        running,
        Sender(packet, running.tcp),
        lambda: resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, most),
    )
    assert await running.end(signal.SIGINT) < END


# What a program that starts it needs.


async def test_a_child_ends_with_the_end_of_its_parent() -> None:
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'hep.cli', 'view', '--child',"
        " '--tcp', '127.0.0.1:0'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,"
        " start_new_session=True)\n"
        "print(child.pid, child.stdout.readline().decode(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert parent.stdout is not None
    pid, _, said = (await parent.stdout.readline()).decode().partition(" ")
    child = os.pidfd_open(int(pid))
    try:
        assert set(json.loads(said)) == {"http", "tcp"}
        parent.kill()
        await parent.wait()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(child, ended.set)
        async with asyncio.timeout(30):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(child)
        os.close(child)
