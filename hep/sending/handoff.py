"""Packets on their way from other threads to the thread of the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from threading import Lock, get_ident

from hep.codec.packet import Packet


class Handoff:
    """A bounded queue to the event loop, filled by any thread without waiting.

    Made in the thread of the event loop.

    Args:
        deliver: called in the event loop with the packets, oldest first.
        reject: called with the number of packets for which there was no room, or which came after
            the end of the event loop; in the second case by the thread that sends.
        limit: maximum number of packets, from 1.
        limit_bytes: maximum number of bytes, from 1.
    """

    __slots__ = (
        "_bytes", "_deliver", "_is_scheduled", "_limit", "_limit_bytes", "_lock", "_loop",
        "_reject", "_rejected", "_waiting", "thread",
    )  # fmt: skip

    def __init__(
        self,
        deliver: Callable[[list[bytes | Packet]], object],
        reject: Callable[[int], object],
        limit: int,
        limit_bytes: int,
    ) -> None:
        self.thread = get_ident()
        """The thread of the event loop, which needs no handoff."""
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._reject = reject
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._waiting: list[bytes | Packet] = []
        self._bytes = 0
        self._rejected = 0
        self._is_scheduled = False

    def put(self, packets: Sequence[bytes | Packet]) -> None:
        """Pass packets to the event loop. Never waits and never raises.

        Args:
            packets: the packets, oldest first.
        """
        with self._lock:
            for packet in packets:
                size = self._bytes + len(packet if isinstance(packet, bytes) else packet.payload)
                if len(self._waiting) < self._limit and size <= self._limit_bytes:
                    self._waiting.append(packet)
                    self._bytes = size
                else:
                    self._rejected += 1
            if self._is_scheduled:
                return
            self._is_scheduled = True
        try:
            self._loop.call_soon_threadsafe(self.flush)
        except RuntimeError:
            # The event loop is closed.
            with self._lock:
                lost = len(self._waiting) + self._rejected
                self._waiting, self._bytes, self._rejected = [], 0, 0
                self._is_scheduled = False
                self._reject(lost)

    def flush(self) -> None:
        """Deliver what has come so far. The event loop calls it."""
        with self._lock:
            packets, self._waiting = self._waiting, []
            rejected, self._rejected = self._rejected, 0
            self._bytes = 0
            self._is_scheduled = False
        if packets:
            self._deliver(packets)
        if rejected:
            self._reject(rejected)


def checked(packet: bytes | Packet) -> bytes | Packet:
    """Return a packet to send; a copy where a caller could change its bytes.

    Raises:
        TypeError: it is neither bytes nor a `Packet`.
    """
    if isinstance(packet, bytes | Packet):
        return packet
    if isinstance(packet, bytearray | memoryview):
        return bytes(packet)
    raise TypeError(f"packet is {type(packet).__name__}; it must be bytes or a hep.Packet")
