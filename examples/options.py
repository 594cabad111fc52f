"""A server that answers OPTIONS, in ten lines.

Run it, then connect any SIP over WebSocket client to ws://127.0.0.1:8080/.
"""

import asyncio

import sipws
from sipws.sip import Request, response


def answer(flow: sipws.Flow, message: bytes) -> None:
    """Called with each SIP message; answers go back on the flow that it came in on."""
    request = Request.parse(message)
    if request is not None and request.method == "OPTIONS":
        flow.send(response(request, 200))


if __name__ == "__main__":
    asyncio.run(sipws.Server(["ws:127.0.0.1:8080"], answer).serve_forever())
