"""A client that registers, sends OPTIONS and unregisters.

Start a server that asks for no password, such as ``sipws run``, then::

    python examples/register.py ws://127.0.0.1:8080 sip:alice@example.com
"""

import asyncio
import secrets
import sys

import sipws
from sipws.sip import CSeq, Response

EXPIRES = 600
"""Requested lifetime of the registration, in seconds."""


class Phone:
    """A user agent with one transaction at a time."""

    def __init__(self, server: str, aor: str) -> None:
        self.server, self.aor = server, aor
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.client = sipws.Client(
            lambda flow, message: self.answers.put_nowait(message),
            # As a page of the domain has it: most SIP servers ask for one unless told otherwise.
            origin=f"https://{aor.rpartition('@')[2]}",
        )
        # Nobody can connect to a client like this one: RFC 7118 has it say so in its addresses.
        self.host = f"{secrets.token_hex(6)}.invalid"
        self.user = aor.removeprefix("sip:").partition("@")[0]
        self.domain = aor.rpartition("@")[2]
        self.call_id, self.tag = secrets.token_hex(8), secrets.token_hex(4)
        self.cseq = 0

    async def request(self, method: str, *more: str) -> Response:
        """Send a request, on a new connection if there is none, and wait for the final response."""
        self.cseq += 1
        transport = "WSS" if sipws.Destination.parse(self.server).proto == "wss" else "WS"
        lines = [
            f"{method} sip:{self.domain} SIP/2.0",
            f"Via: SIP/2.0/{transport} {self.host};branch=z9hG4bK{secrets.token_hex(8)}",
            "Max-Forwards: 70",
            f"From: <{self.aor}>;tag={self.tag}",
            f"To: <{self.aor}>",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self.cseq} {method}",
            *more,
            "Content-Length: 0",
        ]
        message = "\r\n".join([*lines, "", ""]).encode()
        async with asyncio.timeout(32):  # RFC 3261, timer F
            await self.client.send(self.server, message)
            while True:
                answer = Response.parse(await self.answers.get())
                if answer and answer.is_final and answer.cseq == CSeq(self.cseq, method):
                    return answer

    async def register(self, expires: int) -> Response:
        """Register this connection as the contact of the user."""
        contact = f"<sip:{self.user}@{self.host};transport=ws>;expires={expires}"
        return await self.request("REGISTER", f"Contact: {contact}")


async def main(server: str, aor: str) -> None:
    """Register, send OPTIONS, unregister."""
    phone = Phone(server, aor)
    async with phone.client:
        registered = await phone.register(EXPIRES)
        print(f"REGISTER: {registered.start_line}")
        print(f"  Contact: {registered.headers.get('contact')}")
        options = await phone.request("OPTIONS")
        print(f"OPTIONS: {options.start_line}")
        print(f"  Allow: {options.headers.get('allow')}")
        gone = await phone.register(0)
        print(f"REGISTER: {gone.start_line}")
        print(f"  Contact: {gone.headers.get('contact')}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("two arguments: ws://127.0.0.1:8080 sip:alice@example.com, or such")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except sipws.SipwsError as exc:
        sys.exit(f"{exc}")
