"""Five thousand connections that say nothing: phones between two calls."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

IDLE = 5_000
WARM = 200
"""Connections that come first: what a process needs once is not theirs."""

MOST = 9 * 1024
"""Bytes that one may cost. It is 4 KB; the rest allows for another allocator's pages."""

SERVER = """
import asyncio, sys, uvloop
from sipws import Server
from sipws.service.responder import answer

async def main():
    async with Server(["ws:127.0.0.1:0"], answer) as server:
        print(server.listeners[0].port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(len(server.flows), flush=True)
        await server.aclose(grace=0)

uvloop.run(main())
"""


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many of them as the test needs, in this process and in those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = IDLE + WARM + 200
    if hard not in (-1, resource.RLIM_INFINITY) and hard < needed:
        pytest.skip(f"the limit of open files is {hard}: {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(pid: int) -> int:
    """Bytes of memory that are a process' own."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) * 1024


def connect(port: int, upgrade: bytes) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=10)
    one.sendall(upgrade)
    assert one.recv(4096).startswith(b"HTTP/1.1 101 ")
    return one


@pytest.mark.usefixtures("descriptors")
def test_an_idle_connection_costs_little_memory(upgrade: bytes) -> None:
    command = [sys.executable, "-c", SERVER]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
        ExitStack() as held,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for _ in range(WARM):
            held.enter_context(connect(port, upgrade))
        before = memory(server.pid)
        for _ in range(IDLE):
            held.enter_context(connect(port, upgrade))
        each = (memory(server.pid) - before) / IDLE
        server.stdin.close()
        assert int(server.stdout.readline()) == IDLE + WARM
        assert server.wait(30) == 0
    assert each < MOST
