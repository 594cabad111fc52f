"""Received packets as an asynchronous iterator, based on `hep.Collector`."""

import asyncio
import ssl
from collections import deque
from typing import Any, Final, Self

from hep.codec.packet import Packet
from hep.receiving.collector import RUBBISH_LIMIT, Collector, Source

LIMIT: Final = 10_000
"""Default limit of packets queued for a slow consumer."""

DROPPED: Final = "dropped"
"""Counter: packets dropped because the consumer was too slow."""


class Receiver:
    """Receives packets and yields them with their `Source`. Made by `receive`.

    Interface: ``async with`` listens, ``async for`` yields packets, ``collector`` has the counters.

    Args:
        limit: maximum number of packets queued for the consumer, from 1.
        where: keyword arguments of `hep.Collector`.
    """

    def __init__(self, limit: int, **where: Any) -> None:
        self.collector = Collector(self._put, **where)
        """The collector with its addresses and ``counters``, which include `DROPPED`."""
        self._limit = limit
        self._waiting: deque[tuple[Packet, Source]] = deque()
        self._arrived = asyncio.Event()

    def _put(self, packet: Packet, source: Source) -> None:
        if len(self._waiting) >= self._limit:
            # The collector keeps reading: a slow consumer must not delay the senders.
            self._waiting.popleft()
            self.collector.counters[DROPPED] += 1
        self._waiting.append((packet, source))
        self._arrived.set()

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
        return self._waiting.popleft()


def receive(
    *,
    udp: str | None = None,
    tcp: str | None = None,
    tls: str | None = None,
    tls_context: ssl.SSLContext | None = None,
    auth_key: bytes | None = None,
    rubbish_limit: int | None = RUBBISH_LIMIT,
    limit: int = LIMIT,
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

    Returns:
        a receiver. It listens inside ``async with``.

    Raises:
        ValueError: ``tls`` is given without ``tls_context``, or ``rubbish_limit`` is negative.
    """
    return Receiver(
        limit,
        udp=udp,
        tcp=tcp,
        tls=tls,
        tls_context=tls_context,
        auth_key=auth_key,
        rubbish_limit=rubbish_limit,
    )
