"""Receiving packets: UDP, TCP and TLS servers that hand each packet to a function."""

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
    """Who sent a packet."""

    transport: str
    """``udp``, ``tcp`` or ``tls``."""
    ip: str
    port: int


OnPacket = Callable[[Packet, Source], object]

BAD: Final = "bad"
"""Counter: packets that were none."""
UNAUTHENTICATED: Final = "unauthenticated"
"""Counter: packets without the right authenticate key."""
TLS_FAILED: Final = "tls_failed"
"""Counter: connections whose TLS handshake failed."""


class Collector:
    """Listens for HEP and calls a function with each packet.

    Example::

        def show(packet: hep.Packet, source: hep.Source) -> None:
            print(packet.correlation_id, packet.payload)

        async with hep.Collector(show, udp="127.0.0.1:9060", tcp="127.0.0.1:9060"):
            await asyncio.sleep(3600)

    Args:
        on_packet: called with each packet, from the event loop's thread; it must not block. One
            that raises is logged, and counted as ``failed``.
        udp: ``HOST:PORT`` to listen on; port 0 takes a free one; None does not listen.
        tcp: likewise.
        tls: likewise; needs ``tls_context``.
        tls_context: the certificate that it shows.
        auth_key: the authenticate key that a packet must carry; any will do unless given.
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
            raise ValueError(f"tls={tls!r} needs tls_context, the certificate to show")
        self.counters: Counter[str] = Counter()
        """Packets ``received``, ``bad``, ``unauthenticated`` and ``failed``; TCP bytes ``skipped``
        as garbage; connections ``accepted``, and ``tls_failed``, whose TLS handshake came to
        nothing."""
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
        """Where it listens for UDP, once started."""
        if self._endpoint is None:
            raise RuntimeError("this collector does not listen on UDP")
        ip, port = self._endpoint.get_extra_info("sockname")[:2]
        return ip, port

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Where it listens for TCP, once started."""
        return self._server_address("tcp")

    @property
    def tls_address(self) -> tuple[str, int]:
        """Where it listens for TLS, once started."""
        return self._server_address("tls")

    async def start(self) -> None:
        """Listen.

        Raises:
            ValueError: an address is not written ``HOST:PORT``.
            OSError: an address cannot be listened on.
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
        """Stop listening and drop every connection."""
        if self._endpoint is not None:
            self._endpoint.close()
        for server in self._servers.values():
            server.close()
        for handshake in self._handshakes:
            handshake.cancel()
        for connection in tuple(self._connections):
            connection.abort()
        # Closing takes effect on the next turn of the event loop.
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _server_address(self, transport: str) -> tuple[str, int]:
        if transport not in self._servers:
            raise RuntimeError(f"this collector does not listen on {transport.upper()}")
        ip, port = self._servers[transport].sockets[0].getsockname()[:2]
        return ip, port

    def _receive(self, data: bytes, source: Source) -> None:
        """Take what should be one packet; never raises."""
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
    """A TLS connection.

    asyncio's own TLS servers tell of a handshake that fails in debug mode alone, and then with a
    traceback.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What comes right behind the handshake is here before `_secure` goes on.
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
                # Once: the counter tells the rest.
                reason = exc.strerror or exc.__class__.__name__
                peer = plain.get_extra_info("peername") or ("nobody", 0)
                log.warning("no TLS handshake with %s:%d: %s", *peer[:2], reason)
            return
        finally:
            collector._connections.discard(plain)
        if secured is not None:
            super().connection_made(secured)


def _host_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError(f"{text!r} is not HOST:PORT (an IPv6 host in brackets)")
    return host.removeprefix("[").removesuffix("]"), int(port)
