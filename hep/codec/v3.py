"""HEP version 3: a header of 6 bytes, then chunks (HEP3 specification, rev. 37). Pure.

This is the general codec. `hep.codec.prefix` is the fast one for the usual chunk orders.
"""

import struct
from dataclasses import replace
from typing import Any, Final

from hep.codec import prefix
from hep.codec.chunks import GENERIC, GENERIC_VENDOR, Chunk
from hep.codec.compression import Container, InflateError, container_of, deflate, inflate
from hep.codec.order import ADDRESS_TYPES, family, in_order
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepEncodeError

MAGICS: Final = (b"HEP3", b"EEP1")
"""First four bytes of a packet. The specification's drawing has ``EEP3``, which no implementation
accepts."""

HEADER: Final = struct.Struct("!4sH")
CHUNK: Final = struct.Struct("!HHH")
LONGEST: Final = 0xFFFF
"""Maximum length of a packet in bytes, header included: the length field has 16 bits."""

# Vendor and type as one number. The vendor of a generic chunk is 0, so the number is its type.
_CHUNK_KEY: Final = struct.Struct("!IH")
_CHUNK_SIZE: Final = CHUNK.size

_AUTH_KEY: Final = 0x0E
_COMPRESSED: Final = 0x10

_READERS: Final = {
    chunk_type: ((GENERIC_VENDOR, chunk_type), row.form.size, row.form.unpack, row.field)
    for chunk_type, row in GENERIC.items()
}


def decode(data: bytes) -> Packet:
    """Decode a version 3 packet. Bytes after its stated length are ignored.

    A chunk whose value has a size that its type does not have is kept in ``Packet.extra``. It is
    as missing otherwise: no number and no address is essential.

    Returns:
        the packet.

    Raises:
        HepDecodeError: the bytes are no complete version 3 packet.
    """
    if len(data) < HEADER.size or data[:4] not in MAGICS:
        raise HepDecodeError("no HEPv3 header", 0)
    magic, total = HEADER.unpack_from(data)
    if total < HEADER.size:
        raise HepDecodeError(f"total length {total} is shorter than the header", 4)
    if total > len(data):
        raise HepDecodeError(f"total length {total}, and only {len(data)} bytes", 4)
    return prefix.read(data, total) or read_chunks(data, magic, total)


def read_chunks(data: bytes, magic: bytes, total: int) -> Packet:
    """Decode a packet chunk by chunk, with the chunks in any order.

    `decode` calls it for a packet that `hep.codec.prefix` does not read.

    Args:
        data: a packet.
        magic: its first four bytes, one of `MAGICS`.
        total: its stated length in bytes, `HEADER` size to ``len(data)``.

    Returns:
        the packet.

    Raises:
        HepDecodeError: a chunk is incomplete, or a compressed payload cannot be inflated.
    """
    fields: dict[str, Any] = {}
    offset = HEADER.size
    layout: list[tuple[int, int]] = []
    extra: list[Chunk] = []
    unread: set[int] = set()
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
                unread.add(key)
        else:
            kind, field = divmod(key, 0x10000), None
        layout.append(kind)
        # A chunk without an attribute is kept unchanged, and so is a repeated one. The first chunk
        # of a type decides, so that `hep.codec.order` can find which one became the attribute.
        if field is None or field in fields or key in unread:
            extra.append(Chunk(*kind, value))
        else:
            try:
                fields[field] = unpack(value)
            except InflateError as exc:
                raise HepDecodeError(f"{GENERIC[key].name}: {exc}", offset) from exc
            if key == _COMPRESSED:
                fields["compressed"] = value
        offset = end
    if not layout:
        raise HepDecodeError("no chunks", offset)
    # A missing chunk means 0 here. The defaults of `Packet` are for packets that a program builds.
    fields.setdefault("ip_protocol", 0)
    fields.setdefault("protocol_type", 0)
    return Packet(**fields, extra=tuple(extra), layout=tuple(layout), magic=magic)


def auth_key(data: bytes) -> bytes | None:
    """Find the authenticate key of a packet without decoding it.

    Reads chunk headers up to the key, and no value besides it.

    Args:
        data: a packet with a header of version 3.

    Returns:
        what ``decode(data).auth_key`` would be; None for a packet that is broken before its key.
    """
    end = min(HEADER.unpack_from(data)[1], len(data))
    offset = HEADER.size
    while offset + _CHUNK_SIZE <= end:
        key, length = _CHUNK_KEY.unpack_from(data, offset)
        following = offset + length
        if length < _CHUNK_SIZE or following > end:
            return None
        if key == _AUTH_KEY:
            return data[offset + _CHUNK_SIZE : following]
        offset = following
    return None


def chunks(packet: Packet) -> list[Chunk]:
    """The chunks of a packet in the order of the wire.

    Returns:
        every chunk that `encode` writes.

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
    """Compress the payload of a packet (chunk 0x0010 instead of 0x000f).

    Args:
        packet: a packet of version 3.
        container: ``zlib`` as captagent sends it, or ``gzip`` as OpenSIPS sends it.

    Returns:
        a copy of the packet with ``compressed`` set.

    Raises:
        HepEncodeError: the packet has version 1 or 2, which have no compression.
    """
    if packet.version != 3:
        raise HepEncodeError(
            f"version = {packet.version}: only version 3 can be compressed; send version 3 or an"
            " uncompressed payload"
        )
    return replace(packet, compressed=deflate(packet.payload, container))


def encode(packet: Packet) -> bytes:
    """Encode a version 3 packet.

    Returns:
        the bytes of the packet.

    Raises:
        HepEncodeError: a value does not fit its chunk, or the packet is longer than 65535 bytes.
    """
    return prefix.write(packet) or write_chunks(packet)


def write_chunks(packet: Packet) -> bytes:
    """Encode a packet chunk by chunk, in the order of `hep.codec.order`.

    `encode` calls it for a packet that `hep.codec.prefix` does not write.

    Returns:
        the bytes of the packet.

    Raises:
        HepEncodeError: as `encode`.
    """
    parts = [b""]
    parts += [
        _field_chunk(packet, each) if isinstance(each, str) else chunk_bytes(*each)
        for each in in_order(packet)
    ]
    total = HEADER.size + sum(map(len, parts))
    if total > LONGEST:
        raise HepEncodeError(
            f"a packet of {total} bytes with a payload of {len(packet.payload)} bytes is too long:"
            f" HEPv3 allows {LONGEST}; shorten the payload"
        )
    parts[0] = HEADER.pack(packet.magic, total)
    return b"".join(parts)


_TYPES: Final = {
    row.field: chunk_type for chunk_type, row in reversed(GENERIC.items()) if row.field is not None
}
"""The chunk type of each attribute, the first one if it has two."""

_NUMBERS: Final = {
    row.field: (CHUNK.pack(GENERIC_VENDOR, chunk_type, CHUNK.size + row.form.size), row.form.pack)
    for chunk_type, row in GENERIC.items()
    if row.form.size is not None and row.field not in (None, *ADDRESS_TYPES)
}
"""Header and encoder of the chunk of each attribute that is a number."""


def _field_chunk(packet: Packet, field: str) -> bytes:
    """The chunk of an attribute.

    Addresses and the payload have two chunk types each, and the value decides which. A replaced
    address may have another family, and the payload may be compressed.

    Args:
        packet: the packet to encode.
        field: the attribute's name.

    Raises:
        HepEncodeError: the value does not fit the chunk.
    """
    value = getattr(packet, field)
    chunk_type = _TYPES[field]
    if field in _NUMBERS:
        if field == "ip_family":
            value = family(packet)
        elif field == "microseconds":
            value = value or 0
        header, pack = _NUMBERS[field]
        try:
            return header + pack(value)
        except struct.error as exc:
            raise _does_not_fit(field, value, chunk_type, exc) from exc
    if field == "payload" and packet.compressed is not None:
        return chunk_bytes(GENERIC_VENDOR, _COMPRESSED, _compressed(packet))
    if field in ADDRESS_TYPES:
        chunk_type = ADDRESS_TYPES[field][":" in str(value)]
    try:
        data = GENERIC[chunk_type].form.pack(value)
    except (OSError, TypeError) as exc:
        raise _does_not_fit(field, value, chunk_type, exc) from exc
    return chunk_bytes(GENERIC_VENDOR, chunk_type, data)


def _does_not_fit(field: str, value: object, chunk_type: int, exc: Exception) -> HepEncodeError:
    name = GENERIC[chunk_type].name
    return HepEncodeError(f"{field} = {value!r} does not fit {name}: {exc}")


def _compressed(packet: Packet) -> bytes:
    """The compressed payload: as received, or compressed again if the payload was replaced."""
    data = packet.compressed or b""
    try:
        if inflate(data) == packet.payload:
            return data
    except InflateError:
        pass
    return deflate(packet.payload, container_of(data))


def chunk_bytes(vendor: int, chunk_type: int, data: bytes) -> bytes:
    """Encode a chunk: vendor id, type and length (2 bytes each, big-endian), then the value.

    Args:
        vendor: vendor id, 0 to 65535.
        chunk_type: type, 0 to 65535.
        data: the value, at most 65529 bytes.

    Returns:
        the bytes of the chunk.

    Raises:
        HepEncodeError: an argument is out of range.
    """
    length = CHUNK.size + len(data)
    if length > LONGEST:
        raise HepEncodeError(
            f"chunk 0x{chunk_type:04x} with a value of {len(data)} bytes is too long: HEPv3 allows"
            f" {LONGEST - CHUNK.size}; shorten the value"
        )
    try:
        return CHUNK.pack(vendor, chunk_type, length) + data
    except struct.error as exc:
        raise HepEncodeError(
            f"chunk with vendor {vendor} and type {chunk_type}: both must be 0 to 65535"
        ) from exc
