"""Fast decoding and encoding of packets with the usual order of chunks. Pure.

Ten of a packet's dozen chunks hold small numbers. Decoding them one by one is most of the cost of
a packet. `hep.codec.v3` does that for any packet. This module handles the orders that known senders
use, and reads all chunks of fixed size in one call. It leaves every other packet to `hep.codec.v3`.
A property test checks that both give the same result.
"""

import struct
from collections.abc import Callable, Iterable
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from hep.codec.chunks import GENERIC, GENERIC_VENDOR, IPV4, IPV6, Chunk, Form
from hep.codec.packet import INET, INET6, Packet, family_of

OPENSIPS: Final = (0x01, 0x02, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C)
"""The first chunk types of OpenSIPS, captagent, sngrep and this library; the addresses follow."""

_IPV4_TYPES: Final = (0x03, 0x04)
_IPV6_TYPES: Final = (0x05, 0x06)

HEADER_SIZE: Final = 6
_CHUNK: Final = struct.Struct("!HHH")
_CODES: Final = {1: "B", 2: "H", 4: "I", 16: "16s"}


def _format(chunk_types: Iterable[int], header: str) -> str:
    """The struct format of chunks, with the format ``header`` for the header of each."""
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
    """The chunks of fixed size that start a packet of one order."""

    end: int
    """Offset of the first byte after them."""
    values_from: Callable[..., tuple[Any, ...]]
    """Reads their values from a packet."""
    mask: int
    """A number of ``end - HEADER_SIZE`` bytes: all ones at the chunk headers, otherwise zero."""
    headers: int
    """The masked bytes of a packet of this order."""
    in_order: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    """Sorts the values into the order of OpenSIPS."""
    layout: tuple[tuple[int, int], ...]
    """As ``Packet.layout``."""
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


# The family and the type of the third chunk identify the order.
_FAMILY: Final = 12
_THIRD_TYPE: Final = 23
_STARTS: Final = {
    (family, chunk_types[2]): _Start.of(chunk_types, addresses, form)
    for family, form, addresses in ((INET, IPV4, _IPV4_TYPES), (INET6, IPV6, _IPV6_TYPES))
    for chunk_types in ((*OPENSIPS, *addresses), (*OPENSIPS[:2], *addresses, *OPENSIPS[2:]))
}
"""The orders of OpenSIPS, and of Kamailio, heplify and hep-js."""

# Vendor and type as one number. The vendor of a generic chunk is 0, so the number is its type.
_KEY: Final = struct.Struct("!IH")
_AUTH_KEY, _PAYLOAD, _CORRELATION_ID, _NODE_NAME = 0x0E, 0x0F, 0x11, 0x13
_BYTES: Final = {
    each: (GENERIC_VENDOR, each) for each in (_AUTH_KEY, _PAYLOAD, _CORRELATION_ID, _NODE_NAME)
}
_TAKEN: Final = {key for key, row in GENERIC.items() if row.field is not None}
_SIZES: Final = {key: row.form.size for key, row in GENERIC.items() if row.form.size is not None}


def read(data: bytes, total: int) -> Packet | None:
    """Decode a packet that starts in one of the usual orders.

    Args:
        data: a packet.
        total: its stated length in bytes, at most ``len(data)``.

    Returns:
        the packet; None if it has another order, is malformed, or has a chunk of an unexpected
        size.
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
    # Positional arguments: keywords would cost half a microsecond more.
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
        found.get(_NODE_NAME),
    )


class _Ends(NamedTuple):
    """The positions of ports and addresses in packets of one order."""

    values_from: Callable[..., tuple[Any, ...]]
    """Reads the header and the value of each of the four chunks from a packet."""
    headers: tuple[bytes, ...]
    """The headers of the four chunks."""
    size: int
    """Minimum length of a packet in bytes."""

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
    """Read source and destination of a packet without decoding it.

    Returns:
        packed address (4 or 16 bytes) and port of the source, then of the destination; None if the
        packet does not start in one of the usual orders.
    """
    if len(data) <= _THIRD_TYPE:
        return None
    found = _ENDS.get((data[_FAMILY], data[_THIRD_TYPE]))
    if found is None or len(data) < found.size:
        return None
    values_from, headers, _ = found
    # In both orders the two ports are adjacent, and so are the two addresses.
    first, a, second, b, third, c, fourth, d = values_from(data)
    if (first, second, third, fourth) != headers:
        return None
    return ((c, a), (d, b)) if isinstance(a, int) else ((a, c), (b, d))


_WRITE: Final = struct.Struct("!4sH" + _format(OPENSIPS, "6s"))
_F, _P, _SP, _DP, _S, _U, _T, _C = _headers(OPENSIPS)
_IPV4_HEADERS: Final = _headers(_IPV4_TYPES)
_IPV6_HEADERS: Final = _headers(_IPV6_TYPES)


_BOTH_IPV4: Final = (INET, INET)


def _layouts(addresses: tuple[int, ...]) -> dict[tuple[tuple[int, int], ...], bool]:
    """The layouts that `write` supports, each with whether it has a correlation id."""
    start = (*OPENSIPS, *addresses, _PAYLOAD)
    return {
        tuple((GENERIC_VENDOR, each) for each in chunk_types): chunk_types is not start
        for chunk_types in (start, (*start, _CORRELATION_ID))
    }


_IPV4_LAYOUTS: Final = _layouts(_IPV4_TYPES)
_IPV6_LAYOUTS: Final = _layouts(_IPV6_TYPES)


def write(packet: Packet) -> bytes | None:
    """Encode a packet with the usual chunks in the order of OpenSIPS.

    Returns:
        the bytes; None if the packet has other chunks or a value does not fit.
    """
    src_ip, dst_ip = packet.src_ip, packet.dst_ip
    if (
        src_ip is None
        or dst_ip is None
        or packet.extra
        or packet.node_name is not None
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
            family = packet.family
            families = family_of(src_ip), family_of(dst_ip)
            layouts = _IPV6_LAYOUTS
        else:
            src_header, dst_header = _IPV4_HEADERS
            source, destination = IPV4.pack(src_ip), IPV4.pack(dst_ip)
            family = packet.ip_family or INET
            families = _BOTH_IPV4
            layouts = _IPV4_LAYOUTS
        if packet.layout:
            # A received packet keeps the family that it states, even if it is wrong.
            if not packet.ip_family or layouts.get(packet.layout) is not (
                correlation_id is not None
            ):
                return None
        elif family not in families:
            return None
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
                _F, family, _P, packet.ip_protocol,
                _SP, packet.src_port, _DP, packet.dst_port,
                _S, packet.seconds, _U, packet.microseconds,
                _T, packet.protocol_type, _C, packet.capture_id,
            )
            + written
        )  # fmt: skip
    except (struct.error, OSError, TypeError):
        # The general encoder raises an error that names the value.
        return None
