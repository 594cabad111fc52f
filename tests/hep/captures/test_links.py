"""SIP behind link headers, tags and tunnels."""

import ipaddress
import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import ARP, GRE, Dot1Q
from scapy.packet import Raw

from hep.captures import links
from hep.captures.capture_file import UNKNOWN_INTERFACE, Frame
from hep.captures.finder import Finder, Message
from hep.captures.pcap import Capture, losses, skipped

from .encapsulated import ETHERNET, block, enhanced, frames, interface, pcapng, sctp, section, sip

FRAMES = frames()


def found_in(*frames: tuple[int, bytes]) -> tuple[list[Message], Finder]:
    finder = Finder()
    found = [each for link, data in frames for each in finder.add(Frame(link, 5, 0, data))]
    return found + finder.finish(), finder


@pytest.mark.parametrize("number", range(len(FRAMES)), ids=[name for name, _, _ in FRAMES])
def test_sip_is_found_behind(number: int) -> None:
    name, link_type, data = FRAMES[number]
    (message,), finder = found_in((link_type, data))
    assert f"Call-ID: call-{number}\r\n".encode() in message.data
    assert (message.src_port, message.dst_port) == (5060, 5060)
    assert message.src_ip in ("192.0.2.5", "2001:db8::5")
    assert message.transport == {"SCTP": "sctp", "TCP": "tcp"}.get(name, "udp")
    assert finder.counters == {"frames": 1, "sip": 1}
    assert not finder.unread


@pytest.mark.parametrize("number", range(len(FRAMES)), ids=[name for name, _, _ in FRAMES])
def test_a_frame_cut_anywhere_is_counted_and_raises_nothing(number: int) -> None:
    _, link_type, data = FRAMES[number]
    start = data.index(b"OPTIONS")
    for size in range(len(data.rstrip(b"\0"))):
        found, finder = found_in((link_type, data[:size]))
        assert found == []
        if size >= start:
            assert losses_of(finder), size


def losses_of(finder: Finder) -> int:
    return finder.counters["cut"] + finder.counters["incomplete"]


def test_an_ip_fragment_within_a_tunnel_is_reassembled() -> None:
    inner = IP(src="192.0.2.5", dst="192.0.2.1", id=9) / UDP(sport=5060) / Raw(sip(1) + b"x" * 3000)
    outer = IP(src="10.0.0.1", dst="10.0.0.2", id=7)
    parts = [bytes(outer / GRE() / part) for part in fragment(inner, fragsize=1200)]
    (message,), _ = found_in(*((101, part) for part in parts))
    assert message.data == sip(1) + b"x" * 3000
    whole = IP(src="10.0.0.1", dst="10.0.0.2", id=8) / GRE() / inner
    (message,), _ = found_in(*((101, bytes(part)) for part in fragment(whole, fragsize=1200)))
    assert message.data == sip(1) + b"x" * 3000


def test_sip_on_the_port_of_a_tunnel_is_sip() -> None:
    for port in links.TUNNELS_BY_PORT:
        data = bytes(IP(src="192.0.2.5", dst="192.0.2.1") / UDP(dport=port) / Raw(sip(port)))
        assert [each.dst_port for each in found_in((101, data))[0]] == [port]


def test_sctp_fragments_are_joined_and_retransmissions_ignored() -> None:
    data = sip(1, transport="SCTP") + b"y" * 900
    parts = [
        sctp(data[:500], tsn=2**32 - 1, ends=0), sctp(data[500:900], tsn=0, begins=0, ends=0),
        sctp(data[900:], tsn=1, begins=0),
    ]  # fmt: skip
    order = [parts[2], parts[0], parts[0], parts[1], parts[2]]
    (message,), finder = found_in(*((101, bytes(part)) for part in order))
    assert (message.data, message.transport) == (data, "sctp")
    whole = bytes(sctp(data, tsn=7))
    assert len(found_in((101, whole), (101, whole), (101, bytes(sctp(data, tsn=8))))[0]) == 2
    _, finder = found_in((101, bytes(parts[0])), (101, bytes(parts[1])))
    assert finder.counters["incomplete"] == 1


@pytest.mark.parametrize(
    ("link_type", "frame", "kind"),
    [
        (127, b"\0\0\x08\0", "of link type 127 (802.11 with radiotap)"),
        (147, b"", "of link type 147"),
        (1, bytes(ETHERNET / Raw(b""))[:12] + b"\x22\xf3" + bytes(40), "in TRILL"),
        (1, bytes(ETHERNET / Raw(b""))[:12] + b"\x88\xe5" + bytes(40), "encrypted by MACsec"),
        (101, bytes(IP(proto=50) / Raw(bytes(40))), "encrypted by ESP"),
        (101, bytes(IP(proto=115) / Raw(bytes(40))), "in L2TPv3"),
        (1, bytes(ETHERNET) + bytes.fromhex("00018100" * 40), links.TOO_DEEP),
    ],
)
def test_what_is_not_read_is_counted_by_kind(link_type: int, frame: bytes, kind: str) -> None:
    frame = frame.replace(b"\x90\x00\x00\x01", b"\x81\x00\x00\x01", 1)
    found, finder = found_in((link_type, frame))
    assert found == []
    assert finder.unread == {kind: 1}


def test_a_tunnel_in_a_tunnel_without_end_is_given_up() -> None:
    data = b"".join(bytes(IP(src="1.1.1.1", dst="2.2.2.2", proto=4, len=0)) for _ in range(100))
    found, finder = found_in((101, data))
    assert found == []
    assert finder.unread == {links.TOO_DEEP: 1}


def test_what_is_no_sip_is_no_loss(tmp_path: Path) -> None:
    arp = bytes(ETHERNET / Dot1Q() / ARP())
    esp = bytes(IP(proto=50) / Raw(bytes(40)))
    (tmp_path / "x").write_bytes(pcapng([(1, arp), (101, esp), *[(101, FRAMES[-1][2])]]))
    with Capture(tmp_path / "x") as capture:
        assert len(list(capture.messages())) == 1
        assert losses(capture) == {}
        assert skipped(capture) == {"not SIP": 2, "encrypted by ESP": 1}


@given(
    st.sampled_from(FRAMES),
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=5),
    st.integers(0, 500),
    st.sampled_from([None, *links.LINKS]),
)
def test_no_damage_to_a_frame_raises(frame, changes, size, link_type) -> None:
    data = bytearray(frame[2][:size])
    for at, byte in changes:
        if at < len(data):
            data[at] = byte
    found, _ = found_in((frame[1] if link_type is None else link_type, bytes(data)))
    for message in found:
        ipaddress.ip_address(message.src_ip)


@given(st.sampled_from([*links.TAGS, *links.TUNNELS]), st.binary(max_size=80), st.integers(0, 90))
def test_no_bytes_are_too_much_for_a_header(number: int, data: bytes, start: int) -> None:
    tables = (links.TAGS, links.TUNNELS, links.LINKS, links.TUNNELS_BY_PORT)
    for read in filter(None, (table.get(number) for table in tables)):
        _, at = read(data, start)
        assert at >= 0


# pcapng.


UDP_SIP = bytes(IP(src="192.0.2.5", dst="192.0.2.1") / UDP(sport=5060, dport=5060) / Raw(sip(1)))


def times(path: Path, content: bytes) -> tuple[list[tuple[int, int]], Counter[str]]:
    path.write_bytes(content)
    with Capture(path) as capture:
        found = [(each.seconds, each.microseconds) for each in capture.messages()]
        return found, capture.unread


def test_each_interface_has_its_own_unit_and_offset_of_time(tmp_path: Path) -> None:
    content = (
        section()
        + interface(101)
        + interface(101, (9, b"\x09"))
        + interface(101, (9, b"\x8a"), (14, struct.pack("<q", 100)))
        + interface(101, (14, struct.pack("<q", -1000)))
        + interface(101, (9, b"\x00"))
        + enhanced(0, 1_700_000_000_250_000, UDP_SIP)
        + enhanced(1, 1_700_000_000_250_000_000, UDP_SIP)
        + enhanced(2, 1_700_000_000 * 1024 + 512, UDP_SIP)
        + enhanced(3, 1_700_000_000_000_001, UDP_SIP)
        + enhanced(4, 1_700_000_000, UDP_SIP)
        + enhanced(3, 5, UDP_SIP)
    )
    assert times(tmp_path / "x", content)[0] == [
        (1_700_000_000, 250_000), (1_700_000_000, 250_000), (1_700_000_100, 500_000),
        (1_699_999_000, 1), (1_700_000_000, 0), (0, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_interfaces_are_counted_anew_in_each_section(tmp_path: Path, order: str) -> None:
    tick = 1_700_000_000_000_000_000
    content = (
        section() + interface(1) + interface(147)
        + section(order) + interface(101, (9, b"\x09"), order=order)
        + enhanced(0, tick, UDP_SIP, order)
        + enhanced(7, tick, UDP_SIP, order)
    )  # fmt: skip
    assert times(tmp_path / "x", content) == ([(1_700_000_000, 0)], {UNKNOWN_INTERFACE: 1})


def test_a_simple_packet_block_has_the_time_of_the_frame_before(tmp_path: Path) -> None:
    simple = struct.pack("<I", len(UDP_SIP)) + UDP_SIP
    content = section() + interface(101) + enhanced(0, 1_700_000_000_000_000, UDP_SIP)
    content += block(3, simple)
    assert times(tmp_path / "x", content)[0] == [(1_700_000_000, 0)] * 2


def test_secrets_and_unknown_blocks_at_the_end_are_no_damage(tmp_path: Path) -> None:
    content = section() + interface(101) + enhanced(0, 1_700_000_000_000_000, UDP_SIP)
    content += block(10, struct.pack("<II", 0x544C534B, 3) + b"key")
    content += block(0x0BAD, b"what")
    assert times(tmp_path / "x", content)[0] == [(1_700_000_000, 0)]
