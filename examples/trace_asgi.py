"""An ASGI application under uvicorn, traced to Homer: the last line but three is all that is added.

Run it as `python examples/trace_asgi.py 8080 127.0.0.1:9060`: the port to listen on, and where the
collector is. It answers every SIP request with 200. (`pip install uvicorn`)
"""

import sys
from typing import Any

import uvicorn

from sipws.adapters.asgi import TraceMiddleware
from sipws.tracing.pipeline import Pipeline

COPIED = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")


def answer(request: str) -> str:
    """The answer to a SIP request."""
    copied = [line for line in request.split("\r\n") if line.startswith(COPIED)]
    return "\r\n".join(["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An application like any other: it knows nothing of tracing."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    if scope["type"] != "websocket":
        return
    await receive()
    if "sip" not in scope["subprotocols"]:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": "sip"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") is None:
            raise ValueError("this example only knows text")
        await send({"type": "websocket.send", "text": answer(message["text"])})


if __name__ == "__main__":
    port, collector = int(sys.argv[1]), sys.argv[2]
    trace = Pipeline(f"{collector};transport=udp", trace_sip=True)
    app = TraceMiddleware(application, trace)
    uvicorn.run(app, host="127.0.0.1", port=port)
