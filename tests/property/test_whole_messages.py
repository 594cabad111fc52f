"""Plain messages are taken and made by hand, and nothing shows that they are.

The same bytes, cut at the same places, go through a session as it is and through one that leaves
every frame to the engine. What they tell, write and hold must be equal after every read.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from sipws import Address, Limits, Listener
from sipws.events import Closed, Connection, ErrorKind, ErrorOccurred, MessageReceived
from sipws.ws.frames import BINARY, TEXT, server_frame, whole_messages
from sipws.ws.phase import CLOSING
from sipws.ws.server_session import ServerSession

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
LIMITS = Limits(request_size=1024, message_size=300, max_chunks=0)
CONNECTION = Connection(
    1, Listener("ws", "10.0.0.1", 80), Address("10.0.0.1", 80), Address("192.0.2.5", 1), 0.0
)


class EngineOnly(ServerSession):
    """The oracle: websockets reads and writes every frame."""

    __slots__ = ()
    use_fast_path: ClassVar[bool] = False


def frame(opcode: int, data: bytes, fin: bool = True, mask: bytes = b"\1\2\3\4") -> bytes:
    """A client's frame with a mask of one's choice."""
    length = len(data)
    if length < 126:
        header = bytes([fin << 7 | opcode, 0x80 | length])
    else:
        header = bytes([fin << 7 | opcode, 0xFE]) + length.to_bytes(2, "big")
    return header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def lying(first: int, length: int, masked: bool, rest: bytes) -> bytes:
    """A header that states one length in the widest form, before something of another."""
    return bytes([first, 0x7F | masked << 7]) + length.to_bytes(8, "big") + rest


def wider(first: int, size: int, data: bytes, mask: bytes = b"\1\2\3\4") -> bytes:
    """A client's frame whose length is in 2 or in 8 bytes, needed or not."""
    header = bytes([first, 0xFE if size == 2 else 0xFF]) + len(data).to_bytes(size, "big")
    return header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


masks = st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", b"\xff\x81\x85\x7f"])
good_text = st.text(max_size=40).map(str.encode)
# Lengths around every border: of the short header, of the message limit.
sized = st.sampled_from([0, 1, 124, 125, 126, 127, 299, 300, 301]).map(lambda n: b"x" * n)
frames_inside = st.builds(
    frame, st.sampled_from([1, 2, 8, 9]), st.binary(max_size=6), mask=st.just(b"\0\0\0\0")
)
payloads = good_text | st.binary(max_size=40) | sized | sized | frames_inside
whole = st.builds(frame, st.sampled_from([1, 2]), payloads, mask=masks)
fragments = st.builds(frame, st.sampled_from([0, 1, 2]), payloads, st.booleans(), masks)
control = st.builds(frame, st.sampled_from([9, 10]), st.binary(max_size=126), mask=masks)
closing = st.builds(
    frame,
    st.just(8),
    st.sampled_from([b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03", b"\x03\xed"]),
    mask=masks,
)
odd = st.builds(
    lambda first, second, rest: bytes([first, second]) + rest,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=12),
)
liars = st.builds(
    lying,
    st.sampled_from([0x81, 0x82, 0x89, 0xC1]),
    st.sampled_from([0, 5, 125, 126, 300, 301, 65536, 2**63 - 1, 2**63, 2**64 - 1]),
    st.booleans(),
    st.binary(max_size=12) | whole,
)
wide = st.builds(
    lambda first, size, data: wider(first, size, data),
    st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x89, 0xC1]),
    st.sampled_from([2, 8]),
    st.binary(max_size=140) | sized,
)
unmasked = st.builds(
    lambda opcode, data: Frame(opcode, data).serialize(mask=False),
    st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
    st.binary(max_size=20),
)
streams = st.lists(
    whole | whole | fragments | control | closing | odd | wide | liars | unmasked, max_size=8
).map(b"".join)


def start(kind: type[ServerSession]) -> ServerSession:
    session = kind(CONNECTION, LIMITS, monotonic=float)
    session.receive(UPGRADE, 0.5)
    session.take_writes()
    return session


@pytest.fixture(scope="module")
def both(ways: Any) -> Callable[[], Any]:
    return lambda: ways(start(ServerSession), start(EngineOnly))


@given(stream=streams, cuts=st.lists(st.integers(0, 1500), max_size=12))
@example(stream=frame(1, frame(2, b"smuggled", mask=b"\0\0\0\0"), mask=b"\0\0\0\0"), cuts=[2, 6, 8])
@example(stream=frame(2, b"x" * 300) + frame(2, b"x" * 301), cuts=[])
@example(stream=frame(1, b"a") + frame(9, b"b") + frame(1, b"c"), cuts=[])
@example(stream=frame(1, b"a", False) + frame(1, b"b") + frame(0, b"c"), cuts=[])
def test_no_difference_between_the_ways_wherever_reads_end(
    both: Callable[[], Any], stream: bytes, cuts: list[int]
) -> None:
    both().agree_on(stream, cuts)


@given(stream=streams)
def test_no_difference_between_the_ways_byte_by_byte(
    both: Callable[[], Any], stream: bytes
) -> None:
    both().agree_on_reads([stream[i : i + 1] for i in range(len(stream))])


@given(pieces=st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_no_difference_between_the_ways_on_any_bytes(
    both: Callable[[], Any], pieces: list[bytes]
) -> None:
    both().agree_on_reads(pieces)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "ping", "message", "close", "take"]), payloads),
        max_size=10,
    )
)
@example(steps=[("send", b""), ("message", b"x" * 301), ("send", b"0")])
def test_no_difference_in_the_order_of_what_is_sent(
    both: Callable[[], Any], steps: list[tuple[str, bytes]]
) -> None:
    both().agree_on_steps(steps, frame)


@pytest.mark.parametrize("kind", [ServerSession, EngineOnly])
@pytest.mark.parametrize("before", [b"", frame(1, b"a", False), frame(1, b"good")])
@given(
    st.sampled_from([0x81, 0x82, 0x01, 0x80]),
    st.sampled_from([(2, 0), (2, 125), (8, 0), (8, 126), (8, 65_535), (8, 2**63), (8, 2**64 - 1)]),
    st.booleans(),
)
def test_a_length_that_is_not_the_shortest_is_a_1002_as_soon_as_it_is_there(
    kind: type[ServerSession], before: bytes, first: int, length: tuple[int, int], masked: bool
) -> None:
    session = start(kind)
    session.receive(before, 1.0)
    size, number = length
    second = (126 if size == 2 else 127) | masked << 7
    [error] = session.receive(bytes([first, second]) + number.to_bytes(size, "big"), 1.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.PROTOCOL_ERROR
    assert "RFC 6455 section 5.2" in error.detail
    [*_, close], eof = session.take_writes()
    assert close[:1] == b"\x88"
    assert close[2:4] == (1002).to_bytes(2, "big")
    assert eof


@pytest.mark.parametrize("kind", [ServerSession, EngineOnly])
@pytest.mark.parametrize("size", [2, 8])
def test_a_wrong_length_behind_our_close_changes_nothing(
    kind: type[ServerSession], size: int
) -> None:
    session = start(kind)
    assert session.close(1.0, 1000, "bye") == []
    session.take_writes()
    assert session.receive(wider(0x82, size, b"short"), 1.0) == []
    assert session.phase is CLOSING
    [closed] = session.receive_eof(2.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason) == (1000, "bye")


@pytest.mark.parametrize("size", [125, 126, 127, 300])
def test_the_shortest_length_is_taken(size: int) -> None:
    [message] = start(ServerSession).receive(frame(2, b"x" * size), 1.0)
    assert isinstance(message, MessageReceived)
    if size > 125:
        assert wider(0x82, 2, b"x" * size) == frame(2, b"x" * size)


@given(streams, st.integers(0, 20))
def test_no_byte_behind_the_first_other_frame_is_looked_at(stream: bytes, tail: int) -> None:
    messages, end = whole_messages(stream, 0, LIMITS.message_size, CONNECTION, 1.0)
    assert whole_messages(stream[:end], 0, LIMITS.message_size, CONNECTION, 1.0) == (messages, end)
    assert whole_messages(stream, end, LIMITS.message_size, CONNECTION, 1.0) == ([], end)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
@pytest.mark.parametrize(("first", "opcode"), [(TEXT, Opcode.TEXT), (BINARY, Opcode.BINARY)])
def test_a_frame_made_by_hand_is_the_engines(length: int, first: int, opcode: Opcode) -> None:
    data = b"x" * length
    assert server_frame(first, data) == Frame(opcode, data).serialize(mask=False)
