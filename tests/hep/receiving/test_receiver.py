"""Packets as an asynchronous iterator."""

import asyncio

import hep
from hep.receiving.receiver import DROPPED


async def test_packets_are_yielded_with_their_source(numbered) -> None:
    async with hep.receive(udp="127.0.0.1:0", tcp="127.0.0.1:0") as packets:
        destination = hep.HepId(*packets.collector.tcp_address)
        async with hep.open_sender(destination) as sender:
            for data in numbered(3):
                sender.send(data)
            async with asyncio.timeout(5):
                got = [await anext(packets) for _ in range(3)]
    assert [int(packet.payload) for packet, _ in got] == [0, 1, 2]
    assert {source.transport for _, source in got} == {"tcp"}


async def test_a_slow_consumer_loses_the_oldest_packets_which_are_counted(numbered, until) -> None:
    async with hep.receive(tcp="127.0.0.1:0", limit=5) as packets:
        collector = packets.collector
        async with hep.open_sender(hep.HepId(*collector.tcp_address)) as sender:
            for data in numbered(20):
                sender.send(data)
            await until(lambda: collector.counters["received"] == 20)
        got = [int((await anext(packets))[0].payload) for _ in range(5)]
    assert got == list(range(15, 20))
    assert collector.counters[DROPPED] == 15
