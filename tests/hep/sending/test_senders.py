"""Sending over real sockets, to collectors that come and go."""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

import hep
from hep.codec.framing import Splitter
from hep.sending.outbox import FULL
from hep.sending.senders import REFUSED, SHUTDOWN, TOO_LONG

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def to(address: tuple[str, int], transport: str) -> hep.HepId:
    return hep.HepId(address[0], address[1], transport)  # type: ignore[arg-type]


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop run until something is so."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def numbered(packet: hep.Packet, count: int, start: int = 0) -> list[bytes]:
    return [hep.encode(replace(packet, payload=b"%d" % n)) for n in range(start, start + count)]


def numbers(packets: list[hep.Packet]) -> list[int]:
    return [int(packet.payload) for packet in packets]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_packets_arrive_in_order(packet, collect, inbox, transport) -> None:
    collector = await collect(**{transport: "127.0.0.1:0"})
    async with hep.open_sender(to(getattr(collector, f"{transport}_address"), transport)) as sender:
        for data in numbered(packet, 100):
            sender.send(data)
        assert numbers(await inbox.wait_for(100)) == list(range(100))
        await until(lambda: sender.counters.queued == 0)
    counters = sender.counters
    assert (counters.offered, counters.sent, counters.dropped.total()) == (100, 100, 0)
    assert inbox.packets[0].correlation_id == packet.correlation_id
    assert inbox.sources[0].transport == transport


async def test_packets_arrive_at_a_unix_socket_and_wait_until_it_is_there(packet, tmp_path) -> None:
    packets: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        splitter = Splitter()
        while data := await reader.read(65536):
            packets.extend(splitter.feed(data))
        writer.close()

    destination = hep.HepId(str(tmp_path / "hep"), transport="unix")
    assert str(destination) == f"{tmp_path}/hep;transport=unix"
    async with hep.open_sender(destination, QUICK) as sender:
        for data in numbered(packet, 100):
            sender.send(data)
        await until(lambda: sender.failures)
        server = await asyncio.start_unix_server(receive, destination.host)
        await until(lambda: len(packets) == 100)
        # From Python 3.12 on its end waits for that of the connection.
        server.close()
    assert packets == numbered(packet, 100)


def test_a_hep_id_with_transport_unix_raises() -> None:
    with pytest.raises(hep.HepIdError, match="transport 'unix' is not one of udp, tcp, tls"):
        hep.HepId.parse("/tmp/hep;transport=unix")


async def test_packets_to_a_closed_udp_port_are_counted_as_refused(packet, collect, inbox) -> None:
    port = free_port()
    async with hep.open_sender(hep.HepId("127.0.0.1", port, "udp"), QUICK) as sender:
        for data in numbered(packet, 3):
            sender.send(data)
            await until(lambda: sender.counters.queued == 0)
            await asyncio.sleep(0.01)  # the system's answer takes its own time
        sender.send(numbered(packet, 1)[0])
        await until(lambda: sender.counters.dropped[REFUSED])
        await collect(udp=f"127.0.0.1:{port}")

        def send_and_see() -> bool:
            sender.send(numbered(packet, 1)[0])
            return bool(inbox.packets)

        await until(send_and_see)
    counters = sender.counters
    assert counters.offered == counters.sent + counters.dropped.total()


async def test_packets_wait_for_a_tcp_collector_that_is_not_there_yet(
    packet, collect, inbox
) -> None:
    port = free_port()
    async with hep.open_sender(hep.HepId("127.0.0.1", port, "tcp"), QUICK) as sender:
        for data in numbered(packet, 50):
            sender.send(data)
        await until(lambda: sender.failures > 1)
        await collect(tcp=f"127.0.0.1:{port}")
        assert numbers(await inbox.wait_for(50)) == list(range(50))
    assert sender.counters.dropped.total() == 0


async def test_a_restarted_collector_gets_all_later_packets(packet, collect, inbox) -> None:
    port = free_port()
    first = hep.Collector(inbox, tcp=f"127.0.0.1:{port}")
    await first.start()
    async with hep.open_sender(hep.HepId("127.0.0.1", port, "tcp"), QUICK) as sender:
        sender.send(numbered(packet, 1)[0])
        await inbox.wait_for(1)
        await first.aclose()
        # The connection was idle when it went: that is noticed before the next packet.
        await until(lambda: sender.failures)
        for data in numbered(packet, 10, start=1):
            sender.send(data)
        await collect(tcp=f"127.0.0.1:{port}")
        assert numbers(await inbox.wait_for(11)) == list(range(11))
    assert sender.connects == 2


async def test_a_full_queue_drops_and_counts(packet, collect, inbox) -> None:
    port = free_port()
    settings = replace(QUICK, queue_limit=10)
    async with hep.open_sender(hep.HepId("127.0.0.1", port, "tcp"), settings) as sender:
        for data in numbered(packet, 25):
            sender.send(data)
        assert sender.counters.dropped[FULL] == 15
        await collect(tcp=f"127.0.0.1:{port}")
        assert numbers(await inbox.wait_for(10)) == list(range(15, 25))


async def test_a_collector_that_stops_reading_does_not_block_the_sender(packet) -> None:
    stuck: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: stuck.append(writer), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    sender = hep.open_sender(to(address, "tcp"), replace(QUICK, queue_limit=100))
    await until(lambda: stuck)
    stuck[0].transport.pause_reading()
    big = hep.encode(replace(packet, payload=bytes(60_000)))
    async with asyncio.timeout(5):
        while not sender.counters.dropped[FULL]:
            sender.send(big)
            await asyncio.sleep(0)
    await sender.aclose(timeout=0.05)
    counters = sender.counters
    assert counters.dropped[SHUTDOWN] == 100
    assert counters.offered == counters.sent + counters.dropped.total()
    stuck[0].transport.abort()
    server.close()


async def test_closing_sends_queued_packets(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    sender = hep.open_sender(to(collector.tcp_address, "tcp"))
    for data in numbered(packet, 100):
        sender.send(data)
    await sender.aclose()
    assert len(await inbox.wait_for(100)) == 100


async def test_drained_returns_when_the_sender_is_closed(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    sender = hep.open_sender(to(collector.tcp_address, "tcp"))
    await sender.drained()
    for data in numbered(packet, 100):
        sender.send(data)
    await sender.drained()
    assert sender.counters.sent == 100
    assert numbers(await inbox.wait_for(100)) == list(range(100))
    await sender.aclose()
    alone = hep.open_sender(hep.HepId("127.0.0.1", free_port(), "tcp"), QUICK)
    alone.send(numbered(packet, 1)[0])
    waiting = asyncio.create_task(alone.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    await alone.aclose(0)
    await waiting


async def test_closing_has_a_deadline_and_counts_dropped_packets(packet) -> None:
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port(), "tcp"), QUICK)
    sender.send(numbered(packet, 1)[0])
    await sender.aclose(timeout=0.05)
    assert sender.counters.dropped == {SHUTDOWN: 1}


async def test_a_packet_longer_than_a_datagram_is_dropped_and_counted(
    packet, collect, inbox
) -> None:
    collector = await collect(udp="127.0.0.1:0")
    async with hep.open_sender(to(collector.udp_address, "udp")) as sender:
        sender.send(bytes(65_508))
        sender.send(numbered(packet, 1)[0])
        await inbox.wait_for(1)
    assert sender.counters.dropped == {TOO_LONG: 1}


async def test_a_name_that_does_not_resolve_is_retried(packet) -> None:
    destination = hep.HepId("does-not-exist.invalid", 9060, "udp")
    sender = hep.open_sender(destination, QUICK)
    sender.send(numbered(packet, 1)[0])
    await until(lambda: sender.failures > 1)
    await sender.aclose(timeout=0)


async def test_closing_at_any_moment_leaks_no_socket() -> None:
    # A UDP socket abandoned half-open keeps uvloop from ever closing its loop.
    before = len(os.listdir("/proc/self/fd"))
    for turns in range(8):
        sender = hep.open_sender(hep.HepId("127.0.0.1", free_port(), "udp"), QUICK)
        for _ in range(turns):
            await asyncio.sleep(0)
        await sender.aclose(timeout=0)
    await asyncio.sleep(0.01)  # closing takes effect on a later turn of the event loop
    assert len(os.listdir("/proc/self/fd")) <= before
