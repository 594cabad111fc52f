"""What a sender keeps on disk while its collector is away: a `hep.sending.spool.Spool` and a queue.

The event loop never waits for the disk: packets go into a bounded list, and a task hands them to
the spool from a thread. Order is kept: memory holds the oldest packets, the spool those behind
them, the list the newest.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hep.sending.outbox import Outbox
from hep.sending.spool import Spool

log = logging.getLogger(__name__)

PENDING_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait for the disk: some seconds of a busy server, while the disk is slow."""

BATCH: Final = 1000
"""Packets written at a time."""

SPOOL_FULL: Final = "spool-full"
"""The cause of a packet given up because the spool had no room, or the disk was too slow."""

SPOOL_FAILED: Final = "spool-failed"
"""The cause of a packet that the disk did not take."""


class Spooler:
    """Keeps an outbox's packets on disk when it has no room for them, and at the end.

    Args:
        outbox: whose packets.
        directory: of the spool.
        limit_bytes: of the spool.

    Raises:
        HepSpoolError: the directory cannot be used.
    """

    def __init__(self, outbox: Outbox, directory: Path, limit_bytes: int) -> None:
        self._outbox = outbox
        self._spool = Spool(directory, limit_bytes)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._failing = False
        self._closing = False
        self._wake = asyncio.Event()
        self.recovered = self._spool.packets
        """Packets that an earlier process left."""
        outbox.offered += self.recovered
        outbox.spooled += self.recovered
        outbox.divert = self._take

    def wake(self) -> None:
        """Something has changed: the outbox may have run empty."""
        self._wake.set()

    async def run(self, on_restored: Callable[[], object]) -> None:
        """Move packets until `aclose`.

        Args:
            on_restored: called when there is something new in the outbox.
        """
        outbox, spool = self._outbox, self._spool
        while not self._closing:
            if self._pending and (spool.packets or outbox.in_memory):
                await self._write()
            elif not outbox.in_memory and (self._pending or spool.packets or spool.loaded):
                await self._refill()
                on_restored()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def aclose(self) -> None:
        """Write what is left, in order; to be called when `run` has ended."""
        outbox = self._outbox
        first = outbox.remove_all()
        try:
            await asyncio.to_thread(self._spool.put_back, first)
        except OSError as exc:
            self._note_failure(exc)
            outbox.drop_spooled(len(first), SPOOL_FAILED)
        while self._pending:
            await self._write()
        await asyncio.to_thread(self._spool.close)

    def stop(self) -> None:
        """Have `run` end after what it is doing."""
        self._closing = True
        self._wake.set()

    def _take(self, packet: bytes) -> None:
        if self._pending_bytes + len(packet) > PENDING_BYTES:
            self._outbox.drop_spooled(1, SPOOL_FULL)
            return
        self._pending.append(packet)
        self._pending_bytes += len(packet)
        self._wake.set()

    def _next_batch(self) -> list[bytes]:
        batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
        self._pending_bytes -= sum(map(len, batch))
        return batch

    async def _write(self) -> None:
        """Hand the oldest of what is pending to the disk."""
        batch = self._next_batch()
        try:
            given_up = await asyncio.to_thread(self._spool.append, batch)
        except OSError as exc:
            self._note_failure(exc)
            self._outbox.drop_spooled(len(batch), SPOOL_FAILED)
        else:
            self._outbox.drop_spooled(given_up, SPOOL_FULL)

    async def _refill(self) -> None:
        """The outbox has run empty: fill it with the oldest of what waits."""
        outbox, spool = self._outbox, self._spool
        await asyncio.to_thread(spool.discard)
        if not spool.packets:
            self._failing = False
            outbox.restore(self._next_batch())
            return
        packets, unreadable = await asyncio.to_thread(spool.load)
        outbox.drop_spooled(unreadable, SPOOL_FAILED)
        outbox.restore(packets)

    def _note_failure(self, exc: OSError) -> None:
        if not self._failing:
            # Once, until the collector has been back: a full disk takes a small packet now and
            # then, and the counters tell the rest.
            self._failing = True
            log.error("spool %s: %s", self._spool.directory, exc.strerror or exc)
