"""The short way for the usual chunks, held against the long way chunk by chunk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep import v3
from hep.errors import HepDecodeError

DATA = Path(__file__).parents[1] / "data"
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
        patch.setattr("hep.prefix.read", lambda data, total: None)
        return outcome(data)


@given(PACKETS)
def test_both_ways_write_the_same(packet: hep.Packet) -> None:
    assert hep.encode(packet) == v3._write(packet)


@given(PACKETS)
def test_both_ways_read_the_same(packet: hep.Packet) -> None:
    data = hep.encode(packet)
    assert outcome(data) == outcome_the_long_way(data)


@given(st.sampled_from(RECORDED), st.data())
def test_both_ways_read_damage_the_same(recorded: bytes, data: st.DataObject) -> None:
    damaged = bytearray(recorded)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, min(120, len(damaged) - 1)))] = data.draw(U8)
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for stream in (bytes(damaged), cut):
        assert outcome(stream) == outcome_the_long_way(stream)
