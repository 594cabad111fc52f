"""Packets to bytes and back, held against what others sent."""

import json
import struct
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hep
from hep.codec import prefix, v3

DATA = Path(__file__).parents[2] / "data"
OPENSIPS = DATA / "opensips-3.6.8" / "hep"
KAMAILIO = DATA / "kamailio-5.6.3"
INDEX = json.loads((OPENSIPS / "index.json").read_text())["packets"]

PACKETS = sorted(OPENSIPS.glob("*.bin")) + sorted(KAMAILIO.glob("*.bin"))
VERSION_3 = [path for path in PACKETS if path.read_bytes().startswith(b"HEP3")]
OLDER = [path for path in PACKETS if path not in VERSION_3]

ADDRESSES = {b"\x02": ("127.0.0.1", "127.0.0.2"), b"\x0a": ("::1",)}


def name(path: Path) -> str:
    return path.stem


def test_there_is_golden_data_of_every_version() -> None:
    assert len(VERSION_3) == 60
    assert {path.read_bytes()[0] for path in OLDER} == {1, 2}


@pytest.mark.parametrize("path", VERSION_3, ids=name)
def test_recorded_version_3_encodes_to_the_same_bytes(path: Path) -> None:
    data = path.read_bytes()
    assert hep.encode(hep.decode(data)) == data


@pytest.mark.parametrize("path", [p for p in VERSION_3 if p.parent == OPENSIPS], ids=name)
def test_opensips_packets_decode_to_the_chunks_of_their_index(path: Path) -> None:
    chunks = v3.chunks(hep.decode(path.read_bytes()))
    assert [[c.vendor, c.type, c.data.hex()] for c in chunks] == INDEX[path.name]["chunks"]


@pytest.mark.parametrize("path", [p for p in VERSION_3 if p.parent == KAMAILIO], ids=name)
def test_kamailio_packets_decode(path: Path) -> None:
    packet = hep.decode(path.read_bytes())
    assert (packet.src_ip, packet.dst_ip) == ("127.0.0.1", "127.0.0.1")
    assert packet.protocol_type == hep.ProtocolType.SIP
    assert packet.payload.split()[0] in (b"OPTIONS", b"REGISTER", b"SIP/2.0")
    assert 1_700_000_000 < (packet.timestamp or 0) < 1_900_000_000


@pytest.mark.parametrize("path", OLDER, ids=name)
def test_recorded_versions_1_and_2_decode(path: Path) -> None:
    data = path.read_bytes()
    packet = hep.decode(data)
    assert packet.version == data[0]
    assert packet.src_ip in ADDRESSES[data[2:3]]
    assert packet.dst_ip in ADDRESSES[data[2:3]]
    if packet.version == 2:
        assert 1_700_000_000 < (packet.timestamp or 0) < 1_900_000_000
    else:
        assert packet.timestamp is None


OPENSIPS_OLDER = [path for path in OLDER if path.parent == OPENSIPS]


@pytest.mark.parametrize("path", OPENSIPS_OLDER, ids=name)
def test_zeros_appended_by_opensips_are_not_payload(path: Path) -> None:
    data = path.read_bytes()
    payload = hep.decode(data).payload
    assert data.endswith(bytes(8))
    # Of a connection event it sends nothing else.
    assert not payload or payload.endswith(b"\r\n\r\n")


def test_a_built_packet_has_opensips_chunk_order(packet: hep.Packet) -> None:
    packet = replace(packet, auth_key=b"key", extra=(hep.Chunk(0, 0x65, b"{}"),))
    types = [chunk.type for chunk in v3.chunks(packet)]
    assert types == [1, 2, 7, 8, 9, 10, 11, 12, 3, 4, 14, 15, 0x65, 17]


def test_ipv6_has_its_own_family_and_chunks(packet: hep.Packet) -> None:
    packet = hep.decode(hep.encode(replace(packet, src_ip="2001:db8::1", dst_ip="::1")))
    assert (packet.src_ip, packet.dst_ip, packet.ip_family) == ("2001:db8::1", "::1", 10)
    assert (0, 5) in packet.layout


def test_a_packet_may_change_its_values_and_keep_its_layout(packet: hep.Packet) -> None:
    data = (KAMAILIO / "ws_hep_tcp_001_tcp.bin").read_bytes()
    changed = hep.decode(hep.encode(replace(hep.decode(data), payload=b"x", src_ip="::1")))
    assert (changed.payload, changed.src_ip) == (b"x", "::1")
    assert [kind for _, kind in changed.layout] == [1, 2, 5, 4, 7, 8, 9, 10, 11, 12, 15]


def test_unknown_chunks_and_second_chunks_survive() -> None:
    chunks = (
        b"\x00\x03\x01\x00\x00\x09abc"  # vendor 3, type 0x0100
        b"\x00\x00\x00\x0f\x00\x09one"
        b"\x00\x00\x00\x0f\x00\x09two"
        b"\x00\x00\x00\xff\x00\x06"
    )
    data = b"HEP3" + struct.pack("!H", 6 + len(chunks)) + chunks
    packet = hep.decode(data)
    assert packet.payload == b"one"
    assert packet.extra == ((3, 0x100, b"abc"), (0, 15, b"two"), (0, 255, b""))
    assert hep.encode(packet) == data


def test_the_magic_eep1_is_decoded_and_kept(packet: hep.Packet) -> None:
    data = b"EEP1" + hep.encode(packet)[4:]
    assert hep.decode(data).payload == packet.payload
    assert hep.encode(hep.decode(data)) == data


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ip", ["192.0.2.5", "2001:db8::5"])
def test_old_versions_round_trip(packet: hep.Packet, version: int, ip: str) -> None:
    packet = replace(packet, version=version, src_ip=ip, dst_ip=ip, correlation_id=None)
    again = hep.decode(hep.encode(packet))
    assert (again.src_ip, again.src_port, again.payload) == (ip, 50123, packet.payload)
    if version == 2:
        assert (again.seconds, again.microseconds) == (1_700_000_000, 123_456)
        assert again.capture_id == 2001


def test_the_byte_order_of_version_2_is_that_of_a_plausible_time() -> None:
    header = struct.pack("!BBBBHH", 2, 16, 2, 17, 5060, 5060) + bytes(8)
    for order in "<>":
        time = struct.pack(f"{order}IIHxx", 1_700_000_000, 42, 7)
        packet = hep.decode(header + time + b"payload")
        assert (packet.seconds, packet.microseconds, packet.capture_id) == (1_700_000_000, 42, 7)


def test_a_packet_that_is_too_long_raises(packet: hep.Packet) -> None:
    with pytest.raises(hep.HepEncodeError, match="HEPv3 allows 65535"):
        hep.encode(replace(packet, payload=bytes(65_500)))
    with pytest.raises(hep.HepEncodeError, match="HEPv3 allows 65529; shorten the value"):
        hep.encode(replace(packet, payload=bytes(70_000)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"src_port": 65536}, "src_port = 65536 does not fit source port"),
        ({"capture_id": -1}, "capture_id = -1 does not fit capture agent id"),
        ({"payload": "text"}, "payload = 'text' does not fit payload"),
        ({"dst_ip": "localhost"}, "dst_ip = 'localhost' does not fit IPv4 destination address"),
        ({"version": 4}, "HEP has versions 1, 2 and 3"),
        ({"version": 2, "capture_id": 65536}, "HEP version 2"),
        ({"version": 1, "src_ip": None}, "HEP version 1"),
        ({"version": 1, "src_ip": "::1"}, "different address families"),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    packet: hep.Packet, change: dict[str, object], message: str
) -> None:
    with pytest.raises(hep.HepEncodeError, match=message):
        hep.encode(replace(packet, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "too few for a header"),
        (b"HEP3", 0, "no HEPv3 header"),
        (b"GET / HTTP/1.1", 0, "no HEP: it starts with 0x47"),
        (b"HEP3\x00\x05", 4, "total length 5 is shorter than the header"),
        (b"HEP3\x00\x07", 4, "total length 7, and only 6 bytes"),
        (b"HEP3\x00\x09\x00\x00\x00", 6, "3 bytes are too few for a chunk"),
        (b"HEP3\x00\x0c\x00\x00\x00\x01\x00\x05", 6, "chunk length 5 is shorter"),
        (b"HEP3\x00\x0c\x00\x00\x00\x0f\x00\x00", 6, "chunk length 0 is shorter"),
        (b"HEP3\x00\x0c\x00\x00\x00\x0f\x00\x07", 6, "reaches beyond the packet"),
        (b"\x01\x10\x03\x11" + bytes(12), 2, "unknown address family 3"),
        (b"\x01\x10\x02\x11" + bytes(11), 15, "15 bytes, and the headers have 16"),
    ],
)
def test_decoding_garbage_raises_with_offset_and_reason(
    data: bytes, offset: int, reason: str
) -> None:
    with pytest.raises(hep.HepDecodeError) as refused:
        hep.decode(data)
    assert refused.value.offset == offset
    assert reason in refused.value.reason
    assert str(refused.value).startswith(f"at byte {offset}: ")


@given(st.binary(max_size=400))
@example(b"HEP3\xff\xff" + b"\x00" * 100)
def test_decoding_any_bytes_raises_only_decode_errors(data: bytes) -> None:
    for start in (b"", b"HEP3", b"\x01", b"\x02"):
        try:
            packet = hep.decode(start + data)
        except hep.HepDecodeError:
            continue
        if packet.version == 3:
            total = int.from_bytes((start + data)[4:6], "big")
            assert hep.encode(packet) == (start + data)[:total]


@given(st.data())
def test_decoding_damaged_packets_raises_only_decode_errors(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(VERSION_3)).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(hep.HepDecodeError):
        hep.decode(bytes(damaged))


IP = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)


@given(
    flow=st.fixed_dictionaries(
        {
            "src_ip": IP,
            "src_port": U16,
            "dst_ip": IP,
            "dst_port": U16,
            "ip_protocol": st.integers(0, 255),
            "protocol_type": st.integers(0, 255),
            "capture_id": U32,
            "auth_key": st.none() | st.binary(max_size=20),
        }
    ),
    seconds=U32,
    microseconds=U32,
    payload=st.binary(max_size=100),
    correlation_id=st.none() | st.binary(max_size=20),
)
def test_the_prepared_encoder_writes_what_the_general_one_writes(
    flow: dict[str, object],
    seconds: int,
    microseconds: int,
    payload: bytes,
    correlation_id: bytes | None,
) -> None:
    packet = hep.Packet(
        **flow,  # type: ignore[arg-type]
        seconds=seconds,
        microseconds=microseconds,
        payload=payload,
        correlation_id=correlation_id,
    )
    encoder = hep.PreparedEncoder(hep.Packet(**flow))  # type: ignore[arg-type]
    written = encoder.encode(seconds, microseconds, payload, correlation_id)
    assert written == hep.encode(packet)
    again = hep.decode(written)
    assert (again.payload, again.correlation_id) == (payload, correlation_id)
    assert ip_address(str(again.src_ip)) == ip_address(str(flow["src_ip"]))


@pytest.mark.parametrize("path", VERSION_3, ids=name)
def test_fast_decoding_gives_the_same_packet(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = path.read_bytes()
    at_once = hep.decode(data)
    monkeypatch.setattr(prefix, "read", lambda data, total: None)
    assert hep.decode(data) == at_once


@given(damage=st.lists(st.tuples(st.integers(4, 120), st.integers(0, 255)), max_size=3),
       path=st.sampled_from(VERSION_3), cut=st.integers(0, 130))  # fmt: skip
def test_fast_decoding_gives_the_same_result_for_damaged_packets(
    damage: list[tuple[int, int]], path: Path, cut: int
) -> None:
    data = bytearray(path.read_bytes())
    for at, byte in damage:
        data[at] = byte
    if cut:
        data[4:6] = cut.to_bytes(2)

    def outcome() -> object:
        try:
            return hep.decode(bytes(data))
        except hep.HepDecodeError as exc:
            return exc.offset, exc.reason

    at_once = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "read", lambda data, total: None)
        assert outcome() == at_once


FIELDS = {
    "ip_family": st.sampled_from([0, 2, 10, 256]),
    "ip_protocol": st.integers(0, 256),
    "src_ip": st.none() | IP | st.just("localhost"),
    "dst_ip": IP,
    "src_port": st.integers(-1, 0x10000),
    "seconds": st.none() | U32,
    "microseconds": st.none() | U32,
    "protocol_type": st.integers(0, 256),
    "payload": st.binary(max_size=100) | st.just(bytes(65_500)),
    "correlation_id": st.none() | st.binary(max_size=20),
    "auth_key": st.none() | st.binary(max_size=20),
    "magic": st.sampled_from([b"HEP3", b"EEP1"]),
}


@given(fields=st.fixed_dictionaries({}, optional=FIELDS))
def test_fast_encoding_gives_the_same_bytes(fields: dict[str, object]) -> None:
    packet = hep.Packet(**{"src_ip": "192.0.2.1", "dst_ip": "::1", "seconds": 1} | fields)  # type: ignore[arg-type]

    def outcome() -> object:
        try:
            return hep.encode(packet)
        except hep.HepEncodeError as exc:
            return str(exc)

    at_once = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "write", lambda packet: None)
        assert outcome() == at_once


def test_the_prepared_encoder_raises_on_a_packet_that_is_too_long(packet: hep.Packet) -> None:
    with pytest.raises(hep.HepEncodeError, match="HEPv3 allows 65535"):
        hep.PreparedEncoder(packet).encode(1, 1, bytes(65_500))


@given(
    flow=st.fixed_dictionaries(
        {"src_ip": IP, "src_port": U16, "dst_ip": IP, "dst_port": U16},
        optional={
            "ip_protocol": st.integers(0, 255),
            "protocol_type": st.integers(0, 255),
            "capture_id": U32,
            "auth_key": st.binary(max_size=20),
        },
    ),
    src_ip=IP, src_port=U16, dst_ip=IP, dst_port=U16,
)  # fmt: skip
def test_between_equals_an_encoder_for_those_addresses(
    flow: dict[str, object], src_ip: str, src_port: int, dst_ip: str, dst_port: int
) -> None:
    packet = hep.Packet(**flow)  # type: ignore[arg-type]
    other = replace(packet, src_ip=src_ip, src_port=src_port, dst_ip=dst_ip, dst_port=dst_port)
    between = hep.PreparedEncoder(packet).between(src_ip, src_port, dst_ip, dst_port)
    for encoder in (between, between.between(src_ip, src_port, dst_ip, dst_port)):
        written = encoder.encode(1, 2, b"payload", b"id")
        assert written == hep.PreparedEncoder(other).encode(1, 2, b"payload", b"id")


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        (("localhost", 1, "192.0.2.1", 2), "from 'localhost', port 1, to '192.0.2.1', port 2"),
        (("192.0.2.1", 1, "192.0.2.1:5060", 2), "to '192.0.2.1:5060'"),
        (("192.0.2.1", 0x10000, "192.0.2.1", 2), "port 65536"),
        (("192.0.2.1", 1, "192.0.2.1", -1), "port -1"),
    ],
)
def test_an_invalid_address_is_named(
    packet: hep.Packet, ends: tuple[str, int, str, int], problem: str
) -> None:
    with pytest.raises(hep.HepEncodeError, match=problem):
        hep.PreparedEncoder(packet).between(*ends)


def test_a_flow_without_both_addresses_raises() -> None:
    with pytest.raises(hep.HepEncodeError, match="dst_ip = None"):
        hep.PreparedEncoder(hep.Packet(src_ip="192.0.2.5"))


@given(
    extra=st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0x12, 65535), st.binary(max_size=40))
    ),
    payload=st.binary(max_size=200),
    correlation_id=st.none() | st.binary(max_size=400),
)
def test_a_prepared_encoder_with_chunks_writes_what_encode_writes(
    extra: list[tuple[int, int, bytes]], payload: bytes, correlation_id: bytes | None
) -> None:
    packet = hep.Packet(
        src_ip="192.0.2.5", src_port=1, dst_ip="2001:db8::1", dst_port=2, seconds=3, microseconds=4,
        payload=payload, correlation_id=correlation_id,
        extra=tuple(hep.Chunk(*each) for each in extra),
    )  # fmt: skip
    encode = hep.PreparedEncoder(packet).with_extra(packet.extra)
    assert encode(3, 4, payload, correlation_id) == hep.encode(packet)


@pytest.mark.parametrize(
    ("payload", "correlation_id", "seconds"),
    [(bytes(65_500), None, 1), (b"", bytes(65_535), 1), (b"", bytes(70_000), 1), (b"", b"", 2**32)],
)
def test_a_prepared_encoder_with_chunks_refuses_what_does_not_fit(
    payload: bytes, correlation_id: bytes | None, seconds: int
) -> None:
    packet = hep.Packet(src_ip="192.0.2.5", src_port=1, dst_ip="192.0.2.6", dst_port=2)
    encode = hep.PreparedEncoder(packet).with_extra((hep.Chunk(0, 0x65, b"7"),))
    with pytest.raises(hep.HepEncodeError, match="does not fit"):
        encode(seconds, 0, payload, correlation_id)
    with pytest.raises(hep.HepEncodeError, match="too long"):
        hep.PreparedEncoder(packet).with_extra((hep.Chunk(0, 0x65, bytes(65_530)),))
