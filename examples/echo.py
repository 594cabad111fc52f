"""An echo server for conformance suites: it returns every message unchanged.

It asks for no subprotocol, because those suites offer none. Run it, then for example
``kosoku -m fuzzingclient ws://127.0.0.1:9001/``.
"""

import argparse
import asyncio

import sipws
from sipws.events import MessageReceived

LIMITS = sipws.Limits(message_size=32 * 2**20, send_timeout=10.0, max_chunks=0)
"""Suites send messages of 16 MiB, some of them byte by byte, and read slowly."""


def ignore(flow: sipws.Flow, message: bytes) -> None:
    """A handler gets SIP only; a subscriber gets every message, and whether it was text."""


def echo(server: sipws.Server, event: MessageReceived) -> None:
    """Called with each message of any connection."""
    flow = server.flows.get(event.connection.id)
    # Its close may have come right behind the message.
    if flow is not None and flow.is_open:
        flow.send(event.data, text=event.is_text)


async def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A WebSocket echo server")
    parser.add_argument("listener", nargs="?", default="ws:127.0.0.1:9001")
    listener = parser.parse_args().listener
    async with sipws.Server(
        [listener], ignore, limits=LIMITS, subprotocols=(), compression=True
    ) as server:
        server.bus.message_received.subscribe(lambda event: echo(server, event))
        print(f"listening on {server.listeners[0]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
