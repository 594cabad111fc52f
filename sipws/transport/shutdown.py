"""The end of what holds connections, a server's or a client's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sipws.events import ErrorKind
from sipws.transport.flow import Flow
from sipws.transport.flow_context import FlowContext


@asynccontextmanager
async def orderly_end(
    context: FlowContext[Flow], code: int, reason: str, grace: float
) -> AsyncIterator[None]:
    """Close every connection behind the block, and drop those whose peers do not close in turn.

    The block stops what opens new ones. Whoever cancels it, or the wait for peers, gets what he
    wants at once: connections are then dropped, and nothing is left.

    Args:
        context: what the connections share.
        code: the close code that peers get (RFC 6455 section 7.4).
        reason: what is told with it.
        grace: seconds that peers have to complete the closing handshake.
    """
    flows = context.registry
    try:
        yield
        for flow in flows:
            flow.close(code, reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await flows.wait_empty()
    finally:
        for flow in flows:
            flow.abort(ErrorKind.CLOSE_TIMEOUT, f"{reason}: the peer did not close in time")
        context.deadlines.close()
        # A dropped connection leaves the registry on the next turn of the event loop.
        await flows.wait_empty()
