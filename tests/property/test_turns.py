"""What was received is taken in turns, and nothing shows that it is.

The same reads go through a session that takes as much as it likes and through one that stops behind
every few frames. Behind each read both have told, written and held the same, pieces counted too.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from sipws import Address, Limits, Listener
from sipws.events import Connection, Event
from sipws.ws.server_session import ServerSession

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
LIMITS = Limits(message_size=2000, max_chunks=3)
CONNECTION = Connection(
    1, Listener("ws", "10.0.0.1", 80), Address("10.0.0.1", 80), Address("192.0.2.5", 1), 0.0
)


@contextmanager
def turns(frames: int, size: int) -> Iterator[None]:
    """What a turn is for."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ("ws.frames", "ws.intake"):
            patch.setattr(f"sipws.{room}.FRAMES_PER_SLICE", frames)
            patch.setattr(f"sipws.{room}.BYTES_PER_SLICE", size)
        patch.setattr("sipws.ws.intake._FEW", 0)
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


def state(session: ServerSession) -> tuple[object, ...]:
    return (
        session.phase,
        session.is_more,
        bytes(session._received),
        len(session._assembly),
        session._pieces.count,
        session._eof_sent,
        session.is_over,
        session.traffic,
    )


def start() -> ServerSession:
    session = ServerSession(CONNECTION, LIMITS, monotonic=float)
    session.receive(UPGRADE, 0.5)
    session.take_writes()
    return session


def take(session: ServerSession, events: list[Event], now: float) -> tuple[list[Event], bytes]:
    """All that comes of a read, turn by turn."""
    written = b"".join(session.take_writes()[0])
    while session.is_more:
        before = len(session._received)
        events = events + session.process_backlog(now)
        assert len(session._received) < before
        written += b"".join(session.take_writes()[0])
    return events, written


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
def test_no_difference_between_all_at_once_and_turn_by_turn(
    stream: bytes, cuts: list[int], frames: int, size: int
) -> None:
    at_once, in_turns = start(), start()
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for now, (a, b) in enumerate(itertools.pairwise(edges)):
        with turns(1 << 30, 1 << 30):
            events = at_once.receive(stream[a:b], now)
            assert not at_once.is_more
            expected = take(at_once, events, now)
        with turns(frames, size):
            assert take(in_turns, in_turns.receive(stream[a:b], now), now) == expected
        assert state(in_turns) == state(at_once)
    assert in_turns.receive_eof(99.0) == at_once.receive_eof(99.0)


@given(streams, st.lists(st.integers(0, 6000), max_size=6))
def test_what_is_read_although_some_waits_comes_behind_it(stream: bytes, cuts: list[int]) -> None:
    # No shell does so, but nothing is to get lost if one did. Pieces are other ones then.
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    at_once, in_turns = start(), start()
    at_once._pieces._allowed = in_turns._pieces._allowed = 0
    expected: list[Event] = []
    told: list[Event] = []
    for a, b in itertools.pairwise(edges):
        with turns(1 << 30, 1 << 30):
            expected += at_once.receive(stream[a:b], 1.0)
        with turns(2, 200):
            told += in_turns.receive(stream[a:b], 1.0)
    expected += at_once.receive_eof(1.0)
    with turns(2, 200):
        told += in_turns.receive_eof(1.0)
    assert told[:-1] == expected[:-1]
    assert not in_turns.is_more
