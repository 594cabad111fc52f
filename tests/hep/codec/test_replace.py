"""A decoded packet with a replaced attribute: encoding it changes that attribute alone."""

import zlib
from dataclasses import fields, replace
from pathlib import Path
from socket import AF_INET6, inet_ntop
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.codec import v3
from hep.codec.chunks import GENERIC

IP = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(
    lambda ip: inet_ntop(AF_INET6, ip.packed)
)
U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
TEXT = st.binary(max_size=20)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "src_ip": st.none() | IP,
    "dst_ip": st.none() | IP,
    "src_port": U16,
    "dst_port": U16,
    "payload": TEXT,
    "protocol_type": U8,
    "ip_protocol": U8,
    "seconds": st.none() | U32,
    "microseconds": st.none() | U32,
    "capture_id": U32,
    "correlation_id": st.none() | TEXT,
    "auth_key": st.none() | TEXT,
    "node_name": st.none() | TEXT,
    "ip_family": st.sampled_from([0, 2, 10, 77]),
    "magic": st.sampled_from(v3.MAGICS),
    "compressed": st.just(None) | TEXT.map(zlib.compress),
}
OTHERS = [(0, 0x12), (0, 0x20), (0, 0x24), (0, 0xFF), (3, 0x0F), (3, 0x100)]
"""Kinds of chunks that have no attribute."""


@st.composite
def chunks(draw: st.DrawFn) -> hep.Chunk:
    """A chunk of any kind, nearly always with a value of its size."""
    vendor, kind = draw(st.sampled_from([*OTHERS, *((0, each) for each in GENERIC)]))
    size = hep.Chunk(vendor, kind, b"").expected_size
    if (vendor, kind) == (0, 0x10):
        return hep.Chunk(vendor, kind, zlib.compress(draw(TEXT)))
    if size is None:
        return hep.Chunk(vendor, kind, draw(TEXT))
    size += draw(st.sampled_from([0] * 7 + [1]))
    return hep.Chunk(vendor, kind, draw(st.binary(min_size=size, max_size=size)))


@st.composite
def received(draw: st.DrawFn) -> bytes:
    """A packet of version 3: most have the usual chunks, some have repeated ones."""
    unique = {"unique_by": lambda each: each[:2]} if draw(st.booleans()) else {}
    found = draw(st.lists(chunks(), min_size=1, max_size=25, **unique))
    body = b"".join(v3.chunk_bytes(*each) for each in found)
    return v3.HEADER.pack(draw(st.sampled_from(v3.MAGICS)), v3.HEADER.size + len(body)) + body


def families(packet: hep.Packet) -> set[int]:
    return {10 if ":" in ip else 2 for ip in (packet.src_ip, packet.dst_ip) if ip is not None}


def check(before: hep.Packet, name: str, value: Any) -> None:
    """Replace one attribute, and look at all of them in what is encoded."""
    changed = replace(before, **{name: value})
    encoded = hep.encode(changed)
    if len(encoded) == v3.HEADER.size:
        # What was removed was all it had.
        return
    after = hep.decode(encoded)
    differences = {
        each.name
        for each in fields(hep.Packet)
        if getattr(after, each.name) != getattr(changed, each.name)
    } - {"layout"}
    if name in ("payload", "compressed"):
        # The compressed payload is that of the payload.
        assert (after.compressed is None) == (changed.compressed is None)
        differences -= {"compressed"}
    if name in ("src_ip", "dst_ip") and changed.ip_family not in families(changed):
        # The family of an address that is there.
        assert after.ip_family == before.ip_family or after.ip_family in families(changed)
        differences -= {"ip_family"}
    if value is None and name != "compressed" and getattr(before, name) is not None:
        # Otherwise a repeated chunk would take the place of the removed one.
        assert after.extra == tuple(
            each for each in before.extra if not each.fits or NAMES.get(each[:2]) != name
        )
        differences -= {"extra"}
    assert not differences


NAMES = {(0, kind): row.field for kind, row in GENERIC.items()}


@given(received())
def test_a_decoded_packet_encodes_to_the_same_bytes(data: bytes) -> None:
    assert hep.encode(hep.decode(data)) == data


@given(received(), st.data())
def test_any_replaced_attribute_takes_effect_and_no_other_changes(
    data: bytes, draw: st.DataObject
) -> None:
    name = draw.draw(st.sampled_from(sorted(VALUES)))
    check(hep.decode(data), name, draw.draw(VALUES[name]))


@given(received(), st.lists(chunks().filter(lambda each: each[:2] in OTHERS), max_size=4))
def test_any_extra_chunks_take_effect(data: bytes, extra: list[hep.Chunk]) -> None:
    before = hep.decode(data)
    check(before, "extra", tuple(extra))
    check(before, "extra", (*before.extra, *extra))
    kept = tuple(each for each in before.extra if each[:2] in OTHERS)
    check(before, "extra", (*extra, *reversed(kept)))


RECORDED = Path(__file__).parents[2] / "data" / "kamailio-5.6.3" / "ws_hep_tcp_001_tcp.bin"
KAMAILIO = [1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 15]


def types(packet: hep.Packet) -> list[int]:
    return [kind for _, kind in packet.layout]


def again(packet: hep.Packet, **changes: Any) -> hep.Packet:
    """What is received when the packet is changed and sent."""
    return hep.decode(hep.encode(replace(packet, **changes)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, KAMAILIO),
        ({"correlation_id": b"call-1"}, [*KAMAILIO, 17]),
        ({"auth_key": b"secret"}, [*KAMAILIO[:-1], 14, 15]),
        ({"node_name": b"edge-1"}, [*KAMAILIO[:-1], 19, 15]),
        ({"extra": (hep.Chunk(0, 0x12, b"\0\7"),)}, [*KAMAILIO, 0x12]),
        ({"seconds": None, "microseconds": None}, [1, 2, 3, 4, 7, 8, 11, 12, 15]),
        ({"seconds": 5, "microseconds": 6}, KAMAILIO),
        ({"src_ip": "::1", "dst_ip": "::2"}, [1, 2, 5, 6, *KAMAILIO[4:]]),
        ({"protocol_type": 100, "payload": b"text", "capture_id": 7}, KAMAILIO),
        ({"compressed": zlib.compress(b"")}, [*KAMAILIO[:-1], 16]),
    ],
)
def test_a_changed_packet_keeps_the_received_order(
    changes: dict[str, Any], expected: list[int]
) -> None:
    received = hep.decode(RECORDED.read_bytes())
    changed = again(received, **changes)
    assert types(changed) == expected
    for name, value in changes.items():
        if name != "compressed":
            assert getattr(changed, name) == value


def test_what_was_added_can_be_removed_again() -> None:
    received = hep.decode(RECORDED.read_bytes())
    added = again(received, auth_key=b"key", correlation_id=b"id", node_name=b"edge")
    assert again(added, auth_key=None, correlation_id=None, node_name=None) == received


def test_the_family_is_that_of_replaced_addresses(packet: hep.Packet) -> None:
    received = hep.decode(hep.encode(packet))
    assert received.ip_family == 2
    changed = again(received, src_ip="2001:db8::1", dst_ip="2001:db8::2")
    assert changed.ip_family == 10
    assert again(changed, src_ip="192.0.2.1", dst_ip="192.0.2.2").ip_family == 2
    # One of each: the stated family is that of the other.
    assert again(received, dst_ip="2001:db8::2").ip_family == 2


def test_a_wrong_family_is_kept_with_the_addresses_that_it_came_with(packet: hep.Packet) -> None:
    data = hep.encode(packet)
    wrong = data.replace(b"\0\0\0\1\0\7\2", b"\0\0\0\1\0\7\x0a")
    received = hep.decode(wrong)
    assert (received.ip_family, received.src_ip) == (10, "192.0.2.5")
    assert hep.encode(replace(received, src_ip="192.0.2.77"))[6:13] == wrong[6:13]
    assert again(received, src_ip="2001:db8::1").ip_family == 10


@pytest.mark.parametrize("ip_family", [2, 10])
def test_a_built_packet_has_a_family_of_its_addresses(packet: hep.Packet, ip_family: int) -> None:
    other = {"src_ip": "2001:db8::1", "dst_ip": "2001:db8::2"}
    assert again(packet, ip_family=ip_family).ip_family == 2
    assert again(packet, ip_family=ip_family, **other).ip_family == 10
    assert again(packet, ip_family=ip_family, dst_ip="::1").ip_family == ip_family


@pytest.mark.parametrize("ip_family", [0, 2])
def test_an_encoder_between_addresses_of_the_other_family(
    packet: hep.Packet, ip_family: int
) -> None:
    encoder = hep.PreparedEncoder(replace(packet, ip_family=ip_family, node_name=b"edge-1"))
    written = hep.decode(encoder.between("::1", 1, "::2", 2).encode(1, 2, b"payload"))
    assert (written.ip_family, written.src_ip, written.node_name) == (10, "::1", b"edge-1")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ip", ["192.0.2.5", "2001:db8::5"])
def test_a_received_packet_can_be_sent_in_another_version(
    packet: hep.Packet, version: int, ip: str
) -> None:
    received = hep.decode(hep.encode(replace(packet, node_name=b"edge")))
    older = again(received, version=version, src_ip=ip, dst_ip=ip)
    assert (older.version, older.src_ip, older.src_port) == (version, ip, 50123)
    assert older.payload == packet.payload
    if version == 2:
        assert (older.timestamp, older.capture_id) == (packet.timestamp, 2001)
    newer = again(older, version=3, src_ip="::7", dst_ip="::8", correlation_id=b"id")
    assert (newer.version, newer.ip_family, newer.correlation_id) == (3, 10, b"id")
    assert (newer.src_ip, newer.dst_ip, newer.seconds) == ("::7", "::8", older.seconds)
    assert newer.payload == packet.payload


@given(
    version=st.sampled_from([1, 2]),
    ip=IP,
    payload=st.binary(max_size=40) | st.builds(lambda size: b"x" + bytes(size), st.integers(0, 80)),
    ports=st.tuples(U16, U16),
    ip_protocol=U8,
)
def test_versions_1_and_2_keep_what_they_can_carry(
    version: int, ip: str, payload: bytes, ports: tuple[int, int], ip_protocol: int
) -> None:
    built = hep.Packet(
        version=version, src_ip=ip, dst_ip=ip, src_port=ports[0], dst_port=ports[1],
        ip_protocol=ip_protocol, payload=payload, seconds=1_700_000_000, microseconds=1,
        capture_id=7,
    )  # fmt: skip
    received = hep.decode(hep.encode(built))
    names = ["src_ip", "dst_ip", "src_port", "dst_port", "ip_protocol", "payload"]
    names += ["seconds", "microseconds", "capture_id"] if version == 2 else []
    for name in names:
        assert getattr(received, name) == getattr(built, name)
    assert received.family == built.family


def test_a_removed_attribute_takes_its_repeated_chunks_along() -> None:
    key = v3.chunk_bytes(0, 0x0E, b"one") + v3.chunk_bytes(0, 0x0E, b"two")
    body = v3.chunk_bytes(0, 0x0F, b"payload") + key
    received = hep.decode(v3.HEADER.pack(b"HEP3", 6 + len(body)) + body)
    assert (received.auth_key, received.extra) == (b"one", ((0, 0x0E, b"two"),))
    assert b"two" not in hep.encode(replace(received, auth_key=None))
    assert again(received, auth_key=b"new").extra == received.extra


WRONG = {
    0x01: b"\0\2", 0x02: b"", 0x03: bytes(16), 0x04: bytes(5), 0x05: bytes(4), 0x06: b"",
    0x07: b"\0\0\x13\xc4", 0x08: b"\1", 0x09: bytes(8), 0x0A: b"", 0x0B: b"\0\1",
    0x0C: b"\7\xd1", 0x0D: b"\1", 0x12: b"\7", 0x14: bytes(6), 0x23: b"",
}  # fmt: skip
"""Values of a size that their types do not have."""


@pytest.mark.parametrize("chunk_type", WRONG)
def test_a_chunk_of_an_unexpected_size_costs_itself_alone(
    packet: hep.Packet, chunk_type: int
) -> None:
    whole = v3.chunks(packet)
    odd = hep.Chunk(0, chunk_type, WRONG[chunk_type])
    assert not odd.fits
    there = [odd if each.type == chunk_type else each for each in whole]
    there = there if odd in there else [*there, odd]
    body = b"".join(v3.chunk_bytes(*each) for each in there)
    data = v3.HEADER.pack(b"HEP3", v3.HEADER.size + len(body)) + body
    received = hep.decode(data)
    assert received.extra == (odd,)
    assert hep.encode(received) == data
    field = GENERIC[chunk_type].field
    for each in fields(hep.Packet):
        if each.name not in ("extra", "layout", "ip_family", field):
            assert getattr(received, each.name) == getattr(packet, each.name)
    if field in VALUES and chunk_type not in (0x05, 0x06):
        assert getattr(received, field) in (0, None)
        assert getattr(again(received, **{field: getattr(packet, field)}), field) == getattr(
            packet, field
        )


def packet_of(*chunks: tuple[int, bytes]) -> bytes:
    body = b"".join(v3.chunk_bytes(0, *each) for each in chunks)
    return v3.HEADER.pack(b"HEP3", v3.HEADER.size + len(body)) + body


def test_a_new_address_comes_before_a_chunk_of_its_type_that_is_not_read() -> None:
    data = packet_of((0x05, b"odd"), (0x0F, b"payload"), (0x03, bytes(4)))
    received = hep.decode(data)
    assert hep.encode(received) == data
    assert received.src_ip == "0.0.0.0"
    changed = again(received, src_ip="::1")
    assert (changed.src_ip, changed.extra) == ("::1", received.extra)
    assert types(changed) == [0x05, 0x05, 0x0F]


@pytest.mark.parametrize("first", [True, False])
def test_the_first_chunk_of_a_type_counts(first: bool) -> None:
    good, odd = (0x0C, bytes(4)), (0x0C, b"\7\xd1")
    data = packet_of(*((good, (0x0F, b""), odd) if first else (odd, (0x0F, b""), good)))
    received = hep.decode(data)
    assert received.capture_id == 0
    assert len(received.extra) == (1 if first else 2)
    assert hep.encode(received) == data
    assert again(received, capture_id=7).capture_id == 7


def test_an_extra_chunk_of_an_attribute_is_written_where_the_layout_has_it() -> None:
    received = hep.decode(packet_of((0x0F, b"payload")))
    node = hep.Chunk(0, 0x13, b"edge-1")
    changed = again(received, extra=(node,), layout=((0, 0x13), *received.layout))
    assert (changed.node_name, types(changed)) == (b"edge-1", [0x13, 0x0F])


def test_a_packet_without_chunks_is_none() -> None:
    with pytest.raises(hep.HepDecodeError, match="at byte 6: no chunks"):
        hep.decode(b"HEP3\0\6")


@given(received())
def test_the_key_is_found_without_decoding(data: bytes) -> None:
    assert v3.auth_key(data) == hep.decode(data).auth_key
    for broken in (data[:-1], data[:6], data[:4] + b"\0\0" + data[6:]):
        assert v3.auth_key(broken) in (None, hep.decode(data).auth_key)
