"""What was received is taken in time slices, and nothing shows that it is.

The same reads go through a session without a limit per time slice and through one that stops behind
every few frames. After each read both have reported, written and held the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from sipws import Limits
from sipws.events import Event
from sipws.ws.session import Session
from tests.property.sides import Server, opened, reads_of, state, written

LIMITS = Limits(message_size=2000, max_chunks=3)


@contextmanager
def time_slice(frames: int, size: int) -> Iterator[None]:
    """Set the frames and the bytes of a time slice."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("frames", "session"):
            patch.setattr(f"sipws.ws.{module}.FRAMES_PER_SLICE", frames)
            patch.setattr(f"sipws.ws.{module}.BYTES_PER_SLICE", size)
        patch.setattr("sipws.ws.session._SHORT_READ", 0)
        yield


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


sizes = st.sampled_from([0, 1, 2, 100, 126, 127, 600, 2000, 2001])
payloads = sizes.map(lambda size: b"x" * size) | st.binary(max_size=4)
whole = st.builds(frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), payloads)
control = st.builds(
    frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=3)
) | st.sampled_from([b"\x88\x80" + bytes(4), b"\x88\x82" + bytes(4) + b"\x03\xe8"])
fragments = st.lists(payloads, min_size=2, max_size=6).map(
    lambda parts: b"".join(
        frame(Opcode.CONT if number else Opcode.BINARY, part, number == len(parts) - 1)
        for number, part in enumerate(parts)
    )
)
streams = st.lists(whole | whole | control | fragments | st.binary(max_size=6), max_size=20).map(
    b"".join
)


def take(session: Session, events: list[Event], now: float) -> tuple[list[Event], bytes]:
    """All that comes of a read, time slice by time slice."""
    data, _ = written(session)
    while session.is_more:
        before, _ = session.buffered
        events = events + session.process_backlog(now)
        assert session.buffered[0] < before
        data += written(session)[0]
    return events, data


@given(
    stream=streams,
    cuts=st.lists(st.integers(0, 6000), max_size=6),
    frames=st.integers(1, 4),
    size=st.sampled_from([1, 200, 1000]),
)
@example(stream=frame(Opcode.TEXT, b"") * 100, cuts=[], frames=1, size=1000)
@example(
    stream=frame(Opcode.TEXT, b"x") * 5 + frame(Opcode.TEXT, b"", False) * 1
    + frame(Opcode.CONT, b"", False) * 5,
    cuts=[],
    frames=1,
    size=1000,
)  # fmt: skip
def test_no_difference_between_one_time_slice_and_many(
    stream: bytes, cuts: list[int], frames: int, size: int
) -> None:
    at_once, in_slices = opened(Server, LIMITS), opened(Server, LIMITS)
    for now, read in enumerate(reads_of(stream, cuts)):
        with time_slice(1 << 30, 1 << 30):
            events = at_once.receive(read, now)
            assert not at_once.is_more
            expected = take(at_once, events, now)
        with time_slice(frames, size):
            assert take(in_slices, in_slices.receive(read, now), now) == expected
        assert state(in_slices) == state(at_once)
    # Neither has counted more pieces of a message than the other: the same one is too many.
    with time_slice(1 << 30, 1 << 30):
        for now in range(100, 106):
            assert in_slices.receive(b"\x00", now) == at_once.receive(b"\x00", now)
    assert in_slices.receive_eof(199.0) == at_once.receive_eof(199.0)


@given(streams, st.lists(st.integers(0, 6000), max_size=6))
def test_what_is_read_although_some_waits_comes_behind_it(stream: bytes, cuts: list[int]) -> None:
    # No shell reads on while some waits, but nothing must get lost if one did. The pieces of a
    # message are others then, so they are not limited.
    limits = Limits(message_size=LIMITS.message_size, max_chunks=0)
    at_once, in_slices = opened(Server, limits), opened(Server, limits)
    expected: list[Event] = []
    reported: list[Event] = []
    for read in reads_of(stream, cuts):
        with time_slice(1 << 30, 1 << 30):
            expected += at_once.receive(read, 1.0)
        with time_slice(2, 200):
            reported += in_slices.receive(read, 1.0)
    expected += at_once.receive_eof(1.0)
    with time_slice(2, 200):
        reported += in_slices.receive_eof(1.0)
    assert reported[:-1] == expected[:-1]
    assert not in_slices.is_more
