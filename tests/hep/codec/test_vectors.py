"""Packets of captagent, sngrep, heplify-server, hep-js and real captures, each with its quirks.

They are not ours to hand on: the tests look for them beside the clone.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import hep
from hep.codec import v3
from hep.codec.chunks import GENERIC
from hep.codec.compression import container_of

VECTORS = Path(__file__).parents[4] / "shared" / "golden" / "vectors"
INDEX = VECTORS / "index.txt"
ROWS: list[tuple[str, Any]] = [
    (row.split("\t")[0], json.loads(row.split("\t")[3]))
    for row in (INDEX.read_text().splitlines() if INDEX.exists() else ())
    if not row.startswith("#")
]
PACKETS = [row for row in ROWS if "error" not in row[1]]
NO_PACKETS = [row for row in ROWS if "error" in row[1]]
VERSION_3 = [row for row in PACKETS if row[1]["v"] == 3]

ATTRIBUTES = {
    "v": "version",
    "family": "ip_family",
    "ip_proto": "ip_protocol",
    "src": "src_ip",
    "dst": "dst_ip",
    "sport": "src_port",
    "dport": "dst_port",
    "sec": "seconds",
    "sec_le": "seconds",
    "sec_be": "seconds",
    "usec": "microseconds",
    "usec_le": "microseconds",
    "usec_be": "microseconds",
    "ptype": "protocol_type",
    "capture_id": "capture_id",
    "capture_id_le": "capture_id",
    "id_be": "capture_id",
}
TEXTS = {"auth": "auth_key", "correlation": "correlation_id", "node_name": "node_name"}
CHUNKS = {"mos": 0x20, "rfactor": 0x21, "tags": 0x26, "transaction": 0x24}
OF_OTHERS = {"hp_l", "total", "order", "bytes_after_total", "compressed_len"}
"""What the index says of the bytes and not of what they mean; tested below where it matters."""


def read(name: str) -> bytes:
    return bytes.fromhex((VECTORS / name).read_text())


def parameters(rows: list[tuple[str, Any]]) -> Any:
    rows_or_one = rows or [("none", None)]
    return pytest.mark.parametrize(
        ("name", "expected"),
        rows_or_one,
        ids=[name.removesuffix(".hex") for name, _ in rows_or_one],
    )


pytestmark = pytest.mark.skipif(not ROWS, reason="the packets of others are not beside this clone")


def as_text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def check(packet: hep.Packet, key: str, expected: Any) -> None:
    """Compare what a packet has with one of the statements of the index."""
    extra = {(chunk.vendor, chunk.type): chunk.data for chunk in packet.extra}
    if key in ATTRIBUTES:
        assert getattr(packet, ATTRIBUTES[key]) == expected
    elif key in TEXTS:
        assert getattr(packet, TEXTS[key]) == expected.encode()
    elif key in CHUNKS:
        row = GENERIC[CHUNKS[key]]
        assert as_text(row.form.unpack(extra[0, CHUNKS[key]])) == expected
    elif key in ("payload_len", "inflated_len"):
        assert len(packet.payload) == expected
    elif key in ("payload_sha256", "inflated_sha256"):
        assert hashlib.sha256(packet.payload).hexdigest().startswith(expected)
    elif key == "payload_head":
        assert packet.payload.startswith(expected.encode())
    elif key == "container":
        assert packet.compressed is not None
        assert container_of(packet.compressed) == expected
    elif key == "vendor":
        for name, data in expected.items():
            vendor, chunk_type = name.split(":")
            assert extra[int(vendor), int(chunk_type, 16)].hex() == data
    else:
        assert key in OF_OTHERS, f"{key} = {expected!r} is tested by nothing"


@parameters(PACKETS)
def test_a_foreign_packet_decodes_as_its_index(name: str, expected: Any) -> None:
    packet = hep.decode(read(name))
    for key, value in expected.items():
        check(packet, key, value)


@parameters(NO_PACKETS)
def test_packets_that_others_reject_are_rejected(name: str, expected: Any) -> None:
    with pytest.raises(hep.HepDecodeError):
        hep.decode(read(name))


@parameters(VERSION_3)
def test_a_foreign_version_3_packet_encodes_to_the_same_bytes(name: str, expected: Any) -> None:
    data = read(name)
    assert hep.encode(hep.decode(data)) == data[: expected["total"]]


@parameters(VERSION_3)
def test_chunks_come_in_the_order_of_the_index(name: str, expected: Any) -> None:
    order = [
        f"v{vendor}:{kind:x}" if vendor else f"{kind:x}"
        for vendor, kind in hep.decode(read(name)).layout
    ]
    assert ",".join(order) == expected["order"]


@parameters(VERSION_3)
def test_a_foreign_packet_is_split_from_a_stream(name: str, expected: Any) -> None:
    data = read(name)[: expected["total"]]
    splitter = hep.Splitter()
    assert [each for byte in data * 2 for each in splitter.feed(bytes([byte]))] == [data, data]
    assert v3.decode(data).version == 3
