"""Received packets as an asynchronous iterator, based on `hep.Collector`."""

import asyncio
import ssl
from collections import deque
from typing import Any, Final, Self

from hep.codec.packet import Packet
from hep.receiving.collector import RUBBISH_LIMIT, Collector, Source

LIMIT: Final = 10_000
"""Default limit of packets queued for a slow consumer."""

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Default limit of the memory of these packets in bytes. The number alone limits little: a payload
of 1 MiB fits into a packet of 1 KiB if it is compressed."""

_PACKET_BYTES: Final = 1000
"""About the memory of a packet without its values."""

_CHUNK_BYTES: Final = 300
"""About the memory of a chunk in `Packet.extra` without its value."""

DROPPED: Final = "dropped"
"""Counter: packets dropped because the consumer was too slow."""


class Receiver:
    """Receives packets and yields them with their `Source`. Made by `receive`.

    Interface: ``async with`` listens, ``async for`` yields packets, ``collector`` has the counters.

    Args:
        limit: maximum number of packets queued for the consumer, from 1.
        limit_bytes: maximum memory of these packets in bytes, about. One packet always fits.
        where: keyword arguments of `hep.Collector`.
    """

    def __init__(self, limit: int, limit_bytes: int = LIMIT_BYTES, **where: Any) -> None:
        self.collector = Collector(self._put, **where)
        """The collector with its addresses and ``counters``, which include `DROPPED`."""
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[Packet, Source, int]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    def _put(self, packet: Packet, source: Source) -> None:
        size = _memory_of(packet)
        waiting = self._waiting
        while waiting and (len(waiting) >= self._limit or self._bytes + size > self._limit_bytes):
            # The collector keeps reading: a slow consumer must not delay the senders.
            self._take()
            self.collector.counters[DROPPED] += 1
        waiting.append((packet, source, size))
        self._bytes += size
        self._arrived.set()

    def _take(self) -> tuple[Packet, Source]:
        packet, source, size = self._waiting.popleft()
        self._bytes -= size
        return packet, source

    async def __aenter__(self) -> Self:
        await self.collector.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.collector.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Packet, Source]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._take()


def _memory_of(packet: Packet) -> int:
    """About the memory that a received packet takes, in bytes."""
    texts = (packet.compressed, packet.correlation_id, packet.auth_key, packet.node_name)
    size = _PACKET_BYTES + len(packet.payload) + sum(len(each) for each in texts if each)
    return size + sum(_CHUNK_BYTES + len(chunk.data) for chunk in packet.extra)


def receive(
    *,
    udp: str | None = None,
    tcp: str | None = None,
    tls: str | None = None,
    tls_context: ssl.SSLContext | None = None,
    auth_key: bytes | None = None,
    rubbish_limit: int | None = RUBBISH_LIMIT,
    limit: int = LIMIT,
    limit_bytes: int = LIMIT_BYTES,
) -> Receiver:
    """Listen for HEP and iterate over the received packets.

    Example::

        async with hep.receive(udp="127.0.0.1:9060", tcp="127.0.0.1:9060") as packets:
            async for packet, source in packets:
                print(source.ip, packet.payload)

    Args:
        udp: ``HOST:PORT`` to listen on over UDP; port 0 takes a free port; None does not listen.
        tcp: ``HOST:PORT`` to listen on over TCP, as ``udp``.
        tls: ``HOST:PORT`` to listen on over TLS, as ``udp``. Needs ``tls_context``.
        tls_context: TLS context with the certificate of the server.
        auth_key: authenticate key (chunk 0x000e) that a packet must have. None accepts any packet.
        rubbish_limit: bytes that are not HEP, from 0, that a TCP or TLS peer may send; as of
            `hep.Collector`.
        limit: maximum number of packets queued for the consumer, from 1. Beyond it, the oldest are
            dropped and counted. Default: 10000.
        limit_bytes: maximum memory of these packets in bytes, about; as ``limit``. One packet
            always fits. Default: 64 MiB.

    Returns:
        a receiver. It listens inside ``async with``.

    Raises:
        ValueError: ``tls`` is given without ``tls_context``, or ``rubbish_limit`` is negative.
    """
    return Receiver(
        limit,
        limit_bytes,
        udp=udp,
        tcp=tcp,
        tls=tls,
        tls_context=tls_context,
        auth_key=auth_key,
        rubbish_limit=rubbish_limit,
    )
