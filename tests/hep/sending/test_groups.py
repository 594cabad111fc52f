"""Several destinations behind one send."""

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import hep
from hep.sending.groups import Group
from hep.sending.senders import SHUTDOWN
from hep.sending.spool import SEGMENT, Spool

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
    assert preferred.counters.offered == preferred.counters.handed_over == 100


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


def nowhere() -> hep.HepId:
    """A collector that is down."""
    return hep.HepId("127.0.0.1", 1)


def adds_up(counters: hep.Counts | hep.Outbox) -> bool:
    gone = counters.sent + counters.dropped.total() + counters.handed_over
    return counters.offered == gone + counters.queued


async def test_groups_within_groups(two, numbered, until) -> None:
    (first, second), (got_first, got_second) = two
    pair = hep.Duplicate(sender(first), sender(second))
    async with hep.Failover(hep.open_sender(nowhere(), QUICK), pair) as group:
        for data in numbered(10):
            group.send(data)
        await until(lambda: len(got_first) == len(got_second) == 10)
        assert group.connected
        await asyncio.wait_for(group.drained(), 5)
        assert adds_up(group.counters)
        assert group.counters.handed_over == 10
        assert group.counters.sent == pair.counters.sent == 20
        assert not group.counters.queued


async def test_an_inner_failover_group_hands_over_what_waits_for_it(two, numbered, until) -> None:
    (_, second), (_, got_second) = two
    inner = hep.Failover(*(hep.open_sender(hep.HepId("127.0.0.1", n), QUICK) for n in (1, 2)))
    last = hep.open_sender(hep.HepId(*second.tcp_address), QUICK)
    async with hep.Failover(inner, last) as group:
        assert not group.connected
        for data in numbered(10):
            group.send(data)
        await until(lambda: len(got_second) == 10)
        # What comes now goes to the connected member at once.
        group.send_all(numbered(5, start=10))
        await until(lambda: len(got_second) == 15)
        assert inner.counters.handed_over == 10
        await asyncio.wait_for(group.drained(), 5)
    assert numbers(got_second) == list(range(15))


async def test_a_group_of_duplicates_keeps_what_waits_for_it(two, numbered, until) -> None:
    (_, second), (_, got_second) = two
    pair = hep.Duplicate(*(hep.open_sender(hep.HepId("127.0.0.1", n), QUICK) for n in (1, 2)))
    last = hep.open_sender(hep.HepId(*second.tcp_address), QUICK)
    pair.send_all(numbered(3))
    async with hep.Failover(pair, last) as group:
        await until(lambda: last.connected)
        group.send_all(numbered(2, start=3))
        await until(lambda: len(got_second) == 2)
        assert pair.counters.queued == 6
        await group.aclose(timeout=0)
    assert numbers(got_second) == [3, 4]


async def test_balanced_counts_as_connected_when_all_members_are(two, packet, until) -> None:
    (first, second), (got_first, got_second) = two
    balanced = hep.Balanced(sender(first), hep.open_sender(nowhere(), QUICK))
    async with hep.Failover(balanced, sender(second)) as group:
        await until(lambda: balanced.members[0].connected)
        assert not balanced.connected
        for number in range(50):
            group.send(replace(packet, correlation_id=b"%d" % number, payload=b"%d" % number))
        await until(lambda: len(got_first) + len(got_second) == 50)
        assert not balanced.counters.queued


@pytest.mark.parametrize("kind", [hep.Duplicate, hep.Failover, hep.Balanced])
async def test_a_group_has_the_interface_of_a_sender(two, packet, until, kind: type[Group]) -> None:
    (first, second), received = two
    changes: list[bool] = []
    group = kind(sender(first), sender(second))
    group.on_change = lambda: changes.append(group.connected)
    async with group:
        await until(lambda: changes.count(True) and all(each.connected for each in group.members))
        group.send(packet)
        group.send(bytearray(hep.encode(packet)))  # type: ignore[arg-type]
        group.send_all([packet, hep.encode(packet)])
        await asyncio.wait_for(group.drained(), 5)
        copies = 2 if kind is hep.Duplicate else 1
        await until(lambda: sum(map(len, received)) == 4 * copies)
        assert group.counters.sent == group.counters.offered == 4 * copies
        for wrong in (None, "text", 5, [b"1"]):
            with pytest.raises(TypeError, match="it must be bytes or a"):
                group.send(wrong)  # type: ignore[arg-type]
        assert (
            str(group) == f"{kind.__name__}({', '.join(str(m.destination) for m in group.members)})"
        )
    assert group.counters.offered == 4 * copies
    await asyncio.wait_for(group.drained(), 5)
    assert not group.connected


async def test_members_that_are_no_senders_raise(two) -> None:
    one = sender(two[0][0])
    for wrong in ("127.0.0.1:9060", nowhere(), [one], None):
        with pytest.raises(TypeError, match="pass senders, as of"):
            hep.Failover(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has a member twice"):
        hep.Balanced(one, one)
    await one.aclose(0)


async def test_a_member_that_is_connected_already_is_chosen(two, numbered, until) -> None:
    (_, second), (_, got_second) = two
    ready = sender(second)
    await until(lambda: ready.connected)
    async with hep.Failover(hep.open_sender(nowhere(), QUICK), ready) as group:
        group.send_all(numbered(1))
        await until(lambda: len(got_second) == 1)


async def test_no_counter_of_a_failover_group_decreases(two, numbered, until) -> None:
    collectors, received = two
    group = hep.Failover(*map(sender, collectors))
    seen: dict[str, int] = {}

    def look() -> None:
        for number, member in enumerate([group, *group.members]):
            counters = member.counters
            assert adds_up(counters)
            for name in ("offered", "sent", "handed_over", "bytes_sent"):
                value = getattr(counters, name)
                assert value >= seen.get(f"{number} {name}", 0)
                seen[f"{number} {name}"] = value

    async with group:
        await until(lambda: all(member.connected for member in group.members))
        for start in range(0, 60, 10):
            for data in numbered(10, start=start):
                group.send(data)
                look()
            if start == 20:
                await collectors[0].aclose()
                await until(lambda: not group.members[0].connected)
            look()
            await asyncio.sleep(0)
        await until(lambda: group.members[1].counters.sent >= 30)
        look()
    assert {*map(int, (each.payload for got in received for each in got))} >= set(range(30, 60))


async def test_failover_takes_the_spool_along(two, tmp_path, numbered, until) -> None:
    (_, second), (_, got_second) = two
    ip, port = second.tcp_address
    await second.aclose()
    spooling = replace(QUICK, queue_limit=10, spool=tmp_path, spool_limit_bytes=20_000)
    preferred = hep.open_sender(nowhere(), spooling)
    async with hep.Failover(preferred, hep.open_sender(hep.HepId(ip, port), QUICK)) as group:
        group.send_all(numbered(60))
        await until(lambda: preferred.counters.spooled == 50)
        back = hep.Collector(lambda packet, _: got_second.append(packet), tcp=f"{ip}:{port}")
        async with back:
            await until(lambda: len(got_second) == 60)
            await until(lambda: not segments(tmp_path))
            assert numbers(got_second) == list(range(60))
            assert preferred.counters.handed_over == preferred.counters.offered == 60
            await asyncio.wait_for(group.drained(), 5)
            assert adds_up(group.counters)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


async def test_a_spool_goes_to_the_other_member_no_faster_than_that_sends(
    deaf, tmp_path, packet, until
) -> None:
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    long = hep.encode(replace(packet, payload=bytes(60_000)))
    preferred = hep.open_sender(nowhere(), replace(QUICK, queue_limit=1, spool=tmp_path))
    preferred.send_all([long] * 200)
    await until(lambda: preferred._spooler._spool.packets == 199)  # type: ignore[union-attr]
    last = hep.open_sender(hep.HepId(*deaf.getsockname()), replace(QUICK, queue_limit=40))
    async with hep.Failover(preferred, last) as group:
        # The collector reads nothing. The system takes some megabytes, and then no more.
        seen = -1
        while seen != last.counters.sent or not last.counters.queued:
            seen = last.counters.sent
            await asyncio.sleep(0.1)
        # No more than one segment waits in memory.
        assert last.counters.queued <= SEGMENT // len(long)
        assert preferred.counters.spooled > 20
        assert not last.counters.dropped
        # What is on its way is on disk until it has been sent.
        on_disk = sum(path.stat().st_size for path in segments(tmp_path)) // len(long)
        assert on_disk >= preferred.counters.queued + last.counters.queued
        await group.aclose(timeout=0)
    again = Spool(tmp_path)
    assert again.packets >= 199 - last.counters.sent
    again.close()


async def test_a_preferred_member_that_is_back_sends_the_rest_of_its_spool(
    two, tmp_path, numbered, until
) -> None:
    (first, second), (got_first, got_second) = two
    ip, port = first.tcp_address
    await first.aclose()
    spooling = replace(QUICK, queue_limit=5, spool=tmp_path)
    preferred = hep.open_sender(hep.HepId(ip, port), spooling)
    async with hep.Failover(preferred, sender(second)) as group:
        group.send_all(numbered(20))
        await until(lambda: len(got_second) == 20)
        async with hep.Collector(lambda packet, _: got_first.append(packet), tcp=f"{ip}:{port}"):
            await until(lambda: preferred.connected)
            group.send_all(numbered(10, start=20))
            await until(lambda: len(got_first) == 10)
        await until(lambda: not preferred.connected)
        group.send_all(numbered(10, start=30))
        await until(lambda: len(got_second) == 30)
        await until(lambda: not segments(tmp_path))
        assert adds_up(group.counters)


async def test_a_member_that_is_back_does_not_wait_for_the_one_that_took_over(
    deaf, tmp_path, packet, until
) -> None:
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    long = hep.encode(replace(packet, payload=bytes(60_000)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ip, port = taken.getsockname()
    preferred = hep.open_sender(hep.HepId(ip, port), replace(QUICK, queue_limit=1, spool=tmp_path))
    preferred.send_all([long] * 200)
    await until(lambda: preferred._spooler._spool.packets == 199)  # type: ignore[union-attr]
    last = hep.open_sender(hep.HepId(*deaf.getsockname()), replace(QUICK, queue_limit=40))
    received: list[hep.Packet] = []
    async with hep.Failover(preferred, last) as group:
        await until(lambda: last.counters.queued)
        async with hep.Collector(lambda packet, _: received.append(packet), tcp=f"{ip}:{port}"):
            # These are megabytes, which a busy machine takes its time for.
            async with asyncio.timeout(30):
                await preferred.drained()
            assert preferred.counters.sent
            await until(lambda: len(received) == preferred.counters.sent)
            await until(lambda: not segments(tmp_path))
            await group.aclose(timeout=0)


@pytest.mark.parametrize("kind", [hep.Duplicate, hep.Failover, hep.Balanced])
async def test_packets_of_other_threads_reach_a_member(two, packet, until, kind) -> None:
    (first, second), received = two

    def work(group: Group) -> None:
        for number in range(100):
            group.send(replace(packet, correlation_id=b"%d" % number))
        group.send_all([hep.encode(packet)] * 10)
        with pytest.raises(TypeError):
            group.send("text")  # type: ignore[arg-type]
        with pytest.raises(hep.HepEncodeError):
            group.send_all([replace(packet, src_ip="nowhere")])

    async with kind(sender(first), sender(second)) as group:
        await asyncio.gather(*(asyncio.to_thread(work, group) for _ in range(3)))
        copies = 2 if kind is hep.Duplicate else 1
        await until(lambda: sum(map(len, received)) == 330 * copies)
        assert group.counters.offered - group.counters.handed_over == 330 * copies


def in_a_thread(function: Callable[..., object], *args: object) -> None:
    """Call a function in another thread, while the event loop stands still."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


async def test_a_choice_that_changes_meanwhile_holds_for_packets_of_threads(
    two, numbered, until
) -> None:
    collectors, _ = two
    first, second = map(sender, collectors)
    async with hep.Failover(first, second) as group:
        await until(lambda: first.connected and second.connected)
        in_a_thread(group.send, numbered(1)[0])
        first.connected = False
        first.on_change()
        await until(lambda: second.counters.sent == 1)
        assert first.counters.offered == 0


async def test_packets_that_threads_sent_before_the_end_are_sent(two, numbered, until) -> None:
    collectors, _ = two
    group = hep.Failover(*map(sender, collectors))
    await until(lambda: group.connected)
    in_a_thread(group.send, numbered(1)[0])
    await group.aclose()
    assert (group.counters.sent, group.counters.dropped) == (1, {})


async def test_nothing_runs_for_ever_when_nothing_can_be_taken_over(
    two, tmp_path, numbered, until
) -> None:
    (_, second), _ = two
    spooling = replace(QUICK, queue_limit=1, spool=tmp_path)
    pair = hep.Duplicate(hep.open_sender(nowhere(), spooling))
    pair.send_all(numbered(5))
    last = sender(second)
    async with hep.Failover(pair, last) as group:
        await until(lambda: last.connected)
        assert pair.counters.spooled
        await until(lambda: group._moving is not None and group._moving.done())
        assert pair.counters.queued == 5
        await group.aclose(timeout=0)


async def test_a_packet_of_another_thread_follows_the_choice_of_the_moment(
    two, numbered, until
) -> None:
    (_, second), (_, got_second) = two
    async with hep.Failover(hep.open_sender(nowhere(), QUICK), sender(second)) as group:
        await until(lambda: group.connected)
        await asyncio.to_thread(group.send_all, numbered(5))
        await until(lambda: len(got_second) == 5)
