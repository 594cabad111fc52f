"""npm's hep-js decodes our packets, and we decode its."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import hep

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent

RCINFO = {
    "protocolFamily": 2,
    "protocol": 17,
    "srcIp": "192.0.2.5",
    "dstIp": "192.0.2.1",
    "srcPort": 50123,
    "dstPort": 8080,
    "timeSeconds": 1_700_000_000,
    "timeUseconds": 123_456,
    "payloadType": 1,
    "captureId": 2001,
}


@pytest.fixture(scope="session")
def hep_js(find):
    """Run hep-js: ``[told] = hep_js({"decapsulate": "…"})``."""
    node = find.node_with("hep-js")

    def run(*orders):
        done = subprocess.run(
            [node, HERE / "hep_js.cjs"],
            env={**os.environ, "NODE_PATH": str(find.npm_packages)},
            input=json.dumps(orders),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)

    return run


def test_hep_js_reads_every_chunk_of_ours_that_it_knows(hep_js, packet) -> None:
    sent = packet(
        "call-1",
        ip_protocol=17,
        auth_key=b"secret",
        node_name=b"edge-1",
        extra=(hep.Chunk(0, 0x20, b"\x01\xa4"),),
    )
    [told] = hep_js({"decapsulate": hep.encode(sent).hex()})
    assert told["payload"].encode() == sent.payload
    assert told["rcinfo"] == {
        **RCINFO,
        "capturePass": "secret",
        "correlation_id": "call-1",
        "hepNodeName": "edge-1",
        "mos": 420,
    }


def test_hep_js_reads_every_protocol_type_and_ip_protocol(hep_js, packet) -> None:
    packets = [packet("call-1", protocol_type=each, ip_protocol=each) for each in range(256)]
    told = hep_js(*({"decapsulate": hep.encode(each).hex()} for each in packets))
    for each, of_it in zip(packets, told, strict=True):
        assert of_it["rcinfo"]["payloadType"] == each.protocol_type
        assert of_it["rcinfo"]["protocol"] == each.ip_protocol


def test_hep_js_passes_over_what_it_does_not_know(hep_js, packet) -> None:
    sent = packet("call-1", src_ip="2001:db8::5", dst_ip="2001:db8::1",
                  extra=(hep.Chunk(3, 0x0100, b"ours"), hep.Chunk(0, 0x12, b"\0\x07")))  # fmt: skip
    [told] = hep_js({"decapsulate": hep.encode(sent).hex()})
    assert told["payload"].encode() == sent.payload
    assert "srcIp" not in told["rcinfo"]
    assert told["rcinfo"]["protocolFamily"] == 10


def test_hep_js_reads_what_a_prepared_encoder_writes(hep_js, packet) -> None:
    flow = hep.PreparedEncoder(packet("call-1", ip_protocol=17))
    data = flow.encode(1_700_000_000, 123_456, b"payload", b"call-1")
    [told] = hep_js({"decapsulate": data.hex()})
    assert told == {"payload": "payload", "rcinfo": {**RCINFO, "correlation_id": "call-1"}}


@pytest.mark.parametrize(
    ("more", "attributes", "extra"),
    [
        ({}, {"correlation_id": None}, ()),
        ({"correlation_id": "call-1"}, {}, ()),
        ({"correlation_id": "call-1", "capturePass": "secret"}, {"auth_key": b"secret"}, ()),
        ({"correlation_id": "call-1", "hepNodeName": "edge-1"}, {}, ()),
        (
            {"correlation_id": "call-1", "proto_type": 35, "payloadType": 35, "mos": 420},
            {"protocol_type": 35},
            (hep.Chunk(0, 0x20, b"\x01\xa4"),),
        ),
        (
            {"correlation_id": "call-1", "transaction_type": "call", "payloadType": 101},
            {"protocol_type": 101},
            (hep.Chunk(0, 0x24, b"call"),),
        ),
    ],
    ids=["plain", "correlated", "authenticated", "named", "mos", "transaction"],
)
def test_we_read_what_hep_js_writes(hep_js, packet, more, attributes, extra) -> None:
    expected = packet("call-1", ip_protocol=17, ip_family=2, **attributes)
    [told] = hep_js({"encapsulate": expected.payload.decode(), "rcinfo": {**RCINFO, **more}})
    data = bytes.fromhex(told)
    decoded = hep.decode(data)
    # It always names the node: without a name, by the capture id.
    node = more.get("hepNodeName", "2001").encode()
    assert decoded == replace(expected, node_name=node, extra=extra, layout=decoded.layout)
    assert hep.encode(decoded) == data


def test_we_keep_vendor_chunks_that_hep_js_writes(hep_js) -> None:
    extensions = {"8": {"1": {"keyName": "site", "type": "string"},
                        "2": {"keyName": "queue", "type": "UInt32"}}}  # fmt: skip
    [told] = hep_js({
        "encapsulate": "payload",
        "rcinfo": {**RCINFO, "site": "north", "queue": 7},
        "extensions": extensions,
    })  # fmt: skip
    decoded = hep.decode(bytes.fromhex(told))
    assert decoded.extra == (hep.Chunk(8, 1, b"north"), hep.Chunk(8, 2, b"\0\0\0\x07"))
    assert [chunk.name for chunk in decoded.extra] == [
        "Genesys chunk 0x0001",
        "Genesys chunk 0x0002",
    ]
