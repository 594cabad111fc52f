"""Moves packets between an outbox and a `hep.sending.spool.Spool` while a collector is down.

The event loop never waits for the disk. Packets go into a bounded list, and a task writes them to
the spool in a thread, one operation at a time. The order is kept: the outbox holds the oldest
packets, the spool the next ones, the list the newest.
"""

import asyncio
import errno
import logging
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from hep.sending.outbox import Outbox
from hep.sending.spool import SPOOL_DAMAGED, SPOOL_FAILED, SPOOL_FULL, Fsync, Spool

log = logging.getLogger(__name__)

__all__ = ["SPOOL_DAMAGED", "SPOOL_FAILED", "SPOOL_FULL", "Spooler"]

T = TypeVar("T")

PENDING_BYTES: Final = 16 * 1024 * 1024
"""Maximum number of bytes in the list: some seconds of a busy server with a slow disk."""

BATCH: Final = 1000
"""Maximum number of packets in one write."""

READ_PAUSE: Final = 1.0
"""Seconds before a failed read is repeated."""

READ_ATTEMPTS: Final = 3
"""Failed reads of a segment before it is left out."""

_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""Errors that say nothing about the segment: reading is repeated without end."""


class Spooler:
    """Stores the packets of an outbox on disk when it is full, and when the sender closes.

    Interface: `run` moves packets until `stop`, `wake` reports a change, `aclose` writes the rest.
    `hold` and `refill` are for another sender that takes over the packets.

    Args:
        outbox: queue of the sender. The spooler sets its ``divert``.
        directory: directory of the spool.
        limit_bytes: maximum size of the spool in bytes, from 1.
        fsync: as in `Spool`.

    Raises:
        HepSpoolError: the directory cannot be used.
    """

    def __init__(
        self, outbox: Outbox, directory: Path, limit_bytes: int, fsync: Fsync = "segment"
    ) -> None:
        self._outbox = outbox
        # Reading all segments takes seconds. `run` does so in a thread.
        self._spool = Spool(directory, limit_bytes, fsync=fsync, scan=False)
        # Until then at least one packet counts as spooled if there is a segment. New packets thus
        # come after those on disk.
        self._assumed = int(not self._spool.is_empty)
        self._recovered = 0
        self._losses: Counter[str] = Counter()
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._failing = False
        self._failed_reads = 0
        self._read_at = 0.0
        self._held = False
        self._closing = False
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        outbox.offered += self._assumed
        outbox.spooled += self._assumed
        outbox.divert = self._take

    def wake(self) -> None:
        """Report that the outbox may be empty."""
        self._wake.set()

    def hold(self) -> None:
        """Keep what is on disk there: another sender has the packets of the loaded segment.

        It ends with `refill` or `release`.
        """
        self._held = True

    def release(self) -> None:
        """Go on after `hold`: the packets that were taken over need no copy on disk any more."""
        self._held = False
        self._wake.set()

    async def refill(self) -> None:
        """End `hold` and wait until the next packets from disk are in the outbox, if any."""
        self.release()
        if not self._closing:
            self._settled.clear()
            await self._settled.wait()

    async def run(self, on_change: Callable[[], object]) -> None:
        """Move packets until `stop`.

        Args:
            on_change: called each time packets from disk are back in the outbox, and when packets
                were lost.
        """
        try:
            is_changed = True
            await _in_thread(self._spool.scan)
            self._account()
            while not self._closing:
                if is_changed:
                    on_change()
                try:
                    is_changed = await self._step()
                except Exception:
                    # The task must not end: packets would wait in the list for ever.
                    log.exception("spool %s", self._spool.directory)
                    await asyncio.sleep(READ_PAUSE)
        finally:
            self._closing = True
            self._settled.set()

    async def aclose(self) -> None:
        """Write all remaining packets in order and close the spool. Call it after `run` ended."""
        outbox, spool = self._outbox, self._spool
        first = outbox.remove_all()
        if self._held:
            # Whether the other sender has sent them is not known: better twice than never.
            spool.keep()
        await self._store(spool.put_back, first)
        while self._pending:
            await self._write()
        await _in_thread(spool.close)

    def stop(self) -> None:
        """Make `run` end after its current operation."""
        self._closing = True
        self._wake.set()

    async def _step(self) -> bool:
        """Do one operation, or wait for one. Returns whether something has changed."""
        outbox, spool = self._outbox, self._spool
        pause = self._read_at - asyncio.get_running_loop().time()
        if self._pending and (spool.packets or outbox.in_memory or self._held):
            await self._write()
        elif (
            not outbox.in_memory
            and not self._held
            and pause <= 0
            and (self._pending or spool.packets or spool.loaded)
        ):
            await self._refill()
            if self._read_at <= 0:
                self._settled.set()
        else:
            if pause <= 0:
                self._settled.set()
            self._wake.clear()
            try:
                async with asyncio.timeout(pause if pause > 0 else None):
                    await self._wake.wait()
            except TimeoutError:
                self._read_at = 0.0
            return False
        return True

    def _take(self, packet: bytes) -> None:
        if self._pending_bytes + len(packet) > PENDING_BYTES:
            self._outbox.drop_spooled(1, SPOOL_FULL)
            return
        self._pending.append(packet)
        self._pending_bytes += len(packet)
        self._wake.set()

    def _next_batch(self) -> list[bytes]:
        pending = self._pending
        batch = [pending.popleft() for _ in range(min(BATCH, len(pending)))]
        self._pending_bytes -= sum(map(len, batch))
        return batch

    async def _write(self) -> None:
        """Write the oldest packets of the list to the spool."""
        await self._store(self._spool.append, self._next_batch())

    async def _store(self, write: Callable[[list[bytes]], object], packets: list[bytes]) -> None:
        before = self._spool.written
        try:
            await _in_thread(write, packets)
        except Exception as exc:
            self._note_failure(exc)
            lost = len(packets) - (self._spool.written - before)
            self._outbox.drop_spooled(lost, SPOOL_FAILED)
        self._account()

    async def _refill(self) -> None:
        """Fill the empty outbox with the oldest packets of the spool or of the list."""
        outbox, spool = self._outbox, self._spool
        await _in_thread(spool.discard)
        if not spool.packets:
            self._failing = False
            outbox.restore(self._next_batch())
            return
        try:
            packets, _ = await _in_thread(spool.load)
        except OSError as exc:
            self._note_failed_read(exc)
            packets = []
        else:
            self._failed_reads = 0
        self._account()
        outbox.restore(packets)

    def _account(self) -> None:
        """Bring the counters of the outbox up to those of the spool."""
        outbox, spool = self._outbox, self._spool
        found = spool.recovered - self._recovered
        self._recovered = spool.recovered
        if self._assumed:
            # The files may be gone meanwhile.
            outbox.drop_spooled(int(not found), SPOOL_FAILED)
            found = max(0, found - self._assumed)
            self._assumed = 0
        outbox.offered += found
        outbox.spooled += found
        losses = spool.losses.copy()
        for cause, count in losses.items():
            outbox.drop_spooled(count - self._losses[cause], cause)
        self._losses = losses

    def _note_failure(self, exc: Exception) -> None:
        if not self._failing:
            # Logged once until the spool has been emptied: a full disk still accepts a small packet
            # now and then. The counters show the others.
            self._failing = True
            log.error(
                "spool %s: %s; packets are dropped as %s until the disk accepts them",
                self._spool.directory,
                getattr(exc, "strerror", None) or repr(exc),
                SPOOL_FAILED,
            )

    def _note_failed_read(self, exc: OSError) -> None:
        self._failed_reads += 1
        if exc.errno not in _PASSING and self._failed_reads >= READ_ATTEMPTS:
            self._failed_reads = 0
            self._spool.skip(exc)
            return
        if self._failed_reads == 1:
            log.error(
                "spool %s: %s; reading is repeated", self._spool.directory, exc.strerror or exc
            )
        self._read_at = asyncio.get_running_loop().time() + READ_PAUSE


async def _in_thread(function: Callable[..., T], *args: object) -> T:
    """Call a function in a thread; here, if the interpreter is ending and starts no threads."""
    call = partial(function, *args)
    try:
        future = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        return call()
    return await future
