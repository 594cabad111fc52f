"""Finds the IP packet in a captured frame: link types, tags and tunnels. Pure.

Numbers of link types: https://www.tcpdump.org/linktypes.html. What is found in a header is the
EtherType of the content and the offset where it starts. Decoding never raises. A frame whose
content is not read is counted by kind.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from hep.captures import wire
from hep.captures.wire import ETHERNET, UDP, Ip

MOST_HEADERS: Final = 32
"""Maximum number of tags, labels and tunnels in a frame; networks have fewer than ten."""

TOO_DEEP: Final = f"in more than {MOST_HEADERS} headers"
"""Kind of a frame that is not read."""

ENCRYPTED: Final = {0x88E5: "encrypted by MACsec", 50: "encrypted by ESP"}
"""Kinds by EtherType or IP protocol of frames that only their ends can read."""

OF_LINK_TYPE: Final = "of link type "
"""Start of the kind of a frame whose link type is not read; its number and name follow."""

_IPV4: Final = 0x0800
_IPV6: Final = 0x86DD
_BRIDGED: Final = 0x6558
_MPLS: Final = 0x8847
_PPP: Final = 0x880B
_PPPOE: Final = 0x8864
_NSH: Final = 0x894F
_ANY_IP: Final = -1
"""In place of an EtherType: IP of the version that its first byte says."""
_NO_IP: Final = -2
"""In place of an EtherType: a protocol that carries no IP."""
_LONGEST_LENGTH: Final = 0x05DC
"""The two bytes before the payload of an Ethernet frame are its length up to this value."""

Content = tuple[int, int]
"""EtherType of a content and the offset of its first byte."""

_NOTHING: Final = (_NO_IP, 0)

NOT_READ: Final = {
    0x22F3: "in TRILL", 0x4305: "in B.A.T.M.A.N.", 0x8903: "in FabricPath",
    33: "in DCCP", 108: "compressed by IPComp", 115: "in L2TPv3", 136: "in UDP-Lite",
}  # fmt: skip
"""Kinds by EtherType or IP protocol of contents that may hold IP and are not read."""

_LINK_NAMES: Final = {
    6: "Token Ring", 100: "ATM", 105: "802.11", 119: "802.11 with Prism", 123: "ATM",
    127: "802.11 with radiotap", 163: "802.11 with AVS", 189: "USB", 192: "PPI", 220: "USB",
    249: "USB", 253: "netlink", 252: "exported PDUs",
}  # fmt: skip


def ip(link_type: int, frame: bytes, unread: Counter[str]) -> Ip | None:
    """Find and decode the IP packet in a frame, the outer one of a tunnel.

    Args:
        link_type: LINKTYPE number of the frame.
        frame: the captured bytes.
        unread: counter for kinds of frames that are not read.

    Returns:
        the packet; None if there is none or its headers are incomplete or invalid.
    """
    if link_type == ETHERNET and frame[12:14] == b"\x08\x00":
        return wire.ip(frame, 14)
    read = LINKS.get(link_type)
    if read is None:
        name = _LINK_NAMES.get(link_type)
        unread[f"{OF_LINK_TYPE}{link_type}" + (f" ({name})" if name else "")] += 1
        return None
    return _behind(read(frame, 0), frame, unread)


def inner(packet: Ip, unread: Counter[str]) -> Ip | None:
    """Find and decode the packet in a tunnel.

    Args:
        packet: a whole IP packet. It is a tunnel by its protocol, or by the port and the header of
            its UDP datagram.
        unread: counter for kinds of contents that are not read.

    Returns:
        the packet in the tunnel, whose truncated bytes are those of the tunnel too; None if the
        packet is no tunnel or its content is not read.
    """
    protocol, data = packet.protocol, packet.payload
    if protocol == UDP:
        # Nearly all datagrams end here.
        read = TUNNELS_BY_PORT.get(int.from_bytes(data[2:4]))
        content = read(data, 8) if read is not None else _NOTHING
    elif (by_protocol := TUNNELS.get(protocol)) is not None:
        content = by_protocol(data, 0)
    elif protocol == _AUTHENTICATION and len(data) >= 8:
        start = (data[1] + 2) * 4
        return packet._replace(protocol=data[0], payload=data[start:])
    else:
        kind = NOT_READ.get(protocol) or ENCRYPTED.get(protocol)
        if kind is not None:
            unread[kind] += 1
        return None
    return _behind(content, data, unread) if content is not _NOTHING else None


def is_tunnel(packet: Ip) -> bool:
    """Whether `inner` is worth a call: for TCP, SCTP and nearly all of UDP it is not."""
    if packet.protocol == UDP:
        return int.from_bytes(packet.payload[2:4]) in TUNNELS_BY_PORT
    return packet.protocol not in (wire.TCP, wire.SCTP)


def _behind(content: Content, data: bytes, unread: Counter[str]) -> Ip | None:
    """The IP packet behind tags and labels."""
    for _ in range(MOST_HEADERS):
        ethertype, start = content
        if ethertype in (_IPV4, _IPV6, _ANY_IP):
            return wire.ip(data, start)
        read = TAGS.get(ethertype)
        if read is None:
            if kind := NOT_READ.get(ethertype) or ENCRYPTED.get(ethertype):
                unread[kind] += 1
            return None
        content = read(data, start)
    unread[TOO_DEEP] += 1
    return None


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2])


def _byte(data: bytes, at: int) -> int:
    return data[at] if at < len(data) else 0


def _ethernet(data: bytes, at: int) -> Content:
    ethertype = _u16(data, at + 12)
    if ethertype > _LONGEST_LENGTH:
        return ethertype, at + 14
    return _llc(data, at + 14)


def _llc(data: bytes, at: int) -> Content:
    """LLC with SNAP (RFC 1042); other LLC carries no IP."""
    if data[at : at + 6] == b"\xaa\xaa\x03\0\0\0":
        return _u16(data, at + 6), at + 8
    return _NOTHING


def _tag(data: bytes, at: int) -> Content:
    """A VLAN tag (IEEE 802.1Q)."""
    ethertype = _u16(data, at + 2)
    return (ethertype, at + 4) if ethertype > _LONGEST_LENGTH else _llc(data, at + 4)


def _mpls(data: bytes, at: int) -> Content:
    """Labels up to the bottom of the stack (RFC 3032). They do not say what follows."""
    while at + 4 < len(data):
        at += 4
        if data[at - 2] & 1:
            nibble = data[at] >> 4
            if nibble in (4, 6):
                return _ANY_IP, at
            # A pseudowire: Ethernet behind a control word (RFC 4448), or without one.
            return _BRIDGED, at + 4 if nibble == 0 and data[at : at + 2] == b"\0\0" else at
    return _NOTHING


def _pppoe(data: bytes, at: int) -> Content:
    return _ppp(data, at + 6) if _u16(data, at) == 0x1100 else _NOTHING


_PPP_PROTOCOLS: Final = {0x21: _IPV4, 0x57: _IPV6, 0x31: _BRIDGED, 0x281: _MPLS, 0x283: _MPLS}


def _ppp(data: bytes, at: int) -> Content:
    """PPP (RFC 1661), with or without address and control, and with a short protocol number."""
    if data[at : at + 2] == b"\xff\x03":
        at += 2
    if (protocol := _byte(data, at)) & 1:
        return _PPP_PROTOCOLS.get(protocol, _NO_IP), at + 1
    return _PPP_PROTOCOLS.get(_u16(data, at), _NO_IP), at + 2


def _nsh(data: bytes, at: int) -> Content:
    """A network service header (RFC 8300)."""
    contents = {1: _IPV4, 2: _IPV6, 3: _BRIDGED, 5: _MPLS}
    length = (_byte(data, at + 1) & 0x3F) * 4
    return (contents.get(_byte(data, at + 3), _NO_IP), at + length) if length else _NOTHING


TAGS: Final[Mapping[int, Callable[[bytes, int], Content]]] = {
    0x8100: _tag, 0x88A8: _tag, 0x9100: _tag, 0x9200: _tag, 0x9300: _tag,
    _MPLS: _mpls, 0x8848: _mpls,
    _PPPOE: _pppoe,
    _PPP: _ppp,
    _BRIDGED: _ethernet,
    _NSH: _nsh,
    0x88E7: lambda _, at: (_BRIDGED, at + 4),
    0x8926: lambda data, at: (_u16(data, at + 4), at + 6),
    0x8909: lambda data, at: (_u16(data, at + 6), at + 8),
}  # fmt: skip
"""EtherTypes with another content behind a header: VLAN tags, MPLS, PPPoE, PPP, bridged Ethernet,
NSH, provider backbone bridges (802.1ah), VN-Tag, Cisco metadata."""


def _cooked(data: bytes, at: int) -> Content:
    # Values below the EtherTypes say which kind of frame it is; 4 is LLC.
    protocol = _u16(data, at + 14)
    return _llc(data, at + 16) if protocol == 4 else (protocol, at + 16)


def _cooked_2(data: bytes, at: int) -> Content:
    protocol = _u16(data, at)
    return _llc(data, at + 20) if protocol == 4 else (protocol, at + 20)


def _serial(data: bytes, at: int) -> Content:
    """PPP over a serial line, or Cisco HDLC, which has an EtherType."""
    return _ppp(data, at) if _byte(data, at) == 0xFF else (_u16(data, at + 2), at + 4)


def _frame_relay(data: bytes, at: int) -> Content:
    """Frame relay with a two-byte address (RFC 2427)."""
    if data[at + 2 : at + 6] == b"\x03\0\x80\0":
        return _u16(data, at + 8), at + 10
    contents = {0xCC: _IPV4, 0x8E: _IPV6}
    return contents.get(_byte(data, at + 3), _NO_IP), at + 4


def _nflog(data: bytes, at: int) -> Content:
    """Packets of the Linux netfilter log: attributes, one of which is the packet."""
    at += 4
    while at + 4 <= len(data):
        # In the byte order of the capturing machine, which is little-endian nearly everywhere.
        length, kind = data[at] | data[at + 1] << 8, data[at + 2] | data[at + 3] << 8
        if kind == 9:
            return _ANY_IP, at + 4
        at += max(4, (length + 3) & ~3)
    return _NOTHING


LINKS: Final[Mapping[int, Callable[[bytes, int], Content]]] = {
    # The family before the packet has the byte order of the capturing machine, and its value
    # differs by system. So it is not checked.
    0: lambda _, at: (_ANY_IP, at + 4),
    108: lambda _, at: (_ANY_IP, at + 4),
    ETHERNET: _ethernet,
    9: _ppp,
    50: _serial,
    51: _pppoe,
    104: lambda data, at: (_u16(data, at + 2), at + 4),
    107: _frame_relay,
    109: lambda _, at: (_ANY_IP, at + 12),
    113: _cooked,
    117: lambda data, at: (_ANY_IP, at + ((_byte(data, at) + 3) & ~3)),
    138: lambda data, at: (_u16(data, at + 16), at + 18),
    166: lambda data, at: _ppp(data, at + 2),
    204: lambda data, at: _ppp(data, at + 1),
    239: _nflog,
    276: _cooked_2,
    **dict.fromkeys((12, 14, 101, 228, 229), lambda _, at: (_ANY_IP, at)),
}
"""Link types: BSD loopback (null, loop), Ethernet, PPP, PPP or HDLC on a serial line, PPPoE, Cisco
HDLC, frame relay, OpenBSD enc and pflog, Linux cooked captures (113, 276), IP over IEEE 1394, PPP
of pppd and with direction, nflog, and raw IP."""

_AUTHENTICATION: Final = 51


def _gre(data: bytes, at: int) -> Content:
    """GRE (RFC 2784, RFC 2890), version 1 of PPTP (RFC 2637), and ERSPAN in it."""
    flags, protocol = _u16(data, at), _u16(data, at + 2)
    if flags & 0x4000:
        # Routing, which RFC 2784 removed.
        return _NOTHING
    start = at + 4 + sum(4 for bit in (0x8000, 0x2000, 0x1000, 0x0080) if flags & bit)
    if protocol == 0x88BE:
        # Version 2 has a sequence number in GRE, and a header of its own.
        return _BRIDGED, start + 8 if flags & 0x1000 else start
    if protocol == 0x22EB:
        # Version 3: the last bit says whether eight bytes more follow.
        return _BRIDGED, start + (20 if _byte(data, start + 11) & 1 else 12)
    return protocol, start


TUNNELS: Final[Mapping[int, Callable[[bytes, int], Content]]] = {
    4: lambda _, at: (_IPV4, at),
    94: lambda _, at: (_IPV4, at),
    41: lambda _, at: (_IPV6, at),
    47: _gre,
    97: lambda _, at: (_BRIDGED, at + 2),
    137: lambda _, at: (_MPLS, at),
    143: lambda _, at: (_BRIDGED, at),
}
"""Tunnels by IP protocol: IP in IP (RFC 2003, RFC 2473), IPv6 (6in4), GRE, EtherIP, MPLS in IP,
Ethernet in IPv6 segments (RFC 8986)."""


def _vxlan(data: bytes, at: int) -> Content:
    """VXLAN (RFC 7348), with a group (flag 0x80) or with the number of a protocol (0x04, GPE)."""
    flags = _byte(data, at)
    if flags & 0x78 != 0x08:
        return _NOTHING
    contents = {1: _IPV4, 2: _IPV6, 3: _BRIDGED, 4: _NSH}
    kind = contents.get(_byte(data, at + 3), _NO_IP) if flags & 0x04 else _BRIDGED
    return kind, at + 8


def _geneve(data: bytes, at: int) -> Content:
    """Geneve (RFC 8926)."""
    protocol = _u16(data, at + 2)
    if _byte(data, at) >> 6 or protocol not in (_BRIDGED, _IPV4, _IPV6, _MPLS):
        return _NOTHING
    return protocol, at + 8 + (_byte(data, at) & 0x3F) * 4


def _gtp(data: bytes, at: int) -> Content:
    """User data of GTP version 1 (3GPP TS 29.281), which carries the SIP of mobile phones."""
    flags = _byte(data, at)
    if flags & 0xF0 != 0x30 or _byte(data, at + 1) != 0xFF:
        return _NOTHING
    if not flags & 0x07:
        return _ANY_IP, at + 8
    following, at = _byte(data, at + 11), at + 12
    while following and flags & 0x04 and at < len(data):
        length = max(4, data[at] * 4)
        following, at = _byte(data, at + length - 1), at + length
    return _ANY_IP, at


def _tzsp(data: bytes, at: int) -> Content:
    """TaZmen sniffer protocol, which routers use to mirror Ethernet."""
    if _byte(data, at) != 1 or _byte(data, at + 1) > 1 or _u16(data, at + 2) != 1:
        return _NOTHING
    at += 4
    while at < len(data):
        tag = data[at]
        if tag == 1:
            return _BRIDGED, at + 1
        at += 1 if tag == 0 else 2 + _byte(data, at + 1)
    return _NOTHING


def _l2tp(data: bytes, at: int) -> Content:
    """Data messages of L2TP version 2 (RFC 2661)."""
    flags = _u16(data, at)
    if flags & 0x800F != 2:
        return _NOTHING
    start = at + 6 + sum(size for bit, size in ((0x4000, 2), (0x0800, 4)) if flags & bit)
    if flags & 0x0200:
        start += 2 + _u16(data, start)
    return _PPP, start


TUNNELS_BY_PORT: Final[Mapping[int, Callable[[bytes, int], Content]]] = {
    1701: _l2tp, 2152: _gtp, 4789: _vxlan, 4790: _vxlan, 6081: _geneve,
    6635: lambda _, at: (_MPLS, at), 8472: _vxlan, 37008: _tzsp,
}  # fmt: skip
"""Tunnels by UDP port: L2TP, GTP-U, VXLAN, VXLAN-GPE, Geneve, MPLS, VXLAN of Linux, TZSP."""
