"""SIP over WebSocket in streams: whole, masked, in fragments, and begun anywhere."""

import struct
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.packet import Packet, Raw

from hep.captures import websocket
from hep.captures.pcap import Capture, losses, skipped
from hep.captures.streams import Connection, Found, StreamReader
from hep.captures.websocket import COMPRESSED, FrameReader, unmasked

from .encapsulated import pcapng, sip

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)
KEY = b"\x9a\x02\xe7\x44"
MESSAGES = [sip(1, transport="WS"), b"SIP/2.0 200 OK\r\nCall-ID: 2\r\n\r\n", sip(3) + b"x" * 700]
LONG = sip(4)[:-2] + b"X: " + b"y" * 70_000 + b"\r\n\r\n"


def frame(payload: bytes, first: int = 0x81, key: bytes = KEY) -> bytes:
    """A frame; an empty key leaves it unmasked."""
    size, bit = len(payload), 0x80 if key else 0
    if size < 126:
        length = bytes([bit | size])
    elif size < 65_536:
        length = bytes([bit | 126]) + struct.pack("!H", size)
    else:
        length = bytes([bit | 127]) + struct.pack("!Q", size)
    return bytes([first]) + length + key + (unmasked(payload, key) if key else payload)


def fragments(message: bytes, key: bytes = KEY) -> bytes:
    """A message in three frames, with a ping between them."""
    size = len(message) // 3
    return (
        frame(message[:size], 0x01, key) + frame(message[size:-size], 0x00, key)
        + frame(b"ping", 0x89, key) + frame(message[-size:], 0x80, key)
    )  # fmt: skip


def read(*segments: bytes, connection: Connection | None = None) -> list[bytes]:
    reader = StreamReader(connection or Connection(), Counter())
    return [each.data for segment in segments for each in reader.feed(segment)]


def cut(stream: bytes, ends: list[int]) -> list[bytes]:
    ends = sorted({end % (len(stream) + 1) for end in ends} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


BETWEEN = [b"", frame(b"\r\n\r\n"), frame(b"", 0x8A), frame(b"pong" * 9, 0x8A, b"")]


@given(
    st.lists(st.sampled_from([*MESSAGES, LONG]), max_size=4),
    st.sampled_from([b"", KEY, b"\0\0\0\0"]),
    st.sampled_from([0x81, 0x82]),
    st.sampled_from(BETWEEN),
    st.booleans(),
    st.lists(st.integers(0, 100_000), max_size=12),
)
def test_where_the_stream_is_cut_makes_no_difference(
    messages, key, first, between, fragmented, ends
) -> None:
    head = REQUEST if key else ANSWER
    frames = [fragments(each, key) if fragmented else frame(each, first, key) for each in messages]
    stream = head + between.join([b"", *frames, b""])
    assert read(*cut(stream, ends)) == messages


@pytest.mark.parametrize("key", [b"", KEY, b"\0\0\0\0"], ids=["server", "client", "no mask"])
@pytest.mark.parametrize("size", [1460, 97, 1])
def test_a_stream_that_begins_anywhere_is_found_at_the_next_frame(key: bytes, size: int) -> None:
    frames = [frame(each, 0x81, key) for each in MESSAGES]
    stream = b"".join(frames)
    starts = [0, len(frames[0]), len(frames[0] + frames[1])]
    for begin in range(0, len(frames[0] + frames[1]), 1 if size > 97 else 41):
        rest = stream[begin:]
        found = read(*(rest[at : at + size] for at in range(0, len(rest), size)))
        expected = [each for at, each in zip(starts, MESSAGES, strict=True) if at >= begin]
        # What is left of an unmasked frame may start as SIP over TCP does.
        assert found[-len(expected) :] == expected, begin
        assert len(found) <= len(expected) + 1


def test_after_a_gap_the_next_frame_is_found() -> None:
    for key in (b"", KEY):
        reader = StreamReader(Connection(), Counter())
        assert reader.feed(REQUEST + frame(MESSAGES[2], key=key)[:300]) == []
        assert reader.holds_part
        reader.lose()
        rest = b"the end of a lost frame" + frame(MESSAGES[0], key=key)
        assert reader.feed(rest) == [Found("ws", MESSAGES[0])]
        assert not reader.holds_part


def test_frames_that_fill_a_segment_are_found_without_sip_in_them() -> None:
    connection = Connection()
    assert read(ANSWER, connection=connection) == []
    # The segment with the rest of the request is missing; this one has half of a message.
    first, second = frame(MESSAGES[0][:5], 0x01), frame(MESSAGES[0][5:], 0x80)
    assert read(first, second, connection=connection) == [MESSAGES[0]]


def test_compressed_messages_are_counted_with_and_without_a_handshake() -> None:
    squeezed = frame(b"\xaa" * 50, 0xC1)
    for head, count in ((REQUEST, 3), (b"", 2)):
        unread: Counter[str] = Counter()
        reader = StreamReader(Connection(), unread)
        reader.feed(head)
        for _ in range(3):
            assert reader.feed(squeezed) == []
        assert unread == {COMPRESSED: count}
        assert reader.feed(frame(MESSAGES[0])) == [Found("ws", MESSAGES[0])]


def test_a_compressed_message_in_fragments_counts_once() -> None:
    unread: Counter[str] = Counter()
    reader = StreamReader(Connection(), unread)
    parts = frame(b"a", 0x41) + frame(b"b", 0x00) + frame(b"c", 0x80)
    assert reader.feed(REQUEST + parts + frame(MESSAGES[0])) == [Found("ws", MESSAGES[0])]
    assert unread == {COMPRESSED: 1}


def test_a_message_that_is_too_long_is_counted_and_the_next_one_found(monkeypatch) -> None:
    monkeypatch.setattr(websocket, "LONGEST_MESSAGE", 5000)
    for stream in (frame(b"x" * 5001), frame(b"x" * 3000, 1) + frame(b"x" * 3000, 0x80)):
        unread: Counter[str] = Counter()
        reader = StreamReader(Connection(), unread)
        found = reader.feed(REQUEST + stream + frame(MESSAGES[0]))
        assert found == [Found("ws", MESSAGES[0])]
        assert unread == {websocket.TOO_LONG: 1}


@pytest.mark.parametrize(
    "proxy",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
    ],
    ids=["version 1", "version 2"],
)
def test_a_proxy_header_before_the_request_is_passed_over(proxy: bytes) -> None:
    stream = proxy + REQUEST + frame(MESSAGES[0])
    assert read(stream) == [MESSAGES[0]]
    assert read(*(bytes([each]) for each in stream)) == [MESSAGES[0]]


def test_a_refused_upgrade_may_be_followed_by_another_request() -> None:
    assert read(REQUEST, REQUEST, frame(MESSAGES[0])) == [MESSAGES[0]]


@given(st.lists(st.binary(max_size=50) | st.sampled_from([REQUEST, frame(MESSAGES[0])])))
def test_no_bytes_are_too_much_for_a_reader(segments: list[bytes]) -> None:
    reader = StreamReader(Connection(), Counter())
    for segment in segments:
        reader.feed(segment)
        assert reader.size <= 70_000
    reader.lose()
    assert reader.size == 0


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_xor_of_each_byte(data: bytes, key: bytes) -> None:
    assert unmasked(data, key) == bytes(each ^ key[at % 4] for at, each in enumerate(data))


@pytest.mark.parametrize("first", [0xA1, 0x91, 0x83, 0x8B, 0x09, 0xC9])
def test_reserved_bits_and_unknown_opcodes_are_no_frame(first: int) -> None:
    assert websocket.header(bytearray([first, 1]), 0) is None
    assert websocket.header(bytearray([0x81, 1]), 0) == (2, 1)
    assert websocket.header(bytearray([0x81, 126, 0, 125]), 0) is None


@given(st.binary(max_size=20))
def test_a_header_is_measured_or_refused(data: bytes) -> None:
    buffer = bytearray(data)
    found = websocket.header(buffer, 0)
    assert found is None or found == (0, 0) or found[0] <= len(data)
    reader = FrameReader(Counter())
    length = reader.measure(buffer, 0)
    if 0 < length <= len(data):
        reader.take(buffer, 0)


# In captures.


def segments(stream: bytes, *, client: bool, size: int = 1000, start: int = 1) -> list[Packet]:
    there, back = ("192.0.2.5", 50_123), ("192.0.2.1", 8080)
    (src, sport), (dst, dport) = (there, back) if client else (back, there)
    return [
        IP(src=src, dst=dst)
        / TCP(sport=sport, dport=dport, flags="PA", seq=start + at)
        / Raw(stream[at : at + size])
        for at in range(0, len(stream), size)
    ]


def written(path: Path, frames: list[Packet]) -> Path:
    path.write_bytes(pcapng([(101, bytes(each)) for each in frames]))
    return path


def test_both_directions_of_a_connection_are_read(tmp_path: Path) -> None:
    up = REQUEST + frame(MESSAGES[0]) + frame(b"\r\n\r\n") + frame(b'{"no": "sip"}')
    down = ANSWER + frame(MESSAGES[1], key=b"") + frame(b"\xc0" * 30, 0xC2, b"")
    frames = [*segments(up, client=True), *segments(down, client=False)]
    with Capture(written(tmp_path / "x", frames)) as capture:
        packets = [packet for _, packet in capture.packets()]
        assert [(each.src_port, each.ip_protocol, each.payload) for each in packets] == [
            (50_123, 6, MESSAGES[0]), (8080, 6, MESSAGES[1]),
        ]  # fmt: skip
        assert losses(capture) == {COMPRESSED: 1}
        assert skipped(capture) == {"not SIP": 1}


def test_a_lost_segment_loses_its_message_only(tmp_path: Path) -> None:
    stream = REQUEST + b"".join(frame(sip(each)) for each in range(40))
    frames = segments(stream, client=True, size=900)
    del frames[3]
    with Capture(written(tmp_path / "x", frames)) as capture:
        found = [each.data for each in capture.messages()]
        assert 40 - 6 <= len(found) < 40
        assert set(found) <= {sip(each) for each in range(40)}
        assert losses(capture) == {"at gaps of TCP streams": 1}
