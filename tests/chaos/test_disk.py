"""A disk that is full, below a spool and below a capture, while SIP goes on."""

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hep.captures.pcap import Capture
from sipws.service.app import Application
from sipws.sip import call_id

pytestmark = pytest.mark.e2e

Run = Callable[..., Awaitable[Application]]
MakePhone = Callable[[Application], Any]
Until = Callable[[Callable[[], object]], Awaitable[None]]


class Disk:
    """A file system in memory, with very little room."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, kibibytes: int) -> None:
        self._mount(f"remount,size={kibibytes}k", self.path)

    def mount(self) -> None:
        self._mount("size=64k", self.path, "-t", "tmpfs", "tmpfs")

    def _mount(self, options: str, path: Path, *words: str) -> None:
        command = ["mount", "-o", options, *words, str(path)]
        subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def disk(find: Any, tmp_path: Path) -> Iterator[Disk]:
    find.program("mount", remedy="install mount")
    disk = Disk(tmp_path)
    try:
        disk.mount()
    except subprocess.CalledProcessError as exc:
        find.not_allowed("a file system of its own", exc.stderr)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True, capture_output=True)


async def test_a_full_disk_below_the_spool_costs_packets_that_are_counted_and_no_call(
    run: Run,
    phone: MakePhone,
    listener: Any,
    until: Until,
    free_port: int,
    disk: Disk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    application = await run(free_port, hep_queue_packets=20, hep_spool=disk.path / "spool")
    [sender] = application.traces.senders
    caller = phone(application)
    async with asyncio.timeout(60):
        while sender.counters.dropped["spool-failed"] < 200:
            await caller.ask(100)
    assert caller.answered == caller.asked
    assert sender.counters.in_memory <= 20
    assert sender.counters.dropped.keys() == {"spool-failed"}
    told = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert [each.getMessage() for each in told] == [
        f"spool {disk.path}/spool/127.0.0.1_{free_port}_tcp: No space left on device; packets"
        " are dropped as spool-failed until the disk accepts them"
    ]
    # There is room again: what comes now is kept, and the oldest was never lost.
    disk.resize(4096)
    first_kept = caller.asked
    await caller.ask(100)
    async with listener(f"127.0.0.1:{free_port}") as collector:
        await until(lambda: collector.lost)
    dropped = sender.counters.dropped["spool-failed"]
    assert collector.calls == sorted(collector.calls)
    assert collector.calls[:20] == [call for call in range(10) for _ in range(2)]
    later = [call for call in range(first_kept, first_kept + 100) for _ in range(2)]
    assert collector.calls[-200:] == later
    assert len(collector.calls) + dropped == 2 * caller.asked
    assert collector.lost[0].endswith(f": {dropped} spool-failed")


async def test_a_full_disk_below_a_capture_is_said_once_and_leaves_out_what_did_not_fit(
    run: Run, phone: MakePhone, until: Until, free_port: int, disk: Disk
) -> None:
    capture = disk.path / "calls.pcap"
    command = [sys.executable, "-m", "hep.cli", "listen", "--tcp", f"127.0.0.1:{free_port}"]
    process = await asyncio.create_subprocess_exec(
        *command, "--write", str(capture), stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        await process.stderr.readline()
        application = await run(free_port)
        [sender] = application.traces.senders
        await until(lambda: sender.connected)
        caller = phone(application)
        await caller.ask(300)
        assert caller.answered == 300
        async with asyncio.timeout(20):
            said = (await process.stderr.readline()).decode()
            assert said == f"hep: {capture}: cannot be written: No space left on device\n"
            await until(lambda: not sender.counters.queued)
            # There is room again: what comes now is written.
            disk.resize(4096)
            await caller.ask(50)
            await until(lambda: capture.read_bytes().count(b"Call-ID: 000349") == 2)
            process.send_signal(signal.SIGINT)
            rest = (await process.stderr.read()).decode().splitlines()
            assert await process.wait() == 1
    finally:
        if process.returncode is None:
            process.kill()
    total = int(rest[1].split()[0])
    assert rest[1] == f"{total} packets ({total} SIP), 0 refused"
    # What found room is whole, and in its order.
    with Capture(capture) as written:
        kept = [int(call_id(each.data) or b"") for each in written.messages()]
    assert rest[2] == f"{len(kept)} written to {capture}, {total - len(kept)} not"
    assert kept == sorted(kept)
    assert 150 < len(kept) < total == 700
    assert kept[-100:] == [call for call in range(300, 350) for _ in range(2)]
