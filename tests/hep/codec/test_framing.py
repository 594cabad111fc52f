"""Packets out of a byte stream."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep


def packets(count: int) -> list[bytes]:
    blank = hep.Packet(src_ip="192.0.2.5", dst_ip="192.0.2.1")
    return [hep.encode(replace(blank, payload=b"%d" % n * n)) for n in range(count)]


def test_merged_packets_are_split() -> None:
    assert hep.Splitter().feed(b"".join(packets(5))) == packets(5)


def test_packets_arriving_byte_by_byte_are_reassembled() -> None:
    splitter = hep.Splitter()
    stream = b"".join(packets(3))
    assert [p for byte in stream for p in splitter.feed(bytes([byte]))] == packets(3)
    assert splitter.skipped == 0


@given(st.lists(st.integers(0, 200)))
def test_any_split_of_the_stream_gives_the_same_packets(cuts: list[int]) -> None:
    stream = b"".join(packets(4))
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    splitter = hep.Splitter()
    found = [
        packet for start, end in pairwise(edges) for packet in splitter.feed(stream[start:end])
    ]
    assert found == packets(4)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(b"HEP2HEPHE", id="nearly a header"),
        pytest.param(b"HEP3\x00\x02", id="a length shorter than the header"),
        pytest.param(bytes(1000), id="zeros"),
    ],
)
def test_garbage_is_skipped_and_counted(garbage: bytes) -> None:
    before, behind = packets(3)[1:]
    splitter = hep.Splitter()
    stream = before + garbage + behind
    found = [packet for byte in stream for packet in splitter.feed(bytes([byte]))]
    assert found == [before, behind]
    assert splitter.skipped == len(garbage)


@given(st.lists(st.binary(max_size=100)))
def test_any_stream_buffers_at_most_one_packet_and_never_raises(stream: list[bytes]) -> None:
    splitter = hep.Splitter()
    for data in stream:
        splitter.feed(data)
        assert splitter.buffered <= 0xFFFF
