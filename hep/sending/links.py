"""Connections to a collector over UDP, TCP, TLS and Unix sockets.

`hep.sending.senders` opens and closes links. A link takes packets from a
`hep.sending.outbox.Outbox` and sends them without a task of its own. `Link.wake` schedules sending
for one of the next iterations of the event loop. All packets queued until then go out together.
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
from hep.sending.reasons import ALERT, End, HandshakeError

log = logging.getLogger(__name__)

COALESCE: Final = 64 * 1024
"""Bytes passed to the system in one write, if that many are queued."""

KEEP_ALIVE: Final = 30
"""Seconds. An idle TCP connection is probed after this time (SO_KEEPALIVE). A connection whose data
is not acknowledged for this time is broken (TCP_USER_TIMEOUT). Firewalls drop the state of idle
connections only after minutes."""

SETTLED: Final = 2.0
"""Seconds that a TCP connection must stay open after its first packet. A collector that expects TLS
ends it within a round trip."""

TOO_LONG: Final = "too-long"
"""Cause of a drop: the packet is too long for its destination or for a datagram."""

REFUSED: Final = "refused"
"""Cause of a drop: no process receives at the UDP port (ICMP port unreachable)."""


REFUSALS: Final = 10
"""Refusals in a row, each within `REFUSALS_APART` of the previous one, after which sending over UDP
pauses."""

REFUSALS_APART: Final = 1.0
"""Seconds."""

REFUSED_PAUSE: Final = 0.1
"""Seconds of that pause. Packets are dropped as refused without being sent. A refused packet costs
two system calls and an ICMP message, twice as much as a received one."""


class Link(Protocol):
    """A connection to a collector that sends the packets of an outbox; opened by `connect`.

    Interface: `wake` starts sending, `broken` reports the end, `aclose` closes. The counters are
    those of the outbox.
    """

    broken: asyncio.Future[End]
    """Done when the link has ended; the result says how."""

    def wake(self) -> None:
        """Schedule sending after a packet was put into the outbox. Returns at once."""

    async def aclose(self) -> None:
        """Close the connection without waiting for the peer.

        Packets that the system has not accepted are back in the outbox before this waits.
        """


OnIdle = Callable[[], object]
"""Called each time the link has sent all packets of the outbox."""


async def connect(
    destination: HepId,
    tls: ssl.SSLContext | None,
    attempt: int,
    outbox: Outbox,
    on_idle: OnIdle,
    time_limit: float,
) -> Link:
    """Resolve the host name and open a link.

    Args:
        destination: collector, with its transport.
        tls: TLS context for transport tls; None uses the CA certificates of the system and verifies
            certificate and host name.
        attempt: number of the attempt, from 0. UDP takes the address with this number, modulo the
            number of addresses. TCP and TLS try all addresses in any case.
        outbox: queue that the link sends from.
        on_idle: called each time the link has sent all packets of the outbox.
        time_limit: seconds for all of it.

    Returns:
        the open link. It sends when `Link.wake` is called.

    Raises:
        HandshakeError: the collector did not answer the TLS handshake with TLS.
        OSError: the name does not resolve, or the connection or the TLS handshake fails.
        TimeoutError: the time limit passed before the TLS handshake began.
        ValueError: the host is not a valid host name.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + time_limit
    async with asyncio.timeout_at(deadline):
        if destination.transport == "udp":
            return await _connect_datagrams(destination, attempt, outbox, on_idle)
        link = _Stream(outbox, on_idle)
        if destination.transport == "unix":
            await loop.create_unix_connection(lambda: link, destination.host)
            return link
        transport, _ = await loop.create_connection(
            lambda: link, destination.host, destination.port
        )
    if destination.transport == "tls":
        context = tls or ssl.create_default_context()
        secured = await _secured(transport, link, context, destination.host, deadline)
        link.connection_made(secured)
    return link


async def _secured(
    transport: asyncio.Transport,
    link: "_Stream",
    context: ssl.SSLContext,
    host: str,
    deadline: float,
) -> asyncio.Transport:
    """Do the TLS handshake over a TCP connection, and abort the connection if it fails."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            secured = await loop.start_tls(
                transport,
                link,
                context,
                server_hostname=host,
                # Later than the deadline, which is reported with its own reason.
                ssl_handshake_timeout=max(0.0, deadline - loop.time()) + 1,
            )
        if secured is None:
            raise ConnectionResetError(errno.ECONNRESET, "closed during the TLS handshake")
    except BaseException as exc:
        transport.abort()
        if isinstance(exc, OSError) and (failure := HandshakeError.of(exc)) is not None:
            raise failure from exc
        raise
    return secured


async def _connect_datagrams(
    destination: HepId, attempt: int, outbox: Outbox, on_idle: OnIdle
) -> "_Datagrams":
    # Resolving may take long, so it can be cancelled. Opening the socket is quick and is shielded
    # from cancellation: with a half-open socket left over, uvloop never closes its loop.
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(destination.host, destination.port, type=socket.SOCK_DGRAM)
    family, kind, _, _, address = found[attempt % len(found)]
    # If there is no route, connecting fails at once and uvloop leaves its transport unclosed. So a
    # plain socket connects first.
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
    """A link over a connected UDP socket.

    The system reports an ICMP error of an earlier packet with a later call (RFC 1122, section
    4.1.3.3).

    Args:
        endpoint: connected endpoint; the link closes it.
        outbox: queue that the link sends from.
        on_idle: as in `connect`.
        only_address: whether the name has one address. Otherwise a refusal breaks the link, so that
            the next attempt takes another address.
    """

    def __init__(
        self, endpoint: DatagramClient, outbox: Outbox, on_idle: OnIdle, only_address: bool
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[End] = self._loop.create_future()
        self._endpoint = endpoint
        self._outbox = outbox
        self._on_idle = on_idle
        # A direct write reports the error of each packet at once and costs a third less. The
        # endpoint reports errors later, with another packet.
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
        """Send all queued packets."""
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
            # The send buffer is full. Until it has room, `wake` does nothing.
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
                # The error belongs to an earlier packet. This packet has not been sent.
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
        # Collectors do not answer. Data from the peer is read and discarded to empty the buffer.
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
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the UDP port is closed")
        now = self._loop.time()
        apart, self._last_refusal = now - self._last_refusal, now
        self._refusals = self._refusals + 1 if apart < REFUSALS_APART else 1
        if self._refusals >= REFUSALS:
            self._paused_until = now + REFUSED_PAUSE
        if not self._refused:
            # Logged once per link; the counters show the others.
            self._refused = True
            log.warning(
                "udp port %s:%d is closed; packets are dropped as %s until a collector listens",
                *self._endpoint.peername[:2],
                REFUSED,
            )

    def _break(self, exc: OSError | None) -> None:
        if not self.broken.done():
            self.broken.set_result(End(exc))

    async def aclose(self) -> None:
        with suppress(ConnectionRefusedError):
            self._note_earlier_errors()
        self._break(None)
        self._reading.cancel()
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._endpoint.close()


class _Stream(asyncio.Protocol):
    """A link over TCP, TLS or a Unix socket."""

    def __init__(self, outbox: Outbox, on_idle: OnIdle) -> None:
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[End] = self._loop.create_future()
        self._outbox = outbox
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._awake = False
        self._full = False
        self._opened = self._loop.time()
        self._first_write: float | None = None
        self._answer = b""

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            # Two iterations of the loop: in between it polls the connection. If the collector
            # closed an idle connection, a packet written now would be lost.
            self._loop.call_soon(self._loop.call_soon, self._send)

    def _send(self) -> None:
        self._awake = False
        transport, outbox = self._transport, self._outbox
        if self._full or transport is None or self.broken.done():
            return
        if self._first_write is None and outbox.queued:
            self._first_write = self._loop.time()
        while taken := outbox.take(COALESCE):
            transport.write(taken[0] if len(taken) == 1 else b"".join(taken))
            # `write` calls `pause_writing` unless the system accepted all bytes. In that case the
            # packets stay in the outbox, so that they survive the connection.
            if self._full or transport.is_closing():
                return
            outbox.done()
        self._on_idle()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Called again when TLS is established over the connection.
        self._transport = cast("asyncio.Transport", transport)
        self._opened = self._loop.time()
        # Every byte that the transport buffers must pause writing. A TLS transport pauses when the
        # buffer reaches the limit: with 0 it would stay paused with an empty buffer.
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
        """Ignore data from the collector, except for a TLS alert: HEP has no answers."""
        if len(self._answer) < len(ALERT):
            self._answer += data[: len(ALERT)]

    def eof_received(self) -> bool:
        # The link treats a half-close by the collector as the end of the connection.
        self._break(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(exc)
        self._gone.set_result(None)

    def _break(self, exc: Exception | None) -> None:
        if self.broken.done():
            return
        self._outbox.undo()
        since = self._opened if self._first_write is None else self._first_write
        has_settled = self._loop.time() - since >= SETTLED
        self.broken.set_result(
            End(
                error=exc if isinstance(exc, OSError) else None,
                worked=self._first_write is not None and has_settled,
                # Other errors, such as ETIMEDOUT, come from the network.
                hung_up=not has_settled and (exc is None or isinstance(exc, ConnectionError)),
                answer=self._answer,
            )
        )

    async def aclose(self) -> None:
        unsent = self._full
        self._break(None)
        transport = self._transport
        if transport is None:
            return
        # The bytes that the transport buffers are back in the outbox: it must not send them too.
        if not unsent:
            transport.close()
            # TLS sends its close_notify within two iterations and would then wait for the answer.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        transport.abort()
        await asyncio.shield(self._gone)


def _keep_alive(sock: socket.socket) -> None:
    """Enable TCP keep-alive, so that the system detects a collector that vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEP_ALIVE),
        ("TCP_KEEPINTVL", KEEP_ALIVE // 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", KEEP_ALIVE * 1000),
    ):
        # Some systems lack some of these options.
        if (number := getattr(socket, option, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
