"""An echo client for Autobahn's test cases.

Start a server of cases, then this with its address and with cases to leave out, if any::

    kosoku -m fuzzingserver -x '9.*' -x '12.*' -x '13.*' -o report 127.0.0.1:9001
    python examples/echo_client.py ws://127.0.0.1:9001
"""

import asyncio
import sys

import sipws
from sipws.events import MessageReceived

AGENT = "sipws"
AT_ONCE = 8
"""Cases that run at the same time: some of them wait for a second."""

LIMITS = sipws.Limits(message_size=32 * 1024 * 1024, send_timeout=10, max_chunks=0)
"""Some of Autobahn's messages are larger than any SIP message, and sent in many small pieces."""


async def ask(server: str, path: str) -> bytes:
    """Connect to a path, receive one message, and close."""
    answer: list[bytes] = []
    # Autobahn's server speaks no SIP: it takes no subprotocol.
    async with sipws.Client(
        lambda flow, message: answer.append(message),
        limits=LIMITS,
        subprotocols=(),
        compression=True,
    ) as client:
        await (await client.connect(server + path)).wait_closed()
    return answer[0] if answer else b""


async def run(server: str) -> None:
    """Run the cases of the server, one connection for each."""
    cases = int(await ask(server, "/getCaseCount"))
    async with sipws.Client(limits=LIMITS, subprotocols=(), compression=True) as client:

        def echo(event: MessageReceived) -> None:
            # A handler would not be called with an empty message, which to SIP is a keep-alive.
            flow = client.flows.get(event.connection.id)
            if flow is not None and flow.is_open:
                flow.send(event.data, text=event.is_text)

        client.bus.message_received.subscribe(echo)
        waiting = iter(range(1, cases + 1))

        async def work() -> None:
            for case in waiting:
                flow = await client.connect(f"{server}/runCase?case={case}&agent={AGENT}")
                await flow.wait_closed()

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    await ask(server, f"/updateReports?agent={AGENT}")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
