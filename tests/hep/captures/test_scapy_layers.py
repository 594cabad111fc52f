"""HEP in scapy: what is built there equals our own to the byte, and what is recorded reads well."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.config import conf
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from scapy.sendrecv import sniff
from scapy.sessions import TCPSession
from scapy.utils import rdpcap, wrpcap

import hep
from hep.captures.scapy_layers import (
    CHUNKS,
    HEP,
    HEP1,
    HEP2,
    HEP3,
    HEP2BigEndian,
    HEP3Chunk,
    field_name,
)
from hep.codec.chunks import GENERIC

DATA = Path(__file__).parents[2] / "data"
GOLDEN = sorted(DATA.glob("kamailio-5.6.3/*.bin")) + sorted(DATA.glob("opensips-3.6.8/hep/*.bin"))
IPV4, IPV6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
ADDRESSES = st.tuples(IPV4, IPV4) | st.tuples(IPV6, IPV6)


def rebuilt(layer: Packet) -> bytes:
    """A layer written from its fields; scapy would otherwise hand out what it was read from."""
    layer = layer.copy()
    for each in (layer, *getattr(layer, "chunks", [])):
        each.raw_packet_cache = None
    return bytes(layer)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_recorded_packet_is_read_and_written_to_the_same_bytes(path: Path) -> None:
    data = path.read_bytes()
    layer = HEP(data)
    assert type(layer) is {1: HEP1, 2: HEP2, 3: HEP3}[hep.decode(data).version]
    assert rebuilt(layer) == data


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_fields_have_the_values_of_the_decoded_packet(path: Path) -> None:
    packet, layer = hep.decode(path.read_bytes()), HEP(path.read_bytes())
    if packet.version == 3:
        found = {}
        for chunk in layer.chunks:
            found.setdefault(
                chunk.fields_desc[-1].name, chunk.getfieldval(chunk.fields_desc[-1].name)
            )
        assert found.pop("data") == packet.payload
        for name in ("src_ip", "dst_ip", "src_port", "seconds", "protocol_type", "correlation_id"):
            assert found.get(name) == getattr(packet, name), name
    else:
        names = ["src_ip", "dst_ip", "src_port", "dst_port", "ip_family", "ip_protocol"]
        for name in names + ["seconds", "microseconds", "capture_id"] * (packet.version == 2):
            assert getattr(layer, name) == getattr(packet, name), name
        assert bytes(layer.payload).startswith(packet.payload)


@given(
    ips=ADDRESSES, ports=st.tuples(U16, U16), time=st.tuples(U32, U32), kind=st.tuples(U8, U8),
    capture_id=U32, payload=st.binary(max_size=200),
    auth_key=st.none() | st.binary(max_size=20), correlation_id=st.none() | st.binary(max_size=20),
)  # fmt: skip
def test_it_makes_no_difference_whether_scapy_builds_a_version_3_packet(
    ips, ports, time, kind, capture_id, payload, auth_key, correlation_id
) -> None:
    packet = hep.Packet(
        src_ip=ips[0], dst_ip=ips[1], src_port=ports[0], dst_port=ports[1],
        seconds=time[0], microseconds=time[1], ip_protocol=kind[0], protocol_type=kind[1],
        capture_id=capture_id, payload=payload, auth_key=auth_key, correlation_id=correlation_id,
    )  # fmt: skip
    source, destination = (0x05, 0x06) if ":" in ips[0] else (0x03, 0x04)
    chunks = [
        CHUNKS[0x01](ip_family=packet.family),
        CHUNKS[0x02](ip_protocol=kind[0]),
        CHUNKS[0x07](src_port=ports[0]),
        CHUNKS[0x08](dst_port=ports[1]),
        CHUNKS[0x09](seconds=time[0]),
        CHUNKS[0x0A](microseconds=time[1]),
        CHUNKS[0x0B](protocol_type=kind[1]),
        CHUNKS[0x0C](capture_id=capture_id),
        CHUNKS[source](src_ip=ips[0]),
        CHUNKS[destination](dst_ip=ips[1]),
        *([CHUNKS[0x0E](auth_key=auth_key)] if auth_key is not None else []),
        CHUNKS[0x0F](data=payload),
        *([CHUNKS[0x11](correlation_id=correlation_id)] if correlation_id is not None else []),
    ]
    assert bytes(HEP3(chunks=chunks)) == hep.encode(packet)
    assert rebuilt(HEP3(hep.encode(packet))) == hep.encode(packet)


@given(
    version=st.sampled_from([1, 2]), ips=ADDRESSES, ports=st.tuples(U16, U16), ip_protocol=U8,
    time=st.tuples(U32, U32), capture_id=U16, payload=st.binary(max_size=200),
)  # fmt: skip
def test_it_makes_no_difference_whether_scapy_builds_an_older_packet(
    version, ips, ports, ip_protocol, time, capture_id, payload
) -> None:
    packet = hep.Packet(
        version=version, src_ip=ips[0], dst_ip=ips[1], src_port=ports[0], dst_port=ports[1],
        ip_protocol=ip_protocol, seconds=time[0], microseconds=time[1], capture_id=capture_id,
        payload=payload,
    )  # fmt: skip
    fields = {
        "ip_family": packet.family, "ip_protocol": ip_protocol, "src_ip": ips[0], "dst_ip": ips[1],
        "src_port": ports[0], "dst_port": ports[1],
    }  # fmt: skip
    if version == 1:
        built = HEP1(**fields)
    else:
        built = HEP2(**fields, seconds=time[0], microseconds=time[1], capture_id=capture_id)
    assert bytes(built / Raw(payload)) == hep.encode(packet)


@pytest.mark.parametrize("chunk_type", GENERIC, ids=lambda each: GENERIC[each].name)
def test_each_chunk_of_the_table_is_a_layer_with_its_name(chunk_type: int) -> None:
    layer = CHUNKS[chunk_type]
    assert layer().name == GENERIC[chunk_type].name
    size = GENERIC[chunk_type].form.size or 0
    data = bytes(layer())
    assert data == b"\0\0" + chunk_type.to_bytes(2) + (6 + size).to_bytes(2) + bytes(size)
    read = HEP3(b"HEP3" + (6 + len(data)).to_bytes(2) + data).chunks[0]
    assert type(read) is layer
    assert read.fields_desc[-1].name == field_name(chunk_type)


def test_a_capture_shows_what_a_packet_says(
    tmp_path: Path, packet: hep.Packet, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(
        src="192.0.2.9", dst="192.0.2.1"
    )
    path = str(tmp_path / "hep.captures.pcap")
    wrpcap(path, frame / UDP(sport=1, dport=9060) / HEP3(hep.encode(packet)))
    read = rdpcap(path)[0]
    read[HEP3].show()
    shown = capsys.readouterr().out
    for line in (
        "###[ IPv4 source address ]###",
        "type      = IPv4 source address",
        "vendor    = generic",
        "src_ip    = 192.0.2.5",
        "ip_protocol= TCP",
        "protocol_type= SIP",
        "correlation_id= b'call-1'",
        r"data      = b'OPTIONS sip:example.com SIP/2.0\r\nCall-ID: call-1\r\n\r\n'",
    ):
        assert line in shown
    assert read.summary().endswith("/ HEP3 SIP 192.0.2.5:50123 > 192.0.2.1:8080")


def test_it_goes_to_heps_port_unless_told(packet: hep.Packet) -> None:
    assert (UDP() / HEP3(hep.encode(packet))).dport == 9060
    assert (TCP() / HEP1()).dport == 9060


def test_chunks_are_found_by_their_names(packet: hep.Packet) -> None:
    layer = HEP3(hep.encode(packet))
    assert layer["HEP3CorrelationId"].correlation_id == b"call-1"
    assert layer["IPv4 source address"].src_ip == "192.0.2.5"


def test_vendors_chunks_and_those_of_another_length_are_kept() -> None:
    data = b"HEP3\0\x17" + b"\0\2\0\1\0\x08ab" + b"\0\0\0\1\0\x09abc"
    chunks = HEP3(data).chunks
    assert [type(each) for each in chunks] == [HEP3Chunk, HEP3Chunk]
    assert (chunks[0].vendor, chunks[0].data) == (2, b"ab")
    assert rebuilt(HEP3(data)) == data


def test_packets_one_behind_the_other_are_all_there(packet: hep.Packet) -> None:
    data = hep.encode(packet)
    layer = HEP3(data + data + data[:10])
    assert bytes(layer.payload.payload) == data[:10]
    assert isinstance(layer.payload.payload, conf.padding_layer)
    assert [bytes(each.chunks[-2].data) for each in (layer, layer.payload)] == [packet.payload] * 2


def test_a_packet_over_several_tcp_segments_is_put_together(packet: hep.Packet) -> None:
    data = hep.encode(packet)
    segments = []
    for at, part in ((1, data[:50]), (51, data[50:])):
        tcp = TCP(sport=5, dport=9060, seq=at, flags="PA")
        segments.append(IP(bytes(IP(src="192.0.2.1", dst="192.0.2.2") / tcp / part)))
    found = sniff(offline=segments, session=TCPSession, quiet=True)
    assert bytes(found[-1][HEP3]) == data


@pytest.mark.parametrize("padding", [b"", b"\0\0"])
def test_version_2_of_a_big_endian_machine_is_told_apart(
    packet: hep.Packet, padding: bytes
) -> None:
    old = hep.encode(replace(packet, version=2))
    time = (1_700_000_000).to_bytes(4) + (5).to_bytes(4) + (7).to_bytes(2) + padding
    data = old[:16] + time + packet.payload
    layer = IP(bytes(IP(dst="192.0.2.1") / UDP(sport=9060, dport=50_000) / data))[HEP2]
    assert type(layer) is HEP2BigEndian
    assert (layer.seconds, layer.microseconds, layer.capture_id) == (1_700_000_000, 5, 7)
    assert bytes(layer.payload) == packet.payload
    assert rebuilt(layer) == data
    assert bytes(HEP2BigEndian(bytes(HEP2BigEndian(seconds=1_700_000_000)))).hex() == (
        "0210021100000000" + "00" * 8 + "6553f100" + "00" * 8
    )


@given(st.binary(max_size=300), st.sampled_from([b"", b"HEP3", b"\1\x10\2", b"\2\x10\n", b"EEP1"]))
def test_no_bytes_are_too_much_for_the_layers(data: bytes, start: bytes) -> None:
    datagram = bytes(UDP(dport=9060) / Raw(start + data))
    layer = UDP(datagram)
    assert bytes(layer) == datagram
    assert layer.summary()
    assert layer.show(dump=True) is not None


def test_what_is_on_the_port_and_is_no_hep_stays_raw() -> None:
    assert type(UDP(bytes(UDP(sport=50_000, dport=9060) / b"nothing of the kind")).payload) is Raw
    assert HEP(b"").summary() == "Raw"
