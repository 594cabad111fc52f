"""Receiving: many senders, garbage, keys."""

import asyncio
import logging
import socket
from dataclasses import replace

import pytest

import hep


async def tcp(collector: hep.Collector, data: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(*collector.tcp_address)
    writer.write(data)
    await writer.drain()
    return writer


async def test_many_connections_are_received_at_once(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    writers = [await tcp(collector, hep.encode(packet) * 3) for _ in range(50)]
    await inbox.wait_for(150)
    assert collector.counters["accepted"] == 50
    assert len(set(inbox.sources)) == 50
    for writer in writers:
        writer.close()


async def test_garbage_datagrams_are_counted_and_nothing_else(packet, collect, inbox) -> None:
    collector = await collect(udp="127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"garbage", collector.udp_address)
        sock.sendto(b"", collector.udp_address)
        sock.sendto(hep.encode(packet), collector.udp_address)
        await inbox.wait_for(1)
    assert (collector.counters["bad"], collector.counters["received"]) == (2, 1)


async def test_garbage_in_a_stream_is_skipped_and_counted(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    writer = await tcp(collector, b"GET / HTTP/1.1\r\n\r\n" + hep.encode(packet))
    await inbox.wait_for(1)
    assert collector.counters["skipped"] == 18
    writer.close()


async def test_only_packets_with_the_authenticate_key_are_accepted(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0", auth_key=b"secret")
    good = replace(packet, auth_key=b"secret")
    stream = b"".join(map(hep.encode, (packet, replace(packet, auth_key=b"guess"), good)))
    writer = await tcp(collector, stream)
    assert await inbox.wait_for(1) == [hep.decode(hep.encode(good))]
    assert collector.counters["unauthenticated"] == 2
    writer.close()


async def test_a_consumer_that_raises_is_logged_and_reading_goes_on(
    packet, caplog: pytest.LogCaptureFixture
) -> None:
    done = asyncio.Event()

    def consume(packet: hep.Packet, source: hep.Source) -> None:
        if packet.payload == b"2":
            done.set()
        raise ValueError("cannot store")

    with caplog.at_level(logging.ERROR):
        async with hep.Collector(consume, tcp="127.0.0.1:0") as collector:
            stream = b"".join(hep.encode(replace(packet, payload=n)) for n in (b"1", b"2"))
            writer = await tcp(collector, stream)
            await asyncio.wait_for(done.wait(), 5)
            writer.close()
    assert collector.counters["failed"] == 2
    assert "cannot store" in caplog.text


async def test_an_invalid_address_raises(inbox) -> None:
    with pytest.raises(ValueError, match=r"'9060' is not HOST:PORT; write 127\.0"):
        await hep.Collector(inbox, udp="9060").start()


async def test_an_address_in_use_raises_and_leaks_nothing(collect, inbox) -> None:
    taken = await collect(tcp="127.0.0.1:0")
    address = "{}:{}".format(*taken.tcp_address)
    with pytest.raises(OSError, match="in use"):
        await hep.Collector(inbox, udp="127.0.0.1:0", tcp=address).start()


async def test_tls_needs_a_certificate(inbox) -> None:
    with pytest.raises(ValueError, match="needs tls_context"):
        hep.Collector(inbox, tls="127.0.0.1:0")
