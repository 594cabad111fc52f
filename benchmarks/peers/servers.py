"""The servers that are measured, each in a process of its own.

``python servers.py NAME`` listens on a free loopback port, prints it and serves until its
standard input ends.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sipws import Bus
    from sipws.events import MessageReceived, MessageSent

HERE = Path(__file__)
REQUEST_SIZE = 457
"""Bytes of a request of `load`, its frame's header included."""
CANNED = (
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK5600001;rport=50000"
    b";received=127.0.0.1\r\nFrom: <sip:alice@example.com>;tag=8n2gt3\r\n"
    b"To: <sip:example.com>;tag=5f2ae9a0c1b2d3e4\r\nCall-ID: 4f1c2a7e9b@df7jal23ls0d.invalid\r\n"
    b"CSeq: 1 OPTIONS\r\nAllow: OPTIONS, REGISTER\r\nServer: canned\r\nContent-Length: 0\r\n\r\n"
)

KAMAILIO = """
debug=0
log_stderror=yes
children=1
tcp_children=1
tcp_max_connections=20000
tcp_connection_lifetime=3600
auto_aliases=no
server_signature=no
listen=tcp:127.0.0.1:{port}
tcp_accept_no_cl=yes
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "nathelper.so"
loadmodule "xhttp.so"
loadmodule "{websocket}"
modparam("websocket", "keepalive_mechanism", 0)
{more}
request_route {{ sl_send_reply("200", "OK"); }}
event_route[xhttp:request] {{
    if ($hdr(Upgrade) =~ "websocket") {{ ws_handle_handshake(); exit; }}
    xhttp_reply("404", "Not Found", "", "");
}}
"""

SIPTRACE = """
listen=udp:127.0.0.1:{source}
loadmodule "siptrace.so"
modparam("siptrace", "duplicate_uri", "sip:127.0.0.1:{port}")
modparam("siptrace", "trace_to_database", 0)
modparam("siptrace", "trace_on", 1)
modparam("siptrace", "trace_mode", 1)
modparam("siptrace", "hep_mode_on", 1)
modparam("siptrace", "hep_version", 3)
"""
"""Every message to a collector over UDP, two for an exchange."""


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int
    pid: int

    @property
    def pids(self) -> list[int]:
        """The server's processes."""
        found, new = [], [self.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                new += [int(child) for child in (task / "children").read_text().split()]
        return found

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used, to the nanosecond."""
        used = 0
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                used += int((task / "schedstat").read_text().split()[0])
        return used / 1e9

    def memory(self) -> int:
        """Bytes of memory that its processes have, what they share counted once."""
        kib = 0
        for pid in self.pids:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
        return kib * 1024


@contextmanager
def serve(name: str, cpu: int) -> Iterator[Served]:
    """Run a server, on one processor."""
    if name.startswith("kamailio"):
        traced = name == "kamailio-traced"
        more = _siptrace(int(os.environ["HEP_PORT"])) if traced else ""
        with _kamailio(cpu, more) as served:
            yield served
        return
    command = [sys.executable, str(HERE), name, str(cpu)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield Served(int(child.stdout.readline()), child.pid)
        finally:
            child.stdin.close()
            child.wait(30)


def websocket_module() -> str | None:
    """Kamailio's WebSocket module, where Debian's packages are installed.

    ``KAMAILIO_WEBSOCKET`` names one that is elsewhere.
    """
    if shutil.which("kamailio") is None:
        return None
    if named := os.environ.get("KAMAILIO_WEBSOCKET"):
        return named
    found = sorted(Path("/usr/lib").glob("**/kamailio/modules/websocket.so"))
    return str(found[0]) if found else None


def _siptrace(port: int) -> str:
    # Without a UDP socket of its own it sends nothing, and says nothing.
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return SIPTRACE.format(port=port, source=probe.getsockname()[1])


@contextmanager
def _kamailio(cpu: int, more: str) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        cfg = Path(folder) / "kamailio.cfg"
        cfg.write_text(KAMAILIO.format(port=port, websocket=websocket_module(), more=more))
        command = ["kamailio", "-DD", "-E", "-m", "2048", "-M", "64", "-f", str(cfg), "-Y", folder]
        log = Path(folder) / "log"
        with log.open("w") as output:
            child = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            )
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    probe.settimeout(0.1)
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if child.poll() is not None:
                    raise SystemExit(f"Kamailio did not start:\n{log.read_text()}")
                subprocess.run(["sleep", "0.1"], check=True)
            yield Served(port, child.pid)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


async def _run(name: str) -> None:
    if name == "websockets":
        await _websockets()
        return
    if name == "bare":
        await _bare()
        return
    from sipws import Relay, Server
    from sipws.admission.admission import Rules
    from sipws.service import responder
    from sipws.ws.session import Session

    Session.use_fast_path = name != "engine"
    # As `sipws run` has it.
    rules = Rules(require_origin=True)
    relay = None
    if name.startswith("relay"):
        # Each message is told, and traced, once.
        relay = Relay(f"ws://127.0.0.1:{os.environ['UPSTREAM_PORT']}", messages_told=False)
    async with Server(["ws:127.0.0.1:0"], responder.answer, relay=relay, rules=rules) as server:
        if name.startswith("traced-"):
            await _trace(server.bus, name.removeprefix("traced-"))
        elif name == "relay-traced":
            await _trace(server.bus, "tcp")
        print(server.listeners[0].port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.aclose(grace=0)


async def _trace(bus: "Bus", how: str) -> None:
    """Trace what happens and every message to the port in ``HEP_PORT``, or load it and be off."""
    from sipws.tracing.pipeline import Pipeline

    port = os.environ["HEP_PORT"]
    if how == "least":
        _trace_least(bus, int(port))
        return
    transport = "tcp" if how == "tcp" else "udp"
    trace = Pipeline(
        f"127.0.0.1:{port};transport={transport}", trace_sip=True, on=how != "off", bus=bus
    )
    trace.start()
    assert trace.sender is not None
    with suppress(TimeoutError):
        # Where nobody is there, it begins like that.
        async with asyncio.timeout(1):
            while not trace.sender.connected:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)


def _trace_least(bus: "Bus", port: int) -> None:
    """The least that tracing messages can cost: an encoder and ``socket.send``, nothing else.

    No switch, no filter, no Call-ID, no queue and no ledger, and answers wait for it.
    """
    import hep

    flow = hep.Packet(src_ip="127.0.0.1", dst_ip="127.0.0.1", src_port=50000, dst_port=port)
    encode = hep.PreparedEncoder(flow).encode
    out = socket.socket(type=socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", port))

    def send(event: "MessageReceived | MessageSent") -> None:
        seconds, microseconds = divmod(round(event.time * 1_000_000), 1_000_000)
        out.send(encode(seconds, microseconds, event.data, b"4f1c2a7e9b00001"))

    bus.message_received.subscribe(send)
    bus.message_sent.subscribe(send)


class _Bare(asyncio.Protocol):
    """No server at all: what the system and the event loop cost, in which all of them work."""

    FRAME = b"\x81\x7e" + len(CANNED).to_bytes(2, "big") + CANNED

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET"):
            self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        elif data.startswith(b"\x88"):
            self._transport.write(b"\x88\x02\x03\xe8")
            self._transport.close()
        else:
            # All requests have one length.
            self._transport.write(self.FRAME * (len(data) // REQUEST_SIZE))


async def _bare() -> None:
    server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


async def _websockets() -> None:
    from websockets.asyncio.server import ServerConnection, serve

    # It writes a traceback for every client that leaves without a close frame.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    canned = CANNED.decode()

    async def answer(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(canned)

    async with serve(
        answer,
        "127.0.0.1",
        0,
        subprotocols=["sip"],  # type: ignore[list-item]
        compression=None,
        ping_interval=None,
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.close()


if __name__ == "__main__":
    import uvloop

    os.sched_setaffinity(0, {int(sys.argv[2])})
    # Over the connections of a measurement only the process' end matters, not an orderly one.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    uvloop.run(_run(sys.argv[1]))
