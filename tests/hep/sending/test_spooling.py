"""A sender and its spool: order, counters, and a disk that misbehaves while the loop goes on."""

import asyncio
import errno
import logging
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hep
from hep.sending import spooling
from hep.sending.spool import SPOOL_DAMAGED, SPOOL_FAILED, Spool

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def fill(directory: Path, packets: list[bytes]) -> None:
    spool = Spool(directory)
    spool.append(packets)
    spool.close()


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def adds_up(counters: Any) -> bool:
    gone = counters.sent + counters.dropped.total() + counters.handed_over
    return counters.offered == gone + counters.queued


def numbers(packets: list[hep.Packet]) -> list[int]:
    return [int(packet.payload) for packet in packets]


async def test_reading_the_spool_at_the_start_does_not_hold_up_the_loop_or_the_order(
    tmp_path: Path, collect, inbox, numbered, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, numbered(50))
    may_read = threading.Event()
    scan = Spool.scan

    def slow(self: Spool) -> None:
        assert may_read.wait(10)
        scan(self)

    monkeypatch.setattr(Spool, "scan", slow)
    collector = await collect(tcp="127.0.0.1:0")
    async with hep.open_sender(
        hep.HepId(*collector.tcp_address), replace(QUICK, spool=str(tmp_path))
    ) as sender:
        await until(lambda: sender.connected)
        for data in numbered(10, start=50):
            sender.send(data)
        # All wait for those on disk, which are older.
        assert sender.counters.queued == 11
        assert adds_up(sender.counters)
        may_read.set()
        await inbox.wait_for(60)
        await until(lambda: not sender.counters.queued)
        assert sender.counters.offered == sender.counters.sent == 60
    assert numbers(inbox.packets) == list(range(60))


async def test_damaged_records_of_an_earlier_run_are_counted(
    tmp_path: Path, collect, inbox, numbered, until
) -> None:
    fill(tmp_path, numbered(10))
    [segment] = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[100] ^= 1
    segment.write_bytes(data + bytes(100))
    collector = await collect(tcp="127.0.0.1:0")
    async with hep.open_sender(
        hep.HepId(*collector.tcp_address), replace(QUICK, spool=tmp_path)
    ) as sender:
        await inbox.wait_for(9)
        await until(lambda: not sender.counters.queued)
        assert sender.counters.dropped == {SPOOL_DAMAGED: 2}
        assert sender.counters.offered == 11
        assert adds_up(sender.counters)


async def test_a_spool_without_a_readable_record_is_counted(
    tmp_path: Path, numbered, until
) -> None:
    (tmp_path / "1000000000.spool").write_bytes(bytes(1000))
    settings = replace(QUICK, spool=tmp_path)
    async with hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings) as sender:
        await until(lambda: not sender.counters.queued)
        assert sender.counters.dropped == {SPOOL_DAMAGED: 1}
        assert sender.counters.offered == 1
        await asyncio.wait_for(sender.drained(), 5)


async def test_files_that_vanish_before_they_are_read_are_counted(
    tmp_path: Path, numbered, until, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, numbered(3))
    scan = Spool.scan

    def late(self: Spool) -> None:
        for path in segments(tmp_path):
            path.unlink()
        scan(self)

    monkeypatch.setattr(Spool, "scan", late)
    settings = replace(QUICK, spool=tmp_path)
    async with hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings) as sender:
        await until(lambda: not sender.counters.queued)
        assert sender.counters.dropped == {SPOOL_FAILED: 1}
        assert adds_up(sender.counters)


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
async def test_a_read_that_fails_is_repeated(
    tmp_path: Path, collect, inbox, numbered, until, monkeypatch, caplog, error: int
) -> None:
    monkeypatch.setattr(spooling, "READ_PAUSE", 0.01)
    fill(tmp_path, numbered(5))
    load, failed = Spool.load, []

    def fails(self: Spool) -> Any:
        # An error that says nothing about the file never makes it be left out.
        if len(failed) < (2 if error == errno.EIO else 10):
            failed.append(1)
            raise OSError(error, os.strerror(error))
        return load(self)

    monkeypatch.setattr(Spool, "load", fails)
    collector = await collect(tcp="127.0.0.1:0")
    async with hep.open_sender(
        hep.HepId(*collector.tcp_address), replace(QUICK, spool=tmp_path)
    ) as sender:
        await inbox.wait_for(5)
        await until(lambda: not sender.counters.queued)
        assert not sender.counters.dropped
    assert sum("reading is repeated" in each.message for each in caplog.records) == 1


async def test_a_segment_that_stays_unreadable_is_left_out_and_the_next_is_sent(
    tmp_path: Path, collect, inbox, numbered, until, monkeypatch
) -> None:
    monkeypatch.setattr(spooling, "READ_PAUSE", 0.01)
    fill(tmp_path, numbered(5))
    name = segments(tmp_path)[0].name
    # Another segment.
    spool = Spool(tmp_path)
    spool.append(numbered(5, start=5))
    spool.close()
    opens = os.open
    is_found: list[Any] = []

    def fails(path: Any, *args: Any, **more: Any) -> int:
        if path == name and is_found:
            raise OSError(errno.EIO, "Input/output error")
        return opens(path, *args, **more)

    monkeypatch.setattr(os, "open", fails)
    scan = Spool.scan
    monkeypatch.setattr(Spool, "scan", lambda self: (scan(self), is_found.append(1)))
    collector = await collect(tcp="127.0.0.1:0")
    async with hep.open_sender(
        hep.HepId(*collector.tcp_address), replace(QUICK, spool=tmp_path)
    ) as sender:
        await inbox.wait_for(5)
        await until(lambda: not sender.counters.queued)
        assert numbers(inbox.packets) == list(range(5, 10))
        assert sender.counters.dropped == {SPOOL_FAILED: 5}
        assert adds_up(sender.counters)
    assert [path.name for path in segments(tmp_path)] == [name]


async def test_a_failing_disk_is_logged_once_and_used_again_when_it_works(
    tmp_path: Path, collect, inbox, numbered, until, monkeypatch, caplog
) -> None:
    port = free_port()
    real, full = os.write, [True]

    def write(descriptor: int, data: bytes) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    settings = replace(QUICK, queue_limit=10, spool=tmp_path)
    async with hep.open_sender(hep.HepId("127.0.0.1", port), settings) as sender:
        for lost in (10, 30):
            for data in numbered(20):
                sender.send(data)
            await until(lambda lost=lost: sender.counters.dropped[SPOOL_FAILED] == lost)
        full[0] = False
        for data in numbered(5, start=40):
            sender.send(data)
        await collect(tcp=f"127.0.0.1:{port}")
        await inbox.wait_for(15)
        await until(lambda: not sender.counters.queued)
        assert adds_up(sender.counters)
    assert sender.counters.dropped.keys() == {SPOOL_FAILED}
    told = [each.message for each in caplog.records if each.levelno == logging.ERROR]
    assert told == [
        f"spool {tmp_path}: No space left on device; packets are dropped as spool-failed until"
        " the disk accepts them"
    ]
    assert not segments(tmp_path)


async def test_an_unexpected_error_does_not_end_the_spool(
    tmp_path: Path, collect, inbox, numbered, until, monkeypatch
) -> None:
    port = free_port()
    append, failed = Spool.append, []

    def fails(self: Spool, packets: list[bytes]) -> int:
        if not failed:
            failed.append(1)
            raise RuntimeError("a defect")
        return append(self, packets)

    monkeypatch.setattr(Spool, "append", fails)
    settings = replace(QUICK, queue_limit=1, spool=tmp_path)
    async with hep.open_sender(hep.HepId("127.0.0.1", port), settings) as sender:
        first, second, third = numbered(3)
        sender.send(first)
        sender.send(second)
        await until(lambda: sender.counters.dropped[SPOOL_FAILED])
        sender.send(third)
        await collect(tcp=f"127.0.0.1:{port}")
        assert numbers(await inbox.wait_for(2)) == [0, 2]
        assert adds_up(sender.counters)


async def test_a_slow_disk_never_takes_more_memory_than_its_limit(
    tmp_path: Path, packet, until, monkeypatch
) -> None:
    monkeypatch.setattr(spooling, "PENDING_BYTES", 10_000)
    may_write = threading.Event()
    append = Spool.append
    monkeypatch.setattr(
        Spool, "append", lambda self, packets: (may_write.wait(10), append(self, packets))[1]
    )
    settings = replace(QUICK, queue_limit=1, spool=tmp_path)
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings)
    data = hep.encode(replace(packet, payload=bytes(1000)))
    sender.send(data)
    for _ in range(100):
        sender.send(data)
    # The loop is free, and of those that wait for the disk 10,000 bytes are kept.
    assert 80 < sender.counters.dropped["spool-full"] < 95
    assert adds_up(sender.counters)
    may_write.set()
    await sender.aclose(timeout=0)
    assert adds_up(sender.counters)


async def test_drained_on_a_closed_sender_returns(tmp_path: Path, numbered) -> None:
    settings = replace(QUICK, queue_limit=1, spool=tmp_path)
    sender = hep.open_sender(hep.HepId("127.0.0.1", free_port()), settings)
    for data in numbered(5):
        sender.send(data)
    waiting = asyncio.create_task(sender.drained())
    await asyncio.sleep(0)
    await sender.aclose(timeout=0)
    assert sender.counters.queued == 5
    async with asyncio.timeout(5):
        await waiting
        await sender.drained()
