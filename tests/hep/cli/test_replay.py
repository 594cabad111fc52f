"""Captures sent to a collector."""

import asyncio
import os
import pty
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.captures.pcap import Captured
from hep.captures.pcap_writer import PcapWriter
from hep.cli import replay as replaying
from hep.cli.feed import Feed
from hep.cli.main import main
from hep.cli.replay import UNFIT, CollectorStuckError, Pace, bar, replay, summary
from hep.sending.outbox import Outbox

START = 1_700_000_000


def sip(number: int, seconds: float = 0.0) -> hep.Packet:
    return hep.Packet(
        src_ip="192.0.2.5", src_port=5060, dst_ip="192.0.2.1", dst_port=5060, ip_protocol=17,
        seconds=START + int(seconds), microseconds=int(seconds % 1 * 1_000_000),
        payload=b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: %d\r\n\r\n" % number,
    )  # fmt: skip


async def each(captured: list[Captured]) -> AsyncIterator[Captured]:
    for one in captured:
        yield one


def captured(*packets: hep.Packet) -> AsyncIterator[Captured]:
    return each([Captured(packet.timestamp or START, packet) for packet in packets])


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Ten messages over nine seconds."""
    path = tmp_path / "calls.pcap"
    with PcapWriter(path) as writer:
        for number in range(10):
            writer.write(sip(number, number), START)
    return path


class Sink:
    """A sender that takes everything at once, or nothing at all."""

    def __init__(self, takes: bool = True) -> None:
        self.counters = Outbox()
        self.packets: list[hep.Packet] = []
        self.takes = takes

    def send(self, packet: hep.Packet) -> None:
        data = hep.encode(packet)
        self.packets.append(packet)
        self.counters.put(data)
        if self.takes:
            self.counters.take(len(data))
            self.counters.done()


def test_a_rate_spaces_packets_evenly() -> None:
    assert [Pace(rate=50).due(number, 99.0) for number in range(4)] == [0, 0.02, 0.04, 0.06]


def test_real_time_keeps_the_pauses_and_never_waits_for_the_past() -> None:
    pace = Pace(realtime=True)
    assert [pace.due(0, elapsed) for elapsed in (0.0, 1.5, -3.0, 7.25)] == [0, 1.5, 0, 7.25]


@given(st.integers(0, 10**6), st.floats(-1e6, 1e6))
def test_without_either_nothing_waits(number: int, elapsed: float) -> None:
    assert Pace().due(number, elapsed) == 0


async def test_packets_go_out_in_order_and_at_the_rate() -> None:
    sink, counters = Sink(), Counter[str]()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await replay(captured(*map(sip, range(6))), sink, Pace(rate=200), counters)
    assert loop.time() - start >= 5 / 200 - 0.005
    assert sink.packets == [sip(number) for number in range(6)]
    assert counters == {"read": 6}


async def test_in_real_time_packets_come_with_their_pauses() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await replay(captured(sip(0), sip(1, 0.03), sip(2, 0.01)), Sink(), Pace(realtime=True))
    assert loop.time() - start >= 0.025


async def test_a_packet_without_a_time_gets_the_captures_and_an_older_one_its_call_id() -> None:
    sink = Sink()
    old = replace(sip(1), version=1, seconds=None, microseconds=None)
    bare = hep.decode(hep.encode(replace(sip(2), seconds=None)))
    await replay(each([Captured(5.25, old), Captured(6.5, bare)]), sink, Pace())
    assert [each.timestamp for each in map(hep.decode, map(hep.encode, sink.packets))] == [
        None,
        6.5,
    ]
    assert hep.decode(hep.encode(replace(sink.packets[0], version=3))).timestamp == 5.25
    assert sink.packets[0].correlation_id == b"1"


async def test_what_cannot_be_encoded_is_counted_and_the_rest_sent() -> None:
    sink, counters = Sink(), Counter[str]()
    packets = [sip(0), replace(sip(1), version=1, src_ip=None), sip(2)]
    await replay(captured(*packets), sink, Pace(), counters)
    assert counters == {"read": 3, UNFIT: 1}
    assert sink.packets == [sip(0), sip(2)]


async def test_a_collector_that_takes_nothing_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(replaying, "PATIENCE", 0.01)
    sink = Sink(takes=False)
    with pytest.raises(CollectorStuckError, match="the collector has accepted no packet for"):
        await replay(captured(*map(sip, range(1000))), sink, Pace())
    assert sink.counters.queued == replaying.MOST_WAITING


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_more_packets_than_the_queue_holds_all_arrive(collect, inbox, transport) -> None:
    collector = await collect(**{transport: "127.0.0.1:0"})
    host, port = getattr(collector, f"{transport}_address")
    count, rate = (300, 3000.0) if transport == "udp" else (20_000, None)
    settings = hep.SenderSettings(queue_limit=replaying.MOST_WAITING)
    async with hep.open_sender(hep.HepId(host, port, transport), settings) as sender:
        await replay(captured(*map(sip, range(count))), sender, Pace(rate))
        packets = await inbox.wait_for(count)
    assert [each.payload for each in packets] == [sip(number).payload for number in range(count)]
    assert sender.counters.dropped.total() == 0


async def run(
    *arguments: object, stderr: int = asyncio.subprocess.PIPE, stdin: int | None = None,
    ready: bool = False,
):  # fmt: skip
    """Start the command; with ``ready``, wait until it handles signals."""
    command = ["-X", "dev", "-m", "hep.cli"]
    if ready:
        code = (
            "import sys, asyncio; from hep.cli import replay; from hep.cli.main import main\n"
            "on_signals = replay.on_signals\n"
            "def tell(stop):\n    on_signals(stop); sys.stderr.write('ready\\n')\n"
            "    sys.stderr.flush()\n"
            "replay.on_signals = tell; sys.exit(main(sys.argv[1:]))"
        )
        command = ["-c", code]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, "replay", *map(str, arguments),
        stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=stderr,
    )  # fmt: skip
    if ready:
        assert await process.stderr.readline() == b"ready\n"
    return process


async def test_the_command_sends_what_is_in_a_capture(capture: Path, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    async with asyncio.timeout(20):
        process = await run(
            capture, "--to", f"127.0.0.1:{collector.tcp_address[1]}", "--capture-id", 7
        )
        out, err = await process.communicate()
    assert process.returncode == 0
    assert out.decode().startswith("10 sent, 0 dropped in ")
    assert err == b""
    packets = await inbox.wait_for(10)
    assert packets[9].timestamp == START + 9
    assert {(each.capture_id, each.ip_protocol) for each in packets} == {(7, 17)}
    assert packets[3].correlation_id == b"3"


async def test_a_terminal_shows_a_progress_bar(capture: Path, collect, inbox) -> None:
    collector = await collect(udp="127.0.0.1:0")
    to = f"127.0.0.1:{collector.udp_address[1]};transport=udp"
    master, slave = pty.openpty()
    try:
        async with asyncio.timeout(20):
            process = await run(capture, "--to", to, "--rate", 30, stderr=slave)
            await process.communicate()
        shown = os.read(master, 100_000).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert process.returncode == 0
    assert "dropped  0:00\x1b[K" in shown
    # On a busy machine asyncio's debug mode remarks after it that a step was slow.
    assert shown.partition("Executing <")[0].endswith("\r\x1b[K")


async def test_ctrl_c_says_what_was_sent(capture: Path, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    async with asyncio.timeout(20):
        process = await run(
            capture, "--to", f"127.0.0.1:{collector.tcp_address[1]}", "--rate", 0.01
        )
        await inbox.wait_for(1)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == 1
    assert out.decode().startswith("1 sent, 0 dropped in ")
    assert err.decode() == "hep: interrupted\n"


@pytest.fixture
def closed(unused_port: int) -> str:
    return f"127.0.0.1:{unused_port};transport=udp"


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_what_is_dropped_makes_the_status_1(capture, closed, capsys) -> None:
    assert main(["replay", str(capture), "--to", closed]) == 1
    assert "dropped (" in capsys.readouterr().out


def test_why_there_is_no_connection_is_said(
    capture: Path,
    unused_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "PATIENCE", 0.3)
    to = f"127.0.0.1:{unused_port}"
    assert main(["replay", str(capture), "--to", to]) == 1
    shown = capsys.readouterr()
    assert f"hep: no connection to {to}" in shown.err
    assert shown.err.endswith(": Connection refused\n")
    assert shown.out.startswith("0 sent, 10 dropped (10 shutdown)")


def test_ctrl_c_ends_the_wait_for_a_collector_that_is_not_there(
    capture: Path,
    unused_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(to: hep.HepId) -> hep.Sender:
        sender, loop = hep.open_sender(to), asyncio.get_running_loop()

        def interrupt() -> None:
            # When all of the capture waits to be sent.
            if sender.counters.queued == 10:
                signal.raise_signal(signal.SIGINT)
            else:
                loop.call_later(0.01, interrupt)

        loop.call_soon(interrupt)
        return sender

    monkeypatch.setattr(replaying, "PATIENCE", 60)
    monkeypatch.setattr(replaying, "open_sender", opened)
    assert main(["replay", str(capture), "--to", f"127.0.0.1:{unused_port}"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "hep: interrupted\n"
    assert shown.out.startswith("0 sent, 10 dropped (10 shutdown)")


def test_a_capture_that_ends_in_the_middle_is_sent_up_to_there(
    capture: Path, closed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capture.write_bytes(capture.read_bytes()[:-5])
    assert main(["replay", str(capture), "--to", closed]) == 1
    shown = capsys.readouterr()
    assert "calls.pcap: incomplete after frame 9" in shown.err
    assert shown.out.endswith(" s\n")


def test_a_capture_with_nothing_to_send_makes_the_status_1(tmp_path, closed, capsys) -> None:
    path = tmp_path / "none.pcap"
    with PcapWriter(path) as writer:
        writer.write(replace(sip(1), payload=b"RTP"), START)
    assert main(["replay", str(path), "--to", closed]) == 1
    assert "none.pcap: no SIP and no HEP in 1 frames\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pcap", "--to", "127.0.0.1"], "none.pcap: cannot be read: No such file"),
        (["x", "--to", "127.0.0.1;transport=sctp"], "transport 'sctp' is not one of udp, tcp, tls"),
        (
            ["x", "--to", "127.0.0.1", "--rate", "0"],
            "--rate 0.0: give a number of packets per second",
        ),
        (["127.0.0.1"], "the collector is missing: hep replay 127.0.0.1 HOST[:PORT]"),
        ([__file__, __file__], "the collector is missing: hep replay "),
        ([__file__, "127.0.0.1"], "no capture file, neither pcap nor pcapng"),
        (["x", "--to", "127.0.0.1", "--rate", "nan"], "--rate nan: give a number"),
        (["x", "--to", "127.0.0.1", "--capture-id", "-1"], "--capture-id -1: give a number from 0"),
    ],
)
def test_a_wrong_argument_is_one_message_and_status_2(arguments, message, capsys) -> None:
    assert main(["replay", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def frames(tmp_path: Path, *packets: hep.Packet) -> bytes:
    """A capture with these packets."""
    with PcapWriter(tmp_path / "frames") as writer:
        for packet in packets:
            writer.write(packet, START)
    return (tmp_path / "frames").read_bytes()


async def test_a_live_pipe_is_sent_at_once_and_ctrl_c_ends_it(
    tmp_path: Path, collect, inbox
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    first, second = frames(tmp_path, sip(1)), frames(tmp_path, sip(2))[24:]
    async with asyncio.timeout(20):
        process = await run(
            "-", f"127.0.0.1:{collector.tcp_address[1]}", stdin=asyncio.subprocess.PIPE
        )
        process.stdin.write(first)
        await inbox.wait_for(1)
        process.send_signal(signal.SIGINT)
        # The program before the pipe writes what it has when it gets the signal.
        process.stdin.write(second)
        process.stdin.close()
        out, err = await process.communicate()
    assert err == b""
    assert out.decode().startswith("2 sent, 0 dropped in ")
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_wait_for_a_pipe_that_stays_open(
    tmp_path: Path, collect, inbox, number: signal.Signals
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    async with asyncio.timeout(20):
        process = await run(
            "-", "--to", f"127.0.0.1:{collector.tcp_address[1]}", stdin=asyncio.subprocess.PIPE
        )
        process.stdin.write(frames(tmp_path, sip(1)))
        await inbox.wait_for(1)
        process.send_signal(number)
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.decode().startswith("1 sent, 0 dropped in ")


async def test_a_signal_ends_the_wait_for_the_first_byte_of_a_pipe() -> None:
    async with asyncio.timeout(20):
        process = await run("-", "127.0.0.1:1", stdin=asyncio.subprocess.PIPE, ready=True)
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode() == "ready\nhep: interrupted\n"
    assert out.decode().startswith("0 sent, 0 dropped in ")


async def test_several_files_are_sent_in_order(tmp_path: Path, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    paths = [tmp_path / name for name in "abc"]
    for number, path in enumerate(paths):
        path.write_bytes(frames(tmp_path, sip(number), sip(number + 10)))
    async with asyncio.timeout(20):
        process = await run(*paths, f"127.0.0.1:{collector.tcp_address[1]}")
        out, _ = await process.communicate()
    assert out.decode().startswith("6 sent, 0 dropped in ")
    packets = await inbox.wait_for(6)
    assert [each.correlation_id for each in packets] == [b"0", b"10", b"1", b"11", b"2", b"12"]


@pytest.mark.parametrize(
    ("options", "last"),
    [(["--now"], 0), (["--now", "--rate", "1000"], 9), (["--now", "--rate", "500"], 9)],
)
async def test_new_times_keep_the_distances_and_end_or_start_now(
    capture: Path, collect, inbox, options: list[str], last: int
) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    before = time.time()
    async with asyncio.timeout(20):
        process = await run(capture, f"127.0.0.1:{collector.tcp_address[1]}", *options)
        await process.communicate()
    times = [each.timestamp for each in await inbox.wait_for(10)]
    assert [round(each - times[0], 4) for each in times] == list(range(10))
    assert before + last <= times[-1] <= time.time() + last


async def test_new_times_are_those_of_hep_in_the_capture(tmp_path, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    inner = [hep.encode(sip(number, 1000 * number)) for number in range(3)]
    path = tmp_path / "x"
    path.write_bytes(frames(tmp_path, *(replace(sip(0), payload=each) for each in inner)))
    async with asyncio.timeout(20):
        process = await run(path, f"127.0.0.1:{collector.tcp_address[1]}", "--now")
        await process.communicate()
    times = [each.timestamp for each in await inbox.wait_for(3)]
    assert [round(each - times[0], 4) for each in times] == [0, 1000, 2000]
    assert time.time() - 20 < times[-1] <= time.time()


async def test_filters_choose_what_is_sent(tmp_path, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    other = replace(sip(3), src_ip="198.51.100.1", payload=b"INVITE sip:a@b SIP/2.0\r\n\r\n")
    (tmp_path / "x").write_bytes(frames(tmp_path, sip(1), sip(2), other))
    to = f"127.0.0.1:{collector.tcp_address[1]}"
    for options, count in (
        (["--call-id", "2"], 1), (["--ip", "192.0.2.5"], 2), (["--method", "INVITE"], 1),
    ):  # fmt: skip
        async with asyncio.timeout(20):
            process = await run(tmp_path / "x", to, *options)
            out, _ = await process.communicate()
        assert out.decode().startswith(f"{count} sent, 0 dropped in ")
        assert out.decode().endswith(f"; skipped: {3 - count} filtered out\n")
    await inbox.wait_for(4)
    process = await run(tmp_path / "x", to, "--call-id", "none")
    _, err = await process.communicate()
    assert err.decode().endswith("x: no packet meets the filters, of 3\n")
    assert process.returncode == 1


def test_what_the_capture_lost_makes_the_status_1_and_is_said(tmp_path, unused_port, capsys):
    from socket import AF_INET, SOCK_DGRAM, socket

    content = frames(tmp_path, *(sip(number) for number in range(3)))
    cut = content[24:32] + (60).to_bytes(4, "little") + content[36:100]
    rtp = frames(tmp_path, replace(sip(1), payload=b"\x80" * 50))[24:]
    (tmp_path / "x").write_bytes(content + cut * 7 + rtp)
    with socket(AF_INET, SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        to = f"127.0.0.1:{sink.getsockname()[1]};transport=udp"
        assert main(["replay", str(tmp_path / "x"), to]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("3 sent, 0 dropped in ")
    assert shown.out.endswith(" s; lost: 7 cut by the capture's length; skipped: 1 not SIP\n")
    assert shown.err == ""


def test_the_last_line_names_all_causes() -> None:
    dropped, lost = Counter({"refused": 2}), Counter({"at gaps of TCP streams": 1, "cut": 3})
    assert summary(5, dropped, lost, Counter({"not SIP": 0}), 1.25) == (
        "5 sent, 2 dropped (2 refused) in 1.2 s; lost: 3 cut, 1 at gaps of TCP streams"
    )


async def test_a_reader_is_read_in_a_thread_and_its_error_is_raised() -> None:
    def read() -> Iterator[Captured]:
        for number in range(1000):
            yield Captured(number, sip(number))
        raise hep.HepError("damage")

    feed = Feed(read, lambda: None)
    found = []

    async def take() -> None:
        async for each in feed:
            found.append(each.timestamp)

    with pytest.raises(hep.HepError, match="damage"):
        await take()
    assert found == list(range(1000))
    assert await feed.aclose()


async def test_a_reader_ends_when_nothing_takes_its_packets() -> None:
    stopped = threading.Event()

    def read() -> Iterator[Captured]:
        while True:
            yield Captured(0, sip(1))

    feed = Feed(read, stopped.set)
    async for _ in feed:
        break
    assert await feed.aclose()
    assert stopped.is_set()


def test_the_bar_shows_how_much_is_done_and_fits_the_terminal() -> None:
    counts = "5 sent, 0 dropped"
    assert bar(0.5, counts, 61.9, 80) == (
        "[###############...............]  50%  5 sent, 0 dropped  1:01"
    )
    assert bar(1, counts, 0, 42) == "[#########] 100%  5 sent, 0 dropped  0:00"
    assert bar(0, counts, 0, 10) == "  0%  5 s"
    assert bar(None, counts, 5, 80) == "5 sent, 0 dropped  0:05"
    assert bar(None, counts, 5, 10) == "5 sent, 0"


@given(st.floats(0, 1), st.integers(1, 200))
def test_no_terminal_is_too_narrow_for_the_bar(done: float, columns: int) -> None:
    assert len(bar(done, "12345 sent, 0 dropped", 5, columns)) < max(columns, 1)
