"""Whether a peer takes what is written to it, and how much may wait for it."""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MOST_WAITING: Final = 64 * 1024
"""Bytes that wait for a peer when it counts as one that does not keep up: what asyncio has for
plain connections. For those with TLS it has eight times as much."""

_ACKNOWLEDGED: Final = slice(120, 128)
"""Where Linux' ``struct tcp_info`` has ``tcpi_bytes_acked``."""


_CLOSED: Final = 7
"""Linux' ``TCP_CLOSE``, the first byte of ``struct tcp_info``: an end without a FIN of either."""


def bound_waiting(transport: asyncio.Transport) -> None:
    """Have a connection with TLS pause its protocol as early as one without."""
    if transport.get_extra_info("sslcontext") is not None:
        transport.set_write_buffer_limits(high=MOST_WAITING)


def taken(transport: asyncio.Transport) -> int:
    """A number that is another one as soon as the peer has taken more of what waits for it.

    The buffer of a transport is no measure where there is TLS, which has a second one below it.
    So the system is asked for what the peer has acknowledged, where it tells.
    """
    connected = transport.get_extra_info("socket")
    if sys.platform == "linux" and connected is not None:
        with suppress(OSError):
            told = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.stop)
            if len(told) == _ACKNOWLEDGED.stop:
                return int.from_bytes(told[_ACKNOWLEDGED], sys.byteorder)
    return transport.get_write_buffer_size()


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the connection is reset, though nothing of it is read; False where nobody knows."""
    connected = transport.get_extra_info("socket")
    if sys.platform == "linux" and connected is not None:
        # uvloop's socket of a connection that is closed has no descriptor, and raises a ValueError.
        with suppress(OSError, ValueError):
            state = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            return bool(state[0] == _CLOSED)
    return False


class SlowPeer:
    """The time in which a peer does not keep up.

    Args:
        transport: its connection.
        patience: seconds that it may take nothing at all.
        gone: called when it has taken nothing for so long.
    """

    __slots__ = ("_before", "_ended", "_gone", "_patience", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, patience: float, gone: Callable[[], object]
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._gone = gone
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wait_on()

    def _wait_on(self) -> None:
        self._before = taken(self._transport)
        self._timer = self._ended.get_loop().call_later(self._patience, self._look)

    def _look(self) -> None:
        if taken(self._transport) == self._before:
            self._gone()
        else:
            # A slow peer, and no dead one.
            self._wait_on()

    def end(self) -> None:
        """It keeps up again, or is gone."""
        self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait(self) -> None:
        """Wait for the end."""
        await asyncio.shield(self._ended)
