"""Sending packets: UDP, TCP and TLS behind one method that neither blocks nor raises."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from hep.codec.any_version import decode, encode
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepEncodeError
from hep.hep_id import HepId
from hep.sending.fitting import LONGEST, WhenTooLong, fit
from hep.sending.links import REFUSED, TOO_LONG, Link, connect, why
from hep.sending.outbox import LIMIT, LIMIT_BYTES, Outbox, WhenFull
from hep.sending.spool import LIMIT_BYTES as SPOOL_LIMIT_BYTES
from hep.sending.spooling import Spooler

log = logging.getLogger(__name__)

__all__ = ["REFUSED", "SHUTDOWN", "TOO_LONG", "Sender", "SenderSettings", "open_sender"]

SHUTDOWN: Final = "shutdown"
"""The cause of a packet that still waited when the sender was closed, or came after that."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How hard a sender tries."""

    queue_limit: int = LIMIT
    """Packets that may wait."""
    queue_limit_bytes: int = LIMIT_BYTES
    """Bytes that may wait."""
    when_full: WhenFull = "drop-oldest"
    connect_timeout: float = 5.0
    """Seconds that a connection may take to come up."""
    retry_first: float = 0.2
    """Seconds before the first new try to connect; doubled each time, and jittered by half."""
    retry_longest: float = 15.0
    """Seconds between two tries at the most."""
    tls: ssl.SSLContext | None = None
    """For transport tls; the system's certificates and full verification unless given. A context
    with a certificate of one's own makes it mutual."""
    longest: int = LONGEST
    """Bytes of the longest packet to send, over any transport."""
    when_too_long: WhenTooLong = "drop"
    """What becomes of a longer one: ``drop``, ``truncate`` its payload, or ``compress`` it
    (which Homer cannot read)."""
    auth_key: bytes | None = None
    """The authenticate key of each `Packet` sent that has none (version 3 only). What is sent as
    bytes goes out as it is."""
    spool: Path | None = None
    """A directory that takes what finds no room in the queue, and what is left at the end; the
    next sender with the same one sends it. Without it, such packets are dropped."""
    spool_limit_bytes: int = SPOOL_LIMIT_BYTES
    """Bytes that may be on disk."""


_ROOM_FOR_THE_REST: Final = 1024
"""Bytes: where a payload leaves more than this, it is not the length that keeps a packet from being
encoded."""


class Sender:
    """Sends packets to one collector, which may come and go. Made by `open_sender`.

    Packets wait in a bounded queue while there is no connection; they are sent in order. A
    connection that breaks takes along what the system had taken and not delivered; what it had not
    taken whole is sent again, so that a collector may get a packet twice.
    """

    def __init__(self, destination: HepId, settings: SenderSettings) -> None:
        self.destination = destination
        self.counters = Outbox(settings.queue_limit, settings.when_full, settings.queue_limit_bytes)
        """The ledger: offered, sent, dropped by cause, queued."""
        self.connects = 0
        """Connections that came up."""
        self.failures = 0
        """Tries to connect that failed, and connections that broke."""
        self.last_error: str | None = None
        """Why the last of them failed."""
        self.shortened = 0
        """Packets truncated or compressed because they were too long."""
        self.connected = False
        """Whether there is a connection now. UDP has one as soon as the name is resolved."""
        self.on_change: Callable[[], object] = _nothing
        """Called whenever ``connected`` changes."""
        self._settings = settings
        self._longest = settings.longest
        self._closed = False
        self._link: Link | None = None
        self._all_sent = asyncio.Event()
        self._spooler: Spooler | None = None
        self._spooling: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        if settings.spool is not None:
            self._spooler = Spooler(self.counters, settings.spool, settings.spool_limit_bytes)
            self._spooling = loop.create_task(
                self._spooler.run(self._restored), name=f"spool {destination}"
            )
        self._task = loop.create_task(self._run(), name=f"hep {destination}")

    def send(self, packet: bytes | Packet) -> None:
        """Send a packet, now or when there is a connection; returns at once.

        Args:
            packet: encoded, or to be encoded in the version of the destination.

        Raises:
            HepEncodeError: a value of the packet does not fit, other than that all is too long.
        """
        if not isinstance(packet, bytes):
            encoded = self._encode(packet)
        elif len(packet) > self._longest:
            encoded = self._shorten(packet)
        else:
            encoded = packet
        if encoded is None:
            self.counters.refuse(TOO_LONG)
        elif self._closed:
            self.counters.refuse(SHUTDOWN)
        else:
            self.counters.put(encoded)
            if self._link is not None:
                self._link.wake()

    def send_all(self, packets: Sequence[bytes]) -> None:
        """Send encoded packets in their order, as if each were sent; returns at once."""
        size = sum(map(len, packets))
        # Together they are mostly shorter than one may be.
        if self._closed or (size > self._longest and max(map(len, packets)) > self._longest):
            for packet in packets:
                self.send(packet)
            return
        self.counters.put_all(packets, size)
        if self._link is not None:
            self._link.wake()

    def _encode(self, packet: Packet) -> bytes | None:
        settings, version = self._settings, self.destination.version
        if packet.version != version:
            packet = replace(packet, version=version, layout=())
        if packet.auth_key is None and settings.auth_key is not None and version == 3:
            packet = replace(packet, auth_key=settings.auth_key, layout=())
        if len(packet.payload) <= self._longest:
            try:
                encoded = encode(packet)
            except HepEncodeError:
                if len(packet.payload) < self._longest - _ROOM_FOR_THE_REST:
                    raise
            else:
                if len(encoded) <= self._longest:
                    return encoded
        return self._fit(packet)

    def _shorten(self, data: bytes) -> bytes | None:
        try:
            return self._fit(decode(data))
        except HepDecodeError:
            return None

    def _fit(self, packet: Packet) -> bytes | None:
        encoded = fit(packet, self._longest, self._settings.when_too_long)
        if encoded is not None:
            self.shortened += 1
        return encoded

    async def drained(self) -> None:
        """Wait until all that waits has been sent, or the sender is closed.

        For who has packets from elsewhere, and can leave them there: else more would be dropped.
        """
        if self.counters.queued:
            self._all_sent.clear()
            await self._all_sent.wait()

    @property
    def reconnects(self) -> int:
        """Connections that came up after the first."""
        return max(0, self.connects - 1)

    async def aclose(self, timeout: float = 2.0) -> None:
        """Send what waits, and end.

        Args:
            timeout: seconds that it may take; what is left then is dropped and counted, or kept
                in the spool where there is one.
        """
        self._closed = True
        if self.counters.queued and not self._task.done():
            self._all_sent.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._all_sent.wait()
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._spooler is not None and self._spooling is not None:
            self._spooler.stop()
            await self._spooling
            await self._spooler.aclose()
        self.counters.drop_all(SHUTDOWN)
        self._all_sent.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _run(self) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        pause = settings.retry_first
        down = False
        while True:
            since = loop.time()
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    link = await connect(
                        self.destination,
                        settings.tls,
                        self.failures,
                        self.counters,
                        self._ran_empty,
                    )
            except (OSError, TimeoutError, ValueError) as exc:
                # ValueError: what is written as the host can be no name.
                self.last_error = why(exc) or f"no answer within {settings.connect_timeout:g} s"
                if not down:
                    log.warning(
                        "no connection to %s: %s; trying on", self.destination, self.last_error
                    )
                down = True
            else:
                if down:
                    again = " again" if self.connects else ""
                    log.warning("connected to %s%s", self.destination, again)
                down = False
                since = loop.time()
                await self._serve(link)
            self.failures += 1
            if not down and loop.time() - since > pause:
                # It was a good connection: the next one comes at once.
                pause = settings.retry_first
                continue
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, settings.retry_longest)

    async def _serve(self, link: Link) -> None:
        """Send over a link until it breaks."""
        self.connects += 1
        self._link = link
        self._set_connected(True)
        if self.counters.queued:
            link.wake()
        try:
            if (exc := await link.broken) is not None:
                self.last_error = why(exc)
                log.warning("connection to %s broke: %s", self.destination, self.last_error)
        finally:
            self._link = None
            self._set_connected(False)
            await link.aclose()

    def _ran_empty(self) -> None:
        if self._spooler is not None:
            self._spooler.wake()
        if not self.counters.queued:
            self._all_sent.set()

    def _restored(self) -> None:
        if self._link is not None:
            self._link.wake()

    def _set_connected(self, connected: bool) -> None:
        self.connected = connected
        self.on_change()


def _nothing() -> None:
    """What nobody wants to know of."""


def open_sender(destination: HepId, settings: SenderSettings | None = None) -> Sender:
    """Start sending to a collector; connecting goes on in the background.

    Needs a running event loop. Names are resolved anew at every connection.

    Raises:
        HepSpoolError: the directory in the settings cannot be used.
    """
    return Sender(destination, settings or SenderSettings())
