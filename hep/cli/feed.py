"""Reads a capture in a thread, so that a wait for a file or a pipe delays nothing else."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Final

from hep.captures.pcap import Captured

MOST_AHEAD: Final = 64
"""Maximum number of packets that are read ahead."""

GATHER: Final = 0.001
"""Seconds for which packets are gathered after the first one has come."""

_JOIN: Final = 1.0
"""Seconds to wait for the end of the thread. It ends at once, unless a file system hangs."""


class Feed:
    """Packets from a function that may block, as an asynchronous iterator.

    Args:
        read: yields the packets; it runs in the thread. Its exceptions are raised by the iterator.
        stop: makes ``read`` return soon; it is called from another thread.
    """

    def __init__(self, read: Callable[[], Iterator[Captured]], stop: Callable[[], object]) -> None:
        self._read = read
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._packets: deque[Captured] = deque()
        self._room = threading.Event()
        self._arrived = asyncio.Event()
        self._is_waiting = False
        self._is_closed = False
        self._is_done = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hep capture", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for packet in self._read():
                self._packets.append(packet)
                if self._is_waiting:
                    self._wake()
                if len(self._packets) >= MOST_AHEAD:
                    self._room.clear()
                    # Packets may have been taken before the line above.
                    if len(self._packets) >= MOST_AHEAD and not self._is_closed:
                        self._room.wait()
                if self._is_closed:
                    return
        except BaseException as exc:
            self._error = exc
        finally:
            self._is_done = True
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):
            # The event loop may be closed by now.
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def __aiter__(self) -> AsyncIterator[Captured]:
        packets = self._packets
        while True:
            while packets:
                packet = packets.popleft()
                if len(packets) == MOST_AHEAD // 2:
                    self._room.set()
                yield packet
            self._arrived.clear()
            self._is_waiting = True
            if not packets and not self._is_done:
                await self._arrived.wait()
                # A wake-up costs more than a packet, so that several are taken together.
                await asyncio.sleep(GATHER)
            self._is_waiting = False
            if self._is_done and not packets:
                break
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the reading; what was read before is still yielded."""
        self._stop()

    async def aclose(self) -> bool:
        """End the reading and the thread.

        Returns:
            whether the thread has ended, so that its files can be closed.
        """
        self._is_closed = True
        self._stop()
        self._room.set()
        await asyncio.to_thread(self._thread.join, _JOIN)
        return not self._thread.is_alive()
