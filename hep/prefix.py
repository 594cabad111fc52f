"""The chunks of fixed size that nearly every packet starts with, read and written in one go. Pure.

Ten of a packet's dozen chunks hold small numbers, and taking them one by one is most of what a
packet costs. `hep.v3` does that for any packet; here is the same for the orders that senders have.
What these functions do not know they leave to it, so they decide nothing: a test holds the two
against each other.
"""

import struct
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final, NamedTuple

from hep.chunks import GENERIC, GENERIC_VENDOR, IPV4, IPV6, Form
from hep.packet import INET, INET6, Packet

OPENSIPS: Final = (0x01, 0x02, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C)
"""OpenSIPS, captagent, sngrep and this library have these first, and then the addresses."""

_IPV4_TYPES: Final = (0x03, 0x04)
_IPV6_TYPES: Final = (0x05, 0x06)

HEADER_SIZE: Final = 6
_CHUNK: Final = struct.Struct("!HHH")
_CODES: Final = {1: "B", 2: "H", 4: "I", 16: "16s"}


def _format(chunk_types: Iterable[int], header: str) -> str:
    """The struct format of chunks, ``header`` standing for the header of each."""
    addresses = {0x03: "4s", 0x04: "4s"}
    return "".join(
        header + addresses.get(each, _CODES[GENERIC[each].form.size or 0]) for each in chunk_types
    )


def _headers(chunk_types: Iterable[int]) -> tuple[bytes, ...]:
    return tuple(
        _CHUNK.pack(GENERIC_VENDOR, each, _CHUNK.size + (GENERIC[each].form.size or 0))
        for each in chunk_types
    )


class _Prefix(NamedTuple):
    """How packets of an order start."""

    end: int
    values_from: Callable[..., tuple[Any, ...]]
    """Takes the values out of a packet."""
    mask: int
    """All ones where a chunk's header stands, as a number of ``end - HEADER_SIZE`` bytes."""
    headers: int
    """What stands there."""
    fields: tuple[str, ...]
    layout: tuple[tuple[int, int], ...]
    unpack_address: Callable[[bytes], str]

    @classmethod
    def of(cls, chunk_types: tuple[int, ...], address: Form) -> "_Prefix":
        form = struct.Struct("!" + _format(chunk_types, "6s"))
        empty = [b"" if each in (*_IPV4_TYPES, *_IPV6_TYPES) else 0 for each in chunk_types]

        def with_headers(headers: Iterable[bytes]) -> int:
            return int.from_bytes(form.pack(*chain(*zip(headers, empty, strict=True))))

        return cls(
            HEADER_SIZE + form.size,
            struct.Struct("!" + _format(chunk_types, "6x")).unpack_from,
            with_headers(b"\xff" * _CHUNK.size for _ in chunk_types),
            with_headers(_headers(chunk_types)),
            tuple(str(GENERIC[each].field) for each in chunk_types),
            tuple((GENERIC_VENDOR, each) for each in chunk_types),
            address.unpack,
        )


# The family and the type of the third chunk tell the orders apart.
_FAMILY: Final = 12
_THIRD_TYPE: Final = 23
_PREFIXES: Final = {
    (family, prefix.layout[2][1]): prefix
    for family, form, addresses in ((INET, IPV4, _IPV4_TYPES), (INET6, IPV6, _IPV6_TYPES))
    for prefix in (
        _Prefix.of((*OPENSIPS, *addresses), form),
        _Prefix.of((*OPENSIPS[:2], *addresses, *OPENSIPS[2:]), form),
    )
}
"""The orders of OpenSIPS, and of Kamailio, heplify and hep-js."""


def read(data: bytes, total: int) -> tuple[dict[str, Any], tuple[tuple[int, int], ...], int] | None:
    """The fields that a packet starts with, their layout, and where they end.

    Args:
        data: a packet.
        total: its stated length, not above that of ``data``.
    """
    if total <= _THIRD_TYPE:
        return None
    prefix = _PREFIXES.get((data[_FAMILY], data[_THIRD_TYPE]))
    if prefix is None or total < prefix.end:
        return None
    if int.from_bytes(data[HEADER_SIZE : prefix.end]) & prefix.mask != prefix.headers:
        return None
    values = prefix.values_from(data, HEADER_SIZE)
    fields: dict[str, Any] = dict(zip(prefix.fields, values))  # noqa: B905 - it costs 0.2 us
    unpack = prefix.unpack_address
    fields["src_ip"] = unpack(fields["src_ip"])
    fields["dst_ip"] = unpack(fields["dst_ip"])
    return fields, prefix.layout, prefix.end


_WRITE: Final = struct.Struct("!4sH" + _format(OPENSIPS, "6s"))
_F, _P, _SP, _DP, _S, _U, _T, _C = _headers(OPENSIPS)
_IPV4_HEADERS: Final = _headers(_IPV4_TYPES)
_IPV6_HEADERS: Final = _headers(_IPV6_TYPES)


def write(packet: Packet) -> bytes | None:
    """A packet with the usual chunks, in OpenSIPS' order.

    Returns:
        its bytes, or None where it has others, or a value that does not fit.
    """
    src_ip, dst_ip = packet.src_ip, packet.dst_ip
    if (
        src_ip is None
        or dst_ip is None
        or packet.layout
        or packet.extra
        or packet.auth_key is not None
        or packet.compressed is not None
    ):
        return None
    payload, correlation_id = packet.payload, packet.correlation_id
    try:
        if ":" in src_ip or ":" in dst_ip:
            src_header, dst_header = (
                (_IPV6_HEADERS if ":" in ip else _IPV4_HEADERS)[at]
                for at, ip in enumerate((src_ip, dst_ip))
            )
            source = (IPV6 if ":" in src_ip else IPV4).pack(src_ip)
            destination = (IPV6 if ":" in dst_ip else IPV4).pack(dst_ip)
        else:
            src_header, dst_header = _IPV4_HEADERS
            source, destination = IPV4.pack(src_ip), IPV4.pack(dst_ip)
        behind = [
            src_header,
            source,
            dst_header,
            destination,
            _CHUNK.pack(0, 0x0F, 6 + len(payload)),
            payload,
        ]
        if correlation_id is not None:
            behind += (_CHUNK.pack(0, 0x11, 6 + len(correlation_id)), correlation_id)
        written = b"".join(behind)
        return (
            _WRITE.pack(
                packet.magic, _WRITE.size + len(written),
                _F, packet.ip_family or packet.family, _P, packet.ip_protocol,
                _SP, packet.src_port, _DP, packet.dst_port,
                _S, packet.seconds, _U, packet.microseconds,
                _T, packet.protocol_type, _C, packet.capture_id,
            )
            + written
        )  # fmt: skip
    except (struct.error, OSError, TypeError):
        # Which value it is, the general encoder says.
        return None
