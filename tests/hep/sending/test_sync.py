"""Programs without asyncio: a sender with a thread of its own."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import hep
from hep.sending.senders import SHUTDOWN
from hep.sending.spool import Spool

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)
PATIENCE = 30
"""Seconds until something must have happened."""


class Inbox:
    """A collector in a thread of its own."""

    address: str

    def __init__(self) -> None:
        self.packets: list[hep.Packet] = []
        self._arrived = threading.Condition()
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        assert self._started.wait(PATIENCE)

    def wait_for(self, count: int) -> list[int]:
        """The numbers of all packets, when so many have come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.packets) >= count, PATIENCE)
            return [int(packet.payload) for packet in self.packets]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with hep.Collector(self._take, tcp="127.0.0.1:0") as collector:
            self.address = "{}:{}".format(*collector.tcp_address)
            self._started.set()
            await self._end.wait()

    def _take(self, packet: hep.Packet, _: hep.Source) -> None:
        with self._arrived:
            self.packets.append(packet)
            self._arrived.notify_all()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close()


def test_packets_arrive_and_are_counted(inbox: Inbox, numbered, packet) -> None:
    before = threading.active_count()
    with hep.SyncSender(inbox.address) as sender:
        for data in numbered(50):
            sender.send(data)
        sender.send_all([*numbered(5, start=50), replace(packet, payload=b"55")])
        assert sender.counters.offered == 56
        assert sender.drained(PATIENCE)
        assert sender.connected
        counters = sender.counters
        assert (counters.sent, counters.queued, counters.dropped) == (56, 0, {})
    assert inbox.wait_for(56) == list(range(56))
    assert sender.destination == hep.HepId.parse(inbox.address)
    assert threading.active_count() == before


def test_send_does_not_wait_for_a_collector_that_is_down(numbered) -> None:
    settings = replace(QUICK, queue_limit=10)
    with hep.SyncSender("127.0.0.1:1", settings) as sender:
        for data in numbered(100):
            sender.send(data)
        counters = sender.counters
        assert counters.offered == 100
        assert counters.queued == 10
        assert counters.dropped == {"queue-full": 90}
        assert not sender.drained(timeout=0.01)
        assert sender.last_error == "Connection refused"
        sender.close(timeout=0)
    assert sender.counters.dropped == {"queue-full": 90, SHUTDOWN: 10}


def test_a_closed_sender_answers(inbox: Inbox, numbered) -> None:
    sender = hep.SyncSender(inbox.address)
    waiting = threading.Thread(target=sender.drained)
    sender.send(numbered(1)[0])
    sender.close()
    waiting.start()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    sender.close()
    sender.send(numbered(1)[0])
    assert sender.drained()
    assert not sender.connected
    assert sender.counters.offered == 2
    assert sender.counters.dropped == {SHUTDOWN: 1}


def test_what_waits_for_a_sender_ends_when_it_is_closed(numbered) -> None:
    sender = hep.SyncSender("127.0.0.1:1", QUICK)
    sender.send(numbered(1)[0])
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(sender.drained()))
    waiting.start()
    others = [threading.Thread(target=sender.close, args=(0,)) for _ in range(3)]
    for other in others:
        other.start()
    for other in [*others, waiting]:
        other.join(PATIENCE)
        assert not other.is_alive()
    # The packet was dropped: nothing is queued.
    assert answers == [True]


def test_many_threads_may_send(inbox: Inbox, packet) -> None:
    with hep.SyncSender(inbox.address) as sender:

        def work(thread: int) -> None:
            for number in range(100):
                sender.send(replace(packet, capture_id=thread, payload=b"%d" % number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.drained(PATIENCE)
    inbox.wait_for(400)
    for number in range(4):
        own = [int(each.payload) for each in inbox.packets if each.capture_id == number]
        assert own == list(range(100))


async def test_it_works_beside_an_event_loop(collect, packet) -> None:
    collector = await collect(tcp="127.0.0.1:0")

    def program() -> hep.Counts:
        with hep.SyncSender(hep.HepId(*collector.tcp_address)) as sender:
            sender.send(packet)
        return sender.counters

    assert (await asyncio.to_thread(program)).sent == 1


def test_mistakes_raise_at_once_and_leave_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    with pytest.raises(TypeError, match="destination is 5"):
        hep.SyncSender(5)  # type: ignore[arg-type]
    with pytest.raises(hep.HepIdError):
        hep.SyncSender("127.0.0.1:0")
    with pytest.raises(TypeError, match="settings is"):
        hep.SyncSender("127.0.0.1", "spool")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(hep.HepSpoolError):
        hep.SyncSender("127.0.0.1", hep.SenderSettings(spool=tmp_path / "file"))
    for thread in threading.enumerate():
        if thread.name.startswith("hep "):
            thread.join(PATIENCE)
    assert threading.active_count() == before
    with hep.SyncSender("127.0.0.1:1", QUICK) as sender:
        with pytest.raises(TypeError, match="it must be bytes or a"):
            sender.send("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            sender.drained("5")  # type: ignore[arg-type]
        sender.close(0)


END = """
import sys, hep
sender = hep.SyncSender(sys.argv[1], hep.SenderSettings(spool=sys.argv[2] or None))
packet = hep.Packet(src_ip="192.0.2.1", dst_ip="192.0.2.2", seconds=1, payload=b"0")
for _ in range(3):
    sender.send(packet)
"""


def run(program: str, *args: str) -> None:
    command = [sys.executable, "-W", "error", "-c", program, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_end_of_the_program_sends_what_is_queued(inbox: Inbox) -> None:
    run(END, inbox.address, "")
    inbox.wait_for(3)


def test_the_end_of_the_program_spools_what_cannot_be_sent(tmp_path: Path) -> None:
    run(END, "127.0.0.1:1", str(tmp_path))
    spool = Spool(tmp_path)
    assert spool.packets == 3
    spool.close()


FORK = """
import os, sys, hep
sender = hep.SyncSender(sys.argv[1])
packet = hep.Packet(src_ip="192.0.2.1", dst_ip="192.0.2.2", seconds=1, payload=b"0")
if not os.fork():
    for attempt in (sender.send, sender.send_all, sender.close):
        try:
            attempt(packet)
        except RuntimeError as exc:
            assert "open one after the fork" in str(exc)
        else:
            os._exit(1)
    with hep.SyncSender(sys.argv[1]) as own:
        own.send(packet)
    sys.exit(0)
sender.send(packet)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_needs_a_sender_of_its_own(inbox: Inbox) -> None:
    command = [sys.executable, "-c", FORK, inbox.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert len(inbox.wait_for(2)) == 2
