"""Packets on disk: a spool by itself, and behind a sender."""

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hep
from hep.sending.spool import Spool
from hep.sending.spooling import SPOOL_FAILED, SPOOL_FULL

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def all_of(spool: Spool) -> list[bytes]:
    """What is in a spool, which is closed then."""
    found: list[bytes] = []
    while spool.packets:
        found += spool.load()[0]
        spool.discard()
    spool.close()
    return found


def test_packets_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4000)
    packets = [b"%d" % number * 10 for number in range(100)]
    for start in range(0, 100, 7):
        spool.append(packets[start : start + 7])
    spool.close()
    again = Spool(tmp_path, 4000)
    assert again.packets == 100
    assert all_of(again) == packets
    assert not list(tmp_path.glob("*.spool"))


def test_loaded_packets_survive_a_crash(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"a", b"b"])
    assert spool.load() == ([b"a", b"b"], 0)
    spool.close()
    assert all_of(Spool(tmp_path)) == [b"a", b"b"]


def test_packets_put_back_come_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"a", b"b"])
    spool.load()
    spool.append([b"c"])
    spool.put_back([b"b"])
    spool.put_back([b"0"])
    spool.close()
    assert all_of(Spool(tmp_path)) == [b"0", b"b", b"c"]


def test_a_full_spool_drops_its_oldest_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4000)
    given_up = sum(spool.append([b"%03d" % number * 10]) for number in range(200))
    assert given_up > 0
    assert spool.size <= 4000 + 1000
    kept = all_of(spool)
    assert len(kept) == 200 - given_up
    assert kept == sorted(kept)
    assert kept[-1] == b"199" * 10


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_an_incomplete_record_is_skipped(tmp_path: Path, damage) -> None:
    spool = Spool(tmp_path)
    spool.append([b"whole", b"half"])
    spool.close()
    [segment] = tmp_path.glob("*.spool")
    data = bytearray(segment.read_bytes())
    if damage == "cut":
        del data[-1:]
    else:
        data[-1] ^= 1
    segment.write_bytes(data)
    again = Spool(tmp_path)
    assert again.damaged == 1
    assert all_of(again) == [b"whole"]


def test_a_second_sender_on_one_spool_raises(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    with pytest.raises(hep.HepSpoolError, match="another process uses it"):
        Spool(tmp_path)
    first.close()
    Spool(tmp_path).close()


def test_an_unusable_directory_raises_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(hep.HepSpoolError, match=r"file/spool cannot be used"):
        Spool(tmp_path / "file" / "spool")


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_garbage_in_a_segment_never_raises(tmp_path_factory, data: bytes) -> None:
    directory = tmp_path_factory.mktemp("spool")
    (directory / "1000000000.spool").write_bytes(data)
    spool = Spool(directory)
    all_of(spool)


async def test_packets_beyond_the_queue_are_spooled_and_arrive_in_order(
    tmp_path, collect, inbox, numbered, until
) -> None:
    port = free_port()
    settings = replace(QUICK, queue_limit=10, spool=tmp_path)
    async with hep.open_sender(hep.HepId("127.0.0.1", port), settings) as sender:
        for start in range(0, 500, 50):
            for data in numbered(50, start=start):
                sender.send(data)
            await until(lambda: list(tmp_path.glob("*.spool")))
        assert sender.counters.queued == 500
        assert sender.counters.in_memory <= 10
        await collect(tcp=f"127.0.0.1:{port}")
        await inbox.wait_for(100)
        for data in numbered(50, start=500):
            sender.send(data)
        packets = await inbox.wait_for(550)
        await until(lambda: not sender.counters.queued)
    assert [int(packet.payload) for packet in packets] == list(range(550))
    assert sender.counters.dropped == Counter()
    assert not list(tmp_path.glob("*.spool"))


async def test_queued_packets_survive_a_restart(tmp_path, collect, inbox, numbered, until) -> None:
    port = free_port()
    settings = replace(QUICK, queue_limit=10, spool=tmp_path)
    for start in (0, 30):
        sender = hep.open_sender(hep.HepId("127.0.0.1", port), settings)
        for data in numbered(30, start=start):
            sender.send(data)
        await sender.aclose(timeout=0.01)
        assert sender.counters.dropped == Counter()
        assert sender.counters.queued == start + 30
    collector = await collect(tcp=f"127.0.0.1:{port}")
    async with hep.open_sender(hep.HepId(*collector.tcp_address), settings) as sender:
        sender.send(numbered(1, start=60)[0])
        packets = await inbox.wait_for(61)
        await until(lambda: not sender.counters.queued)
        assert sender.counters.offered == sender.counters.sent == 61
    assert [int(packet.payload) for packet in packets] == list(range(61))


async def test_packets_lost_on_a_failing_disk_are_counted(
    tmp_path, numbered, until, monkeypatch
) -> None:
    def no_space(self: Spool, packets: list[bytes]) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "append", no_space)
    settings = replace(QUICK, queue_limit=10, spool=tmp_path)
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings)
    for data in numbered(30):
        sender.send(data)
    await until(lambda: sender.counters.dropped[SPOOL_FAILED] == 20)
    assert sender.counters.queued == 10
    await sender.aclose(timeout=0.01)
    assert sender.counters.offered == 30
    assert sender.counters.queued + sender.counters.dropped.total() == 30


async def test_a_full_spool_drops_the_oldest_packets(tmp_path, packet, until) -> None:
    settings = replace(QUICK, queue_limit=1, spool=tmp_path, spool_limit_bytes=40_000)
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings)
    for number in range(50):
        sender.send(hep.encode(replace(packet, payload=b"%d" % number * 1000)))
        await until(lambda: not sender._spooler._pending)  # type: ignore[union-attr]
    counters = sender.counters
    await until(lambda: counters.dropped[SPOOL_FULL])
    assert counters.offered == counters.sent + counters.dropped.total() + counters.queued
    await sender.aclose(timeout=0.01)
    assert counters.offered == counters.sent + counters.dropped.total() + counters.queued


async def test_packets_that_cannot_be_spooled_on_close_are_counted(
    tmp_path, numbered, until, monkeypatch
) -> None:
    def no_space(self: Spool, packets: list[bytes]) -> int:
        raise OSError(28, "No space left on device")

    settings = replace(QUICK, queue_limit=10, spool=tmp_path)
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings)
    monkeypatch.setattr(Spool, "append", no_space)
    monkeypatch.setattr(Spool, "put_back", no_space)
    for data in numbered(30):
        sender.send(data)
    await sender.aclose(timeout=0)
    assert sender.counters.dropped == {SPOOL_FAILED: 30}
    assert sender.counters.queued == 0
