"""The orderly end of a server's or a client's connections."""

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
    """Close every connection after the block, and drop those whose peers do not close in time.

    The block stops what opens new connections. Cancelling the block, or the wait for the peers,
    drops all connections at once.

    Args:
        context: what the connections share.
        code: the close code that peers get (RFC 6455 section 7.4).
        reason: the reason that is sent with it.
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
