"""What tracing costs a server that is not ours: CPU of an echo, with and without its adapter.

A server process for each framework, plain and traced, answers each SIP message with itself; the
rounds go in turns, so that all share the weather. What is counted is the CPU time of the server's
process alone, over connections that are open, in which two HEP packets an echo leave over UDP.

    python benchmarks/adapters.py
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import uvloop
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parent))

from peers import load

from sipws.tracing.pipeline import Pipeline

CPUS: Final = sorted(os.sched_getaffinity(0))
"""The servers have the first, the client the last."""

MODES: Final = ("plain", "off", "on")
"""Without the adapter; with it and tracing switched off; with it and SIP traced."""

ROUNDS, ECHOES, WARM_UP = 15, 300, 300

MESSAGE: Final = (
    "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK56s\r\n"
    "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: asidkj3ss\r\n"
    "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nUser-Agent: benchmark\r\nContent-Length: 0\r\n\r\n"
)
CPU: Final = "cpu"
"""Answered with the seconds of CPU that the server has used."""


def answer(message: str) -> str:
    """An echo."""
    return str(time.process_time()) if message == CPU else message


async def serve_websockets(bound: socket.socket, trace: Pipeline | None) -> None:
    """A server on the websockets library."""
    from websockets.asyncio.server import ServerConnection, serve

    from sipws.adapters.websockets import traced

    async def handler(websocket: ServerConnection) -> None:
        async for message in websocket:
            await websocket.send(answer(str(message)))

    made_by = traced(trace) if trace is not None else None
    async with serve(
        handler, sock=bound, subprotocols=["sip"], compression=None, create_connection=made_by
    ):
        await asyncio.Event().wait()


async def serve_asgi(bound: socket.socket, trace: Pipeline | None) -> None:
    """An ASGI application under uvicorn."""
    import uvicorn

    from sipws.adapters.asgi import TraceMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "sip"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": answer(message["text"])})

    wrapped: Any = app if trace is None else TraceMiddleware(app, trace)
    config = uvicorn.Config(
        wrapped, lifespan="off", log_level="error", ws_per_message_deflate=False
    )
    await uvicorn.Server(config).serve([bound])


async def serve_aiohttp(bound: socket.socket, trace: Pipeline | None) -> None:
    """An aiohttp server."""
    from aiohttp import web

    from sipws.adapters.aiohttp import TracedWebSocketResponse, tracing

    async def handler(request: web.Request) -> web.StreamResponse:
        cls = web.WebSocketResponse if trace is None else TracedWebSocketResponse
        websocket = cls(compress=False, protocols=["sip"])
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(answer(message.data))
        return websocket

    app = web.Application(middlewares=[] if trace is None else [tracing(trace)])
    app.router.add_get("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, bound).start()
    await asyncio.Event().wait()


async def serve_sipws(bound: socket.socket, trace: Pipeline | None) -> None:
    """Our own transport, for comparison."""
    import sipws

    def echo(flow: sipws.Flow, message: bytes) -> None:
        flow.send(answer(message.decode()).encode())

    port = bound.getsockname()[1]
    bound.close()
    bus = None if trace is None else trace.bus
    async with sipws.Server([f"ws:127.0.0.1:{port}"], echo, bus=bus):
        await asyncio.Event().wait()


SERVERS: Final = {
    "websockets": serve_websockets,
    "asgi": serve_asgi,
    "aiohttp": serve_aiohttp,
    "sipws": serve_sipws,
}


async def serve(server: str, mode: str, collector: str) -> None:
    """One server process."""
    bound = socket.create_server(("127.0.0.1", 0))
    print(bound.getsockname()[1], flush=True)
    if mode == "plain":
        await SERVERS[server](bound, None)
    destination = f"{collector};transport=udp"
    async with Pipeline(destination, trace_sip=True, on=mode == "on") as trace:
        await SERVERS[server](bound, trace)


async def measure(websocket: Any, echoes: int) -> float:
    """Microseconds of CPU that the server used for an echo."""
    await websocket.send(CPU)
    before = float(await websocket.recv())
    for _ in range(echoes):
        await websocket.send(MESSAGE)
        await websocket.recv()
    await websocket.send(CPU)
    return (float(await websocket.recv()) - before) / echoes * 1e6


async def compare(ports: dict[tuple[str, str], int]) -> None:
    """Ask all servers in turn, and print what their echoes cost."""
    found: dict[tuple[str, str], list[float]] = {name: [] for name in ports}
    async with AsyncExitStack() as stack:
        clients = {}
        for name, port in ports.items():
            url = f"ws://127.0.0.1:{port}/"
            options: Any = {"proxy": None, "compression": None, "subprotocols": ["sip"]}
            # What listens on a port that is known before it is listened on may take a moment.
            while name not in clients:
                with suppress(OSError):
                    clients[name] = await stack.enter_async_context(connect(url, **options))
            await measure(clients[name], WARM_UP)
        for _ in range(ROUNDS):
            for name, client in clients.items():
                found[name].append(await measure(client, ECHOES))
    best = {name: min(figures) for name, figures in found.items()}
    print(f"Server's CPU, µs for an echo of {len(MESSAGE)} bytes, one at a time, uvloop, best of")
    print(f"{ROUNDS} rounds of {ECHOES}; Python {sys.version.split()[0]}\n")
    print("| server | plain | adapter, tracing off | adapter, SIP traced |")
    print("| --- | --- | --- | --- |")
    for server in SERVERS:
        plain, off, on = (best[server, mode] for mode in MODES)
        print(f"| {server} | {plain:.1f} | {off:.1f} | {on:.1f} |")


def main() -> None:
    """Start a process for each server."""
    with ExitStack() as stack:
        # Nobody reads: what does not fit the socket's buffer is dropped by the system.
        sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind(("127.0.0.1", 0))
        ports = {}
        for name in [(server, mode) for server in SERVERS for mode in MODES]:
            process = subprocess.Popen(
                [sys.executable, __file__, *name, f"127.0.0.1:{sink.getsockname()[1]}"],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            ports[name] = int(process.stdout.readline())
        load.pin(CPUS[-1])
        uvloop.run(compare(ports))


if __name__ == "__main__":
    if sys.argv[1:]:
        load.pin(CPUS[0])
        uvloop.run(serve(*sys.argv[1:]))
    else:
        main()
