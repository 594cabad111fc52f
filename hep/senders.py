"""Sending packets: UDP, TCP and TLS behind one method that neither blocks nor raises."""

import asyncio
import logging
import random
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self

import asyncio_dgram
from asyncio_dgram.aio import DatagramClient

from hep.hep_id import HepId
from hep.outbox import LIMIT, Outbox, WhenFull

log = logging.getLogger(__name__)

LONGEST_DATAGRAM: Final = 65_507
"""Payload bytes of a UDP datagram over IPv4."""

COALESCE: Final = 64 * 1024
"""Bytes that go to the system in one write, as far as so many wait."""

TOO_LONG: Final = "too-long"
"""The cause of a packet dropped because no datagram can carry it."""

REFUSED: Final = "refused"
"""The cause of a packet that the system says nobody received (an ICMP message came back)."""

SHUTDOWN: Final = "shutdown"
"""The cause of a packet that still waited when the sender was closed."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How hard a sender tries."""

    queue_limit: int = LIMIT
    """Packets that may wait."""
    when_full: WhenFull = "drop-oldest"
    connect_timeout: float = 5.0
    """Seconds that a connection may take to come up."""
    retry_first: float = 0.2
    """Seconds before the first new try to connect; doubled each time, and jittered by half."""
    retry_longest: float = 15.0
    """Seconds between two tries at the most."""
    tls: ssl.SSLContext | None = None
    """For transport tls; the system's certificates and full verification unless given."""


class _Link(Protocol):
    """A connection to a collector."""

    async def send(self, outbox: Outbox) -> None:
        """Send some of what waits; raises OSError where the link is broken."""

    async def broken(self) -> None:
        """Wait until the link is of no more use."""

    def close(self) -> None:
        """Let go of it."""


class Sender:
    """Sends packets to one collector, which may come and go. Made by `open_sender`.

    Packets wait in a bounded queue while there is no connection; they are sent in order.
    """

    def __init__(self, destination: HepId, settings: SenderSettings) -> None:
        self.destination = destination
        self.counters = Outbox(settings.queue_limit, settings.when_full)
        """The ledger: offered, sent, dropped by cause, queued."""
        self.connects = 0
        """Connections that came up."""
        self.failures = 0
        """Tries to connect that failed, and connections that broke."""
        self._settings = settings
        self._something_waits = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"hep {destination}")

    def send(self, packet: bytes) -> None:
        """Send an encoded packet, now or when there is a connection; returns at once."""
        self.counters.put(packet)
        self._all_sent.clear()
        self._something_waits.set()

    async def aclose(self, timeout: float = 2.0) -> None:
        """Send what waits, and end.

        Args:
            timeout: seconds that it may take; what is left then is dropped and counted.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._all_sent.wait()
        self._task.cancel()
        await asyncio.wait([self._task])
        self.counters.drop_all(SHUTDOWN)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _run(self) -> None:
        settings = self._settings
        pause = settings.retry_first
        down = False
        while True:
            try:
                async with asyncio.timeout(settings.connect_timeout):
                    link = await _connect(self.destination, settings)
            except (OSError, TimeoutError) as exc:
                self.failures += 1
                if not down:
                    log.warning(
                        "no connection to %s: %s; trying on", self.destination, exc or "timeout"
                    )
                down = True
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, settings.retry_longest)
                continue
            self.connects += 1
            if down:
                log.warning("connected to %s again", self.destination)
            down, pause = False, settings.retry_first
            try:
                await self._serve(link)
            finally:
                link.close()
            self.failures += 1

    async def _serve(self, link: _Link) -> None:
        """Send over a link until it breaks."""
        broken = asyncio.ensure_future(link.broken())
        try:
            while not broken.done():
                if not self.counters.queued:
                    self._all_sent.set()
                    self._something_waits.clear()
                    waiting = asyncio.ensure_future(self._something_waits.wait())
                    await asyncio.wait((waiting, broken), return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    continue
                try:
                    await link.send(self.counters)
                except OSError as exc:
                    self.counters.undo()
                    log.warning("connection to %s broke: %s", self.destination, exc)
                    return
        finally:
            broken.cancel()


def open_sender(destination: HepId, settings: SenderSettings | None = None) -> Sender:
    """Start sending to a collector; connecting goes on in the background.

    Needs a running event loop. Names are resolved anew at every connection.
    """
    return Sender(destination, settings or SenderSettings())


async def _connect(destination: HepId, settings: SenderSettings) -> _Link:
    if destination.transport == "udp":
        return _Datagrams(await _open_endpoint(destination.host, destination.port))
    context = None
    if destination.transport == "tls":
        context = settings.tls or ssl.create_default_context()
    return _Stream(*await asyncio.open_connection(destination.host, destination.port, ssl=context))


async def _open_endpoint(host: str, port: int) -> DatagramClient:
    """A connected UDP socket; a cancelled call leaves none behind."""
    # Resolving may take long and may be cancelled; what comes after it takes a moment and may not:
    # a socket abandoned half-open keeps uvloop from ever closing its loop.
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    opening = asyncio.ensure_future(asyncio_dgram.connect(found[0][4][:2]))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        (await opening).close()
        raise


class _Datagrams:
    """A connected UDP socket: it never breaks, but the system may say that nobody listens."""

    def __init__(self, endpoint: DatagramClient) -> None:
        self._endpoint = endpoint
        self._outbox: Outbox | None = None
        self._refused = False

    async def send(self, outbox: Outbox) -> None:
        self._outbox = outbox
        for packet in outbox.take(1):
            if len(packet) > LONGEST_DATAGRAM:
                outbox.drop_taken(TOO_LONG)
                return
            try:
                await self._endpoint.send(packet)
            except OSError:
                # It concerns a packet sent before; this one has not been tried.
                outbox.undo()
                self._note_refusal(outbox)
                return
            outbox.done()

    async def broken(self) -> None:
        # A collector has nothing to say. What comes all the same is read, or it would pile up.
        while True:
            try:
                await self._endpoint.recv()
            except OSError:
                if self._outbox is not None:
                    self._note_refusal(self._outbox)

    def _note_refusal(self, outbox: Outbox) -> None:
        outbox.lost(REFUSED)
        if not self._refused:
            # Once: the counters tell the rest.
            self._refused = True
            log.warning("nobody receives HEP on udp %s:%d", *self._endpoint.peername[:2])

    def close(self) -> None:
        self._endpoint.close()


class _Stream:
    """A TCP or TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        # Nothing is to wait in this process: what the system has not taken must survive a break.
        writer.transport.set_write_buffer_limits(high=0)

    async def send(self, outbox: Outbox) -> None:
        self._writer.write(b"".join(outbox.take(COALESCE)))
        await self._writer.drain()
        outbox.done()

    async def broken(self) -> None:
        # A collector has nothing to say; the end of what it says is the end of the connection.
        with suppress(OSError):
            while await self._reader.read(COALESCE):
                pass

    def close(self) -> None:
        self._writer.close()
