"""A bot that is always busy: it answers each INVITE with 486 (RFC 3261 section 21.4.24).

Run it, then call any number with a SIP over WebSocket phone that uses ws://127.0.0.1:8080/.
"""

import asyncio
import sys

import sipws
from sipws.sip import Request, response

ALLOW = {"Allow": "INVITE, ACK, CANCEL, OPTIONS"}
RETRY_AFTER = {"Retry-After": "60"}
"""Seconds after which a caller may try again (section 20.33)."""


def answer(flow: sipws.Flow, message: bytes) -> None:
    """Called with each SIP message."""
    request = Request.parse(message)
    # An ACK ends the transaction of a 486 and gets no response (section 17.1.1.3).
    if request is None or request.method == "ACK":
        return
    # ``received`` and ``rport``: a phone in a browser does not know its address (section 18.2.1).
    source = flow.connection.peer
    match request.method:
        case "INVITE":
            # WebSocket is reliable, so the response is sent once (section 17.2.1).
            flow.send(response(request, 486, headers=RETRY_AFTER, source=source))
        case "OPTIONS":
            flow.send(response(request, 200, headers=ALLOW, source=source))
        case "CANCEL" | "BYE":
            # The INVITE is answered already, and no call exists (sections 9.2 and 15.1.2).
            flow.send(response(request, 481, source=source))
        case _:
            flow.send(response(request, 405, headers=ALLOW, source=source))


async def main(listener: str) -> None:
    """Serve until Ctrl-C."""
    async with sipws.Server([listener], answer) as server:
        print(f"listening on {server.listeners[0]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if sys.argv[1:] else "ws:127.0.0.1:8080"))
    except sipws.SipwsError as exc:
        sys.exit(f"{exc}")
    except KeyboardInterrupt:
        pass
