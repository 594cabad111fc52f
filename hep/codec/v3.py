"""HEP version 3: a header of 6 bytes, then chunks (HEP3 specification, rev. 37). Pure."""

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from hep.codec import prefix
from hep.codec.chunks import GENERIC, GENERIC_VENDOR, Chunk
from hep.codec.compression import Container, InflateError, container_of, deflate, inflate
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepEncodeError

MAGICS: Final = (b"HEP3", b"EEP1")
"""How a packet may start. The specification draws ``EEP3``, which no implementation takes."""

HEADER: Final = struct.Struct("!4sH")
CHUNK: Final = struct.Struct("!HHH")
LONGEST: Final = 0xFFFF
"""The greatest total length that the header can state, itself included."""

# Vendor and type as one number: of a generic chunk that is its type.
_CHUNK_KEY: Final = struct.Struct("!IH")
_CHUNK_SIZE: Final = CHUNK.size

_TIME: Final = (0x09, 0x0A)
_SRC_IP: Final = (0x03, 0x05)
"""The chunk of an address, for IPv4 and for IPv6."""
_DST_IP: Final = (0x04, 0x06)
_PAYLOAD: Final = 0x0F
_COMPRESSED: Final = 0x10

_READERS: Final = {
    chunk_type: ((GENERIC_VENDOR, chunk_type), row.form.size, row.form.unpack, row.field)
    for chunk_type, row in GENERIC.items()
}


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
    return prefix.read(data, total) or _read(data, magic, total)


def _read(data: bytes, magic: bytes, total: int) -> Packet:
    """Read a packet chunk by chunk."""
    fields: dict[str, Any] = {}
    offset = HEADER.size
    layout: list[tuple[int, int]] = []
    extra: list[Chunk] = []
    while offset < total:
        if offset + _CHUNK_SIZE > total:
            raise HepDecodeError(f"{total - offset} bytes are too few for a chunk", offset)
        key, length = _CHUNK_KEY.unpack_from(data, offset)
        if length < _CHUNK_SIZE:
            raise HepDecodeError(f"chunk length {length} is shorter than its header", offset)
        end = offset + length
        if end > total:
            raise HepDecodeError(f"chunk length {length} reaches beyond the packet", offset)
        value = data[offset + _CHUNK_SIZE : end]
        if key in _READERS:
            kind, size, unpack, field = _READERS[key]
            if size is not None and size != length - _CHUNK_SIZE:
                raise HepDecodeError(
                    f"{GENERIC[key].name} is {len(value)} bytes long, not {size}", offset
                )
        else:
            kind, field = divmod(key, 0x10000), None
        layout.append(kind)
        # What has no attribute, or comes a second time, is kept as it is.
        if field is None or field in fields:
            extra.append(Chunk(*kind, value))
        else:
            try:
                fields[field] = unpack(value)
            except InflateError as exc:
                raise HepDecodeError(f"{GENERIC[key].name}: {exc}", offset) from exc
            if key == _COMPRESSED:
                fields["compressed"] = value
        offset = end
    # What a packet does not say is not what one that is built says by default.
    fields.setdefault("ip_protocol", 0)
    fields.setdefault("protocol_type", 0)
    return Packet(**fields, extra=tuple(extra), layout=tuple(layout), magic=magic)


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


def compress(packet: Packet, container: Container = "zlib") -> Packet:
    """The same packet with its payload compressed (chunk 0x0010 in place of 0x000f).

    Args:
        packet: one of version 3.
        container: captagent sends zlib, OpenSIPS gzip.

    Raises:
        HepEncodeError: it is of version 1 or 2, which know no compression.
    """
    if packet.version != 3:
        raise HepEncodeError(f"version = {packet.version}: only version 3 can be compressed")
    return replace(packet, compressed=deflate(packet.payload, container))


def encode(packet: Packet) -> bytes:
    """Write a packet.

    Raises:
        HepEncodeError: a value does not fit its chunk, or all of it is over 65535 bytes.
    """
    return prefix.write(packet) or _write(packet)


def _write(packet: Packet) -> bytes:
    """Write a packet chunk by chunk."""
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
    for chunk_type in prefix.OPENSIPS:
        if chunk_type not in _TIME or packet.seconds is not None:
            yield GENERIC_VENDOR, chunk_type
    if packet.src_ip is not None:
        yield GENERIC_VENDOR, 0x03
    if packet.dst_ip is not None:
        yield GENERIC_VENDOR, 0x04
    if packet.auth_key is not None:
        yield GENERIC_VENDOR, 0x0E
    yield GENERIC_VENDOR, _PAYLOAD
    for chunk in packet.extra:
        yield chunk.vendor, chunk.type
    if packet.correlation_id is not None:
        yield GENERIC_VENDOR, 0x11


def _field_chunk(packet: Packet, field: str, chunk_type: int) -> bytes:
    """The chunk of an attribute.

    The value decides which, where there are several: a replaced address may be of another family,
    and a payload may have been compressed.
    """
    value = getattr(packet, field)
    if field == "ip_family":
        # What a received packet states stays as it is, even if it is nonsense.
        value = value if packet.layout else packet.family
    elif field == "microseconds":
        value = value or 0
    elif field == "payload":
        if packet.compressed is not None:
            return _chunk(GENERIC_VENDOR, _COMPRESSED, _compressed(packet))
        chunk_type = _PAYLOAD
    elif field == "src_ip":
        chunk_type = _SRC_IP[":" in str(value)]
    elif field == "dst_ip":
        chunk_type = _DST_IP[":" in str(value)]
    row = GENERIC[chunk_type]
    try:
        data = row.form.pack(value)
    except (struct.error, OSError, TypeError) as exc:
        raise HepEncodeError(f"{field} = {value!r} does not fit {row.name}: {exc}") from exc
    return _chunk(GENERIC_VENDOR, chunk_type, data)


def _compressed(packet: Packet) -> bytes:
    """The compressed payload: as it came unless the payload is another by now."""
    data = packet.compressed or b""
    try:
        if inflate(data) == packet.payload:
            return data
    except InflateError:
        pass
    return deflate(packet.payload, container_of(data))


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
