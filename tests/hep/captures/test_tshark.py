"""What is found in captures equals what tshark finds."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Packet, Raw

from hep.captures.pcap import Capture, packet_of
from hep.sip import call_id

from .encapsulated import frames, pcapng, sip
from .test_websocket import ANSWER, REQUEST, fragments, frame, segments

FRAMES = frames()

REASSEMBLE = ("-2", "-o", "tcp.reassemble_out_of_order:TRUE")

DECODE_AS = ("mpls.label==100,pwethcw", "udp.port==8472,vxlan")
"""What tshark has to be told: labels of MPLS do not say what follows."""

NOT_READ = {"PPP of pppd"}
"""Link types that tshark does not read as https://www.tcpdump.org/linktypes.html says."""


@pytest.fixture(scope="module")
def tshark(find: Any) -> str:
    return str(find.program("tshark", remedy="install Debian's package tshark"))


def shown_by(tshark: str, path: Path, *options: str) -> list[tuple[Any, ...]]:
    """Frame, Call-ID, inner addresses and time of the messages that tshark finds."""
    fields = ["frame.number", "sip.Call-ID", "frame.time_epoch", "ip.src", "ipv6.src"]
    command = [tshark, "-r", str(path), "-Y", "sip", "-T", "json", "--no-duplicate-keys"]
    command += [part for rule in DECODE_AS for part in ("-d", rule)]
    command += [part for field in fields for part in ("-e", field)]
    done = subprocess.run([*command, *options], capture_output=True, check=True, timeout=60)
    found = []
    for each in json.loads(done.stdout):
        layers = each["_source"]["layers"]
        addresses = layers.get("ipv6.src", []) + layers.get("ip.src", [])
        source = next(
            (one for one in reversed(addresses) if one in ("192.0.2.5", "2001:db8::5")), None
        )
        found += [
            (int(layers["frame.number"][0]), one, float(layers["frame.time_epoch"][0]), source)
            for one in layers.get("sip.Call-ID", ())
        ]
    return found


def found_by_us(path: Path) -> list[tuple[Any, ...]]:
    with Capture(path) as capture:
        return [
            (each.frame, (call_id(packet_of(each).payload) or b"").decode(),
             each.seconds + each.microseconds / 1_000_000, each.src_ip)
            for each in capture.messages()
        ]  # fmt: skip


def test_every_link_type_and_tunnel_is_read_as_tshark_reads_it(tshark: str, tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"
    path.write_bytes(pcapng([(link, data) for _, link, data in FRAMES]))
    ours, theirs = found_by_us(path), shown_by(tshark, path)
    assert len(ours) == len(FRAMES)
    names = {number: name for number, (name, _, _) in enumerate(FRAMES, 1)}
    missed = {names[frame] for frame, *_ in ours} - {names[frame] for frame, *_ in theirs}
    assert missed == NOT_READ
    assert [each for each in ours if names[each[0]] not in NOT_READ] == theirs


def test_sip_in_streams_is_found_as_tshark_finds_it(tshark: str, tmp_path: Path) -> None:
    """Over TCP, in segments out of order; over WebSocket, masked, in fragments and cut."""
    up = REQUEST + b"".join(frame(sip(each, transport="WS")) for each in range(4))
    up += fragments(sip(4, transport="WS"))
    down = ANSWER + b"".join(frame(sip(each, transport="WS"), key=b"") for each in range(5, 8))
    there = segments(up, client=True, size=300)
    back = segments(down, client=False, size=300)
    handshake = [
        *segments(up[: len(REQUEST)], client=True), *segments(down[: len(ANSWER)], client=False),
    ]  # fmt: skip
    tcp = tcp_segments(b"".join(sip(each, transport="TCP") for each in range(8, 14)), 250)
    tcp[2], tcp[3] = tcp[3], tcp[2]
    path = tmp_path / "x.pcapng"
    frames = [*handshake, *there, *back, *tcp]
    path.write_bytes(pcapng([(101, bytes(each)) for each in frames]))
    ours = sorted(call for _, call, *_ in found_by_us(path))
    theirs = sorted(call for _, call, *_ in shown_by(tshark, path, *REASSEMBLE))
    assert ours == sorted(f"call-{each}" for each in range(14))
    assert theirs == ours


def tcp_segments(stream: bytes, size: int) -> list[Packet]:
    ip = IP(src="192.0.2.5", dst="192.0.2.1")
    return [
        ip / TCP(sport=5060, dport=5060, flags="PA", seq=1 + at) / Raw(stream[at : at + size])
        for at in range(0, len(stream), size)
    ]
