"""A server on the websockets library, traced to Homer: `traced(trace)` is all that is added.

Run it as `python examples/trace_websockets.py 8080 127.0.0.1:9060`: the port to listen on, and
where the collector is. It answers every SIP request with 200.
"""

import asyncio
import signal
import sys

from websockets.asyncio.server import ServerConnection, serve

from sipws.adapters.websockets import traced
from sipws.tracing.pipeline import Pipeline

COPIED = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")


def answer(request: str) -> str:
    """The answer to a SIP request."""
    copied = [line for line in request.split("\r\n") if line.startswith(COPIED)]
    return "\r\n".join(["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""])


async def handler(websocket: ServerConnection) -> None:
    """An application like any other: it knows nothing of tracing."""
    async for message in websocket:
        if not isinstance(message, str):
            raise ValueError("this example only knows text")
        await websocket.send(answer(message))


async def main(port: int, collector: str) -> None:
    """Serve until Ctrl-C."""
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    async with (
        Pipeline(f"{collector};transport=udp", trace_sip=True) as trace,
        serve(
            handler, "127.0.0.1", port, subprotocols=["sip"], create_connection=traced(trace)
        ) as server,
    ):
        print("listening on", server.sockets[0].getsockname()[1], flush=True)
        await end.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
