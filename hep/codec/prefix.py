"""Packets that start as nearly all do, read and written with few calls. Pure.

Ten of a packet's dozen chunks hold small numbers, and taking them one by one is most of what a
packet costs. `hep.codec.v3` does that for any packet; here is the same for the orders that senders
have, the chunks of fixed size in one go. What these functions do not know they leave to it, so they
decide nothing: a test holds the two against each other.
"""

import struct
from collections.abc import Callable, Iterable
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from hep.codec.chunks import GENERIC, GENERIC_VENDOR, IPV4, IPV6, Chunk, Form
from hep.codec.packet import INET, INET6, Packet

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


class _Start(NamedTuple):
    """How packets of an order start."""

    end: int
    values_from: Callable[..., tuple[Any, ...]]
    """Takes the values out of a packet."""
    mask: int
    """All ones where a chunk's header stands, as a number of ``end - HEADER_SIZE`` bytes."""
    headers: int
    """What stands there."""
    in_order: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    """Puts the values into OpenSIPS' order."""
    layout: tuple[tuple[int, int], ...]
    unpack_address: Callable[[bytes], str]

    @classmethod
    def of(cls, chunk_types: tuple[int, ...], addresses: tuple[int, ...], form: Form) -> "_Start":
        whole = struct.Struct("!" + _format(chunk_types, "6s"))
        empty = [b"" if each in addresses else 0 for each in chunk_types]

        def with_headers(headers: Iterable[bytes]) -> int:
            return int.from_bytes(whole.pack(*chain(*zip(headers, empty, strict=True))))

        return cls(
            HEADER_SIZE + whole.size,
            struct.Struct("!" + _format(chunk_types, "6x")).unpack_from,
            with_headers(b"\xff" * _CHUNK.size for _ in chunk_types),
            with_headers(_headers(chunk_types)),
            itemgetter(*map(chunk_types.index, (*OPENSIPS, *addresses))),
            tuple((GENERIC_VENDOR, each) for each in chunk_types),
            form.unpack,
        )


# The family and the type of the third chunk tell the orders apart.
_FAMILY: Final = 12
_THIRD_TYPE: Final = 23
_STARTS: Final = {
    (family, chunk_types[2]): _Start.of(chunk_types, addresses, form)
    for family, form, addresses in ((INET, IPV4, _IPV4_TYPES), (INET6, IPV6, _IPV6_TYPES))
    for chunk_types in ((*OPENSIPS, *addresses), (*OPENSIPS[:2], *addresses, *OPENSIPS[2:]))
}
"""The orders of OpenSIPS, and of Kamailio, heplify and hep-js."""

# Vendor and type as one number: of a generic chunk that is its type.
_KEY: Final = struct.Struct("!IH")
_AUTH_KEY, _PAYLOAD, _CORRELATION_ID = 0x0E, 0x0F, 0x11
_BYTES: Final = {each: (GENERIC_VENDOR, each) for each in (_AUTH_KEY, _PAYLOAD, _CORRELATION_ID)}
_TAKEN: Final = {key for key, row in GENERIC.items() if row.field is not None}
_SIZES: Final = {key: row.form.size for key, row in GENERIC.items() if row.form.size is not None}


def read(data: bytes, total: int) -> Packet | None:
    """A packet that starts in one of the usual orders.

    Args:
        data: a packet.
        total: its stated length, not above that of ``data``.

    Returns:
        the packet, or None where it is another, or wrong.
    """
    if total <= _THIRD_TYPE:
        return None
    start = _STARTS.get((data[_FAMILY], data[_THIRD_TYPE]))
    if start is None or total < start.end:
        return None
    offset, values_from, mask, headers, in_order, layout, address = start
    if int.from_bytes(data[HEADER_SIZE:offset]) & mask != headers:
        return None
    found: dict[int, bytes] = {}
    kinds: list[tuple[int, int]] = []
    extra: list[Chunk] = []
    while offset < total:
        if offset + 6 > total:
            return None
        key, length = _KEY.unpack_from(data, offset)
        end = offset + length
        if length < 6 or end > total:
            return None
        value = data[offset + 6 : end]
        if key in _BYTES and key not in found:
            found[key] = value
            kinds.append(_BYTES[key])
        elif key in _TAKEN or _SIZES.get(key, length - 6) != length - 6:
            return None
        else:
            kinds.append(divmod(key, 0x10000))
            extra.append(Chunk(key >> 16, key & 0xFFFF, value))
        offset = end
    (family, ip_protocol, src_port, dst_port, seconds, microseconds, protocol_type, capture_id,
     source, destination) = in_order(values_from(data, HEADER_SIZE))  # fmt: skip
    # In the order of its attributes: by name it costs half a microsecond more.
    version, compressed = 3, None
    return Packet(
        address(source),
        address(destination),
        src_port,
        dst_port,
        found.get(_PAYLOAD, b""),
        protocol_type,
        ip_protocol,
        seconds,
        microseconds,
        capture_id,
        found.get(_CORRELATION_ID),
        found.get(_AUTH_KEY),
        family,
        version,
        compressed,
        tuple(extra),
        layout + tuple(kinds),
        data[:4],
    )


class _Ends(NamedTuple):
    """Where packets of an order have their ports and addresses."""

    values_from: Callable[..., tuple[Any, ...]]
    """Takes the header and the value of each of the four chunks out of a packet."""
    headers: tuple[bytes, ...]
    """What stands before the values."""
    size: int

    @classmethod
    def of(cls, layout: tuple[tuple[int, int], ...], end: int) -> "_Ends":
        chunk_types = [chunk_type for _, chunk_type in layout]
        wanted = [each for each in chunk_types if each not in (*OPENSIPS[:2], *OPENSIPS[4:])]
        every = zip(chunk_types, (_format((each,), "") for each in chunk_types), strict=True)
        parts = (
            f"6s{code}" if each in wanted else f"{_CHUNK.size + struct.calcsize('!' + code)}x"
            for each, code in every
        )
        form = struct.Struct(f"!{HEADER_SIZE}x" + "".join(parts))
        return cls(form.unpack_from, _headers(wanted), end)


_ENDS: Final = {key: _Ends.of(start.layout, start.end) for key, start in _STARTS.items()}


def ends(data: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]] | None:
    """Source and destination of a packet, packed address and port each.

    Returns:
        None where the packet does not start in one of the usual orders.
    """
    if len(data) <= _THIRD_TYPE:
        return None
    found = _ENDS.get((data[_FAMILY], data[_THIRD_TYPE]))
    if found is None or len(data) < found.size:
        return None
    values_from, headers, _ = found
    # In both orders the two ports stand side by side, and so do the two addresses.
    first, a, second, b, third, c, fourth, d = values_from(data)
    if (first, second, third, fourth) != headers:
        return None
    return ((c, a), (d, b)) if isinstance(a, int) else ((a, c), (b, d))


_WRITE: Final = struct.Struct("!4sH" + _format(OPENSIPS, "6s"))
_F, _P, _SP, _DP, _S, _U, _T, _C = _headers(OPENSIPS)
_IPV4_HEADERS: Final = _headers(_IPV4_TYPES)
_IPV6_HEADERS: Final = _headers(_IPV6_TYPES)


_LAYOUTS: Final = {
    tuple((GENERIC_VENDOR, each) for each in (*OPENSIPS, *addresses, _PAYLOAD, *behind)): bool(
        behind
    )
    for addresses in (_IPV4_TYPES, _IPV6_TYPES)
    for behind in ((), (_CORRELATION_ID,))
}
"""The layouts that `write` writes, and whether there is a correlation id in them."""


def write(packet: Packet) -> bytes | None:
    """A packet with the usual chunks, in OpenSIPS' order.

    Returns:
        its bytes, or None where it has others, or a value that does not fit.
    """
    src_ip, dst_ip = packet.src_ip, packet.dst_ip
    if (
        src_ip is None
        or dst_ip is None
        or packet.extra
        or packet.auth_key is not None
        or packet.compressed is not None
    ):
        return None
    payload, correlation_id = packet.payload, packet.correlation_id
    if packet.layout and (
        # A received packet states its family, right or wrong.
        not packet.ip_family or _LAYOUTS.get(packet.layout) is not (correlation_id is not None)
    ):
        return None
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
