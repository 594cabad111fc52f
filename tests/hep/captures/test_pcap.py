"""SIP and HEP found in captures."""

import gzip
import logging
import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, Ether
from scapy.packet import Packet, Raw
from scapy.utils import PcapNgWriter, PcapWriter

import hep
from hep.captures import finder, pcap
from hep.captures.pcap import Capture, Message
from hep.captures.reassembly import FRAGMENTS_LOST

OPTIONS = b"OPTIONS sip:b@example.com SIP/2.0\r\nCall-ID: call-1\r\nContent-Length: 0\r\n\r\n"
MESSAGE = b"MESSAGE sip:b@example.com SIP/2.0\r\ni: call-2\r\nContent-Length: 3000\r\n\r\n"
MESSAGE += b"x" * 3000
START = 1_700_000_000
ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def ip(**fields: object) -> Packet:
    return IP(src="192.0.2.5", dst="192.0.2.1", **fields)


def udp(payload: bytes, port: int = 5060) -> Packet:
    return ETHERNET / ip() / UDP(sport=50123, dport=port) / Raw(payload)


def tcp(stream: bytes, size: int = 1000, port: int = 5060, start: int = 1) -> list[Packet]:
    """A stream as segments."""
    return [
        ETHERNET / ip() / TCP(sport=50123, dport=port, seq=start + at, flags="PA")
        / Raw(stream[at : at + size])
        for at in range(0, len(stream), size)
    ]  # fmt: skip


def capture(path: Path, frames: list[Packet], writer: type = PcapWriter, **options: object) -> Path:
    with writer(str(path), **options) as out:
        for number, frame in enumerate(frames):
            frame = frame.copy()
            frame.time = START + number / 8
            out.write(frame)
    return path


def messages(path: Path) -> list[Message]:
    with Capture(path) as file:
        return list(file.messages())


def packets(path: Path) -> list[hep.Packet]:
    with Capture(path) as file:
        return [packet for _, packet in file.packets()]


def test_sip_over_udp_becomes_a_packet_with_all_that_the_frame_says(tmp_path: Path) -> None:
    path = capture(tmp_path / "x.pcap", [udp(b"\0\0\0\0"), udp(OPTIONS)])
    with Capture(path) as file:
        ((timestamp, packet),) = file.packets(capture_id=7)
        assert file.counters == {"frames": 2, "sip": 1, "not sip": 1}
        assert file.position == file.size == path.stat().st_size
    assert timestamp == START + 0.125
    assert packet == hep.Packet(
        src_ip="192.0.2.5", src_port=50123, dst_ip="192.0.2.1", dst_port=5060, ip_protocol=17,
        seconds=START, microseconds=125_000, payload=OPTIONS, correlation_id=b"call-1",
        capture_id=7,
    )  # fmt: skip


@pytest.mark.parametrize("port", [9060, 5080])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_hep_over_udp_is_decoded(tmp_path, packet, port: int, version: int) -> None:
    packet = replace(packet, version=version)
    data = hep.encode(packet)
    path = capture(tmp_path / "x.pcap", [udp(data, port)])
    assert packets(path) == [hep.decode(data)]
    with Capture(path) as file:
        assert list(file.raw_hep()) == [pcap.RawHep(1, "udp", data)]


def test_invalid_hep_is_counted_and_available_raw(tmp_path: Path) -> None:
    frames = [udp(OPTIONS, 9060), udp(b"\1nothing", 9060), udp(b"\1nothing"), udp(b"HEP3\0\1")]
    path = capture(tmp_path / "x.pcap", frames)
    with Capture(path) as file:
        assert [packet.payload for _, packet in file.packets()] == [OPTIONS]
        assert file.counters == {
            "frames": 4, "sip": 1, "hep": 2, "bad": 2, "not sip": 1,
        }  # fmt: skip
    with Capture(path) as file:
        assert [each.frame for each in file.raw_hep()] == [2, 4]


@pytest.mark.parametrize("size", [1, 7, 1400])
def test_sip_over_tcp_is_cut_by_its_content_length(tmp_path: Path, size: int) -> None:
    stream = OPTIONS + MESSAGE + b"\r\n\r\n" + OPTIONS
    found = messages(capture(tmp_path / "x.pcap", tcp(stream, size)))
    assert [each.data for each in found] == [OPTIONS, MESSAGE, OPTIONS]
    assert {(each.transport, each.is_hep) for each in found} == {("tcp", False)}
    assert found[0].frame == -(-len(OPTIONS) // size)


@pytest.mark.parametrize("port", [9060, 5080])
def test_hep_over_tcp_is_reassembled_in_any_order(tmp_path, packet, port: int) -> None:
    data = hep.encode(packet)
    frames = tcp(data * 5, 50, port)
    opening = ETHERNET / ip() / TCP(sport=50123, dport=port, seq=0, flags="S")
    random.Random(5).shuffle(frames)
    path = capture(tmp_path / "x.pcap", [opening, *frames, frames[3]])
    assert packets(path) == [hep.decode(data)] * 5
    with Capture(path) as file:
        assert {(each.transport, each.data) for each in file.raw_hep()} == {("tcp", data)}


def test_the_two_directions_of_a_connection_are_two_streams(tmp_path: Path) -> None:
    there = tcp(OPTIONS, 40)
    answer = b"SIP/2.0 200 OK\r\nCall-ID: call-1\r\nContent-Length: 0\r\n\r\n"
    back = ETHERNET / IP(src="192.0.2.1", dst="192.0.2.5") / TCP(sport=5060, dport=50123, seq=9)
    found = messages(capture(tmp_path / "x.pcap", [there[0], back / Raw(answer), *there[1:]]))
    assert [(each.src_ip, each.src_port, each.data) for each in found] == [
        ("192.0.2.1", 5060, answer),
        ("192.0.2.5", 50123, OPTIONS),
    ]


def test_a_lost_segment_loses_its_message_only(tmp_path: Path) -> None:
    frames = tcp(OPTIONS + MESSAGE + OPTIONS * 2, len(OPTIONS))
    del frames[2]
    with Capture(capture(tmp_path / "x.pcap", frames)) as file:
        assert next(file.messages()).data == OPTIONS
        list(file.messages())
        assert file.counters["gaps"] == 1


def test_a_reset_connection_restarts_the_stream(tmp_path: Path) -> None:
    reset = ETHERNET / ip() / TCP(sport=50123, dport=5060, seq=20, flags="R")
    frames = [*tcp(OPTIONS[:20]), reset, *tcp(OPTIONS, start=77_000)]
    assert [each.data for each in messages(capture(tmp_path / "x.pcap", frames))] == [OPTIONS]


def test_the_stream_idle_for_longest_is_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(finder, "MOST_STREAMS", 2)
    halves = [tcp(OPTIONS, 40, port) for port in (1, 2, 3)]
    frames = [each[0] for each in halves] + [halves[at][1] for at in (1, 2, 0)]
    found = messages(capture(tmp_path / "x.pcap", frames))
    assert [each.dst_port for each in found] == [2, 3]


def test_ip_fragments_are_reassembled(tmp_path: Path) -> None:
    whole = ip(id=5) / UDP(sport=1, dport=5060) / Raw(MESSAGE)
    parts = [ETHERNET / part for part in fragment(whole, fragsize=1200)]
    path = capture(tmp_path / "x.pcap", [parts[2], parts[0], parts[1]])
    assert [(each.data, each.frame) for each in messages(path)] == [(MESSAGE, 3)]
    with Capture(capture(tmp_path / "y.pcap", parts[:2])) as file:
        assert list(file.messages()) == []
        assert file.counters[FRAGMENTS_LOST] == 1


def test_frames_cut_short_by_the_capture_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(str(path), linktype=1) as out:
        out.write_header(None)
        out.write_packet(bytes(udp(OPTIONS))[:80], wirelen=len(udp(OPTIONS)))
        out.write_packet(bytes(udp(OPTIONS)))
    with Capture(path) as file:
        assert len(list(file.messages())) == 1
        assert file.counters["cut"] == 1


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (CookedLinux(proto=0x800) / ip() / UDP(sport=1) / Raw(OPTIONS), {}),
        (ip() / UDP(sport=1) / Raw(OPTIONS), {}),
        (IPv6(src="2001:db8::5", dst="::1") / UDP(sport=1) / Raw(OPTIONS), {"linktype": 101}),
        (udp(OPTIONS), {"nano": True}),
        (udp(OPTIONS), {"endianness": ">"}),
        (udp(OPTIONS), {"gz": True}),
    ],
    ids=["cooked", "raw", "ipv6", "nanoseconds", "big endian", "gzip"],
)
def test_captures_of_many_kinds_are_read(tmp_path, frame: Packet, options: dict) -> None:
    ((found),) = messages(capture(tmp_path / "x.pcap", [frame], **options))
    assert found.data == OPTIONS
    assert (found.seconds, found.microseconds) == (START, 0)


def test_pcapng_is_read_with_its_times(tmp_path: Path) -> None:
    path = capture(tmp_path / "x.pcapng", [udp(b"-"), udp(OPTIONS), udp(OPTIONS)], PcapNgWriter)
    found = messages(path)
    assert [(each.seconds, each.microseconds, each.frame) for each in found] == [
        (START, 125_000, 2),
        (START, 250_000, 3),
    ]


def test_other_traffic_is_skipped(tmp_path: Path) -> None:
    frames = [
        ETHERNET / ARP(), ETHERNET / ip(proto=1) / Raw(b"ping"), udp(b""),
        *tcp(b"GET / HTTP/1.1\r\n\r\n"), ETHERNET / Raw(b"?"),
    ]  # fmt: skip
    assert messages(capture(tmp_path / "x.pcap", frames)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "no capture file, neither pcap nor pcapng"),
        (b"INVITE sip:a@b SIP/2.0", "no capture file, neither pcap nor pcapng"),
        (b"\xd4\xc3\xb2\xa1\2\0", "no capture file, neither pcap nor pcapng"),
        (b"\x1f\x8b no gzip at all", "reading failed"),
    ],
)
def test_a_file_that_is_no_capture_raises(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(hep.HepError, match=rf"x: {message}"):
        Capture(path)


@pytest.mark.parametrize("writer", [PcapWriter, PcapNgWriter])
@pytest.mark.parametrize("lost", [1, 20, 70, 130])
def test_an_incomplete_file_is_read_up_to_its_end(
    tmp_path: Path, writer: type, lost: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = capture(tmp_path / "x", [udp(OPTIONS), udp(OPTIONS)], writer)
    path.write_bytes(path.read_bytes()[:-lost])
    found = []
    with Capture(path) as file, pytest.raises(hep.HepError, match="x: incomplete after"):
        found.extend(file.messages())
    assert [each.data for each in found] == [OPTIONS]
    assert capsys.readouterr().err == ""


def test_an_incomplete_gzip_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = capture(tmp_path / "x", [udp(random.Random(1).randbytes(60_000)) for _ in range(5)])
    path.write_bytes(gzip.compress(path.read_bytes())[:-40_000])
    with Capture(path) as file, pytest.raises(hep.HepError, match="x: reading failed"):
        list(file.messages())
    assert file.counters["frames"] > 1


def test_other_log_records_of_scapy_are_kept(tmp_path: Path) -> None:
    filters = list(logging.getLogger("scapy.runtime").filters)
    messages(capture(tmp_path / "x", [udp(OPTIONS)]))
    assert logging.getLogger("scapy.runtime").filters == filters


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("samples")
    data = hep.encode(hep.Packet(src_ip="1.2.3.4", dst_ip="1.2.3.5", payload=OPTIONS))
    big = ip(id=5) / UDP(sport=1, dport=5060) / Raw(MESSAGE)
    frames = [udp(OPTIONS), udp(data, 9060), *tcp(OPTIONS + MESSAGE), *tcp(data, 20, 9060)]
    frames += [ETHERNET / part for part in fragment(big, fragsize=1200)]
    return [
        capture(folder / "a", frames).read_bytes(),
        capture(folder / "b", frames, PcapNgWriter).read_bytes(),
    ]


def read_all(path: Path) -> None:
    with suppress(hep.HepError), Capture(path) as file:
        for timestamp, _ in file.packets():
            assert timestamp >= 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6),
    size=st.integers(0, 9000),
)
@example(which=0, changes=[(32, 255), (33, 255), (34, 255), (35, 255)], size=9000)
@example(which=1, changes=[(4, 255), (5, 255), (6, 255), (7, 255)], size=9000)
def test_damage_to_a_capture_raises_nothing_but_hep_errors(
    samples: list[bytes], tmp_path: Path, which: int, changes: list, size: int
) -> None:
    damaged = bytearray(samples[which][:size])
    for at, byte in changes:
        if at < len(damaged):
            damaged[at] = byte
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    read_all(path)


MAGICS = [
    b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(12) + b"\1\0\0\0",
    b"\n\r\r\n\x1c\0\0\0M<+\x1a\1\0\0\0",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"", b"\x1f\x8b\x08", *MAGICS]), st.binary(max_size=300))
def test_reading_any_bytes_raises_only_hep_errors(
    tmp_path: Path, start: bytes, data: bytes
) -> None:
    path = tmp_path / "noise"
    path.write_bytes(start + data)
    read_all(path)
