"""What callers pass to senders: texts, paths, wrong types, and packets of other threads."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hep
from hep.sending.handoff import Handoff
from hep.sending.outbox import FULL
from hep.sending.senders import SHUTDOWN, TOO_LONG

QUICK = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)


@pytest.mark.parametrize("form", ["{}:{}", "{}:{};transport=tcp", "[homer]{}:{}; version=3"])
async def test_a_text_names_the_destination(collect, inbox, numbered, form: str) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    text = form.format(*collector.tcp_address)
    async with hep.open_sender(text) as sender:
        sender.send(numbered(1)[0])
        await inbox.wait_for(1)
    assert sender.destination == hep.HepId.parse(text)


@pytest.mark.parametrize("text", ["", "10.0.0.2:0", "10.0.0.2:9060;transport=sctp", "a b"])
async def test_a_text_that_is_not_a_hep_id_raises(text: str) -> None:
    with pytest.raises(hep.HepIdError):
        hep.open_sender(text)


@pytest.mark.parametrize(
    "destination",
    [
        None,
        9060,
        b"127.0.0.1:9060",
        ("127.0.0.1", 9060),
        hep.HepId(("127.0.0.1",)),  # type: ignore[arg-type]
        hep.HepId("127.0.0.1", "9060"),  # type: ignore[arg-type]
        hep.HepId("127.0.0.1", None),  # type: ignore[arg-type]
        hep.HepId("127.0.0.1", True),
    ],
    ids=repr,
)
async def test_a_destination_of_another_type_raises_at_once(destination: Any) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(TypeError, match="it must be"):
        hep.open_sender(destination)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    "destination",
    [
        hep.HepId(""),
        hep.HepId("127.0.0.1", 0),
        hep.HepId("127.0.0.1", 65_536),
        hep.HepId("127.0.0.1", 9060, "sctp"),  # type: ignore[arg-type]
        hep.HepId("127.0.0.1", 9060, "udp", 4),
    ],
    ids=repr,
)
async def test_a_destination_out_of_range_raises_at_once(destination: hep.HepId) -> None:
    with pytest.raises(ValueError, match=r"is empty|is not"):
        hep.open_sender(destination)


@pytest.mark.parametrize("settings", [{}, "spool", Path("spool"), 5, hep.SenderSettings], ids=repr)
async def test_settings_of_another_type_raise_at_once(settings: Any) -> None:
    with pytest.raises(TypeError, match="it must be a"):
        hep.open_sender("127.0.0.1", settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_limit", "10"), ("queue_limit", 1.5), ("queue_limit", True),
        ("queue_limit_bytes", None), ("connect_timeout", "5"), ("retry_first", None),
        ("retry_longest", [1]), ("tls", True), ("longest", b"1"), ("auth_key", "secret"),
        ("spool", 5), ("spool", b"spool"), ("spool_limit_bytes", 1e6),
    ],
)  # fmt: skip
def test_a_setting_of_another_type_raises_and_is_named(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{name} is .*; it must be"):
        hep.SenderSettings(**{name: value})


def test_an_empty_spool_is_not_the_working_directory() -> None:
    with pytest.raises(ValueError, match="spool is ''; name a directory"):
        hep.SenderSettings(spool="")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("queue_limit", 0), ("queue_limit_bytes", -1), ("longest", 0), ("spool_limit_bytes", 0),
        ("connect_timeout", -1), ("retry_first", float("nan")), ("when_full", "drop"),
        ("when_too_long", "cut"), ("spool_fsync", "always"), ("spool_fsync", None),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_raises_and_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} .*{value}"):
        hep.SenderSettings(**{name: value})


@pytest.mark.parametrize("wrong", [None, "text", 5, ["text"], object()], ids=repr)
async def test_a_packet_of_another_type_raises_at_once(packet, wrong: Any) -> None:
    async with hep.open_sender("127.0.0.1:1", QUICK) as sender:
        with pytest.raises(TypeError, match="it must be bytes or a"):
            sender.send(wrong)
        with pytest.raises(TypeError):
            sender.send_all([hep.encode(packet), wrong])
        with pytest.raises(TypeError):
            sender.send_all(wrong)
        assert sender.counters.offered == 0
        await sender.aclose(0)


async def test_send_all_does_not_take_one_packet_for_several(packet) -> None:
    async with hep.open_sender("127.0.0.1:1", QUICK) as sender:
        with pytest.raises(TypeError):
            sender.send_all(hep.encode(packet))  # type: ignore[arg-type]
        assert sender.counters.offered == 0


async def test_send_all_takes_what_send_takes(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    encoded = hep.encode(packet)
    async with hep.open_sender(hep.HepId(*collector.tcp_address)) as sender:
        buffer = bytearray(encoded)
        sender.send_all((packet, encoded, buffer, memoryview(encoded)))  # type: ignore[arg-type]
        # The caller may use its buffer again.
        buffer[:] = bytes(len(buffer))
        sender.send_all(each for each in [encoded])  # type: ignore[arg-type]
        sender.send_all([])
        received = await inbox.wait_for(5)
    assert {each.payload for each in received} == {packet.payload}


async def test_packets_of_other_threads_arrive_in_their_order(
    packet, collect, inbox, until
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    async with hep.open_sender(hep.HepId(*collector.tcp_address)) as sender:

        def work(thread: int) -> None:
            for number in range(200):
                sender.send(replace(packet, capture_id=thread, payload=b"%d" % number))
            sender.send_all([replace(packet, capture_id=thread, payload=b"200")])

        await asyncio.gather(*(asyncio.to_thread(work, thread) for thread in range(4)))
        await until(lambda: sender.counters.sent == 804)
        received = await inbox.wait_for(804)
    for thread in range(4):
        own = [int(each.payload) for each in received if each.capture_id == thread]
        assert own == list(range(201))


async def test_errors_of_packets_raise_in_the_thread_that_sends_them(packet, until) -> None:
    settings = replace(QUICK, longest=2_000, when_too_long="truncate")
    async with hep.open_sender("127.0.0.1:1", settings) as sender:

        def work() -> None:
            with pytest.raises(TypeError):
                sender.send("text")  # type: ignore[arg-type]
            with pytest.raises(hep.HepEncodeError):
                sender.send(replace(packet, src_ip="nowhere"))
            sender.send(replace(packet, payload=bytes(3_000)))
            sender.send(hep.encode(replace(packet, payload=bytes(3_000))))
            sender.send(b"no packet".ljust(3_000))

        await asyncio.to_thread(work)
        await until(lambda: sender.counters.offered == 3)
        assert sender.shortened == 2
        assert sender.counters.dropped == {TOO_LONG: 1}
        await sender.aclose(0)


async def test_a_thread_cannot_fill_the_memory_while_the_loop_is_busy(packet) -> None:
    data = hep.encode(packet)
    settings = replace(QUICK, queue_limit=10)
    async with hep.open_sender("127.0.0.1:1", settings) as sender:
        thread = threading.Thread(target=lambda: [sender.send(data) for _ in range(100)])
        thread.start()
        # The loop stands still meanwhile.
        thread.join()
        await asyncio.sleep(0)
        assert sender.counters.offered == 100
        assert sender.counters.queued == 10
        assert sender.counters.dropped == {FULL: 90}
        await sender.aclose(0)


async def test_packets_of_threads_before_and_after_the_end_are_counted(packet) -> None:
    data = hep.encode(packet)
    sender = hep.open_sender("127.0.0.1:1", QUICK)
    thread = threading.Thread(target=sender.send, args=(data,))
    thread.start()
    thread.join()
    await sender.aclose(0)
    assert sender.counters.dropped == {SHUTDOWN: 1}
    await asyncio.to_thread(sender.send, data)
    await asyncio.sleep(0)
    assert sender.counters.dropped == {SHUTDOWN: 2}


async def test_packets_that_threads_sent_before_the_end_are_sent(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    sender = hep.open_sender(hep.HepId(*collector.tcp_address))
    thread = threading.Thread(target=sender.send, args=(packet,))
    thread.start()
    thread.join()
    await sender.aclose()
    assert (sender.counters.sent, sender.counters.dropped) == (1, {})


async def test_a_handoff_is_bounded_in_packets_and_in_bytes() -> None:
    taken: list[Any] = []
    rejected: list[int] = []
    for limit, limit_bytes in ((10, 1_000), (1_000, 10)):
        handoff = Handoff(taken.extend, rejected.append, limit, limit_bytes)
        for number in range(100):
            handoff.put([b"%d" % (number % 10)])
        handoff.flush()
        assert taken == [b"%d" % number for number in range(10)]
        assert rejected == [90]
        # There is room again.
        handoff.put([b"x"])
        handoff.flush()
        assert taken.pop() == b"x"
        taken.clear()
        rejected.clear()


def test_packets_after_the_end_of_the_loop_are_counted() -> None:
    taken: list[Any] = []
    rejected: Counter[str] = Counter()

    async def main() -> Handoff:
        return Handoff(taken.append, lambda count: rejected.update(n=count), 10, 100)

    handoff = asyncio.run(main())
    for _ in range(3):
        handoff.put([b"1", b"2"])
    assert (taken, rejected) == ([], {"n": 6})


async def test_a_callback_that_raises_does_not_end_the_sender(
    collect, inbox, numbered, caplog
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    async with hep.open_sender(hep.HepId(*collector.tcp_address)) as sender:
        sender.on_change = lambda: 1 / 0
        sender.send(numbered(1)[0])
        await inbox.wait_for(1)
    assert "on_change of" in caplog.text


async def test_drained_returns_when_another_sender_takes_the_packets(numbered) -> None:
    async with hep.open_sender("127.0.0.1:1", QUICK) as sender:
        sender.send(numbered(1)[0])
        waiting = asyncio.create_task(sender.drained())
        await asyncio.sleep(0)
        assert sender.withdraw() == numbered(1)
        await asyncio.wait_for(waiting, 5)
