"""Moves packets between an outbox and a `hep.sending.spool.Spool` while a collector is down.

The event loop never waits for the disk. Packets go into a bounded list, and a task writes them to
the spool in a thread. The order is kept: the outbox holds the oldest packets, the spool the next
ones, the list the newest.
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
"""Maximum number of bytes in the list: some seconds of a busy server with a slow disk."""

BATCH: Final = 1000
"""Maximum number of packets in one write."""

SPOOL_FULL: Final = "spool-full"
"""Cause of a drop: the spool was full, or the disk was too slow."""

SPOOL_FAILED: Final = "spool-failed"
"""Cause of a drop: writing or reading the spool failed."""


class Spooler:
    """Stores the packets of an outbox on disk when it is full, and when the sender closes.

    Interface: `run` moves packets until `stop`, `wake` reports a change, `aclose` writes the rest.

    Args:
        outbox: queue of the sender. The spooler sets its ``divert``.
        directory: directory of the spool.
        limit_bytes: maximum size of the spool in bytes, from 1.

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
        """Packets left in the spool by an earlier process."""
        outbox.offered += self.recovered
        outbox.spooled += self.recovered
        outbox.divert = self._take

    def wake(self) -> None:
        """Report that the outbox may be empty."""
        self._wake.set()

    async def run(self, on_restored: Callable[[], object]) -> None:
        """Move packets until `stop`.

        Args:
            on_restored: called each time packets from disk are back in the outbox.
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
        """Write all remaining packets in order and close the spool. Call it after `run` ended."""
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
        """Make `run` end after its current operation."""
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
        """Write the oldest packets of the list to the spool."""
        batch = self._next_batch()
        try:
            dropped = await asyncio.to_thread(self._spool.append, batch)
        except OSError as exc:
            self._note_failure(exc)
            self._outbox.drop_spooled(len(batch), SPOOL_FAILED)
        else:
            self._outbox.drop_spooled(dropped, SPOOL_FULL)

    async def _refill(self) -> None:
        """Fill the empty outbox with the oldest packets of the spool or of the list."""
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
            # Logged once until the spool has been emptied: a full disk still accepts a small packet
            # now and then. The counters show the others.
            self._failing = True
            log.error(
                "spool %s: %s; packets are dropped as %s until the disk accepts them",
                self._spool.directory,
                exc.strerror or exc,
                SPOOL_FAILED,
            )
