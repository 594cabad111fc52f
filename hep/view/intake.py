"""Brings packets into a store: a bounded queue, and a thread that stores what is in it.

The event loop, which receives packets, does not wait for the store. A queue that is full drops
packets, and counts them. A thread that reads a file stores its packets itself, in turn with the
other one. Two threads that share the work, one that makes rows and one that writes them, took as
long: both need the interpreter.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from hep.codec.packet import Packet
from hep.view.model.record import Record, record_of
from hep.view.store.store import Store

log = logging.getLogger(__name__)

MOST_WAITING: Final = 50_000
"""Packets that wait to be stored: more than two seconds at full speed."""

MOST_BYTES: Final = 32 << 20
"""Payload bytes that wait to be stored."""

MOST_AT_ONCE: Final = 4_096
"""Packets of a transaction."""

ENOUGH: Final = 512
"""Packets that are worth a transaction of their own."""

GATHER: Final = 0.05
"""Seconds for which fewer packets are gathered. A browser is told four times a second."""

RATE_TIME: Final = 10.0
"""Seconds over which `Intake.rate` counts."""

_END: Final = 10.0
"""Seconds to wait for the thread at the end."""


class Intake:
    """Stores packets in the background.

    Args:
        store: where they go; it is not closed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Packet] = deque()
        # Counters that one thread writes each: the event loop's, and the one that stores.
        self._received = self._received_bytes = 0
        self._taken_bytes = 0
        self._done = self._done_received = 0
        self._storing = threading.Lock()
        self._progress = threading.Condition()
        self._arrived = threading.Event()
        self._is_urgent = threading.Event()
        self._is_closed = False
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._thread = threading.Thread(target=self._take, name="hep view store", daemon=True)
        self._thread.start()

    def receive(self, packet: Packet) -> bool:
        """Queue a packet; returns at once. For one thread, such as that of an event loop.

        Returns:
            whether there was room for it.
        """
        size = len(packet.payload)
        waiting_bytes = self._received_bytes - self._taken_bytes
        if len(self._waiting) >= MOST_WAITING or waiting_bytes + size > MOST_BYTES:
            self._store.overflowed += 1
            return False
        self._received_bytes += size
        self._received += 1
        self._waiting.append(packet)
        if not self._arrived.is_set():
            self._arrived.set()
        return True

    def store_all(self, records: Iterable[Sequence[Record]]) -> None:
        """Store packets that have been read; blocks.

        A thread that reads a file calls it.

        Args:
            records: lists of packets, at most `MOST_AT_ONCE` each.
        """
        for each in records:
            if self._is_closed:
                break
            self._submit(each)

    @property
    def rate(self) -> float:
        """Packets stored per second, over the last `RATE_TIME` seconds."""
        samples, now = self._samples, time.monotonic()
        samples.append((now, self._done))
        while len(samples) > 1 and samples[1][0] <= now - RATE_TIME:
            samples.popleft()
        since, count = samples[0]
        return (self._done - count) / max(now - since, 1.0)

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until what was received so far is stored, from any thread but the event loop's.

        Args:
            timeout: seconds to wait at most.

        Returns:
            whether all is stored, or dropped.
        """
        wanted = self._received
        if self._done_received >= wanted:
            return True
        self._is_urgent.set()
        self._arrived.set()
        with self._progress:
            return self._progress.wait_for(lambda: self._done_received >= wanted, timeout)

    def _take(self) -> None:
        """Store what was received."""
        waiting = self._waiting
        while True:
            self._arrived.wait()
            if len(waiting) < ENOUGH and not self._is_closed:
                # Ends at once if a reader waits.
                self._is_urgent.wait(GATHER)
            self._is_urgent.clear()
            self._arrived.clear()
            is_last = self._is_closed
            while waiting:
                packets = [waiting.popleft() for _ in range(min(len(waiting), MOST_AT_ONCE))]
                self._taken_bytes += sum(len(packet.payload) for packet in packets)
                now = time.time()
                self._submit([record_of(packet, now) for packet in packets], received=True)
            if is_last:
                return

    def _submit(self, records: Sequence[Record], *, received: bool = False) -> None:
        """Store packets, one thread at a time."""
        count = len(records)
        with self._storing:
            try:
                self._store.add(records)
            except Exception:
                # A fault of ours in one batch must not end the storing of all others.
                log.exception("%d packets are not stored", count)
                self._store.dropped += count
            with self._progress:
                self._done += count
                self._done_received += count * received
                self._progress.notify_all()

    def close(self) -> None:
        """Store what waits, and end. Blocks for some seconds at most."""
        self._is_closed = True
        self._arrived.set()
        self._is_urgent.set()
        self._thread.join(_END)
        if self._thread.is_alive():
            log.error("the store does not answer; what waits for it is lost")
