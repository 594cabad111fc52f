"""Answers that take time: one task and one bounded queue for each flow.

A handler is called, not awaited. This one puts each message into the queue of its flow. A task
takes them in order, and ends with the connection. Run it, then send OPTIONS to ws://127.0.0.1:8080/.
"""

import asyncio
from collections.abc import Awaitable, Callable

import sipws
from sipws.events import Closed
from sipws.sip import Request, response

MOST_WAITING = 100
"""Messages that may wait on one flow; the flow is closed beyond it, so that memory is bounded."""
TRY_AGAIN_LATER = 1013


class Tasks:
    """Calls a coroutine function with the messages of each flow, in order."""

    def __init__(self, handler: Callable[[sipws.Flow, bytes], Awaitable[None]]) -> None:
        self._handler = handler
        self._flows: dict[int, tuple[asyncio.Queue[bytes], asyncio.Task[None]]] = {}

    def handle(self, flow: sipws.Flow, message: bytes) -> None:
        """Called with each SIP message."""
        if (known := self._flows.get(flow.connection.id)) is None:
            queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
            known = queue, asyncio.create_task(self._work(flow, queue))
            self._flows[flow.connection.id] = known
        try:
            known[0].put_nowait(message)
        except asyncio.QueueFull:
            flow.close(TRY_AGAIN_LATER, "too many messages wait")

    def ended(self, event: Closed) -> None:
        """Called with each connection that is gone: what still waits has nowhere to go."""
        if (known := self._flows.pop(event.connection.id, None)) is not None:
            known[1].cancel()

    async def _work(self, flow: sipws.Flow, queue: asyncio.Queue[bytes]) -> None:
        while True:
            message = await queue.get()
            try:
                await self._handler(flow, message)
            except sipws.ConnectionClosedError:
                # The peer closed while its answer was made.
                pass
            except Exception as exc:
                print(f"{flow.connection.peer}: {type(exc).__name__}: {exc}")


async def answer(flow: sipws.Flow, message: bytes) -> None:
    """Answer OPTIONS after a look-up, such as in a database."""
    request = Request.parse(message)
    if request is not None and request.method == "OPTIONS":
        await asyncio.sleep(0.1)
        flow.send(response(request, 200, source=flow.connection.peer))


async def main() -> None:
    """Serve until Ctrl-C."""
    tasks = Tasks(answer)
    server = sipws.Server(["ws:127.0.0.1:8080"], tasks.handle)
    server.bus.closed.subscribe(tasks.ended)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
