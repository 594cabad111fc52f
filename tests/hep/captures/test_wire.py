"""Headers written and read by hand, with scapy as the judge of both."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1Q, Ether, Loopback
from scapy.packet import Packet, Raw

from hep.captures import links, wire

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
PORT = st.integers(0, 0xFFFF)
IPV4, IPV6 = st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)
UDP_OVER_4 = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=5, dport=6) / Raw(b"hello")
UDP_OVER_6 = IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=5, dport=6) / Raw(b"hello")


def read(link_type: int, frame: Packet | bytes) -> wire.Segment | None:
    packet = links.ip(link_type, bytes(frame), Counter())
    return wire.segment(packet) if packet is not None and packet.fragment is None else None


@given(st.tuples(IPV4, IPV4) | st.tuples(IPV6, IPV6), PORT, PORT, st.binary(max_size=200))
def test_it_makes_no_difference_whether_scapy_builds_a_frame(ips, src_port, dst_port, payload):
    frame = wire.udp_frame(*ips, src_port, dst_port, payload)
    layer = Ether(frame)
    inner = layer[IP] if len(ips[0]) == 4 else layer[IPv6]
    del inner[UDP].chksum, inner[UDP].len
    if len(ips[0]) == 4:
        del inner.chksum, inner.len, inner.ihl
    else:
        del inner.plen
    # Whatever a port makes of the payload, it is the payload.
    inner[UDP].remove_payload()
    assert bytes(Ether(**MACS) / (inner / Raw(payload))) == frame
    assert read(1, frame) == wire.Segment(17, *ips, src_port, dst_port, payload)


@pytest.mark.parametrize("payload", [b"", b"\xff\xff", b"x", bytes(65_507), b"\xff" * 65_507])
def test_checksums_of_odd_lengths_and_of_nothing_are_right(payload: bytes) -> None:
    frame = wire.udp_frame(bytes(4), bytes(4), 0, 0, payload)
    built = IP(src="0.0.0.0", dst="0.0.0.0", id=0, flags="DF") / UDP(sport=0, dport=0)
    assert bytes(built / Raw(payload)) == frame[14:]


@pytest.mark.parametrize(
    ("link_type", "frame"),
    [
        (1, Ether(**MACS) / UDP_OVER_4),
        (1, Ether(**MACS) / Dot1Q(vlan=5) / UDP_OVER_4),
        (1, Ether(**MACS, type=0x88A8) / Dot1Q(vlan=1) / Dot1Q(vlan=5) / UDP_OVER_6),
        (101, UDP_OVER_4),
        (12, UDP_OVER_6),
        (228, UDP_OVER_4),
        (229, UDP_OVER_6),
        (113, CookedLinux(proto=0x800) / UDP_OVER_4),
        (276, CookedLinuxV2(proto=0x86DD) / UDP_OVER_6),
        (0, Loopback(type=2) / UDP_OVER_4),
        (108, b"\0\0\0\x18" + bytes(UDP_OVER_6)),
        (101, IP(src="192.0.2.1", dst="192.0.2.2", options=b"\1\1\1\0") / UDP_OVER_4[UDP]),
        (101, bytes(UDP_OVER_4) + b"padding"),
        (101, bytes(UDP_OVER_4)[:2] + b"\0\0" + bytes(UDP_OVER_4)[4:]),
    ],
    ids=[
        "ethernet", "vlan", "two vlans", "raw", "raw 12", "ipv4", "ipv6", "cooked", "cooked 2",
        "null", "loop", "options", "padded", "no length",
    ],
)  # fmt: skip
def test_a_datagram_is_found_behind_any_link_header(link_type: int, frame: Packet | bytes) -> None:
    found = read(link_type, frame)
    assert found is not None
    assert (found.protocol, found.src_port, found.dst_port) == (17, 5, 6)
    assert (found.payload, found.missing) == (b"hello", 0)
    assert found.src in (bytes([192, 0, 2, 1]), bytes.fromhex("20010db8") + bytes(11) + b"\1")


@pytest.mark.parametrize(
    "extension",
    [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrRouting(addresses=["2001:db8::3"]),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(),
        IPv6ExtHdrFragment(offset=0, m=0, id=7),
    ],
    ids=["hop by hop", "routing", "destination", "two", "whole fragment"],
)
def test_ipv6_extension_headers_are_passed_over(extension: Packet) -> None:
    frame = IPv6(src="2001:db8::1", dst="2001:db8::2") / extension / UDP_OVER_6[UDP]
    found = read(101, frame)
    assert found is not None
    assert found.payload == b"hello"


def test_a_tcp_segment_has_its_sequence_number_and_flags() -> None:
    tcp = TCP(sport=5, dport=6, seq=0xFFFFFFFE, flags="SA", options=[("MSS", 1400)])
    found = read(101, IP(src="192.0.2.1", dst="192.0.2.2") / tcp / Raw(b"data"))
    assert found is not None
    assert (found.protocol, found.seq, found.payload) == (6, 0xFFFFFFFE, b"data")
    assert found.flags & wire.SYN


def test_bytes_truncated_by_the_capture_are_counted() -> None:
    found = read(101, bytes(UDP_OVER_4)[:-2])
    assert found is not None
    assert (found.payload, found.missing) == (b"hel", 2)
    tcp = IP(src="192.0.2.1", dst="192.0.2.2") / TCP() / Raw(b"hello")
    found = read(101, bytes(tcp)[:-2])
    assert found is not None
    assert (found.payload, found.missing) == (b"hel", 2)


def test_fragments_have_their_position() -> None:
    big = IP(src="192.0.2.1", dst="192.0.2.2", id=9) / UDP() / Raw(bytes(3000))
    parts = [wire.ip(bytes(part), 0) for part in fragment(big, fragsize=1000)]
    assert [part.fragment for part in parts if part] == [
        wire.Fragment(9, 0, True), wire.Fragment(9, 1000, True), wire.Fragment(9, 2000, True),
        wire.Fragment(9, 3000, False),
    ]  # fmt: skip
    six = IPv6() / IPv6ExtHdrFragment(id=9) / UDP() / Raw(bytes(2000))
    parts = [wire.ip(bytes(part), 0) for part in fragment6(six, 1280)]
    assert [part.fragment for part in parts if part] == [
        wire.Fragment(9, 0, True), wire.Fragment(9, 1232, False),
    ]  # fmt: skip


@given(
    st.sampled_from([0, 1, 12, 101, 108, 113, 228, 276, 9999]),
    st.sampled_from([UDP_OVER_4, UDP_OVER_6, Ether(**MACS) / Dot1Q() / UDP_OVER_4, Raw(b"")]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    st.integers(0, 80),
)
def test_decoding_damaged_frames_never_raises(link_type, frame, changes, size) -> None:
    data = bytearray(bytes(frame)[:size])
    for at, byte in changes:
        if at < len(data):
            data[at] = byte
    found = read(link_type, bytes(data))
    assert found is None or found.missing >= 0


@given(st.sampled_from([0, 1, 101, 113, 276]), st.binary(max_size=100))
def test_decoding_any_bytes_never_raises(link_type: int, data: bytes) -> None:
    read(link_type, data)
    read(link_type, b"\x45" + data)
    read(link_type, b"\x60" + data)
