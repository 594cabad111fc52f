"""Connections to a collector: UDP, TCP, TLS, Unix. `hep.sending.senders` decides when to have one.

A link takes packets out of an `hep.sending.outbox.Outbox` by itself, from the event loop and
without a task: woken when something was put in, it sends on the loop's next turns, everything that
has come until then together.
"""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, cast

import asyncio_dgram
from asyncio_dgram.aio import DatagramClient, TransportClosed

from hep.hep_id import HepId
from hep.sending.outbox import Outbox

log = logging.getLogger(__name__)

COALESCE: Final = 64 * 1024
"""Bytes that go to the system in one write, as far as so many wait."""

KEEP_ALIVE: Final = 30
"""Seconds: a TCP connection silent for so long is probed, and one whose data nobody confirms for
so long is broken. Well under the minutes after which firewalls forget a connection."""

TOO_LONG: Final = "too-long"
"""The cause of a packet dropped because no datagram can carry it."""

REFUSED: Final = "refused"
"""The cause of a packet that the system says nobody received (an ICMP message came back)."""


REFUSALS: Final = 10
"""Refusals that make it certain that nobody is there, each within `REFUSALS_APART` of the last."""

REFUSALS_APART: Final = 1.0
"""Seconds."""

REFUSED_PAUSE: Final = 0.1
"""Seconds in which packets are then dropped as refused without being sent, before it is tried anew:
each costs two system calls and an ICMP message, twice as much as one that is received."""


class Link(Protocol):
    """A connection to a collector, sending what is in an outbox."""

    broken: asyncio.Future[OSError | None]
    """Done when the link is of no more use, with the reason where the system told one."""

    def wake(self) -> None:
        """There is something in the outbox; returns at once."""

    async def aclose(self) -> None:
        """Let go of it, whatever the peer does.

        What the system has not taken is in the outbox again at once.
        """


OnIdle = Callable[[], object]
"""Called whenever all that was in the outbox has been sent."""


async def connect(
    destination: HepId,
    tls: ssl.SSLContext | None,
    attempt: int,
    outbox: Outbox,
    on_idle: OnIdle,
) -> Link:
    """Open a link; the name is resolved anew.

    Args:
        destination: where to.
        tls: for transport tls; the system's certificates and full verification unless given.
        attempt: with UDP, which of a name's addresses to take (a TCP connection tries them all).
        outbox: what it sends from.
        on_idle: called whenever that has run empty.

    Raises:
        OSError: there is no connection.
        ValueError: the host can be no name.
    """
    if destination.transport == "udp":
        return await _connect_datagrams(destination, attempt, outbox, on_idle)
    loop = asyncio.get_running_loop()
    link = _Stream(outbox, on_idle)
    if destination.transport == "unix":
        await loop.create_unix_connection(lambda: link, destination.host)
        return link
    transport, _ = await loop.create_connection(lambda: link, destination.host, destination.port)
    if destination.transport == "tls":
        context = tls or ssl.create_default_context()
        try:
            secured = await loop.start_tls(
                transport, link, context, server_hostname=destination.host
            )
        except BaseException:
            transport.abort()
            raise
        if secured is None:
            raise ConnectionResetError(errno.ECONNRESET, "lost during the TLS handshake")
        link.connection_made(secured)
    return link


async def _connect_datagrams(
    destination: HepId, attempt: int, outbox: Outbox, on_idle: OnIdle
) -> "_Datagrams":
    # Resolving may take long and may be cancelled; what comes after it takes a moment and may not:
    # a socket abandoned half-open keeps uvloop from ever closing its loop.
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(destination.host, destination.port, type=socket.SOCK_DGRAM)
    family, kind, _, _, address = found[attempt % len(found)]
    # Where there is no way to the address the system says so at once, and uvloop then leaves its
    # transport unclosed. So another socket asks first.
    with socket.socket(family, kind) as probe:
        probe.connect(address)
    opening = asyncio.ensure_future(asyncio_dgram.connect(address[:2]))
    try:
        endpoint = await asyncio.shield(opening)
    except asyncio.CancelledError:
        (await opening).close()
        raise
    return _Datagrams(endpoint, outbox, on_idle, only_address=len(found) == 1)


class _Datagrams:
    """A connected UDP socket. The system may say that nobody listens, about an earlier packet."""

    def __init__(
        self, endpoint: DatagramClient, outbox: Outbox, on_idle: OnIdle, only_address: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[OSError | None] = self._loop.create_future()
        self._endpoint = endpoint
        self._outbox = outbox
        self._on_idle = on_idle
        # Written to directly, the socket says of each packet what became of it, and at 2/3 of
        # the price; the endpoint would tell errors later, with another packet.
        self._socket = socket.socket(fileno=os.dup(endpoint.socket.fileno()))
        self._socket.setblocking(False)
        self._only_address = only_address
        self._refused = False
        self._refusals = 0
        self._last_refusal = 0.0
        self._paused_until = 0.0
        self._refusals_read = 0
        self._awake = False
        self._reading = self._loop.create_task(self._read())

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        """Send everything that waits."""
        self._awake = False
        if self.broken.done():
            return
        outbox = self._outbox
        try:
            self._note_earlier_errors()
            while taken := outbox.take(COALESCE):
                if self._paused_until and self._loop.time() < self._paused_until:
                    outbox.drop_taken(REFUSED)
                else:
                    self._send_taken(taken)
        except BlockingIOError:
            # The system has no room. Until it has, more packets need not wake us.
            self._awake = True
            self._loop.add_writer(self._socket, self._send_again)
        except OSError as exc:
            self._break(exc)
        else:
            self._on_idle()

    def _send_taken(self, taken: list[bytes]) -> None:
        send, outbox = self._socket.send, self._outbox
        sent = 0
        try:
            for packet in taken:
                send(packet)
                sent += 1
        except OSError as exc:
            outbox.done(sent)
            if exc.errno == errno.ECONNREFUSED:
                # It is about a packet sent before. This one has not been tried.
                self._note_refusal()
            elif exc.errno == errno.EMSGSIZE:
                outbox.take(1)
                outbox.drop_taken(TOO_LONG)
            else:
                raise
        else:
            outbox.done()

    def _send_again(self) -> None:
        self._loop.remove_writer(self._socket)
        self._send()

    async def _read(self) -> None:
        # A collector has nothing to say. What comes all the same is read, or it would pile up.
        while True:
            try:
                await self._endpoint.recv()
            except OSError:
                self._refusals_read += 1
            except TransportClosed:
                self._break(None)
                return

    def _note_earlier_errors(self) -> None:
        while self._refusals_read:
            self._refusals_read -= 1
            self._note_refusal()
        while True:
            try:
                if self._endpoint.exception is None:
                    return
            except OSError:
                self._note_refusal()

    def _note_refusal(self) -> None:
        self._outbox.lost(REFUSED)
        if not self._only_address:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody receives HEP there")
        now = self._loop.time()
        apart, self._last_refusal = now - self._last_refusal, now
        self._refusals = self._refusals + 1 if apart < REFUSALS_APART else 1
        if self._refusals >= REFUSALS:
            self._paused_until = now + REFUSED_PAUSE
        if not self._refused:
            # Once: the counters tell the rest.
            self._refused = True
            log.warning("nobody receives HEP on udp %s:%d", *self._endpoint.peername[:2])

    def _break(self, exc: OSError | None) -> None:
        if not self.broken.done():
            self.broken.set_result(exc)

    async def aclose(self) -> None:
        with suppress(ConnectionRefusedError):
            self._note_earlier_errors()
        self._break(None)
        self._reading.cancel()
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._endpoint.close()


class _Stream(asyncio.Protocol):
    """A connection over TCP, TLS or a Unix socket."""

    def __init__(self, outbox: Outbox, on_idle: OnIdle) -> None:
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[OSError | None] = self._loop.create_future()
        self._outbox = outbox
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._awake = False
        self._full = False

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            # Two turns: in between, the loop has looked at the connection. If the collector
            # closed it while it was idle, a packet written now would be lost.
            self._loop.call_soon(self._loop.call_soon, self._send)

    def _send(self) -> None:
        self._awake = False
        transport, outbox = self._transport, self._outbox
        if self._full or transport is None or self.broken.done():
            return
        while taken := outbox.take(COALESCE):
            transport.write(taken[0] if len(taken) == 1 else b"".join(taken))
            # The write has called `pause_writing` unless the system took everything. Then the
            # packets stay ours: what was not taken must survive the connection.
            if self._full or transport.is_closing():
                return
            outbox.done()
        self._on_idle()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Called once more when TLS has come up on top of the connection.
        self._transport = cast("asyncio.Transport", transport)
        # Nothing may wait in the process unseen. A TLS transport pauses already when as much as
        # the limit waits: with 0 it would do so for good, even when all has been taken.
        is_tls = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if is_tls else 0)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            _keep_alive(sock)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._outbox.done()
        self._send()

    def data_received(self, data: bytes) -> None:
        """A collector has nothing to say."""

    def eof_received(self) -> bool:
        # The end of what it says is the end of the connection.
        self._break(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(exc)
        self._gone.set_result(None)

    def _break(self, exc: Exception | None) -> None:
        if self.broken.done():
            return
        self._outbox.undo()
        self.broken.set_result(exc if isinstance(exc, OSError) else None)

    async def aclose(self) -> None:
        unsent = self._full
        self._break(None)
        transport = self._transport
        if transport is None:
            return
        # What the transport still holds is in the outbox again: it must not go out as well.
        if not unsent:
            transport.close()
            # TLS says so to the peer, in a turn of the loop or two, and would wait for the answer.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        transport.abort()
        await asyncio.shield(self._gone)


def _keep_alive(sock: socket.socket) -> None:
    """Have the system find out that a collector is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEP_ALIVE),
        ("TCP_KEEPINTVL", KEEP_ALIVE // 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", KEEP_ALIVE * 1000),
    ):
        # Not every system has all of them.
        if (number := getattr(socket, option, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)


def why(exc: Exception) -> str:
    """Why a connection failed, for a person to read; nothing where it does not say."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
        return os.strerror(exc.errno)
    return getattr(exc, "strerror", None) or str(exc)
