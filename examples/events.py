"""Observe a server: a subscriber counts events, a stream logs them.

Run it, then connect any SIP over WebSocket client to ws://127.0.0.1:8080/.
"""

import asyncio
from collections import Counter
from contextlib import suppress

import sipws
from sipws.events import (
    Accepted,
    Closed,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
)
from sipws.responder import answer


class Numbers:
    """A subscriber: called with each event as it happens, so it must not block."""

    def __init__(self, bus: sipws.Bus) -> None:
        self.messages: Counter[str] = Counter()
        bus.subscribe(self.count, MessageReceived, MessageSent)

    def count(self, event: MessageReceived | MessageSent) -> None:
        """Count messages by direction and by their first word."""
        direction = "in" if isinstance(event, MessageReceived) else "out"
        self.messages[
            f"{direction} {event.data.partition(b' ')[0].decode('utf-8', 'replace')}"
        ] += 1


async def log(bus: sipws.Bus) -> None:
    """A stream: a bounded queue, for consumers that await something on each event."""
    async with bus.stream(Accepted, HandshakeFailed, ErrorOccurred, Closed) as stream:
        async for event in stream:
            peer = event.connection.peer
            match event:
                case Accepted():
                    print(f"{peer} connected")
                case HandshakeFailed() | ErrorOccurred():
                    print(f"{peer} {event.kind}: {event.detail}")
                case Closed():
                    print(f"{peer} closed with {event.code} by {event.closed_by}")
            # Here something slow may be awaited: a database, a web hook.
            await asyncio.sleep(0)


async def main() -> None:
    """Serve until Ctrl-C, then print the numbers."""
    bus = sipws.Bus()
    numbers = Numbers(bus)
    logging = asyncio.create_task(log(bus))
    try:
        await sipws.Server(["ws:127.0.0.1:8080"], answer, bus=bus).serve_forever()
    finally:
        logging.cancel()
        print(dict(numbers.messages))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
