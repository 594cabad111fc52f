"""What a collector does with bytes that are not HEP, and with packets that it cannot take."""

import asyncio
import logging
import socket
import zlib
from dataclasses import replace
from typing import Any

import pytest

import hep
from hep.codec import v3
from hep.receiving.collector import RUBBISH_LIMIT

NO_PACKET = b"HEP3\0\x0c\0\0\0\x0f\0\0"
"""A packet of a stream that does not decode: its chunk has no length."""


async def connect(collector: hep.Collector) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*collector.tcp_address)


async def dropped(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection; returns whether the collector ended it."""
    async with asyncio.timeout(5):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def sized(packet: hep.Packet) -> Any:
    """Make an encoded packet of so many bytes."""

    def make(size: int) -> bytes:
        header = len(hep.encode(replace(packet, payload=b"")))
        return hep.encode(replace(packet, payload=bytes(size - header)))

    return make


async def test_a_peer_that_sends_rubbish_is_dropped_and_counted(
    collect: Any, inbox: Any, packet: hep.Packet, caplog: pytest.LogCaptureFixture
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    with caplog.at_level(logging.WARNING):
        for count in (1, 2):
            reader, writer = await connect(collector)
            writer.write(b"x" * (RUBBISH_LIMIT + 6) + hep.encode(packet))
            assert await dropped(reader)
            assert collector.counters["rubbish"] == count
            writer.close()
    assert collector.counters["skipped"] >= 2 * RUBBISH_LIMIT
    assert not inbox.packets
    [line] = caplog.messages
    assert "rubbish_limit is 65536" in line


async def test_the_others_stay_connected(collect: Any, inbox: Any, packet: hep.Packet) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    _, good = await connect(collector)
    reader, bad = await connect(collector)
    bad.write(bytes(2 * RUBBISH_LIMIT))
    assert await dropped(reader)
    good.write(hep.encode(packet))
    await inbox.wait_for(1)
    for writer in (good, bad):
        writer.close()


@pytest.mark.parametrize("rubbish", [b"x" * 1000, NO_PACKET * 100], ids=["bytes", "packets"])
async def test_received_packets_make_up_for_rubbish(
    collect: Any, inbox: Any, sized: Any, rubbish: bytes
) -> None:
    collector = await collect(tcp="127.0.0.1:0", rubbish_limit=2000)
    reader, writer = await connect(collector)
    for count in range(1, 20):
        writer.write(rubbish + sized(len(rubbish)))
        await inbox.wait_for(count)
    # Half of it is rubbish. Now there is more of it than HEP.
    assert collector.counters["rubbish"] == 0
    for _ in range(5):
        writer.write(rubbish)
    assert await dropped(reader)
    assert collector.counters["rubbish"] == 1
    writer.close()


async def test_packets_make_up_for_no_rubbish_to_come(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    collector = await collect(tcp="127.0.0.1:0", rubbish_limit=100)
    reader, writer = await connect(collector)
    writer.write(b"x" + hep.encode(packet) * 10 + bytes(101) + hep.encode(packet))
    assert await dropped(reader)
    assert len(inbox.packets) == 10
    writer.close()


async def test_packets_before_the_limit_are_received(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    collector = await collect(tcp="127.0.0.1:0", rubbish_limit=0)
    reader, writer = await connect(collector)
    writer.write(hep.encode(packet) * 3 + b"x" + hep.encode(packet))
    assert await dropped(reader)
    assert len(inbox.packets) == 3
    writer.close()


async def test_a_stream_that_begins_within_the_longest_packet_is_received(
    collect: Any, inbox: Any, packet: hep.Packet, sized: Any
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    _, writer = await connect(collector)
    writer.write(sized(65_535)[1:] + hep.encode(packet))
    assert (await inbox.wait_for(1))[0].payload == packet.payload
    assert collector.counters["rubbish"] == 0
    writer.close()


async def test_without_a_limit_nobody_is_dropped(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    collector = await collect(tcp="127.0.0.1:0", rubbish_limit=None)
    _, writer = await connect(collector)
    writer.write(bytes(5 * RUBBISH_LIMIT) + hep.encode(packet))
    await inbox.wait_for(1)
    assert collector.counters["skipped"] == 5 * RUBBISH_LIMIT
    writer.close()


async def test_packets_without_the_key_are_no_rubbish(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    collector = await collect(tcp="127.0.0.1:0", auth_key=b"secret", rubbish_limit=100)
    _, writer = await connect(collector)
    writer.write(hep.encode(packet) * 50 + hep.encode(replace(packet, auth_key=b"secret")))
    await inbox.wait_for(1)
    assert collector.counters["unauthenticated"] == 50
    # Nor do they make up for any.
    for _ in range(2):
        reader, other = await connect(collector)
        other.write(bytes(60) + hep.encode(packet) + bytes(60) + hep.encode(packet))
        assert await dropped(reader)
        other.close()
    assert collector.counters["unauthenticated"] == 52
    writer.close()


def test_a_negative_limit_raises(inbox: Any) -> None:
    with pytest.raises(ValueError, match="rubbish_limit=-1 is no number of bytes"):
        hep.Collector(inbox, rubbish_limit=-1)
    with pytest.raises(ValueError, match="rubbish_limit=-1"):
        hep.receive(rubbish_limit=-1)


@pytest.mark.parametrize("key", [None, b"", b"guess", b"secret2"])
async def test_a_packet_with_a_wrong_key_is_not_decoded(
    collect: Any,
    inbox: Any,
    packet: hep.Packet,
    monkeypatch: pytest.MonkeyPatch,
    key: bytes | None,
) -> None:
    decoded: list[bytes] = []

    def decode(data: bytes) -> hep.Packet:
        decoded.append(data)
        return hep.decode(data)

    monkeypatch.setattr("hep.receiving.collector.decode", decode)
    collector = await collect(udp="127.0.0.1:0", auth_key=b"secret")
    bomb = hep.compress(replace(packet, payload=bytes(1 << 20), auth_key=key))
    good = hep.encode(replace(packet, auth_key=b"secret"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(hep.encode(bomb), collector.udp_address)
        # Without a header of version 3 it may be version 1 or 2, which have no key.
        sock.sendto(hep.encode(replace(packet, version=2)), collector.udp_address)
        sock.sendto(b"garbage", collector.udp_address)
        sock.sendto(good, collector.udp_address)
        await inbox.wait_for(1)
    assert [data[:4] for data in decoded] == [b"\x02\x10\x02\x06", b"garb", b"HEP3"]
    assert (collector.counters["unauthenticated"], collector.counters["bad"]) == (2, 1)


async def test_each_packet_of_a_datagram_is_received(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    collector = await collect(udp="127.0.0.1:0")
    first, second = (hep.encode(replace(packet, payload=each)) for each in (b"1", b"2"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(first + second, collector.udp_address)
        sock.sendto(first + bytes(3) + second + second[:-1], collector.udp_address)
        await inbox.wait_for(4)
    assert [each.payload for each in inbox.packets] == [b"1", b"2"] * 2
    assert collector.counters["skipped"] == 3 + len(second) - 1
    assert collector.counters["bad"] == 0


@pytest.mark.parametrize(
    "datagram", [b"HEP3\0\5" + bytes(9), b"HEP3\0\x20" + bytes(9), b"HEP3\0", NO_PACKET]
)
async def test_a_datagram_with_a_broken_packet_is_counted_once(
    collect: Any, inbox: Any, packet: hep.Packet, datagram: bytes
) -> None:
    collector = await collect(udp="127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(datagram, collector.udp_address)
        sock.sendto(hep.encode(packet), collector.udp_address)
        await inbox.wait_for(1)
    assert collector.counters == {"bad": 1, "received": 1}


async def test_chunks_of_an_unexpected_size_are_counted(
    collect: Any, inbox: Any, packet: hep.Packet
) -> None:
    odd = (hep.Chunk(0, 0x0D, b"\1"), hep.Chunk(0, 0x12, b""), hep.Chunk(0, 0x20, b"\0\1"))
    collector = await collect(udp="127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(hep.encode(replace(packet, extra=odd)), collector.udp_address)
        await inbox.wait_for(1)
    assert inbox.packets[0].extra == odd
    assert collector.counters["unread"] == 2


def test_a_key_is_found_before_a_payload_that_is_broken(packet: hep.Packet) -> None:
    data = hep.encode(replace(packet, auth_key=b"secret", compressed=zlib.compress(b"")))
    assert v3.auth_key(data[:-1]) == b"secret"
    assert v3.auth_key(hep.encode(packet)) is None
