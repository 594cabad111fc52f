"""The short way for the usual chunks, held against the long way chunk by chunk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.codec import prefix, v3
from hep.errors import HepDecodeError

DATA = Path(__file__).parents[2] / "data"
RECORDED = sorted(
    path.read_bytes()
    for folder in (DATA / "opensips-3.6.8" / "hep", DATA / "kamailio-5.6.3")
    for path in folder.glob("*.bin")
    if path.read_bytes().startswith(b"HEP3")
)

IP = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
U8, U16, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)

PACKETS = st.builds(
    hep.Packet,
    src_ip=IP,
    dst_ip=IP,
    src_port=U16,
    dst_port=U16,
    payload=st.binary(max_size=50),
    protocol_type=U8,
    ip_protocol=U8,
    seconds=U32,
    microseconds=U32,
    capture_id=U32,
    correlation_id=st.none() | st.binary(max_size=20),
    auth_key=st.none() | st.binary(max_size=9),
    ip_family=st.sampled_from([0, 2, 10]),
)


def outcome(data: bytes) -> object:
    try:
        return hep.decode(data)
    except HepDecodeError as exc:
        return str(exc)


def outcome_the_long_way(data: bytes) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hep.codec.prefix.read", lambda data, total: None)
        return outcome(data)


@given(PACKETS)
def test_the_fast_and_the_general_encoder_agree(packet: hep.Packet) -> None:
    assert hep.encode(packet) == v3.write_chunks(packet)


USUAL = [*prefix.OPENSIPS, 0x03, 0x04]
KAMAILIO = [*prefix.OPENSIPS[:2], 0x03, 0x04, *prefix.OPENSIPS[2:]]
BEHIND = st.sampled_from([0x0E, 0x0F, 0x11, 0x12, 0x13, 0x20, 0x24, 0x10, 0x66, 0x0B])
SIZES = {0x12: 2, 0x20: 2, 0x0B: 1}


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Packets that start as usual, and go on with any chunks in any order."""
    packet = draw(PACKETS)
    start = draw(st.sampled_from([USUAL, KAMAILIO]))
    chunks = v3.chunks(replace(packet, layout=tuple((0, each) for each in start)))
    for chunk_type in draw(st.lists(BEHIND, max_size=6)):
        vendor = draw(st.sampled_from([0, 0, 0, 3]))
        size = SIZES.get(chunk_type, draw(st.integers(0, 9))) + draw(st.sampled_from([0, 0, 0, 1]))
        chunks.append(hep.Chunk(vendor, chunk_type, draw(st.binary(min_size=size, max_size=size))))
    body = b"".join(v3.chunk_bytes(*chunk) for chunk in chunks)
    return v3.HEADER.pack(draw(st.sampled_from(v3.MAGICS)), v3.HEADER.size + len(body)) + body


@given(PACKETS, IP, st.sampled_from([{}, {"correlation_id": None}, {"ip_family": 0}]))
def test_both_encoders_agree_on_a_decoded_packet(
    packet: hep.Packet, other: str, changes: dict[str, Any]
) -> None:
    data = hep.encode(packet)
    assert hep.encode(hep.decode(data)) == data
    changed = replace(hep.decode(data), dst_ip=other, **changes)
    try:
        expected = v3.write_chunks(changed)
    except hep.HepEncodeError:
        with pytest.raises(hep.HepEncodeError):
            hep.encode(changed)
    else:
        assert hep.encode(changed) == expected


@given(streams())
def test_the_fast_and_the_general_decoder_agree(data: bytes) -> None:
    assert outcome(data) == outcome_the_long_way(data)


@pytest.mark.parametrize("recorded", RECORDED)
def test_the_fast_decoder_reads_recorded_packets(recorded: bytes) -> None:
    assert prefix.read(recorded, len(recorded)) == v3.read_chunks(
        recorded, recorded[:4], len(recorded)
    )


@given(st.sampled_from(RECORDED), st.data())
def test_both_decoders_agree_on_damaged_packets(recorded: bytes, data: st.DataObject) -> None:
    damaged = bytearray(recorded)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, min(120, len(damaged) - 1)))] = data.draw(U8)
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for stream in (bytes(damaged), cut):
        assert outcome(stream) == outcome_the_long_way(stream)
