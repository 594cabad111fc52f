"""A collector: UDP, TCP and TLS servers that call a function with each packet."""

import asyncio
import hmac
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Self, cast

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

BAD: Final = "bad"
"""Counter: data that is not a HEP packet."""
UNAUTHENTICATED: Final = "unauthenticated"
"""Counter: packets without the required authenticate key."""
TLS_FAILED: Final = "tls_failed"
"""Counter: connections whose TLS handshake failed."""


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

    Raises:
        ValueError: ``tls`` is given without ``tls_context``.
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
    ) -> None:
        if tls is not None and tls_context is None:
            raise ValueError(
                f"tls={tls!r} needs tls_context: pass an ssl.SSLContext with a certificate"
            )
        self.counters: Counter[str] = Counter()
        """Counters since the start.

        - ``received``: packets passed to ``on_packet``.
        - ``bad``: data that is not a HEP packet.
        - ``unauthenticated``: packets without the required authenticate key.
        - ``failed``: packets for which ``on_packet`` raised.
        - ``skipped``: bytes of garbage in TCP and TLS streams.
        - ``accepted``: TCP and TLS connections.
        - ``tls_failed``: connections whose TLS handshake failed.
        """
        self._on_packet = on_packet
        self._where = {"udp": udp, "tcp": tcp, "tls": tls}
        self._tls_context = tls_context
        self._auth_key = auth_key
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
        for connection in tuple(self._connections):
            connection.abort()
        # Closing takes effect in the next iteration of the event loop.
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

    def _receive(self, data: bytes, source: Source) -> None:
        """Decode and deliver one packet. Never raises."""
        try:
            packet = decode(data)
        except HepDecodeError as exc:
            self.counters[BAD] += 1
            log.debug("no HEP from %s:%d: %s", source.ip, source.port, exc)
            return
        key = self._auth_key
        if key is not None and not hmac.compare_digest(packet.auth_key or b"", key):
            self.counters[UNAUTHENTICATED] += 1
            return
        self.counters["received"] += 1
        try:
            self._on_packet(packet, source)
        except Exception:
            self.counters["failed"] += 1
            log.exception("on_packet raised on a packet from %s:%d", source.ip, source.port)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._collector._receive(data, Source("udp", *addr[:2]))


class _Stream(asyncio.Protocol):
    def __init__(self, collector: Collector, transport: str) -> None:
        self._collector = collector
        self._splitter = Splitter()
        self._source = Source(transport, "", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._meet(transport)
        self._collector.counters["accepted"] += 1

    def _meet(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        self._source = self._source._replace(ip=peer[0], port=peer[1])
        self._collector._connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        before = self._splitter.skipped
        for packet in self._splitter.feed(data):
            self._collector._receive(packet, self._source)
        self._collector.counters["skipped"] += self._splitter.skipped - before

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
