"""Compressed payloads: read in both forms, written on request, never trusted."""

import gzip
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.codec import v3
from hep.codec.compression import LONGEST_INFLATED, InflateError, inflate


def with_payload_chunk(data: bytes) -> bytes:
    chunk = struct.pack("!HHH", 0, 0x10, 6 + len(data)) + data
    return b"HEP3" + struct.pack("!H", 6 + len(chunk)) + chunk


@pytest.mark.parametrize(
    "data", [zlib.compress(b"REGISTER"), gzip.compress(b"REGISTER")], ids=["zlib", "gzip"]
)
def test_a_compressed_payload_is_read_and_kept(data: bytes) -> None:
    written = with_payload_chunk(data)
    packet = hep.decode(written)
    assert packet.payload == b"REGISTER"
    assert packet.compressed == data
    assert hep.encode(packet) == written


@pytest.mark.parametrize(("container", "start"), [("zlib", b"\x78"), ("gzip", b"\x1f\x8b")])
def test_a_payload_is_compressed_on_request(packet, container, start) -> None:
    packet = replace(packet, payload=b"INVITE " * 1000)
    written = hep.encode(hep.compress(packet, container))
    assert len(written) < 300
    again = hep.decode(written)
    assert again.payload == packet.payload
    assert again.compressed.startswith(start)
    assert 0x0F not in [chunk.type for chunk in v3.chunks(again)]


def test_a_received_packet_can_be_compressed_and_keeps_its_order(packet) -> None:
    received = hep.decode(hep.encode(packet))
    again = hep.decode(hep.encode(hep.compress(received)))
    assert again.payload == packet.payload
    assert [kind for _, kind in again.layout] == [
        0x10 if kind == 0x0F else kind for _, kind in received.layout
    ]
    assert hep.encode(replace(again, compressed=None)) == hep.encode(received)


def test_a_replaced_payload_is_compressed_again_in_the_same_format() -> None:
    packet = hep.decode(with_payload_chunk(gzip.compress(b"REGISTER")))
    again = hep.decode(hep.encode(replace(packet, payload=b"OPTIONS")))
    assert again.payload == b"OPTIONS"
    assert again.compressed is not None
    assert gzip.decompress(again.compressed) == b"OPTIONS"


def test_compressing_versions_1_and_2_raises(packet) -> None:
    with pytest.raises(hep.HepEncodeError, match="only version 3"):
        hep.compress(replace(packet, version=2))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "incomplete after 0 bytes"),
        (b"REGISTER sip:a@b SIP/2.0", "neither zlib nor gzip"),
        (zlib.compress(b"REGISTER")[:-1], "incomplete after"),
        (zlib.compress(bytes(60_000_000)), f"inflates to more than {LONGEST_INFLATED} bytes"),
    ],
    ids=["nothing", "text", "a part", "a bomb"],
)
def test_an_invalid_compressed_payload_raises_with_offset(data: bytes, reason: str) -> None:
    with pytest.raises(hep.HepDecodeError) as refused:
        hep.decode(with_payload_chunk(data))
    assert refused.value.offset == 6
    assert reason in refused.value.reason


def test_a_payload_as_long_as_the_limit_is_read() -> None:
    assert inflate(zlib.compress(bytes(LONGEST_INFLATED))) == bytes(LONGEST_INFLATED)


@given(st.binary(max_size=200))
def test_inflating_any_bytes_raises_only_inflate_errors(data: bytes) -> None:
    for start in (b"", b"\x78\x9c", b"\x1f\x8b\x08"):
        try:
            inflate(start + data)
        except InflateError:
            continue
