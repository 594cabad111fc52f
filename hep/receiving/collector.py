"""A collector: UDP, TCP and TLS servers that call a function with each packet."""

import asyncio
import hmac
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Self, cast

from hep.codec import v3
from hep.codec.any_version import decode
from hep.codec.framing import Splitter
from hep.codec.packet import Packet
from hep.errors import HepDecodeError

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """The sender of a packet."""

    transport: str
    """``udp``, ``tcp`` or ``tls``."""
    ip: str
    """IP address as text."""
    port: int
    """Port, 0 to 65535."""


OnPacket = Callable[[Packet, Source], object]
"""Called with each packet and its sender."""

RUBBISH_LIMIT: Final = 65_536
"""Default limit of rubbish from a TCP or TLS peer in bytes. It is one byte more than the longest
packet has: a stream that begins within a packet is read from the next one on."""

RECEIVED: Final = "received"
"""Counter: packets passed to ``on_packet``."""
BAD: Final = "bad"
"""Counter: data that is not a HEP packet."""
UNAUTHENTICATED: Final = "unauthenticated"
"""Counter: packets without the required authenticate key."""
UNREAD: Final = "unread"
"""Counter: chunks that were not read, because their value has a size that their type does not
have."""
SKIPPED: Final = "skipped"
"""Counter: bytes that are not HEP, between packets of a stream or after a packet of a datagram."""
RUBBISH: Final = "rubbish"
"""Counter: connections dropped because of ``rubbish_limit``."""
TLS_FAILED: Final = "tls_failed"
"""Counter: connections whose TLS handshake failed."""


_ITERATIONS: Final = 4
"""Iterations of an event loop that accepting and dropping a connection takes."""


class Collector:
    """Receives HEP and calls a function with each packet.

    Interface: `start` listens, `aclose` stops; ``async with`` calls both. ``counters`` counts
    packets and connections. ``udp_address``, ``tcp_address`` and ``tls_address`` are the addresses
    it listens on.

    Example::

        def show(packet: hep.Packet, source: hep.Source) -> None:
            print(packet.correlation_id, packet.payload)

        async with hep.Collector(show, udp="127.0.0.1:9060", tcp="127.0.0.1:9060"):
            await asyncio.sleep(3600)

    Args:
        on_packet: called with each packet in the thread of the event loop. It must not block. An
            exception that it raises is logged, and the packet is counted as ``failed``.
        udp: ``HOST:PORT`` to listen on over UDP; port 0 takes a free port; None does not listen.
        tcp: ``HOST:PORT`` to listen on over TCP, as ``udp``.
        tls: ``HOST:PORT`` to listen on over TLS, as ``udp``. Needs ``tls_context``.
        tls_context: TLS context with the certificate of the server.
        auth_key: authenticate key (chunk 0x000e) that a packet must have. None accepts any packet.
        rubbish_limit: bytes that are not HEP, from 0, that a TCP or TLS peer may send; beyond it
            the connection is dropped. A byte of a received packet makes up for a byte of rubbish,
            so an agent that sends an odd packet now and then stays connected. A packet without the
            authenticate key is neither. None never drops. Default: `RUBBISH_LIMIT`.

    Raises:
        ValueError: ``tls`` is given without ``tls_context``, or ``rubbish_limit`` is negative.
    """

    def __init__(
        self,
        on_packet: OnPacket,
        *,
        udp: str | None = None,
        tcp: str | None = None,
        tls: str | None = None,
        tls_context: ssl.SSLContext | None = None,
        auth_key: bytes | None = None,
        rubbish_limit: int | None = RUBBISH_LIMIT,
    ) -> None:
        if tls is not None and tls_context is None:
            raise ValueError(
                f"tls={tls!r} needs tls_context: pass an ssl.SSLContext with a certificate"
            )
        if rubbish_limit is not None and rubbish_limit < 0:
            raise ValueError(
                f"rubbish_limit={rubbish_limit} is no number of bytes: pass 0 or more, or None to"
                " never drop a connection"
            )
        self.counters: Counter[str] = Counter()
        """Counters since the start.

        - ``received``: packets passed to ``on_packet``.
        - ``bad``: datagrams, and packets of streams, that are not HEP.
        - ``unauthenticated``: packets without the required authenticate key. Their other chunks are
          not looked at.
        - ``failed``: packets for which ``on_packet`` raised.
        - ``unread``: chunks of received packets whose value has a size that their type does not
          have. They are in ``Packet.extra``.
        - ``skipped``: bytes that are not HEP, between packets of a stream or after a packet of a
          datagram.
        - ``rubbish``: connections dropped because of ``rubbish_limit``.
        - ``accepted``: TCP and TLS connections.
        - ``tls_failed``: connections whose TLS handshake failed.
        """
        self._on_packet = on_packet
        self._where = {"udp": udp, "tcp": tcp, "tls": tls}
        self._tls_context = tls_context
        self._auth_key = auth_key
        self._rubbish_limit = float("inf") if rubbish_limit is None else rubbish_limit
        self._is_closed = False
        self._endpoint: asyncio.DatagramTransport | None = None
        self._servers: dict[str, asyncio.Server] = {}
        self._connections: set[asyncio.Transport] = set()
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def udp_address(self) -> tuple[str, int]:
        """IP address and port of the UDP socket.

        Raises:
            RuntimeError: the collector does not listen on UDP, or is not started.
        """
        if self._endpoint is None:
            raise RuntimeError(_not_listening("udp"))
        ip, port = self._endpoint.get_extra_info("sockname")[:2]
        return ip, port

    @property
    def tcp_address(self) -> tuple[str, int]:
        """IP address and port of the TCP socket; raises as `udp_address`."""
        return self._server_address("tcp")

    @property
    def tls_address(self) -> tuple[str, int]:
        """IP address and port of the TLS socket; raises as `udp_address`."""
        return self._server_address("tls")

    async def start(self) -> None:
        """Start to listen on all addresses, or on none if one of them fails.

        Raises:
            ValueError: an address is not ``HOST:PORT``.
            OSError: the system refuses an address, for instance because it is in use.
        """
        loop = asyncio.get_running_loop()
        self._is_closed = False
        try:
            if (udp := self._where["udp"]) is not None:
                self._endpoint, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=_host_port(udp)
                )
            for transport in ("tcp", "tls"):
                if (where := self._where[transport]) is not None:
                    self._servers[transport] = await loop.create_server(
                        partial(_TlsStream if transport == "tls" else _Stream, self, transport),
                        *_host_port(where),
                    )
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop listening and drop all connections."""
        if self._endpoint is not None:
            self._endpoint.close()
        for server in self._servers.values():
            server.close()
        for handshake in self._handshakes:
            handshake.cancel()
        self._is_closed = True
        for connection in tuple(self._connections):
            connection.abort()
        # Closing takes effect in the next iteration of the event loop. A connection that was just
        # accepted is made and dropped in the following ones.
        for _ in range(_ITERATIONS):
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _server_address(self, transport: str) -> tuple[str, int]:
        if transport not in self._servers:
            raise RuntimeError(_not_listening(transport))
        ip, port = self._servers[transport].sockets[0].getsockname()[:2]
        return ip, port

    def _receive_datagram(self, data: bytes, source: Source) -> None:
        """Deliver each packet of a datagram. Never raises."""
        if data[:4] not in v3.MAGICS or not v3.HEADER.size <= _stated_total(data) < len(data):
            self._receive(data, source)
            return
        splitter = Splitter()
        for packet in splitter.split(data):
            self._receive(packet, source)
        if rest := splitter.skipped + splitter.buffered:
            self.counters[SKIPPED] += rest

    def _receive(self, data: bytes, source: Source) -> str:
        """Decode and deliver one packet. Never raises.

        Returns:
            the counter that counts it: `RECEIVED`, `BAD` or `UNAUTHENTICATED`.
        """
        key = self._auth_key
        # A packet with a wrong key is neither decoded nor inflated.
        if key is not None and data[:4] in v3.MAGICS and len(data) >= v3.HEADER.size:
            if not hmac.compare_digest(v3.auth_key(data) or b"", key):
                self.counters[UNAUTHENTICATED] += 1
                return UNAUTHENTICATED
            key = None
        try:
            packet = decode(data)
        except HepDecodeError as exc:
            self.counters[BAD] += 1
            log.debug("no HEP from %s:%d: %s", source.ip, source.port, exc)
            return BAD
        if key:
            # Versions 1 and 2 have no key.
            self.counters[UNAUTHENTICATED] += 1
            return UNAUTHENTICATED
        self.counters[RECEIVED] += 1
        if packet.extra and (unread := sum(not chunk.fits for chunk in packet.extra)):
            self.counters[UNREAD] += unread
        try:
            self._on_packet(packet, source)
        except Exception:
            self.counters["failed"] += 1
            log.exception("on_packet raised on a packet from %s:%d", source.ip, source.port)
        return RECEIVED

    def _count_rubbish(self, source: Source, rubbish: int) -> None:
        """Count a connection that is dropped, and log the first one."""
        self.counters[RUBBISH] += 1
        if self.counters[RUBBISH] == 1:
            log.warning(
                "the %s connection of %s:%d is dropped: it sent %d bytes that are not HEP, and"
                " rubbish_limit is %d (logged once; the counter 'rubbish' has the others)",
                source.transport, source.ip, source.port, rubbish, self._rubbish_limit,
            )  # fmt: skip


def _stated_total(data: bytes) -> int:
    """The total length that the header of a version 3 packet states."""
    return int.from_bytes(data[4:6])


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._collector._receive_datagram(data, Source("udp", *addr[:2]))


class _Stream(asyncio.Protocol):
    def __init__(self, collector: Collector, transport: str) -> None:
        self._collector = collector
        self._splitter = Splitter()
        self._source = Source(transport, "", 0)
        self._rubbish = 0
        self._dropped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._meet(transport)
        self._collector.counters["accepted"] += 1

    def _meet(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        self._source = self._source._replace(ip=peer[0], port=peer[1])
        if self._collector._is_closed:
            self._transport.abort()
        self._collector._connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        if self._dropped:
            return
        collector, splitter = self._collector, self._splitter
        before = seen = splitter.skipped
        rubbish, limit = self._rubbish, collector._rubbish_limit
        for packet in splitter.split(data):
            if splitter.skipped != seen:
                rubbish += splitter.skipped - seen
                seen = splitter.skipped
            if rubbish > limit:
                break
            outcome = collector._receive(packet, self._source)
            if outcome == BAD:
                rubbish += len(packet)
            elif rubbish and outcome == RECEIVED:
                rubbish = max(0, rubbish - len(packet))
        rubbish += splitter.skipped - seen
        self._rubbish = rubbish
        if splitter.skipped != before:
            collector.counters[SKIPPED] += splitter.skipped - before
        if rubbish > limit:
            self._dropped = True
            collector._count_rubbish(self._source, rubbish)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._collector._connections.discard(self._transport)


class _TlsStream(_Stream):
    """A TLS connection, which does its handshake itself.

    A TLS server of asyncio reports a failed handshake in debug mode only, with a traceback.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Data that follows the handshake arrives before `_secure` continues.
        self._meet(transport)
        self._transport.pause_reading()
        handshakes = self._collector._handshakes
        handshake = asyncio.get_running_loop().create_task(self._secure(self._transport))
        handshakes.add(handshake)
        handshake.add_done_callback(handshakes.discard)

    async def _secure(self, plain: asyncio.Transport) -> None:
        collector = self._collector
        context = cast("ssl.SSLContext", collector._tls_context)
        try:
            secured = await asyncio.get_running_loop().start_tls(
                plain, self, context, server_side=True
            )
        except OSError as exc:
            plain.abort()
            collector.counters[TLS_FAILED] += 1
            if collector.counters[TLS_FAILED] == 1:
                # Logged once per collector; the counter shows the others.
                reason = exc.strerror or exc.__class__.__name__
                peer = plain.get_extra_info("peername") or ("unknown", 0)
                log.warning("TLS handshake with %s:%d failed: %s", *peer[:2], reason)
            return
        finally:
            collector._connections.discard(plain)
        if secured is not None:
            super().connection_made(secured)


def _not_listening(transport: str) -> str:
    return (
        f"this collector does not listen on {transport}: pass {transport}='HOST:PORT' and start it"
    )


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError(f"{text!r} is not HOST:PORT; write 127.0.0.1:9060, or [::1]:9060 for IPv6")
    return host.removeprefix("[").removesuffix("]"), int(port)
