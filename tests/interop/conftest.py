"""Programs of others as processes, each on a free port, and packets to exchange with them."""

import asyncio
import os
import shlex
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

import hep

PATIENCE = 30.0
"""Seconds until something must have happened: others' programs on a busy machine take their
time."""

TRIES = 5
"""Free ports that are tried: between finding and taking one, somebody else may take it."""

DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""util-linux, which every Debian has: a test run that is killed leaves no program behind."""


KAMAILIO = """
debug=1
log_stderror=yes
children=1
socket_workers=1
tcp_children=1
auto_aliases=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
"""
"""Few and small processes: it has a handful of messages to take."""


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[Any]]:
    """Wait for what others' programs do: ``found = await until(lambda: …)``."""
    return _until


async def _until(condition: Callable[[], object]) -> Any:
    """Ask again and again until the answer is not empty; returns the answer."""
    async with asyncio.timeout(PATIENCE):
        while not (answer := condition()):  # noqa: ASYNC110 - it is not ours to signal
            await asyncio.sleep(0.02)
    return answer


def free_port() -> int:
    """A port that is free for UDP and TCP just now."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        return tcp.getsockname()[1]


@dataclass
class Peer:
    """A program of others that listens."""

    process: asyncio.subprocess.Process
    port: int
    log_file: Path

    @property
    def log(self) -> str:
        """What it told, for the message of a failing test."""
        return self.log_file.read_text(errors="replace")

    @property
    def listens(self) -> bool:
        """Whether it, and no other process, has its UDP port."""
        try:
            files = Path(f"/proc/{self.process.pid}/fd").iterdir()
            held = {os.readlink(file) for file in files}
        except OSError:
            return False  # it ends, or closes what it has just opened
        rows = (line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:])
        return any(
            row[1].endswith(f":{self.port:04X}") and f"socket:[{row[9]}]" in held for row in rows
        )

    @property
    def has_failed(self) -> bool:
        """Whether it will not listen. sngrep says why and stays."""
        return self.process.returncode is not None or "Address already in use" in self.log

    async def stop(self) -> None:
        """End it, and whatever it has forked: it leads a process group of its own."""
        # Asked to end while it still starts, Kamailio may wait for ever. It has nothing to save.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


Start = Callable[[Callable[[int], str]], Awaitable[Peer]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a program on a free UDP port: ``await start(lambda port: f"program -p {port}")``.

    It runs in the test's folder. It listens when this returns.
    """
    async with AsyncExitStack() as stack:

        async def run(command: Callable[[int], str]) -> Peer:
            for attempt in range(TRIES):
                port = free_port()
                log_file = tmp_path / f"log-{attempt}"
                with log_file.open("wb") as log:
                    process = await asyncio.create_subprocess_exec(
                        *DIES_WITH_US, *shlex.split(command(port)), cwd=tmp_path,
                        stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True,
                    )  # fmt: skip
                peer = Peer(process, port, log_file)
                stack.push_async_callback(peer.stop)
                await _until(lambda peer=peer: peer.listens or peer.has_failed)
                if peer.listens:
                    return peer
            pytest.fail(f"{command(port)!r} does not start:\n{peer.log}")

        yield run


@pytest.fixture
def sip() -> Callable[[str], bytes]:
    """A SIP request with a Call-ID."""
    return lambda call_id: (
        b"OPTIONS sip:example.com SIP/2.0\r\n"
        b"Via: SIP/2.0/WS 192.0.2.5:50123;branch=z9hG4bK1\r\n"
        b"From: <sip:alice@example.com>;tag=1\r\n"
        b"To: <sip:bob@example.com>\r\n"
        b"Call-ID: " + call_id.encode() + b"\r\n"
        b"CSeq: 1 OPTIONS\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


@pytest.fixture
def packet(sip: Callable[[str], bytes]) -> Callable[..., hep.Packet]:
    """A packet with a SIP request: ``packet("call-1", auth_key=b"…")``."""

    def build(call_id: str, **changes: Any) -> hep.Packet:
        usual = hep.Packet(
            src_ip="192.0.2.5", src_port=50123, dst_ip="192.0.2.1", dst_port=8080,
            seconds=1_700_000_000, microseconds=123_456, capture_id=2001,
            payload=sip(call_id), correlation_id=call_id.encode(),
        )  # fmt: skip
        return replace(usual, **changes)

    return build


@pytest.fixture
def send() -> Callable[..., Awaitable[None]]:
    """Send packets with a sender of ours: ``await send(port, packet, …)``."""

    async def send_to(
        port: int, *packets: hep.Packet, transport: Literal["udp", "tcp"] = "udp"
    ) -> None:
        async with hep.open_sender(hep.HepId("127.0.0.1", port, transport)) as sender:
            for packet in packets:
                sender.send(hep.encode(packet))
        assert sender.counters.sent == len(packets)

    return send_to


@pytest.fixture
def kamailio(find: Any, start: Any, tmp_path: Path) -> Callable[[str], Awaitable[Peer]]:
    """Start Kamailio with a configuration: ``peer = await kamailio(cfg)``."""
    program = find.program("kamailio", remedy="install Debian's package kamailio")

    async def run(cfg: str) -> Peer:
        (tmp_path / "kamailio.cfg").write_text(KAMAILIO + cfg)
        peer: Peer = await start(
            lambda port: (
                f"{program} -DD -E -f kamailio.cfg -w {tmp_path} -Y {tmp_path} -m 16 -M 4"
                f" -l udp:127.0.0.1:{port} -l tcp:127.0.0.1:{port}"
            )
        )
        return peer

    return run
