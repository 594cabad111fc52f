"""Plain messages bypass the engine, and nothing shows that they do.

The same bytes, cut at the same places, go through a session as it is and through one that leaves
every frame to the engine. What they report, write and hold must be equal after every read. Each
test runs with a server's sessions and with a client's.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from sipws import Limits
from sipws.events import Closed, ErrorKind, ErrorOccurred, MessageReceived
from sipws.ws.frames import (
    BINARY,
    TEXT,
    client_frame,
    client_messages,
    server_frame,
    server_messages,
)
from sipws.ws.phase import CLOSING
from tests.property.sides import (
    SIDES,
    Server,
    Side,
    Ways,
    engine_frame,
    lying_header,
    nothing_by_chance,
    opened,
    peer_frame,
    reads_of,
    wide_frame,
)

LIMITS = Limits(request_size=1024, message_size=300, max_chunks=0)

side_by_side = pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)


@pytest.fixture(autouse=True, scope="module")
def _nothing_by_chance() -> Iterator[None]:
    with nothing_by_chance():
        yield


# Frames are drawn as functions of the side, whose peer frames them.

masks = st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", b"\xff\x81\x85\x7f"])
good_text = st.text(max_size=40).map(str.encode)
# Lengths around every border: of the short header, of the message limit.
sized = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 299, 300, 301]).map(lambda n: b"x" * n)
CLOSES = [b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03", b"\x03\xed"]


def frames_of(
    side: Side, opcodes: list[int], data: st.SearchStrategy[bytes], fin: st.SearchStrategy[bool]
) -> st.SearchStrategy[bytes]:
    return st.builds(peer_frame, st.just(side), st.sampled_from(opcodes), data, fin, masks)


def payloads_of(side: Side) -> st.SearchStrategy[bytes]:
    """Payloads; some are frames themselves, which a wrong offset would take for frames."""
    inside = st.builds(
        lambda opcode, data: peer_frame(side, opcode, data, mask=bytes(4)),
        st.sampled_from([1, 2, 8, 9]),
        st.binary(max_size=6),
    )
    return good_text | st.binary(max_size=40) | sized | sized | inside


def streams_of(side: Side) -> st.SearchStrategy[bytes]:
    """Frames that a peer may send, good and bad, behind each other."""
    payloads, fin = payloads_of(side), st.just(True)
    whole = frames_of(side, [1, 2], payloads, fin)
    fragments = frames_of(side, [0, 1, 2], payloads, st.booleans())
    control = frames_of(side, [9, 10], st.binary(max_size=126), fin)
    closing = frames_of(side, [8], st.sampled_from(CLOSES), fin)
    odd = st.builds(
        lambda first, second, rest: bytes([first, second]) + rest,
        st.integers(0, 255),
        st.integers(0, 255),
        st.binary(max_size=12),
    )
    liars = st.builds(
        lying_header,
        st.sampled_from([0x81, 0x82, 0x89, 0xC1]),
        st.sampled_from([0, 5, 125, 126, 300, 301, 65536, 2**63 - 1, 2**63, 2**64 - 1]),
        st.booleans(),
        st.binary(max_size=12) | whole,
    )
    wide = st.builds(
        wide_frame,
        st.just(side),
        st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x89, 0xC1]),
        st.sampled_from([2, 8]),
        st.binary(max_size=140) | sized,
    )
    wrongly_masked = st.builds(
        lambda opcode, data: engine_frame(opcode, data, masked=not side.peer_is_masked),
        st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
        st.binary(max_size=20),
    )
    parts = whole | whole | fragments | control | closing | odd | wide | liars | wrongly_masked
    return st.lists(parts, max_size=8).map(b"".join)


STREAMS = {side: streams_of(side) for side in SIDES}
PAYLOADS = {side: payloads_of(side) for side in SIDES}


def example_of(side: Side, name: str) -> tuple[bytes, list[int]]:
    """Streams that are always tried, with the ends of their reads."""

    def frame(opcode: int, data: bytes, fin: bool = True) -> bytes:
        return peer_frame(side, opcode, data, fin, mask=bytes(4))

    return {
        "smuggled": (frame(1, frame(2, b"smuggled")), [1, 2, 3, 4, 6, 8]),
        "limit": (frame(2, b"x" * 300) + frame(2, b"x" * 301), []),
        "ping between": (frame(1, b"a") + frame(9, b"b") + frame(1, b"c"), []),
        "within fragments": (frame(1, b"a", False) + frame(1, b"b") + frame(0, b"c"), []),
        "shortest": (frame(1, b"") + frame(2, b"a") + frame(2, b"ab"), []),
    }[name]


@side_by_side
@pytest.mark.parametrize(
    "name", ["smuggled", "limit", "ping between", "within fragments", "shortest"]
)
def test_no_difference_between_the_ways_in_an_example(side: Side, name: str) -> None:
    Ways.of(side, LIMITS).agree_on_reads(reads_of(*example_of(side, name)))


@side_by_side
@given(st.data(), st.lists(st.integers(0, 1500), max_size=12))
def test_no_difference_between_the_ways_wherever_reads_end(
    side: Side, data: st.DataObject, cuts: list[int]
) -> None:
    stream = data.draw(STREAMS[side])
    Ways.of(side, LIMITS).agree_on_reads(reads_of(stream, cuts))


@side_by_side
@given(st.data())
def test_no_difference_between_the_ways_byte_by_byte(side: Side, data: st.DataObject) -> None:
    stream = data.draw(STREAMS[side])
    Ways.of(side, LIMITS).agree_on_reads([stream[i : i + 1] for i in range(len(stream))])


@side_by_side
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_no_difference_between_the_ways_on_any_bytes(side: Side, pieces: list[bytes]) -> None:
    Ways.of(side, LIMITS).agree_on_reads(pieces)


STEPS = st.sampled_from(["send", "ping", "message", "close", "take"])


@side_by_side
@given(st.data(), st.lists(STEPS, max_size=10))
def test_no_difference_in_the_order_of_what_is_sent(
    side: Side, data: st.DataObject, steps: list[str]
) -> None:
    taken = [(step, data.draw(PAYLOADS[side])) for step in steps]
    Ways.of(side, LIMITS).agree_on_steps(taken, lambda *frame: peer_frame(side, *frame))


@side_by_side
def test_no_difference_in_what_is_sent_behind_a_message_that_is_too_long(side: Side) -> None:
    steps = [("send", b""), ("message", b"x" * 301), ("send", b"0")]
    Ways.of(side, LIMITS).agree_on_steps(steps, lambda *frame: peer_frame(side, *frame))


# A length that is not in its shortest form.


@side_by_side
@pytest.mark.parametrize("by_engine", [False, True])
@pytest.mark.parametrize("before", [b"", b"fragment", b"good"])
@given(
    st.sampled_from([0x81, 0x82, 0x01, 0x80]),
    st.sampled_from([(2, 0), (2, 125), (8, 0), (8, 126), (8, 65_535), (8, 2**63), (8, 2**64 - 1)]),
    st.booleans(),
)
def test_a_length_that_is_not_the_shortest_is_a_1002_as_soon_as_it_is_there(
    side: Side, by_engine: bool, before: bytes, first: int, length: tuple[int, int], masked: bool
) -> None:
    session = opened(side, LIMITS, by_engine=by_engine)
    if before:
        session.receive(peer_frame(side, 1, before, before == b"good"), 1.0)
    size, number = length
    second = (126 if size == 2 else 127) | masked << 7
    [error] = session.receive(bytes([first, second]) + number.to_bytes(size, "big"), 1.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.PROTOCOL_ERROR
    assert "RFC 6455 section 5.2" in error.detail
    [*_, close], eof = session.take_writes()
    reason = (1002).to_bytes(2, "big") + error.detail.encode()
    assert close == engine_frame(Opcode.CLOSE, reason, masked=not side.peer_is_masked)
    # A server ends its side at once; a client waits for the server to end TCP.
    assert eof is (side is Server)


@side_by_side
@pytest.mark.parametrize("by_engine", [False, True])
@pytest.mark.parametrize("size", [2, 8])
def test_a_wrong_length_behind_our_close_changes_nothing(
    side: Side, by_engine: bool, size: int
) -> None:
    session = opened(side, LIMITS, by_engine=by_engine)
    assert session.close(1.0, 1000, "bye") == []
    session.take_writes()
    assert session.receive(wide_frame(side, 0x82, size, b"short"), 1.0) == []
    assert session.phase is CLOSING
    [closed] = session.receive_eof(2.0)
    assert isinstance(closed, Closed)
    assert (closed.code, closed.reason) == (1000, "bye")


@side_by_side
@pytest.mark.parametrize("size", [125, 126, 127, 300])
def test_the_shortest_length_is_taken(side: Side, size: int) -> None:
    frame = peer_frame(side, 2, b"x" * size)
    [message] = opened(side, LIMITS).receive(frame, 1.0)
    assert isinstance(message, MessageReceived)
    if size > 125:
        assert wide_frame(side, 0x82, 2, b"x" * size) == frame


# The functions of `sipws.ws.frames` alone.


@side_by_side
@given(st.data())
def test_no_byte_behind_the_first_other_frame_is_looked_at(side: Side, data: st.DataObject) -> None:
    messages_of = client_messages if side.peer_is_masked else server_messages

    def take(stream: bytes, start: int) -> tuple[list[bytes], int]:
        found, end = messages_of(stream, start, 300, side.connection, 1.0)
        return [event.data for event in found if isinstance(event, MessageReceived)], end

    stream = data.draw(STREAMS[side])
    messages, end = take(stream, 0)
    # An unmasked frame of less than four bytes is taken only before other bytes.
    behind = b"" if side.peer_is_masked else bytes(4)
    assert take(stream[:end] + behind, 0) == (messages, end)
    assert take(stream, end) == ([], end)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
@pytest.mark.parametrize(("first", "opcode"), [(TEXT, Opcode.TEXT), (BINARY, Opcode.BINARY)])
def test_no_difference_in_a_frame_that_is_sent(length: int, first: int, opcode: Opcode) -> None:
    data = b"x" * length
    assert server_frame(first, data) == engine_frame(opcode, data, masked=False)
    assert client_frame(first, data) == engine_frame(opcode, data, masked=True)


@given(st.binary(max_size=200))
def test_no_difference_in_a_clients_frame_of_any_bytes(data: bytes) -> None:
    assert client_frame(BINARY, data) == engine_frame(Opcode.BINARY, data, masked=True)
