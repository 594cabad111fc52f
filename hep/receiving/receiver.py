"""Packets as an asynchronous iterator, on top of `hep.Collector`."""

import asyncio
import ssl
from collections import deque
from typing import Any, Final, Self

from hep.codec.packet import Packet
from hep.receiving.collector import Collector, Source

LIMIT: Final = 10_000
"""Packets that wait for a slow consumer unless told."""

DROPPED: Final = "dropped"
"""Counter: packets dropped because too many waited for the consumer."""


class Receiver:
    """Collects packets and yields them. Made by `receive`."""

    def __init__(self, limit: int, **where: Any) -> None:
        self.collector = Collector(self._put, **where)
        """Has the addresses and the ``counters``; `DROPPED` is one of them."""
        self._limit = limit
        self._waiting: deque[tuple[Packet, Source]] = deque()
        self._arrived = asyncio.Event()

    def _put(self, packet: Packet, source: Source) -> None:
        if len(self._waiting) >= self._limit:
            # The collector reads on: one slow consumer must not make the senders wait.
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
    limit: int = LIMIT,
) -> Receiver:
    """Listen for HEP and iterate over what comes.

    Example::

        async with hep.receive(udp="127.0.0.1:9060", tcp="127.0.0.1:9060") as packets:
            async for packet, source in packets:
                print(source.ip, packet.payload)

    Args:
        udp: as of `hep.Collector`, like all but the last.
        tcp: ``HOST:PORT``.
        tls: ``HOST:PORT``.
        tls_context: the certificate to show.
        auth_key: the authenticate key that a packet must carry.
        limit: packets that may wait for the consumer; beyond it the oldest go, counted.
    """
    return Receiver(limit, udp=udp, tcp=tcp, tls=tls, tls_context=tls_context, auth_key=auth_key)
