"""Frames of all link types and tunnels that are read, built with scapy; and pcapng files."""

import struct
from collections.abc import Callable
from typing import Any

from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.contrib.nsh import NSH
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import (
    GRE,
    GRE_PPTP,
    LLC,
    SNAP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
)
from scapy.layers.l2tp import L2TP
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


ETHERNET_88E7 = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x88E7)


def sip(number: int, *, transport: str = "UDP") -> bytes:
    """A request that tshark takes too."""
    return (
        "OPTIONS sip:b@example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} h;branch=z9hG4bK{number}\r\n"
        f"From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: call-{number}\r\nCSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def outer(**fields: Any) -> Packet:
    return ETHERNET / IP(src="10.0.0.1", dst="10.0.0.2", **fields)


def outer_udp(port: int) -> Packet:
    return outer() / UDP(sport=50_000, dport=port)


def sctp(payload: bytes, *, tsn: int = 1, begins: int = 1, ends: int = 1, **fields: Any) -> Packet:
    chunk = SCTPChunkData(beginning=begins, ending=ends, tsn=tsn, data=payload)
    return IP(src="192.0.2.5", dst="192.0.2.1") / SCTP(sport=5060, dport=5060, **fields) / chunk


def raw(header: str) -> Raw:
    return Raw(bytes.fromhex(header))


BY_LINK_TYPE: dict[str, tuple[int, Callable[[Packet], Packet]]] = {
    "BSD loopback": (0, lambda ip: Loopback(type=2) / ip),
    "Ethernet": (1, lambda ip: ETHERNET / ip),
    "802.3 with SNAP": (1, lambda ip: Dot3() / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP() / ip),
    "VLAN": (1, lambda ip: ETHERNET / Dot1Q(vlan=5) / ip),
    "QinQ": (1, lambda ip: ETHERNET / Dot1AD(vlan=5) / Dot1Q(vlan=6) / ip),
    "PPP": (9, lambda ip: PPP() / ip),
    "PPP on a serial line": (50, lambda ip: HDLC() / PPP(proto=0x21) / ip),
    "raw IP": (101, lambda ip: ip),
    "Cisco HDLC": (104, lambda ip: raw("0f000800") / ip),
    "frame relay": (107, lambda ip: raw("184103cc") / ip),
    "OpenBSD loopback": (108, lambda ip: raw("00000002") / ip),
    "OpenBSD enc": (109, lambda ip: raw("0200000000000000 00000000") / ip),
    "Linux cooked": (113, lambda ip: CookedLinux(proto=0x800) / ip),
    "VLAN in Linux cooked": (113, lambda ip: CookedLinux(proto=0x8100) / Dot1Q(type=0x800) / ip),
    "IPv4": (228, lambda ip: ip),
    "Linux cooked 2": (276, lambda ip: CookedLinuxV2(proto=0x800) / ip),
    "VLAN in Linux cooked 2": (
        276, lambda ip: CookedLinuxV2(proto=0x8100) / Dot1Q(vlan=5, type=0x800) / ip,
    ),
    "QinQ in Linux cooked 2": (
        276,
        lambda ip: CookedLinuxV2(proto=0x88A8) / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=0x800) / ip,
    ),
    "netfilter log": (239, lambda ip: raw("02000000 0800 0100 08000300") / _nflog(ip)),
    "MPLS": (1, lambda ip: ETHERNET / MPLS(label=16, s=0) / MPLS(label=17, s=1) / ip),
    "Ethernet in MPLS": (
        1, lambda ip: ETHERNET / MPLS(label=100, s=1) / raw("00000000") / ETHERNET / ip,
    ),
    "PPPoE": (1, lambda ip: ETHERNET / PPPoE(sessionid=1) / PPP(proto=0x21) / ip),
    "PPPoE in a VLAN": (
        1, lambda ip: ETHERNET / Dot1Q(vlan=7) / PPPoE(sessionid=1) / PPP(proto=0x21) / ip,
    ),
    "GRE": (1, lambda ip: outer(proto=47) / GRE() / ip),
    "GRE with key and sequence number": (
        1, lambda ip: outer() / GRE(chksum_present=1, key_present=1, seqnum_present=1) / ip,
    ),
    "Ethernet in GRE": (1, lambda ip: outer() / GRE(proto=0x6558) / ETHERNET / ip),
    "PPTP": (
        1,
        lambda ip: outer()
        / GRE_PPTP(seqnum_present=1, acknum_present=1)
        / PPP(proto=0x21)
        / ip,
    ),
    "ERSPAN 1": (1, lambda ip: outer() / GRE(proto=0x88BE) / ETHERNET / ip),
    "ERSPAN 2": (
        1,
        lambda ip: outer()
        / GRE(proto=0x88BE, seqnum_present=1, sequence_number=1)
        / ERSPAN_II()
        / ETHERNET
        / ip,
    ),
    "ERSPAN 3": (
        1,
        lambda ip: outer()
        / GRE(proto=0x22EB, seqnum_present=1, sequence_number=1)
        / ERSPAN_III()
        / ETHERNET
        / ip,
    ),
    "IP in IP": (1, lambda ip: outer(proto=4) / ip),
    "IP in IP in IP": (1, lambda ip: outer(proto=4) / IP(src="10.1.0.1", dst="10.1.0.2") / ip),
    "IPv4 in IPv6": (1, lambda ip: ETHERNET / IPv6(src="fe80::1", dst="fe80::2", nh=4) / ip),
    "EtherIP": (1, lambda ip: outer(proto=97) / raw("3000") / ETHERNET / ip),
    "MPLS in IP": (1, lambda ip: outer(proto=137) / MPLS(label=16, s=1) / ip),
    "authentication header": (
        1,
        lambda ip: ETHERNET
        / IP(src="192.0.2.5", dst="192.0.2.1", proto=51)
        / raw("1104 0000 00000001 00000001 000000000000000000000000")
        / ip.payload,
    ),
    "VXLAN": (1, lambda ip: outer_udp(4789) / VXLAN(vni=5) / ETHERNET / ip),
    "VLAN in VXLAN": (
        1, lambda ip: outer_udp(4789) / VXLAN(vni=5) / ETHERNET / Dot1Q(vlan=5) / ip,
    ),
    "VXLAN-GPE": (1, lambda ip: outer_udp(4790) / raw("0c000001 00000500") / ip),
    "Geneve": (1, lambda ip: outer_udp(6081) / GENEVE(vni=5, proto=0x6558) / ETHERNET / ip),
    "GTP-U": (1, lambda ip: outer_udp(2152) / GTP_U_Header(teid=1, gtp_type=255) / ip),
    "GTP-U with an extension": (
        1,
        lambda ip: outer_udp(2152)
        / raw(f"34ff{len(ip) + 8:04x}00000001 00000085 01100100")
        / ip,
    ),
    "MPLS in UDP": (1, lambda ip: outer_udp(6635) / MPLS(label=16, s=1) / ip),
    "TZSP": (1, lambda ip: outer_udp(37008) / raw("01000001 01") / ETHERNET / ip),
    "L2TP": (1, lambda ip: outer_udp(1701) / L2TP(tunnel_id=1) / raw("ff030021") / ip),
    "L2TP with an offset": (
        1, lambda ip: outer_udp(1701) / raw("0202 0001 0001 0002 ffff ff030021") / ip,
    ),
    "PPPoE as link type": (51, lambda ip: PPPoE(sessionid=1) / PPP(proto=0x21) / ip),
    "OpenBSD pflog": (117, lambda ip: Raw(_pflog()) / ip),
    "IP over IEEE 1394": (138, lambda ip: raw("00" * 16 + "0800") / ip),
    "PPP of pppd": (166, lambda ip: raw("01030021") / ip),
    "PPP with direction": (204, lambda ip: raw("01ff030021") / ip),
    "VXLAN of Linux": (1, lambda ip: outer_udp(8472) / raw("0800000000000500") / ETHERNET / ip),
    "provider backbone bridge": (
        1, lambda ip: ETHERNET_88E7 / raw("00000005") / ETHERNET / ip,
    ),
    "VN-Tag": (1, lambda ip: Ether(type=0x8926) / raw("00000000 0800") / ip),
    "Cisco metadata": (1, lambda ip: Ether(type=0x8909) / raw("010100010005 0800") / ip),
    "NSH": (1, lambda ip: ETHERNET / NSH(mdtype=1, nextproto=1) / ip),
}  # fmt: skip
"""Link types and tunnels: a link type, and a frame of it for a packet of IPv4."""

IPV6_BY_LINK_TYPE: dict[str, tuple[int, Callable[[Packet], Packet]]] = {
    "IPv6": (229, lambda ip: ip),
    "IPv6 in MPLS": (1, lambda ip: ETHERNET / MPLS(label=16, s=1) / ip),
    "IPv6 in PPPoE": (1, lambda ip: ETHERNET / PPPoE(sessionid=1) / PPP(proto=0x57) / ip),
    "6in4": (1, lambda ip: outer(proto=41) / ip),
    "IPv6 in GRE": (1, lambda ip: outer() / GRE(proto=0x86DD) / ip),
    "IPv6 in Geneve": (1, lambda ip: outer_udp(6081) / GENEVE(vni=5, proto=0x86DD) / ip),
    "IPv6 in Linux cooked 2": (276, lambda ip: CookedLinuxV2(proto=0x86DD) / ip),
}
"""As `BY_LINK_TYPE`, for a packet of IPv6."""


def _pflog() -> bytes:
    """A header of OpenBSD's packet filter: length, family, action, reason, interface, rules."""
    header = bytes([61, 2, 0, 0]) + b"em0".ljust(16, b"\0") + bytes(16 + 25)
    return header.ljust(64, b"\0")


def _nflog(ip: Packet) -> Raw:
    data = bytes(ip)
    return Raw(struct.pack("<HH", len(data) + 4, 9) + data + bytes(-len(data) % 4))


def frames() -> list[tuple[str, int, bytes]]:
    """Name, link type and bytes of a frame of each kind; the Call-ID has the number, from 0."""
    found = []
    for name, (link_type, build) in BY_LINK_TYPE.items():
        ip = IP(src="192.0.2.5", dst="192.0.2.1") / UDP(sport=5060, dport=5060)
        found.append((name, link_type, bytes(build(ip / Raw(sip(len(found)))))))
    for name, (link_type, build) in IPV6_BY_LINK_TYPE.items():
        ip = IPv6(src="2001:db8::5", dst="2001:db8::1") / UDP(sport=5060, dport=5060)
        found.append((name, link_type, bytes(build(ip / Raw(sip(len(found)))))))
    found.append(("SCTP", 101, bytes(sctp(sip(len(found), transport="SCTP")))))
    tcp = IP(src="192.0.2.5", dst="192.0.2.1") / TCP(sport=5060, dport=5060, seq=1, flags="PA")
    found.append(("TCP", 101, bytes(tcp / Raw(sip(len(found), transport="TCP")))))
    return found


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A block of a pcapng file."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    """The header of a section."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int, *options: tuple[int, bytes], order: str = "<") -> bytes:
    """A description of an interface with options."""
    body = struct.pack(order + "HHI", link_type, 0, 262_144)
    for code, data in options:
        body += struct.pack(order + "HH", code, len(data)) + data + bytes(-len(data) % 4)
    return block(1, body + (bytes(4) if options else b""), order)


def enhanced(number: int, ticks: int, frame: bytes, order: str = "<") -> bytes:
    """A packet of an interface, with its time in ticks."""
    about = struct.pack(
        order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
    )
    return block(6, about + frame, order)


def pcapng(frames: list[tuple[int, bytes]]) -> bytes:
    """A file with an interface for each link type; the frames are a second apart."""
    links = list(dict.fromkeys(link for link, _ in frames))
    out = [section(), *map(interface, links)]
    for number, (link, frame) in enumerate(frames):
        out.append(enhanced(links.index(link), (1_700_000_000 + number) * 1_000_000, frame))
    return b"".join(out)
