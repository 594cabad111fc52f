"""Several destinations behind one send."""

import asyncio
from dataclasses import replace

import pytest

import hep
from hep.sending.groups import Group
from hep.sending.senders import SHUTDOWN

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)


def sender(collector: hep.Collector) -> hep.Sender:
    return hep.open_sender(hep.HepId(*collector.tcp_address), QUICK)


def numbers(packets: list[hep.Packet]) -> list[int]:
    return [int(packet.payload) for packet in packets]


@pytest.fixture
async def two(until):
    """Two collectors, each with what it has received."""
    received: tuple[list[hep.Packet], list[hep.Packet]] = ([], [])
    collectors = [
        hep.Collector(lambda packet, _, to=to: to.append(packet), tcp="127.0.0.1:0")
        for to in received
    ]
    for collector in collectors:
        await collector.start()
    yield collectors, received
    for collector in collectors:
        await collector.aclose()


async def test_duplicate_sends_to_all_and_a_member_that_is_down_delays_no_other(
    two, numbered, until
) -> None:
    (first, second), (got_first, got_second) = two
    async with hep.Duplicate(sender(first), sender(second)) as group:
        for data in numbered(10):
            group.send(data)
        await until(lambda: len(got_first) == len(got_second) == 10)
        await first.aclose()
        for data in numbered(10, start=10):
            group.send(data)
        await until(lambda: len(got_second) == 20)
        await group.aclose(timeout=0.01)
    assert numbers(got_second) == list(range(20))


async def test_failover_prefers_the_first_member_and_returns_to_it(two, numbered, until) -> None:
    (first, second), (got_first, got_second) = two
    ip, port = first.tcp_address
    async with hep.Failover(sender(first), sender(second)) as group:
        await until(lambda: all(member.connected for member in group.members))
        for data in numbered(5):
            group.send(data)
        await until(lambda: len(got_first) == 5)
        await first.aclose()
        await until(lambda: not group.members[0].connected)
        for data in numbered(5, start=5):
            group.send(data)
        await until(lambda: len(got_second) == 5)
        async with hep.Collector(lambda packet, _: got_first.append(packet), tcp=f"{ip}:{port}"):
            await until(lambda: group.members[0].connected)
            for data in numbered(5, start=10):
                group.send(data)
            await until(lambda: len(got_first) == 10)
    assert numbers(got_first) == [*range(5), *range(10, 15)]
    assert numbers(got_second) == list(range(5, 10))


async def test_packets_queued_at_a_member_that_is_down_move_to_the_other(
    two, numbered, until
) -> None:
    (first, second), (_, got_second) = two
    down = hep.HepId(*first.tcp_address)
    await first.aclose()
    preferred = hep.open_sender(down, QUICK)
    async with hep.Failover(preferred, sender(second)) as group:
        for data in numbered(100):
            group.send(data)
        await until(lambda: len(got_second) == 100)
    assert numbers(got_second) == list(range(100))
    assert preferred.counters.offered == 0


async def test_balanced_keeps_a_correlation_id_together_and_uses_all(two, packet, until) -> None:
    collectors, received = two
    async with hep.Balanced(*map(sender, collectors)) as group:
        for number in range(400):
            correlation_id = b"call-%d" % (number % 100)
            group.send(hep.encode(replace(packet, correlation_id=correlation_id)))
        await until(lambda: sum(map(len, received)) == 400)
    first, second = ({each.correlation_id for each in packets} for packets in received)
    assert not first & second
    assert len(first | second) == 100
    assert len(first) > 25
    assert len(second) > 25


async def test_balanced_keeps_both_directions_together_without_a_correlation_id(
    two, packet, until
) -> None:
    collectors, received = two
    there = replace(packet, version=2, correlation_id=None)
    back = replace(
        there, src_ip=there.dst_ip, src_port=there.dst_port, dst_ip=there.src_ip,
        dst_port=there.src_port,
    )  # fmt: skip
    async with hep.Balanced(*map(sender, collectors)) as group:
        group.send(hep.encode(replace(there, version=3)))
        group.send(hep.encode(replace(back, version=3)))
        group.send(b"no packet")
        await until(lambda: sum(map(len, received)) == 2)
    assert sorted(map(len, received)) == [0, 2]


@pytest.mark.parametrize("kind", [hep.Duplicate, hep.Failover, hep.Balanced])
async def test_send_all_chooses_the_same_members_as_send(kind: type[Group], numbered) -> None:
    nowhere = [hep.HepId("127.0.0.1", port) for port in (1, 2)]
    together, one_by_one = (kind(*map(hep.open_sender, nowhere)) for _ in range(2))
    async with together, one_by_one:
        together.send_all(numbered(20))
        for data in numbered(20):
            one_by_one.send(data)
        taken, expected = (
            [member.counters.take(100_000) for member in group.members]
            for group in (together, one_by_one)
        )
        for group in (together, one_by_one):
            await group.aclose(timeout=0)
    assert taken == expected
    assert any(taken)


def test_a_group_without_members_raises() -> None:
    with pytest.raises(ValueError, match="pass at least one sender"):
        hep.Duplicate()


async def test_closing_a_group_has_one_deadline(numbered) -> None:
    members = [hep.open_sender(hep.HepId("127.0.0.1", 1), QUICK) for _ in range(3)]
    group = hep.Duplicate(*members)
    group.send(numbered(1)[0])
    async with asyncio.timeout(1):
        await group.aclose(timeout=0.02)
    assert all(member.counters.dropped == {SHUTDOWN: 1} for member in members)
