"""The end of what holds connections, a server's or a client's."""

import asyncio
from contextlib import suppress

from sipws.events import ErrorKind
from sipws.flow import Flow
from sipws.registry import Registry


async def close_all(flows: Registry[Flow], code: int, reason: str, grace: float) -> None:
    """Close every connection, and drop those whose peers do not close in turn.

    Args:
        flows: the connections.
        code: the close code that peers get (RFC 6455 section 7.4).
        reason: what is told with it.
        grace: seconds that peers have to complete the closing handshake.
    """
    for flow in flows:
        flow.close(code, reason)
    with suppress(TimeoutError):
        async with asyncio.timeout(grace):
            await flows.wait_empty()
    for flow in flows:
        flow.abort(ErrorKind.CLOSE_TIMEOUT, f"{reason}: the peer did not close in time")
    # A dropped connection leaves the registry on the next turn of the event loop.
    await flows.wait_empty()
