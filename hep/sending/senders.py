"""Senders to one collector over UDP, TCP, TLS and Unix sockets.

`Sender.send` queues a packet and never blocks. The sender connects in the background.
"""

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
from hep.sending.links import REFUSED, TOO_LONG, Link, connect
from hep.sending.outbox import LIMIT, LIMIT_BYTES, Outbox, WhenFull
from hep.sending.reasons import ALERT, EXPECTS_TCP, EXPECTS_TLS, End, HandshakeError, why
from hep.sending.spool import LIMIT_BYTES as SPOOL_LIMIT_BYTES
from hep.sending.spooling import Spooler

log = logging.getLogger(__name__)

__all__ = ["REFUSED", "SHUTDOWN", "TOO_LONG", "Sender", "SenderSettings", "open_sender"]

SHUTDOWN: Final = "shutdown"
"""Cause of a drop: the packet was still queued when the sender was closed, or came later."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """Limits, timeouts and options of a sender."""

    queue_limit: int = LIMIT
    """Maximum number of packets queued in memory, from 1. Default: 10000."""
    queue_limit_bytes: int = LIMIT_BYTES
    """Maximum number of bytes queued in memory, from 1. Default: 64 MiB."""
    when_full: WhenFull = "drop-oldest"
    """Packet to drop when the queue is full: ``drop-oldest`` or ``drop-newest``."""
    connect_timeout: float = 5.0
    """Time limit for connecting in seconds, including name resolution and TLS handshake."""
    retry_first: float = 0.2
    """Seconds before the first reconnect. Doubles with each failure. The actual pause is between
    half of the value and the value, at random."""
    retry_longest: float = 15.0
    """Maximum number of seconds between two attempts to connect."""
    tls: ssl.SSLContext | None = None
    """TLS context for transport tls. Default: the CA certificates of the system; certificate and
    host name are verified. A context with a client certificate gives mutual TLS."""
    longest: int = LONGEST
    """Maximum length of a packet in bytes, over any transport. Default: 65507."""
    when_too_long: WhenTooLong = "drop"
    """Handling of a longer packet: ``drop`` it, ``truncate`` its payload, or ``compress`` its
    payload (which Homer cannot read)."""
    auth_key: bytes | None = None
    """Authenticate key (chunk 0x000e) added to each `Packet` without one (version 3 only). Packets
    sent as bytes are not changed."""
    spool: Path | None = None
    """Directory for packets that exceed the queue, and for those queued when the sender closes. The
    next sender with the same directory sends them. Default: none, such packets are dropped."""
    spool_limit_bytes: int = SPOOL_LIMIT_BYTES
    """Maximum number of bytes in the spool. Beyond it, the oldest segment is dropped. Default:
    256 MiB."""


_ROOM_FOR_THE_REST: Final = 1024
"""Bytes kept for the other chunks. If a payload is shorter than the maximum by more than this, an
encoding error has another reason than the length."""


class Sender:
    """Sends packets to one collector and reconnects when needed. Made by `open_sender`.

    Interface:

    - `send` and `send_all` queue packets and return at once.
    - ``counters`` is the `Outbox`: packets offered, sent, dropped by cause, queued.
    - `drained` waits until the queue is empty.
    - `aclose` sends the queued packets and closes. ``async with`` calls it.
    - ``connected``, ``connects``, ``failures``, ``last_error`` and ``on_change`` report the state
      of the connection.

    Packets are sent in order. Without a connection they stay in a bounded queue. When a connection
    breaks, packets that the system accepted and did not deliver are lost. A packet that the system
    accepted in part is sent again, so a collector may receive a packet twice.

    Args:
        destination: the collector.
        settings: limits and options.

    Raises:
        HepSpoolError: the spool directory cannot be used.
        RuntimeError: no event loop is running.
    """

    def __init__(self, destination: HepId, settings: SenderSettings) -> None:
        self.destination = destination
        self.counters = Outbox(settings.queue_limit, settings.when_full, settings.queue_limit_bytes)
        """Counters of packets: offered, sent, dropped by cause, queued."""
        self.connects = 0
        """Connections established."""
        self.failures = 0
        """Failed attempts to connect, and connections that ended."""
        self.last_error: str | None = None
        """Reason of the last failure; None before the first one."""
        self.shortened = 0
        """Packets truncated or compressed because they were too long."""
        self.connected = False
        """Whether the sender is connected. UDP is connected once the name is resolved."""
        self.on_change: Callable[[], object] = _ignore_change
        """Called each time ``connected`` changes."""
        self._settings = settings
        self._longest = settings.longest
        self._closed = False
        self._worked = False
        self._hung_up = False
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
        """Queue a packet for sending. Returns at once.

        Args:
            packet: an encoded packet, or a `Packet`, which is encoded in the version of the
                destination. A packet longer than ``SenderSettings.longest`` is shortened or dropped
                as ``SenderSettings.when_too_long`` says.

        Raises:
            HepEncodeError: a value of a `Packet` does not fit its chunk. Encoded packets never
                raise.
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
        """Queue encoded packets in order, with the result of one `send` each. Returns at once."""
        size = sum(map(len, packets))
        # All packets together are mostly shorter than the limit for one, which skips `max`.
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
        """Wait until all queued packets have been sent or the sender is closed.

        Use it for flow control, when the packets come from a source that can wait.
        """
        if self.counters.queued:
            self._all_sent.clear()
            await self._all_sent.wait()

    @property
    def reconnects(self) -> int:
        """Connections established after the first one."""
        return max(0, self.connects - 1)

    async def aclose(self, timeout: float = 2.0) -> None:
        """Send the queued packets, then close. May be called again.

        Args:
            timeout: time limit for sending in seconds, from 0. After that, packets that are still
                queued are dropped and counted as `SHUTDOWN`, or kept in the spool if there is one.
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
                link = await connect(
                    self.destination,
                    settings.tls,
                    self.failures,
                    self.counters,
                    self._ran_empty,
                    settings.connect_timeout,
                )
            except (OSError, TimeoutError, ValueError) as exc:
                # ValueError: the host is not a valid host name.
                self.last_error = self._why_not_connected(exc)
                self._hung_up = False
                if not down:
                    log.warning(
                        "no connection to %s: %s; retrying", self.destination, self.last_error
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
                # The connection was stable: reconnect at once.
                pause = settings.retry_first
                continue
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, settings.retry_longest)

    async def _serve(self, link: Link) -> None:
        """Send over a link until it ends."""
        self.connects += 1
        self._link = link
        if self.destination.transport == "tls":
            # The handshake showed that the transport is right.
            self._worked = True
        self._set_connected(True)
        if self.counters.queued:
            link.wake()
        try:
            self._note_end(await link.broken)
        finally:
            self._link = None
            self._set_connected(False)
            await link.aclose()

    def _why_not_connected(self, exc: Exception) -> str:
        reason = why(exc) or f"no answer within {self._settings.connect_timeout:g} s"
        if isinstance(exc, HandshakeError) and (exc.answered or not self._worked):
            return f"{reason}; {EXPECTS_TCP}"
        return reason

    def _note_end(self, end: End) -> None:
        """Record and log the end of a connection; an end that repeats itself is logged once."""
        self._worked = self._worked or end.worked
        is_hint = self.destination.transport == "tcp" and (
            end.answer.startswith(ALERT) or (end.hung_up and not self._worked)
        )
        self.last_error = f"{end.reason}; {EXPECTS_TLS}" if is_hint else end.reason
        if (end.error is not None or is_hint) and not (is_hint and self._hung_up):
            log.warning("connection to %s broke: %s", self.destination, self.last_error)
        self._hung_up = is_hint

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


def _ignore_change() -> None:
    """Ignore a change of ``connected``."""


def open_sender(destination: HepId, settings: SenderSettings | None = None) -> Sender:
    """Create a sender, which connects in the background.

    Needs a running event loop. Each attempt to connect resolves the host name again.

    Args:
        destination: the collector.
        settings: limits and options. Default: `SenderSettings`.

    Returns:
        the sender. Close it with `Sender.aclose`.

    Raises:
        HepSpoolError: the spool directory in the settings cannot be used.
        RuntimeError: no event loop is running.
    """
    return Sender(destination, settings or SenderSettings())
