"""Detection of peers that do not take what is written to them, and the limit of what waits."""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MOST_WAITING: Final = 64 * 1024
"""Bytes in the write buffer from which on a peer does not keep up: the limit that asyncio has for
plain connections. For connections with TLS its limit is eight times as high."""

_ACKNOWLEDGED: Final = slice(120, 128)
"""Place of ``tcpi_bytes_acked`` in Linux' ``struct tcp_info``."""

_CLOSED: Final = 7
"""Linux' ``TCP_CLOSE``, the first byte of ``struct tcp_info``: the connection was reset."""


def bound_waiting(transport: asyncio.Transport) -> None:
    """Pause the protocol of a connection with TLS as early as that of a plain one."""
    if transport.get_extra_info("sslcontext") is not None:
        transport.set_write_buffer_limits(high=MOST_WAITING)


def taken(transport: asyncio.Transport) -> int:
    """Measure what the peer has taken.

    With TLS the size of a transport's write buffer does not show it, because TLS has a second
    buffer below. Linux reports the bytes that the peer has acknowledged.

    Returns:
        a number that changes as soon as the peer takes more: acknowledged bytes, or where the
        system does not report these, bytes in the write buffer.
    """
    connected = transport.get_extra_info("socket")
    if sys.platform == "linux" and connected is not None:
        with suppress(OSError):
            info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.stop)
            if len(info) == _ACKNOWLEDGED.stop:
                return int.from_bytes(info[_ACKNOWLEDGED], sys.byteorder)
    return transport.get_write_buffer_size()


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the peer has reset the connection, also while nothing is read from it.

    Returns:
        False on systems that do not report it.
    """
    connected = transport.get_extra_info("socket")
    if sys.platform == "linux" and connected is not None:
        # uvloop's socket of a connection that is closed has no descriptor, and raises a ValueError.
        with suppress(OSError, ValueError):
            state = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            return bool(state[0] == _CLOSED)
    return False


class SlowPeer:
    """A peer that does not keep up, from the moment that its write buffer is full.

    A peer that takes bytes slowly stays connected.

    Args:
        transport: its connection.
        patience: seconds without any byte taken after which the peer is dead.
        gone: called then.
    """

    __slots__ = ("_ended", "_gone", "_patience", "_taken", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, patience: float, gone: Callable[[], object]
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._gone = gone
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._taken = taken(transport)
        self._timer = loop.call_later(patience, self._check)

    def _check(self) -> None:
        before, self._taken = self._taken, taken(self._transport)
        if self._taken == before:
            self._gone()
        else:
            self._timer = self._ended.get_loop().call_later(self._patience, self._check)

    def end(self) -> None:
        """Stop the timer: the peer keeps up again, or is gone."""
        self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(None)

    async def wait(self) -> None:
        """Wait until `end` is called."""
        await asyncio.shield(self._ended)
