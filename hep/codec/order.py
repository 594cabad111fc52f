"""The order of the chunks in an encoded packet of version 3. Pure.

A packet that a program built has the order of OpenSIPS. A received packet keeps its own order, in
``Packet.layout``, as far as it still has these chunks.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from hep.codec.chunks import GENERIC, GENERIC_VENDOR, Chunk
from hep.codec.packet import INET, INET6, Packet, family_of

Kind = tuple[int, int]
"""Vendor and type of a chunk."""

_TIME: Final = ("seconds", "microseconds")
_NUMBERS: Final = (
    "ip_family", "ip_protocol", "src_port", "dst_port", *_TIME,
    "protocol_type", "capture_id",
)  # fmt: skip
_BEFORE_EXTRA: Final = (*_NUMBERS, "src_ip", "dst_ip", "auth_key", "node_name", "payload")
_USUAL: Final = (*_BEFORE_EXTRA, "correlation_id")
"""The attributes in the order of OpenSIPS, which sends no node name. Extra chunks come before the
correlation id."""

_PLACES: Final = {attribute: place for place, attribute in enumerate(_USUAL)}
_OPTIONAL: Final = (*_TIME, "src_ip", "dst_ip", "auth_key", "node_name", "correlation_id")
_MISSING: Final = dict.fromkeys(_NUMBERS, 0) | dict.fromkeys(_TIME) | {"payload": b""}
"""The values of attributes whose chunk is missing in a received packet; of others it is None."""

_FIELDS: Final = {
    (GENERIC_VENDOR, chunk_type): row.field
    for chunk_type, row in GENERIC.items()
    if row.field is not None
}
_KINDS: Final = {field: kind for kind, field in _FIELDS.items()}
ADDRESS_TYPES: Final = {"src_ip": (0x03, 0x05), "dst_ip": (0x04, 0x06)}
"""The chunk types of an address, for IPv4 and for IPv6."""

_SOURCES, _DESTINATIONS = (
    [(GENERIC_VENDOR, chunk_type) for chunk_type in types] for types in ADDRESS_TYPES.values()
)


def in_order(packet: Packet) -> Iterator[str | Chunk]:
    """The chunks to write, in their order.

    Returns:
        the name of an attribute for its chunk, or an extra chunk.
    """
    if not packet.layout:
        return _as_opensips(packet)
    attributes = _attributes(packet)
    there = set(attributes)
    missing = [each for each in _USUAL if each not in there]
    added = [each for each in missing if _has(packet, each)]
    removed: set[str] = {
        each for each in _OPTIONAL if getattr(packet, each) is None and each in there
    }
    if added or removed or packet.extra:
        return _as_received(packet, attributes, added, removed)
    return filter(None, attributes)


def _as_opensips(packet: Packet) -> Iterator[str | Chunk]:
    yield from _NUMBERS[:4]
    if packet.seconds is not None:
        yield from _TIME
    yield from _NUMBERS[6:]
    for each in _BEFORE_EXTRA[len(_NUMBERS) :]:
        if each == "payload" or getattr(packet, each) is not None:
            yield each
    yield from packet.extra
    if packet.correlation_id is not None:
        yield "correlation_id"


def _as_received(
    packet: Packet, attributes: list[str | None], added: list[str], removed: set[str]
) -> Iterator[str | Chunk]:
    """The chunks in the order of the layout, with what was added, without what was removed.

    An added attribute comes before the first chunk of its own type or of one that OpenSIPS sends
    later, otherwise last. Extra chunks keep the order that ``packet.extra`` has.

    Args:
        packet: the packet.
        attributes: the attribute of each chunk in its layout; None for an extra chunk.
        added: attributes that have a value and are not among these, in the order of OpenSIPS.
        removed: attributes among these that have no value.
    """
    # The second chunk of its type would take the place of a removed attribute.
    extra = deque(
        each for each in packet.extra if not each.fits or _FIELDS.get(each[:2]) not in removed
    )
    waiting = Counter(each[:2] for each in extra)
    there, done, to_add = set(attributes), set(removed), deque(added)
    for kind, attribute in zip(packet.layout, attributes, strict=True):
        while to_add and kind in _FIELDS and _PLACES[to_add[0]] <= _PLACES[_FIELDS[kind]]:
            yield to_add.popleft()
        if attribute is None:
            while waiting[kind]:
                chunk = extra.popleft()
                waiting[chunk[:2]] -= 1
                hidden = None if chunk.fits else _FIELDS.get(chunk[:2])
                if (
                    hidden is not None
                    and hidden in there
                    and hidden not in done
                    and _kind(packet, hidden) == chunk[:2]
                ):
                    # Behind a chunk of its type that does not fit it would not be read.
                    done.add(hidden)
                    yield hidden
                yield chunk
                if chunk[:2] == kind:
                    break
        elif attribute not in done:
            done.add(attribute)
            yield attribute
    yield from to_add
    yield from extra


def _attributes(packet: Packet) -> list[str | None]:
    """The attribute of each chunk in the layout; None for an extra chunk."""
    unread = _unread(packet) if packet.extra else ()
    there: set[str] = set()
    found: list[str | None] = []
    for kind in packet.layout:
        field = _FIELDS.get(kind)
        if field is None or field in there or kind in unread:
            found.append(None)
        else:
            there.add(field)
            found.append(field)
    return found


def _kind(packet: Packet, attribute: str) -> Kind:
    """The kind of the chunk that an attribute of fixed size is written as."""
    if attribute in ADDRESS_TYPES:
        return GENERIC_VENDOR, ADDRESS_TYPES[attribute][":" in getattr(packet, attribute)]
    return _KINDS[attribute]


def _has(packet: Packet, attribute: str) -> bool:
    """Whether an attribute that has no chunk in the layout has a value."""
    return getattr(packet, attribute) != _MISSING.get(attribute) or (
        attribute == "payload" and packet.compressed is not None
    )


def _unread(packet: Packet) -> set[Kind]:
    """The kinds of which no chunk is that of the attribute.

    The first chunk of a kind becomes the attribute, unless it does not fit. Then it is the first
    extra chunk of its kind, and all chunks of its kind are extra ones.
    """
    first: dict[Kind, Chunk] = {}
    for each in packet.extra:
        if each[:2] in _FIELDS:
            first.setdefault(each[:2], each)
    # A program may also add a chunk of an attribute's type here, and name its place in the layout.
    suspects = {
        kind
        for kind, chunk in first.items()
        if not chunk.fits or getattr(packet, _FIELDS[kind]) is None
    }
    if not suspects:
        return suspects
    held, received = Counter(each[:2] for each in packet.extra), Counter(packet.layout)
    return {kind for kind in suspects if held[kind] >= received[kind]}


def family(packet: Packet) -> int:
    """The value of the chunk of the address family.

    Returns:
        ``packet.ip_family`` if an address has it, or if the packet was received with these kinds of
        addresses; otherwise the family of the source address.
    """
    stated = packet.ip_family
    if packet.layout and (not stated or _kept_families(packet)):
        return stated
    ips = [ip for ip in (packet.src_ip, packet.dst_ip) if ip is not None]
    contradicted = stated in (INET, INET6) and stated not in map(family_of, ips)
    if not stated or (ips and contradicted):
        return family_of(ips[0] if ips else None)
    return stated


def _kept_families(packet: Packet) -> bool:
    """Whether each address of a received packet has the family that it was received with."""
    layout = packet.layout
    for ip, kinds in ((packet.src_ip, _SOURCES), (packet.dst_ip, _DESTINATIONS)):
        if ip is not None and kinds[":" in ip] not in layout:
            return False
    return True
