"""Packets as an asynchronous iterator."""

import asyncio

import pytest

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


@pytest.mark.parametrize(
    "flood",
    [
        hep.compress(hep.Packet(payload=bytes(1_000_000))),
        hep.Packet(payload=b"x", extra=(hep.Chunk(9, 9, b""),) * 10_000),
    ],
    ids=["compressed payloads", "empty chunks"],
)
async def test_small_packets_that_take_much_memory_do_not_pile_up(flood, numbered, until) -> None:
    async with hep.receive(tcp="127.0.0.1:0", limit_bytes=5_000_000) as packets:
        collector = packets.collector
        async with hep.open_sender(hep.HepId(*collector.tcp_address)) as sender:
            sender.send_all([flood] * 10)
            sender.send_all(numbered(1))
            await until(lambda: collector.counters["received"] == 11)
        kept = 11 - collector.counters[DROPPED]
        got = [(await anext(packets))[0] for _ in range(kept)]
    assert 1 <= kept <= 6
    assert got[-1].payload == b"0"


async def test_a_packet_beyond_the_limit_of_memory_is_still_yielded(until) -> None:
    async with hep.receive(tcp="127.0.0.1:0", limit_bytes=1) as packets:
        async with hep.open_sender(hep.HepId(*packets.collector.tcp_address)) as sender:
            sender.send_all([hep.Packet(payload=b"1"), hep.Packet(payload=b"2")])
            await until(lambda: packets.collector.counters["received"] == 2)
        assert (await anext(packets))[0].payload == b"2"
    assert packets.collector.counters[DROPPED] == 1
