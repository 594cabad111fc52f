"""A SIP packet that Homer 7 stores."""

import pytest

import hep

SECONDS = 1_700_000_000


@pytest.fixture
def packet() -> hep.Packet:
    return hep.Packet(
        src_ip="192.0.2.5",
        src_port=50123,
        dst_ip="192.0.2.1",
        dst_port=8080,
        seconds=SECONDS,
        microseconds=250_000,
        capture_id=7,
        payload=b"OPTIONS sip:a SIP/2.0\r\nCall-ID: call-1\r\nCSeq: 1 OPTIONS\r\n\r\n",
        correlation_id=b"call-1",
    )
