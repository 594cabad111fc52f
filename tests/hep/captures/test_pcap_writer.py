"""What is collected, written as the traffic that it tells of."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import RawPcapReader, rdpcap

import hep
from hep.captures.pcap_writer import PcapWriter, record

NOW = 1_700_000_100.5


def written(path: Path, *packets: hep.Packet) -> list:
    with PcapWriter(path) as writer:
        for packet in packets:
            writer.write(packet, NOW)
    return list(rdpcap(str(path)))


def test_a_frame_has_the_packets_addresses_ports_time_and_payload(
    tmp_path: Path, packet: hep.Packet
) -> None:
    (frame,) = written(tmp_path / "x.pcap", packet)
    assert (frame[IP].src, frame[IP].dst) == ("192.0.2.5", "192.0.2.1")
    assert (frame[UDP].sport, frame[UDP].dport) == (50123, 8080)
    assert bytes(frame[UDP].payload) == packet.payload
    assert frame.time == pytest.approx(1_700_000_000.123456)


def test_ipv6_addresses_make_an_ipv6_frame(tmp_path: Path, packet: hep.Packet) -> None:
    (frame,) = written(
        tmp_path / "x.pcap", replace(packet, src_ip="2001:db8::5", dst_ip="192.0.2.1")
    )
    assert (frame[IPv6].src, frame[IPv6].dst) == ("2001:db8::5", "::ffff:192.0.2.1")


def test_what_a_packet_does_not_say_is_filled_in(tmp_path: Path, packet: hep.Packet) -> None:
    bare = replace(packet, version=1, seconds=None, microseconds=None, src_ip=None, dst_ip=None)
    six = replace(packet, src_ip=None, dst_ip="2001:db8::1")
    frame, other = written(tmp_path / "x.pcap", bare, six)
    assert frame.time == NOW
    assert (frame[IP].src, frame[IP].dst) == ("0.0.0.0", "0.0.0.0")
    assert other[IPv6].src == "::"


def test_microseconds_of_over_a_second_are_carried(tmp_path: Path, packet: hep.Packet) -> None:
    (frame,) = written(tmp_path / "x.pcap", replace(packet, seconds=5, microseconds=3_000_001))
    assert frame.time == pytest.approx(8.000001)


def test_a_payload_longer_than_a_datagram_is_cut_and_the_record_says_so(
    tmp_path: Path, packet: hep.Packet
) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(path) as writer:
        writer.write(replace(packet, payload=b"x" * 65_507), NOW)
        writer.write(replace(packet, payload=b"x" * 70_000), NOW)
        assert (writer.written, writer.cut) == (2, 1)
    with RawPcapReader(str(path)) as reader:
        lengths = [(about.caplen, about.wirelen) for _, about in reader]
    assert lengths == [(65_549, 65_549), (65_549, 65_549 + 4493)]


@pytest.mark.parametrize("change", [{"src_ip": "localhost"}, {"dst_ip": "1::z"}, {"src_port": -1}])
def test_what_no_frame_can_have_is_refused(packet: hep.Packet, change: dict) -> None:
    with pytest.raises(hep.HepEncodeError, match="a packet cannot be written to a capture"):
        record(replace(packet, **change), NOW)


def test_a_packet_is_in_the_file_as_soon_as_it_is_written(
    tmp_path: Path, packet: hep.Packet
) -> None:
    path = tmp_path / "x.pcap"
    with PcapWriter(path) as writer:
        assert path.stat().st_size == 24
        writer.write(packet, NOW)
        assert len(rdpcap(str(path))) == 1


@pytest.mark.parametrize("path", ["/nowhere/x.pcap", "/dev/full"])
def test_a_file_that_cannot_be_written_is_said(path: str) -> None:
    with pytest.raises(hep.HepError, match=f"{path}: cannot be written: No s"):
        PcapWriter(path)


FULL_DISK = """
import resource, sys
import hep
from hep.captures.pcap_writer import PcapWriter
packet = hep.Packet(src_ip="192.0.2.1", dst_ip="192.0.2.2", seconds=1, payload=bytes(400))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
failed = 0
with PcapWriter(sys.argv[1]) as writer:
    for count in range(6):
        if count == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        try:
            writer.write(packet, 0)
        except hep.HepError as exc:
            assert "cannot be written: File too large" in str(exc), exc
            failed += 1
    print(writer.written, failed)
"""


def test_a_full_disk_loses_packets_but_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    shown = subprocess.run(
        [sys.executable, "-X", "dev", "-c", FULL_DISK, str(path)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shown.split() == ["5", "1"]
    assert len(rdpcap(str(path))) == 5


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("sngrep") is None, reason="sngrep is not installed")
def test_sngrep_opens_the_file_and_finds_the_calls(tmp_path: Path, packet: hep.Packet) -> None:
    path, out = tmp_path / "x.pcap", tmp_path / "out.pcap"
    invite = (
        b"INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/WS x;branch=z9hG4bK1\r\n"
        b"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: %d\r\n"
        b"CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    six = {"src_ip": "2001:db8::5", "dst_ip": "2001:db8::6"}
    written(
        path,
        replace(packet, payload=invite % 1),
        replace(packet, payload=invite % 2, **six),
        replace(packet, payload=b'{"Event": "CLOSED"}', protocol_type=0x59, src_port=0),
    )
    environment = {**os.environ, "TERM": "xterm"}
    result = subprocess.run(
        ["sngrep", "-N", "-I", path, "-O", out],
        capture_output=True, check=True, env=environment, timeout=30,
    )  # fmt: skip
    assert b"Dialog count: 2" in result.stdout
    assert [bytes(frame[UDP].payload) for frame in rdpcap(str(out))] == [invite % 1, invite % 2]
