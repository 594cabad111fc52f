"""Senders to one collector over UDP, TCP, TLS and Unix sockets.

`Sender.send` queues a packet and never blocks. The sender connects in the background.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from typing import Any, Final, Self

from hep.codec.any_version import decode, encode
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepEncodeError
from hep.hep_id import HepId
from hep.sending.fitting import fit
from hep.sending.handoff import Handoff, checked
from hep.sending.links import REFUSED, TOO_LONG, Link, connect
from hep.sending.outbox import FULL, Outbox
from hep.sending.reasons import ALERT, EXPECTS_TCP, EXPECTS_TLS, End, HandshakeError, why
from hep.sending.settings import SenderSettings, destination_of
from hep.sending.spooling import Spooler

log = logging.getLogger(__name__)

__all__ = ["REFUSED", "SHUTDOWN", "TOO_LONG", "Sender", "SenderSettings", "open_sender"]

SHUTDOWN: Final = "shutdown"
"""Cause of a drop: the packet was still queued when the sender was closed, or came later."""


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

    `send` and `send_all` may be called from any thread. Packets of another thread than that of the
    event loop pass a queue with the limits of ``SenderSettings``, and count as offered once the
    event loop has them. All else belongs to the thread of the event loop.

    Packets are sent in order. Without a connection they stay in a bounded queue. When a connection
    breaks, packets that the system accepted and did not deliver are lost. A packet that the system
    accepted in part is sent again, so a collector may receive a packet twice.

    Args:
        destination: the collector.
        settings: limits and options.

    Raises:
        HepSpoolError: the spool directory cannot be used.
        RuntimeError: no event loop is running.
        TypeError: an argument has the wrong type.
    """

    def __init__(self, destination: HepId | str, settings: SenderSettings) -> None:
        if not isinstance(settings, SenderSettings):
            raise TypeError(f"settings is {settings!r}; it must be a hep.SenderSettings")
        self.destination = destination = destination_of(destination)
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
        self._ended = False
        self._worked = False
        self._hung_up = False
        self._link: Link | None = None
        self._all_sent = asyncio.Event()
        self._spooler: Spooler | None = None
        self._spooling: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._handoff = Handoff(
            self.send_all, self._reject, settings.queue_limit, settings.queue_limit_bytes
        )
        self._thread = self._handoff.thread
        if settings.spool is not None:
            self._spooler = Spooler(
                self.counters,
                Path(settings.spool),
                settings.spool_limit_bytes,
                settings.spool_fsync,
            )
            self._spooling = loop.create_task(
                self._spooler.run(self._spool_changed), name=f"spool {destination}"
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
            TypeError: it is neither bytes nor a `Packet`.
        """
        if get_ident() != self._thread:
            self._handoff.put([self.prepare(packet)])
        elif type(packet) is bytes and len(packet) <= self._longest and not self._closed:
            self.counters.put(packet)
            if self._link is not None:
                self._link.wake()
        else:
            self._put(self._prepared(packet))

    def send_all(self, packets: Sequence[bytes | Packet]) -> None:
        """Queue packets in order, with the result of one `send` each. Returns at once.

        Raises:
            HepEncodeError: as for `send`; no packet is queued then.
            TypeError: as for `send`; no packet is queued then.
        """
        every: list[Any] = packets if type(packets) is list else list(packets)
        if get_ident() != self._thread:
            self._handoff.put([self.prepare(packet) for packet in every])
            return
        if {*map(type, every)} == {bytes} and not self._closed:
            size = sum(map(len, every))
            # All packets together are mostly shorter than the limit for one, which skips `max`.
            if size <= self._longest or max(map(len, every)) <= self._longest:
                self.counters.put_all(every, size)
                if self._link is not None:
                    self._link.wake()
                return
        for encoded in [self._prepared(packet) for packet in every]:
            self._put(encoded)

    def _put(self, encoded: bytes | None) -> None:
        if encoded is None:
            self.counters.refuse(TOO_LONG)
        elif self._closed:
            self.counters.refuse(SHUTDOWN)
        else:
            self.counters.put(encoded)
            if self._link is not None:
                self._link.wake()

    def prepare(self, packet: bytes | Packet) -> bytes | Packet:
        """Encode a packet of another thread, so that errors raise there. For groups.

        Returns:
            the encoded packet; the packet itself if it is too long.

        Raises:
            HepEncodeError, TypeError: as for `send`.
        """
        return self._encode(packet) or packet if isinstance(packet, Packet) else checked(packet)

    def _prepared(self, packet: bytes | Packet) -> bytes | None:
        """The bytes to send; None if the packet is too long."""
        data = checked(packet)
        if isinstance(data, Packet):
            encoded = self._encode(data)
            return self._fit(self._adapted(data)) if encoded is None else encoded
        if len(data) <= self._longest:
            return data
        try:
            return self._fit(decode(data))
        except HepDecodeError:
            return None

    def _adapted(self, packet: Packet) -> Packet:
        """The packet in the version of the destination, with its authenticate key."""
        settings, version = self._settings, self.destination.version
        if packet.version != version:
            packet = replace(packet, version=version, layout=())
        if packet.auth_key is None and settings.auth_key is not None and version == 3:
            packet = replace(packet, auth_key=settings.auth_key, layout=())
        return packet

    def _encode(self, packet: Packet) -> bytes | None:
        """Encode a packet; None if it is too long."""
        if len(packet.payload) > self._longest and packet.compressed is None:
            return None
        try:
            encoded = encode(self._adapted(packet))
        except HepEncodeError:
            if len(packet.payload) < self._longest - _ROOM_FOR_THE_REST:
                raise
            return None
        return encoded if len(encoded) <= self._longest else None

    def _fit(self, packet: Packet) -> bytes | None:
        encoded = fit(packet, self._longest, self._settings.when_too_long)
        if encoded is not None:
            self.shortened += 1
        return encoded

    def _reject(self, count: int) -> None:
        """Count packets of other threads that could not be queued."""
        for _ in range(count):
            self.counters.refuse(SHUTDOWN if self._closed else FULL)

    async def drained(self) -> None:
        """Wait until all queued packets have been sent or the sender is closed.

        Use it for flow control, when the packets come from a source that can wait.
        """
        while self.is_waiting:
            self._all_sent.clear()
            await self._all_sent.wait()

    def flush(self) -> None:
        """Queue what other threads have sent so far, instead of in the next iteration."""
        self._handoff.flush()

    @property
    def is_waiting(self) -> bool:
        """Whether packets are queued and the sender is not closed."""
        return self.counters.queued > 0 and not self._ended

    def withdraw(self) -> list[bytes]:
        """Remove the packets in memory, so that another sender sends them. For groups.

        They count as ``handed_over``. A spool keeps its copies of them until `refill`.

        Returns:
            the packets, oldest first.
        """
        packets = self.counters.withdraw()
        if packets and self._spooler is not None:
            self._spooler.hold()
        self._note_queue()
        return packets

    async def refill(self) -> None:
        """Bring the next packets from the spool into memory, if memory is empty. For groups.

        Packets that were withdrawn before are deleted from the spool.
        """
        if self._spooler is not None:
            await self._spooler.refill()

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
        self.flush()
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
        self._ended = True
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
        self._note_queue()

    def _note_queue(self) -> None:
        if not self.counters.queued:
            self._all_sent.set()

    def _spool_changed(self) -> None:
        self._note_queue()
        if self._link is not None:
            self._link.wake()

    def _set_connected(self, connected: bool) -> None:
        self.connected = connected
        if connected and self._spooler is not None:
            # The sender itself sends what is left.
            self._spooler.release()
        try:
            self.on_change()
        except Exception:
            log.exception("on_change of %s raised", self.destination)


def _ignore_change() -> None:
    """Ignore a change of ``connected``."""


def open_sender(destination: HepId | str, settings: SenderSettings | None = None) -> Sender:
    """Create a sender, which connects in the background.

    Needs a running event loop. Each attempt to connect resolves the host name again.

    Args:
        destination: the collector: a `HepId`, or its text such as ``10.0.0.2:9060`` or
            ``10.0.0.2;transport=udp``.
        settings: limits and options. Default: `SenderSettings`.

    Returns:
        the sender. Close it with `Sender.aclose`.

    Raises:
        HepIdError: the text is not a HEP id.
        HepSpoolError: the spool directory in the settings cannot be used.
        RuntimeError: no event loop is running.
        TypeError: an argument has the wrong type.
    """
    return Sender(destination, SenderSettings() if settings is None else settings)
