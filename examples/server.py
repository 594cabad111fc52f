"""A server that answers OPTIONS and prints each connection and its end.

Run it, then connect any SIP over WebSocket client to ws://127.0.0.1:8080/.
"""

import asyncio

import sipws
from sipws.events import Accepted, Closed
from sipws.sip import Request, response


def answer(flow: sipws.Flow, message: bytes) -> None:
    """Called with each SIP message; answers go back on the flow that it came in on."""
    request = Request.parse(message)
    if request is not None and request.method == "OPTIONS":
        flow.send(response(request, 200))


def came(event: Accepted) -> None:
    """Called with each connection whose handshake succeeded."""
    print(f"{event.connection.peer} connected")


def went(event: Closed) -> None:
    """Called with each connection that is gone."""
    print(f"{event.connection.peer} left after {event.duration:.1f} s with code {event.code}")


async def main() -> None:
    """Serve until Ctrl-C."""
    async with sipws.Server(["ws:127.0.0.1:8080"], answer) as server:
        server.bus.accepted.subscribe(came)
        server.bus.closed.subscribe(went)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
