"""An aiohttp server, traced to Homer: a middleware, and another name for `WebSocketResponse`.

Run it as `python examples/trace_aiohttp.py 8080 127.0.0.1:9060`: the port to listen on, and where
the collector is. It answers every SIP request with 200. (`pip install aiohttp`)
"""

import sys
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from sipws.adapters.aiohttp import TracedWebSocketResponse, tracing
from sipws.tracing.pipeline import Pipeline

COPIED = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")


def answer(request: str) -> str:
    """The answer to a SIP request."""
    copied = [line for line in request.split("\r\n") if line.startswith(COPIED)]
    return "\r\n".join(["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""])


async def sip(request: web.Request) -> web.StreamResponse:
    """A handler like any other."""
    if "sip" not in request.headers.get("Sec-WebSocket-Protocol", ""):
        raise web.HTTPForbidden(text="this is for SIP (RFC 7118)\n")
    websocket = TracedWebSocketResponse(protocols=["sip"])
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is not WSMsgType.TEXT:
            raise ValueError("this example only knows text")
        await websocket.send_str(answer(message.data))
    return websocket


def application(collector: str) -> web.Application:
    """The application with its tracing, which starts before it and ends behind it."""
    trace = Pipeline(f"{collector};transport=udp", trace_sip=True)

    async def traced(app: web.Application) -> AsyncIterator[None]:
        async with trace:
            yield

    app = web.Application(middlewares=[tracing(trace)])
    app.cleanup_ctx.append(traced)
    app.router.add_get("/", sip)
    return app


if __name__ == "__main__":
    web.run_app(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]))
