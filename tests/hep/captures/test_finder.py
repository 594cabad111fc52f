"""What is lost in a capture is counted; what is no loss is not."""

import gzip
import os
import threading
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

import hep
from hep.captures import finder as finding
from hep.captures.capture_file import Frame
from hep.captures.finder import Finder, Message
from hep.captures.pcap import Capture, losses, skipped
from hep.captures.source import Source

from .encapsulated import pcapng, section, sip


def udp(payload: bytes, sport: int = 5060, dport: int = 5060) -> bytes:
    ip = IP(src="192.0.2.5", dst="192.0.2.1")
    return bytes(ip / UDP(sport=sport, dport=dport) / Raw(payload))


def tcp(stream: bytes, size: int = 200, port: int = 5080, flags: str = "PA", at: int = 1) -> list:
    ip = IP(src="192.0.2.5", dst="192.0.2.1")
    return [
        bytes(ip / TCP(sport=50_123, dport=port, seq=at + each, flags=flags)
              / Raw(stream[each : each + size]))
        for each in range(0, len(stream), size)
    ]  # fmt: skip


def find(*frames: bytes | Packet) -> tuple[list[bytes], Finder]:
    finder = Finder()
    found: list[Message] = []
    for frame in frames:
        found += finder.add(Frame(101, 0, 0, bytes(frame)))
    found += finder.finish()
    return [each.data for each in found], finder


def lost(finder: Finder) -> dict[str, int]:
    names = ("cut", "gaps", "fragments lost", "incomplete")
    return {name: finder.counters[name] for name in names if finder.counters[name]}


@pytest.mark.parametrize("kept", [28, 29, 36, 50, 100])
def test_a_datagram_that_the_capture_cut_is_counted_however_little_is_left(kept: int) -> None:
    assert lost(find(udp(sip(1))[:kept])[1]) == {"cut": 1}
    assert lost(find(udp(b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n" * 9)[:kept])[1]) == {"cut": 1}
    assert lost(find(udp(hep.encode(hep.Packet(src_ip="1.1.1.1", dst_ip="1.1.1.1", payload=sip(1))),
                         dport=9060)[:kept])[1]) == {"cut": 1}  # fmt: skip


def test_other_data_that_the_capture_cut_is_no_loss() -> None:
    rtp = udp(b"\x80\0" + bytes(170), 10_000, 20_000)
    http = tcp(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 500)
    _, finder = find(rtp[:60], rtp[:28], *(each[:60] for each in http), udp(b"ABC def")[:33])
    assert lost(finder) == {}


@pytest.mark.parametrize("kept", [40, 41, 45, 60, 100])
def test_a_segment_that_the_capture_cut_is_counted(kept: int) -> None:
    _, finder = find(*(each[:kept] for each in tcp(sip(1) + sip(2), 1000, 5060)))
    assert lost(finder) == {"cut": 1}


def test_a_gap_counts_in_a_stream_with_sip_only() -> None:
    stream = tcp(sip(1) + sip(2) + sip(3), len(sip(1)))
    assert find(stream[0], stream[2])[0] == [sip(1), sip(3)]
    assert lost(find(stream[0], stream[2])[1]) == {"gaps": 1}
    other = tcp(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
    assert lost(find(other[0], other[2], other[4])[1]) == {}


def test_messages_behind_a_gap_have_their_own_time_and_come_after_some_seconds() -> None:
    stream = tcp(sip(1) + sip(2) + sip(3), len(sip(1)))
    finder = Finder()
    assert [each.data for each in finder.add(Frame(101, 100, 0, stream[0]))] == [sip(1)]
    assert finder.add(Frame(101, 101, 7, stream[2])) == []
    assert finder.add(Frame(101, 101 + finding.LONGEST_DELAY - 1, 0, udp(b"-"))) == []
    (found,) = finder.add(Frame(101, 101 + finding.LONGEST_DELAY, 0, udp(b"-")))
    assert (found.data, found.frame, found.seconds, found.microseconds) == (sip(3), 2, 101, 7)
    assert finder.add(Frame(101, 900, 0, udp(b"-"))) == finder.finish() == []


def test_a_segment_that_comes_late_completes_its_message() -> None:
    stream = tcp(sip(1), len(sip(1)) // 3 + 1)
    finder = Finder()
    for second, at in ((1, 0), (2, 2), (3, 1)):
        found = finder.add(Frame(101, second, 0, stream[at]))
    assert [(each.data, each.frame, each.seconds) for each in found] == [(sip(1), 3, 3)]


def test_a_frame_costs_the_same_however_many_streams_wait_for_a_segment() -> None:
    class Watched(dict):
        seen = 0

        def items(self):
            for each in super().items():
                self.seen += 1
                yield each

    finder = Finder()
    finder._late = late = Watched()
    frames = [
        bytes(IP(src="192.0.2.5", dst="192.0.2.1") / TCP(sport=port, seq=seq, flags="A") / b"x")
        for port in range(200)
        for seq in (1, 9)
    ]
    for frame in frames:
        finder.add(Frame(101, 0, 0, frame))
    assert len(late) == 200
    assert late.seen <= len(frames)


def test_at_the_end_messages_behind_a_gap_have_their_own_time() -> None:
    stream = tcp(sip(1) + sip(2) + sip(3), len(sip(1)))
    finder = Finder()
    for second, data in ((1, stream[0]), (2, stream[2]), (3, udp(b"-"))):
        finder.add(Frame(101, second, 0, data))
    assert [(each.data, each.frame, each.seconds) for each in finder.finish()] == [(sip(3), 2, 2)]


def test_a_gap_before_the_first_message_counts_when_there_is_one() -> None:
    stream = tcp(b"x" * 100 + sip(1) * 2, 100)
    assert lost(find(stream[0], *stream[2:])[1]) == {"gaps": 1}


def test_a_message_without_its_end_is_incomplete() -> None:
    assert lost(find(*tcp(sip(1) + sip(2)[:50]))[1]) == {"incomplete": 1}
    packet = hep.encode(hep.Packet(src_ip="1.1.1.1", dst_ip="1.1.1.1", payload=sip(1)))
    assert lost(find(*tcp(packet[:50]))[1]) == {"incomplete": 1}
    assert lost(find(*tcp(b"GET / HTTP/1.1\r\nHost: x"))[1]) == {}


@pytest.mark.parametrize("size", [1400, 333, 50, 1])
def test_hep_over_tcp_is_found_on_any_port_and_from_anywhere(size: int) -> None:
    packets = [
        hep.encode(hep.Packet(src_ip="1.1.1.1", dst_ip="1.1.1.1", payload=sip(each),
                              seconds=5, microseconds=each))
        for each in range(266, 276)
    ]  # fmt: skip
    stream = b"".join(packets)
    for begin in (1, 30, len(packets[0]) - 1):
        found, finder = find(*tcp(stream[begin:], size, 7777))
        assert found[-9:] == packets[1:]
        assert lost(finder) == {}
    frames = tcp(stream, 300, 7777)
    found, finder = find(*frames[:3], *frames[4:])
    assert set(found) < set(packets)
    assert len(found) >= 7
    assert lost(finder) == {"gaps": 1}


def test_a_status_line_in_a_body_is_no_message_after_a_gap() -> None:
    body = b"SIP/2.0 200 OK\r\n"
    notify = (
        b"NOTIFY sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    end = len(sip(1))
    found, _ = find(
        *tcp(sip(1) + notify[:20], 1000), *tcp(notify[40:] + sip(2), 1000, at=1 + end + 40)
    )
    assert found == [sip(1), sip(2)]


def test_encrypted_streams_are_no_loss_and_named() -> None:
    hello = b"\x16\x03\x01\0\x05hello" + os.urandom(400)
    _, finder = find(*tcp(hello, port=5061))
    assert finder.unread == {finding.ENCRYPTED_BY_TLS: 1}
    assert lost(finder) == {}


def test_fragments_of_other_protocols_are_no_loss() -> None:
    rtp = IP(src="192.0.2.5", dst="192.0.2.1", id=5) / UDP(sport=1, dport=2) / Raw(b"\x80" * 3000)
    parts = fragment(rtp, fragsize=1200)
    assert lost(find(*parts[:-1])[1]) == {}
    assert lost(find(*parts[1:])[1]) == {"fragments lost": 1}
    sips = IP(src="192.0.2.5", dst="192.0.2.1", id=5) / UDP() / Raw(sip(1) + b"x" * 3000)
    assert lost(find(*fragment(sips, fragsize=1200)[:-1])[1]) == {"fragments lost": 1}


def test_the_streams_with_incomplete_messages_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(finding, "MOST_BUFFERED", 3000)
    finder = Finder()
    for port in range(1, 40):
        for frame in tcp(sip(1)[:-2] + b"X: " + b"y" * 900, 2000, port):
            finder.add(Frame(101, 0, 0, frame))
        assert finder._buffered <= 3000
    assert finder.counters["incomplete"] >= 30


def test_line_ends_before_the_start_line_are_not_part_of_the_packet(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pcapng([(101, udp(b"\r\n\r\n" + sip(1)))]))
    with Capture(tmp_path / "x") as capture:
        assert [packet.payload for _, packet in capture.packets()] == [sip(1)]


def test_streams_go_on_from_file_to_file(tmp_path: Path) -> None:
    frames = tcp(sip(1) + sip(2), 100)
    (tmp_path / "1").write_bytes(pcapng([(101, each) for each in frames[:3]]))
    (tmp_path / "2").write_bytes(gzip.compress(pcapng([(101, each) for each in frames[3:]])))
    with Capture(tmp_path / "1", tmp_path / "2") as capture:
        assert [each.data for each in capture.messages()] == [sip(1), sip(2)]
        assert capture.position == capture.size > 0
        assert losses(capture) == {}


def test_a_damaged_file_does_not_hide_those_behind_it(tmp_path: Path) -> None:
    whole = pcapng([(101, udp(sip(1)))])
    (tmp_path / "1").write_bytes(whole[:-9])
    (tmp_path / "2").write_bytes(whole)
    found = []
    with (
        Capture(tmp_path / "1", tmp_path / "2") as capture,
        pytest.raises(hep.HepError, match="1: incomplete after frame 0"),
    ):
        found.extend(capture.messages())
    assert [each.data for each in found] == [sip(1)]
    with pytest.raises(hep.HepError, match="none: cannot be read"):
        Capture(tmp_path / "1", tmp_path / "none")


def test_a_pipe_yields_what_has_come_and_can_be_stopped(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, section() + pcapng([(101, udp(sip(1)))])[len(section()) :])
    with Capture(f"/dev/fd/{reader}") as capture:
        os.close(reader)
        assert capture.is_live
        assert capture.size == 0
        messages = capture.messages()
        assert next(messages).data == sip(1)
        threading.Timer(0.05, capture.stop).start()
        assert list(messages) == []
    os.close(writer)


def test_the_start_of_a_source_can_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abcdef")
    for path in (tmp_path / "x", tmp_path / "y"):
        (tmp_path / "y").write_bytes(gzip.compress(b"abcdef"))
        source = Source(path)
        assert source.peek(3) == b"abc"
        assert source.read_some(2) == b"ab"
        assert source.read(3) == b"cde"
        assert source.peek(3) == source.read(3) == b"f"
        assert source.ended_within
        source.close()


def test_other_frames_are_counted_as_not_sip(tmp_path: Path) -> None:
    frames = [udp(b"\x80" * 20), IPv6(dst="::1") / Raw(b"x"), *tcp(b"GET / HTTP/1.1\r\n\r\n", 9)]
    (tmp_path / "x").write_bytes(pcapng([(101, bytes(each)) for each in frames]))
    with Capture(tmp_path / "x") as capture:
        assert list(capture.messages()) == []
        assert skipped(capture) == {"not SIP": 4}
