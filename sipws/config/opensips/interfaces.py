"""The addresses of a network interface, which a socket of OpenSIPS may name."""

import ipaddress
import socket
import struct
from contextlib import suppress
from typing import Final

_REQUEST: Final = struct.pack("=IHHII", 20, 22, 0x301, 1, 0) + bytes(4)
"""RTM_GETADDR with NLM_F_REQUEST and NLM_F_DUMP, for any address family (rtnetlink(7))."""

_NEW_ADDRESS: Final = 20
"""RTM_NEWADDR."""

_DONE: Final = 3
"""NLMSG_DONE."""

_ADDRESS: Final = 1
"""IFA_ADDRESS."""

_LOCAL: Final = 2
"""IFA_LOCAL: with a point-to-point link, the address of this end."""

_READ: Final = 1 << 20


def addresses_of(name: str) -> tuple[str, ...]:
    """The addresses of a network interface, IPv4 first.

    Args:
        name: of the interface, such as ``eth0``.

    Returns:
        its addresses, without those that are valid on one link only; none if there is no such
        interface.
    """
    try:
        index = socket.if_nametoindex(name)
    except OSError:
        return ()
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = []
    with (
        suppress(OSError, AttributeError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink,
    ):
        netlink.settimeout(1)
        netlink.send(_REQUEST)
        while _read(netlink.recv(_READ), index, found):
            pass
    usable = (address for address in found if not (address.version == 6 and address.is_link_local))
    return tuple(map(str, sorted(usable, key=lambda each: (each.version, int(each)))))


def _read(
    data: bytes, index: int, found: list[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> bool:
    """Add the addresses of an interface from some messages; returns whether more follow."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind == _DONE or length < 16:
            return False
        if kind == _NEW_ADDRESS and struct.unpack_from("=I", data, 20)[0] == index:
            values = _attributes(data[24:length])
            with suppress(ValueError):
                found.append(ipaddress.ip_address(values.get(_LOCAL) or values[_ADDRESS]))
        data = data[(length + 3) & ~3 :]
    return True


def _attributes(data: bytes) -> dict[int, bytes]:
    values = {_ADDRESS: b""}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        values[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return values
