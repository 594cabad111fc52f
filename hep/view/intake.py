"""Brings packets into a store: a bounded queue, a thread that makes rows and one that writes them.

The event loop, which receives packets, waits for neither. A queue that is full drops packets, and
counts them.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from hep.codec.packet import Packet
from hep.view.model.record import record_of
from hep.view.store.store import Store
from hep.view.store.writer import Batch

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

RATE_TIME: Final = 10
"""Seconds over which `Intake.rate` counts."""

_END: Final = 10.0
"""Seconds to wait for the threads at the end."""


class Intake:
    """Stores packets in the background.

    Args:
        store: where they go; it is not closed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Packet] = deque()
        self._bytes = 0
        self._taken = 0
        self._done = 0
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._room = threading.Event()
        self._idle = threading.Condition(self._lock)
        self._batches: queue.Queue[tuple[Batch | None, int] | None] = queue.Queue(maxsize=1)
        self._is_closed = False
        self._is_urgent = threading.Event()
        self._per_second: deque[tuple[int, int]] = deque(maxlen=RATE_TIME + 1)
        self._threads = [
            threading.Thread(target=self._prepare, name="hep view rows", daemon=True),
            threading.Thread(target=self._commit, name="hep view store", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def receive(self, packet: Packet) -> bool:
        """Queue a packet, from any thread; returns at once.

        Returns:
            whether there was room for it.
        """
        with self._lock:
            if len(self._waiting) >= MOST_WAITING or self._bytes >= MOST_BYTES:
                self._store.overflowed += 1
                return False
            self._waiting.append(packet)
            self._bytes += len(packet.payload)
            self._taken += 1
            self._count()
        self._arrived.set()
        return True

    def receive_all(self, packets: Iterable[Packet], stop: threading.Event) -> int:
        """Queue packets, and wait for room for each; for a thread that reads a file.

        Args:
            packets: the packets.
            stop: ends it when set.

        Returns:
            how many were queued.
        """
        count = 0
        for packet in packets:
            while len(self._waiting) >= MOST_AT_ONCE and not stop.is_set():
                self._room.clear()
                if len(self._waiting) >= MOST_AT_ONCE:
                    self._room.wait(GATHER)
            if stop.is_set():
                break
            count += self.receive(packet)
        return count

    def _count(self) -> None:
        second = int(time.monotonic())
        if self._per_second and self._per_second[-1][0] == second:
            self._per_second[-1] = second, self._per_second[-1][1] + 1
        else:
            self._per_second.append((second, 1))

    @property
    def rate(self) -> float:
        """Packets per second, over the last `RATE_TIME` whole seconds."""
        now = int(time.monotonic())
        with self._lock:
            counts = list(self._per_second)
        return sum(n for second, n in counts if now - RATE_TIME <= second < now) / RATE_TIME

    @property
    def waiting(self) -> int:
        """Packets that are not stored yet."""
        return self._taken - self._done

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until what was queued so far is stored, from any thread but the event loop's.

        Args:
            timeout: seconds to wait at most.

        Returns:
            whether all is stored, or dropped.
        """
        with self._idle:
            wanted = self._taken
            if self._done >= wanted:
                return True
            self._is_urgent.set()
            self._arrived.set()
            return self._idle.wait_for(lambda: self._done >= wanted, timeout)

    def _prepare(self) -> None:
        while True:
            self._arrived.wait()
            if not self._is_urgent.is_set() and len(self._waiting) < ENOUGH and not self._is_closed:
                # Wakes at once if a reader waits.
                self._is_urgent.wait(GATHER)
            with self._lock:
                self._is_urgent.clear()
                self._arrived.clear()
                waiting = self._waiting
                packets = [waiting.popleft() for _ in range(min(len(waiting), MOST_AT_ONCE))]
                self._bytes -= sum(len(packet.payload) for packet in packets)
                if waiting:
                    self._arrived.set()
                is_last = self._is_closed and not waiting
            self._room.set()
            if packets:
                batch: Batch | None = None
                now = time.time()
                try:
                    batch = self._store.prepare([record_of(packet, now) for packet in packets])
                except Exception:
                    # A fault of ours in one batch must not end the storing of all others.
                    log.exception("%d packets are not stored", len(packets))
                    self._store.dropped += len(packets)
                self._batches.put((batch, len(packets)))
            if is_last:
                self._batches.put(None)
                return

    def _commit(self) -> None:
        while (work := self._batches.get()) is not None:
            batch, count = work
            try:
                if batch is not None:
                    self._store.commit(batch)
            except Exception:
                log.exception("%d packets are not stored", count)
                self._store.dropped += count
            with self._idle:
                self._done += count
                self._idle.notify_all()

    def close(self) -> None:
        """Store what waits, and end. Blocks for some seconds at most."""
        self._is_closed = True
        self._arrived.set()
        with suppress(RuntimeError):
            for thread in self._threads:
                thread.join(_END)
