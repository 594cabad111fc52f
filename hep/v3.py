"""HEP version 3: a header of 6 bytes, then chunks (HEP3 specification, rev. 37). Pure."""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from hep.chunks import GENERIC, GENERIC_VENDOR, Chunk
from hep.errors import HepDecodeError, HepEncodeError
from hep.packet import Packet

MAGICS: Final = (b"HEP3", b"EEP1")
"""How a packet may start. The specification draws ``EEP3``, which no implementation takes."""

HEADER: Final = struct.Struct("!4sH")
CHUNK: Final = struct.Struct("!HHH")
_CHUNK_HEADER: Final = CHUNK.size
LONGEST: Final = 0xFFFF
"""The greatest total length that the header can state, itself included."""

_UNSAID: Final[dict[str, Any]] = {"ip_protocol": 0, "protocol_type": 0}
_BEFORE_ADDRESSES: Final = (0x01, 0x02, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C)
_TIME: Final = (0x09, 0x0A)
_ADDRESSES: Final = {"src_ip": (0x03, 0x05), "dst_ip": (0x04, 0x06)}
"""The chunk of an address, for IPv4 and for IPv6."""


def decode(data: bytes) -> Packet:
    """Read a packet; bytes behind its stated length are passed over.

    Raises:
        HepDecodeError: it is no whole version 3 packet.
    """
    if len(data) < HEADER.size or data[:4] not in MAGICS:
        raise HepDecodeError("no HEPv3 header", 0)
    magic, total = HEADER.unpack_from(data)
    if total < HEADER.size:
        raise HepDecodeError(f"total length {total} is shorter than the header", 4)
    if total > len(data):
        raise HepDecodeError(f"total length {total}, and only {len(data)} bytes", 4)
    fields: dict[str, Any] = {}
    layout, extra = [], []
    offset = HEADER.size
    while offset < total:
        if offset + _CHUNK_HEADER > total:
            raise HepDecodeError(f"{total - offset} bytes are too few for a chunk", offset)
        vendor, chunk_type, length = CHUNK.unpack_from(data, offset)
        end = offset + length
        if length < _CHUNK_HEADER:
            raise HepDecodeError(f"chunk length {length} is shorter than its header", offset)
        if end > total:
            raise HepDecodeError(f"chunk length {length} reaches beyond the packet", offset)
        value = data[offset + _CHUNK_HEADER : end]
        layout.append((vendor, chunk_type))
        field = None
        if vendor == GENERIC_VENDOR and chunk_type in GENERIC:
            name, (size, _, unpack), field = GENERIC[chunk_type]
            if size is not None and size != len(value):
                raise HepDecodeError(f"{name} is {len(value)} bytes long, not {size}", offset)
        # What has no attribute, or comes a second time, is kept as it is.
        if field is None or field in fields:
            extra.append(Chunk(vendor, chunk_type, value))
        else:
            fields[field] = unpack(value)
        offset = end
    # What a packet does not say is not what one that is built says by default.
    return Packet(**_UNSAID | fields, extra=tuple(extra), layout=tuple(layout), magic=magic)


def chunks(packet: Packet) -> list[Chunk]:
    """The chunks of a packet in the order of the wire.

    Raises:
        HepEncodeError: as `encode`.
    """
    data = encode(packet)
    found, offset = [], HEADER.size
    while offset < len(data):
        vendor, chunk_type, length = CHUNK.unpack_from(data, offset)
        found.append(Chunk(vendor, chunk_type, data[offset + CHUNK.size : offset + length]))
        offset += length
    return found


def encode(packet: Packet) -> bytes:
    """Write a packet.

    Raises:
        HepEncodeError: a value does not fit its chunk, or all of it is over 65535 bytes.
    """
    parts = [b""]
    extra = deque(packet.extra)
    written: set[str] = set()
    for vendor, chunk_type in packet.layout or _opensips_order(packet):
        row = GENERIC.get(chunk_type) if vendor == GENERIC_VENDOR else None
        if row is not None and row.field is not None and row.field not in written:
            written.add(row.field)
            parts.append(_field_chunk(packet, row.field, chunk_type))
        elif extra:
            parts.append(_chunk(*extra.popleft()))
    total = HEADER.size + sum(map(len, parts))
    if total > LONGEST:
        raise HepEncodeError(
            f"a packet of {total} bytes with a payload of {len(packet.payload)}: HEPv3 ends at"
            f" {LONGEST}; shorten the payload"
        )
    parts[0] = HEADER.pack(packet.magic, total)
    return b"".join(parts)


def _opensips_order(packet: Packet) -> Iterator[tuple[int, int]]:
    """The order in which OpenSIPS writes chunks; those without a value are left out."""
    for chunk_type in _BEFORE_ADDRESSES:
        if chunk_type not in _TIME or packet.seconds is not None:
            yield GENERIC_VENDOR, chunk_type
    if packet.src_ip is not None:
        yield GENERIC_VENDOR, 0x03
    if packet.dst_ip is not None:
        yield GENERIC_VENDOR, 0x04
    if packet.auth_key is not None:
        yield GENERIC_VENDOR, 0x0E
    yield GENERIC_VENDOR, 0x0F
    for chunk in packet.extra:
        yield chunk.vendor, chunk.type
    if packet.correlation_id is not None:
        yield GENERIC_VENDOR, 0x11


def _field_chunk(packet: Packet, field: str, chunk_type: int) -> bytes:
    value = packet.family if field == "ip_family" else getattr(packet, field)
    if field in _ADDRESSES:
        # The address decides, so that a replaced address of another family is written right.
        chunk_type = _ADDRESSES[field][":" in str(value)]
    row = GENERIC[chunk_type]
    try:
        data = row.form.pack(value)
    except (struct.error, OSError, TypeError) as exc:
        raise HepEncodeError(f"{field} = {value!r} does not fit {row.name}: {exc}") from exc
    return _chunk(GENERIC_VENDOR, chunk_type, data)


def _chunk(vendor: int, chunk_type: int, data: bytes) -> bytes:
    length = CHUNK.size + len(data)
    if length > LONGEST:
        raise HepEncodeError(
            f"chunk 0x{chunk_type:04x} of {len(data)} bytes: a chunk ends at {LONGEST}"
        )
    try:
        return CHUNK.pack(vendor, chunk_type, length) + data
    except struct.error as exc:
        raise HepEncodeError(f"vendor {vendor} or chunk type {chunk_type} is no u16") from exc
