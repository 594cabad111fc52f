"""What a sender does when the network, the collector or the caller misbehaves."""

import asyncio
import socket
from dataclasses import replace

import pytest

import hep
from hep.sending.outbox import FULL
from hep.sending.senders import REFUSED, SHUTDOWN, TOO_LONG

PATIENCE = 30
"""Seconds until something must have happened."""

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)


def tcp(listener: socket.socket) -> hep.HepId:
    return hep.HepId(*listener.getsockname(), "tcp")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def balanced(sender: hep.Sender) -> bool:
    counters = sender.counters
    return counters.offered == counters.sent + counters.dropped.total() + counters.queued


async def accepted(listener: socket.socket) -> socket.socket:
    """The next connection."""
    async with asyncio.timeout(PATIENCE):
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    return connection


async def read(connection: socket.socket, size: int = 65536) -> bytes:
    """What has come on a connection, or comes first."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().sock_recv(connection, size)


def read_all(connection: socket.socket) -> list[int]:
    """The numbers of all packets until the connection ends."""
    splitter, packets = hep.Splitter(), []
    connection.settimeout(PATIENCE)
    with connection:
        while data := connection.recv(65536):
            packets += splitter.feed(data)
    return [int(hep.decode(each).payload) for each in packets]


async def test_a_connection_closed_while_idle_is_noticed_before_the_next_packet(
    deaf, numbered, until
) -> None:
    async with hep.open_sender(tcp(deaf), QUICK) as sender:
        for number in range(20):
            first, second = numbered(2, start=2 * number)
            sender.send(first)
            await until(lambda: not sender.counters.queued)
            connection = await accepted(deaf)
            assert await read(connection) == first
            # The end of the connection is in our system, and the event loop has not looked yet.
            connection.close()
            sender.send(second)
            connects = sender.connects
            await until(lambda connects=connects: sender.connects > connects)
            await until(lambda: not sender.counters.queued)
            again = await accepted(deaf)
            assert await read(again) == second
            again.close()
            connects = sender.connects
            await until(lambda connects=connects: sender.connects > connects)
    assert sender.counters.dropped.total() == 0


async def test_a_killed_collector_loses_only_packets_that_the_system_accepted(
    deaf, numbered, until
) -> None:
    total = 3_000
    sender = hep.open_sender(tcp(deaf), QUICK)
    for data in numbered(total // 2):
        sender.send(data)
    await until(lambda: sender.connects)
    first = await accepted(deaf)
    splitter = hep.Splitter()
    before = [int(hep.decode(each).payload) for each in splitter.feed(await read(first, 20_000))]
    # A reset: what is unread in the system is gone.
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    first.close()
    await until(lambda: sender.failures)
    for data in numbered(total - total // 2, start=total // 2):
        sender.send(data)
    await until(lambda: sender.connects > 1)
    second = await accepted(deaf)
    reading = asyncio.create_task(asyncio.to_thread(read_all, second))
    await sender.aclose()
    after = await reading
    assert before == list(range(len(before)))
    assert after == list(range(after[0], total))
    assert sender.counters.sent == total
    assert sender.counters.dropped.total() == 0


async def test_reconnecting_to_a_collector_that_closes_at_once_backs_off(
    deaf, numbered, until
) -> None:
    loop = asyncio.get_running_loop()
    settings = replace(QUICK, retry_first=0.02, retry_longest=0.04)
    sender = hep.open_sender(tcp(deaf), settings)
    begun = loop.time()
    for _ in range(4):
        (await accepted(deaf)).close()
    # Three pauses of at least half of 0.02, 0.04 and 0.04 seconds.
    assert loop.time() - begun >= 0.05
    await sender.aclose(timeout=0)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", "\0"], ids=ascii)
async def test_an_invalid_host_name_is_a_failure_to_connect(
    host, transport, numbered, until
) -> None:
    sender = hep.open_sender(hep.HepId(host, 9060, transport), QUICK)
    sender.send(numbered(1)[0])
    await until(lambda: sender.failures > 1)
    await sender.aclose(timeout=0)
    assert sender.counters.dropped == {SHUTDOWN: 1}


async def test_data_from_a_collector_is_ignored(deaf, numbered, until) -> None:
    async with hep.open_sender(tcp(deaf), QUICK) as sender:
        await until(lambda: sender.connected)
        connection = await accepted(deaf)
        said = b"HTTP/1.1 400 Bad Request\r\n\r\n" * 1000
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(connection, said)
        sender.send(numbered(1)[0])
        await until(lambda: not sender.counters.queued)
        assert await read(connection) == numbered(1)[0]
        connection.close()
        await until(lambda: sender.failures)


async def test_closing_leaks_no_task(deaf, until) -> None:
    before = asyncio.all_tasks()
    for transport in ("tcp", "udp"):
        sender = hep.open_sender(replace(tcp(deaf), transport=transport), QUICK)
        await until(lambda sender=sender: sender.connected)
        await sender.aclose()
        assert not sender.connected
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_closing_twice_and_sending_after_it_do_not_raise(deaf, numbered) -> None:
    sender = hep.open_sender(tcp(deaf), QUICK)
    await sender.aclose()
    sender.send(numbered(1)[0])
    await sender.aclose()
    assert sender.counters.dropped == {SHUTDOWN: 1}
    assert balanced(sender)


async def test_a_burst_to_a_closed_udp_port_is_counted(numbered, until) -> None:
    destination = hep.HepId("127.0.0.1", free_port(socket.SOCK_DGRAM), "udp")
    async with hep.open_sender(destination, QUICK) as sender:
        for data in numbered(50):
            sender.send(data)
        await until(lambda: not sender.counters.queued)
    assert sender.counters.dropped[REFUSED] > 0
    assert sender.counters.offered == 50
    assert balanced(sender)
    assert sender.connects == 1


async def test_the_next_address_of_a_name_is_tried_after_a_refusal(
    collect, inbox, numbered, until, monkeypatch
) -> None:
    collector = await collect(udp="127.0.0.1:0")
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def two(host, port, **how):
        if host == "homer.example":
            nobody = await resolve("127.0.0.2", port, **how)
            return nobody + await resolve("127.0.0.1", port, **how)
        return await resolve(host, port, **how)

    monkeypatch.setattr(loop, "getaddrinfo", two)
    destination = hep.HepId("homer.example", collector.udp_address[1], "udp")
    async with hep.open_sender(destination, QUICK) as sender:

        def send_and_see() -> bool:
            sender.send(numbered(1)[0])
            return bool(inbox.packets)

        await until(send_and_see)
        assert sender.counters.dropped[REFUSED]
        assert balanced(sender)


LONG = b"INVITE sip:example.com SIP/2.0\r\n".ljust(60_000, b"x")


@pytest.mark.parametrize(
    ("rule", "dropped", "shortened"), [("drop", 1, 0), ("truncate", 0, 1), ("compress", 0, 1)]
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_packet_that_is_too_long_follows_when_too_long(
    packet, collect, inbox, transport, rule, dropped, shortened
) -> None:
    collector = await collect(**{transport: "127.0.0.1:0"})
    address = getattr(collector, f"{transport}_address")
    settings = hep.SenderSettings(when_too_long=rule, longest=50_000)
    async with hep.open_sender(hep.HepId(*address, transport), settings) as sender:
        sender.send(hep.encode(replace(packet, payload=LONG)))
        sender.send(hep.encode(replace(packet, payload=b"short")))
        received = await inbox.wait_for(2 - dropped)
    room = 50_000 - len(hep.encode(replace(packet, payload=b"")))
    expected = {"drop": b"short", "truncate": LONG[:room], "compress": LONG}
    assert received[0].payload == expected[rule]
    assert received[-1].payload == b"short"
    assert sender.counters.dropped[TOO_LONG] == dropped
    assert sender.shortened == shortened
    assert balanced(sender)


async def test_long_bytes_that_are_no_packet_are_dropped(deaf) -> None:
    settings = replace(QUICK, when_too_long="truncate", longest=10)
    sender = hep.open_sender(tcp(deaf), settings)
    sender.send(b"no packet at all")
    assert sender.counters.dropped == {TOO_LONG: 1}
    await sender.aclose(timeout=0)


async def test_the_queue_is_bounded_in_bytes_too(numbered) -> None:
    settings = replace(QUICK, queue_limit_bytes=1_000)
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings)
    for data in numbered(100):
        sender.send(data)
    assert sender.counters.bytes_queued <= 1_000
    assert sender.counters.dropped[FULL] == 100 - sender.counters.queued
    await sender.aclose(timeout=0)
    assert balanced(sender)


async def test_sending_to_a_closed_udp_port_pauses(numbered, until) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with hep.open_sender(hep.HepId("127.0.0.1", port, "udp"), QUICK) as sender:
        await until(lambda: sender.connected)
        for packet in numbered(500):
            sender.send(packet)
            await asyncio.sleep(0)
            assert balanced(sender)
        await until(lambda: not sender.counters.queued)
        assert sender.counters.dropped[REFUSED] >= 498
        assert sender.counters.dropped.keys() == {REFUSED}
        # Most of them have cost no system call: the system has refused but a few.
        assert sender.counters.bounced < 100
        with socket.socket(type=socket.SOCK_DGRAM) as back:
            back.bind(("127.0.0.1", port))
            back.setblocking(False)
            heard = asyncio.create_task(read(back))
            while not heard.done():
                for packet in numbered(1):
                    sender.send(packet)
                await asyncio.wait([heard], timeout=0.01)
            assert hep.decode(await heard).payload == b"0"
        assert balanced(sender)
