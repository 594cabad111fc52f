"""In how many pieces a message may come, and who is not hurt by that."""

from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from sipws.events import Connection, ErrorKind, ErrorOccurred, Event, MessageReceived
from sipws.limits import Limits
from sipws.ws.fragment_limit import PIECE_SIZE, FragmentLimit
from sipws.ws.server_session import ServerSession


@pytest.fixture
def session(connection: Connection, upgrade: bytes) -> ServerSession:
    session = ServerSession(connection, Limits())
    session.receive(upgrade, 1000.5)
    session.take_writes()
    return session


def message(size: int) -> bytes:
    return Frame(Opcode.BINARY, bytes(size)).serialize(mask=True)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def feed(session: ServerSession, pieces: Iterator[bytes]) -> list[Event]:
    return [event for piece in pieces for event in session.receive(piece, 1001.0)]


def fragments(count: int) -> list[bytes]:
    """A message in so many fragments of a byte."""
    frames = [
        Frame(Opcode.CONT if number else Opcode.TEXT, b"x", fin=number == count - 1)
        for number in range(count)
    ]
    return [frame.serialize(mask=True) for frame in frames]


@pytest.mark.parametrize("pieces", range(1, 6))
def test_a_small_message_may_come_in_four_reads(session: ServerSession, pieces: int) -> None:
    data = message(200)
    [event] = feed(session, cut(data, -(-len(data) // pieces)))
    assert isinstance(event, MessageReceived if pieces <= 4 else ErrorOccurred)


@pytest.mark.parametrize("pieces", range(1, 6))
@pytest.mark.parametrize("each_in_a_read", [True, False])
def test_a_small_message_may_come_in_four_fragments(
    session: ServerSession, pieces: int, each_in_a_read: bool
) -> None:
    frames = fragments(pieces)
    [event] = feed(session, iter(frames if each_in_a_read else [b"".join(frames)]))
    assert isinstance(event, MessageReceived if pieces <= 4 else ErrorOccurred)


def test_a_read_that_ends_within_a_fragment_is_a_piece_of_its_own(session: ServerSession) -> None:
    first, second, third = fragments(3)
    cuts = [first + second[:3], second[3:] + third[:3], third[3:]]
    [event] = feed(session, iter(cuts))
    # Two fragments end within the message, and two reads within a fragment.
    assert isinstance(event, ErrorOccurred)
    assert event.kind is ErrorKind.TOO_MANY_CHUNKS


@pytest.mark.parametrize("size", [1, 10, 30])
def test_a_message_in_many_small_reads_closes_with_1008(session: ServerSession, size: int) -> None:
    [error] = feed(session, cut(message(200), size))
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.TOO_MANY_CHUNKS
    assert error.detail == (
        f"4 pieces were {4 * size} bytes of a message, and not all of it"
        " (ws_max_msg_chunks = 4, and one piece more for each 512 bytes)"
    )
    assert session.take_writes()[0][0][2:4] == (1008).to_bytes(2, "big")


def test_a_message_in_many_small_fragments_closes_with_1008(session: ServerSession) -> None:
    [error] = feed(session, iter([b"".join(fragments(100))]))
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.TOO_MANY_CHUNKS


@pytest.mark.parametrize("segment", [536, 1220, 1400])
def test_a_slow_network_with_whole_segments_is_not_hurt(
    session: ServerSession, segment: int
) -> None:
    [event] = feed(session, cut(message(60_000), segment))
    assert isinstance(event, MessageReceived)


def test_each_message_is_counted_for_itself(session: ServerSession) -> None:
    data = message(100)
    for _ in range(20):
        [event] = feed(session, cut(data, -(-len(data) // 4)))
        assert isinstance(event, MessageReceived)


def test_the_rest_of_a_read_belongs_to_the_next_message(session: ServerSession) -> None:
    data = message(100)
    stream = data * 10
    # Every read completes a message and begins another one.
    events = feed(session, cut(stream, len(data) - 7))
    assert [type(event) for event in events] == [MessageReceived] * 10


def test_a_fragment_behind_a_message_in_pieces_is_the_next_ones(session: ServerSession) -> None:
    data = message(100)
    first, last = fragments(2)
    three_cuts = [data[:10], data[10:20], data[20:30], data[30:] + first, last]
    events = feed(session, iter(three_cuts))
    assert [type(event) for event in events] == [MessageReceived] * 2


def test_fragments_behind_a_message_are_all_counted(session: ServerSession) -> None:
    frames = fragments(5)
    events = feed(session, iter([message(100) + b"".join(frames[:3]), *frames[3:]]))
    assert [type(event) for event in events] == [MessageReceived, ErrorOccurred]


@pytest.mark.parametrize("size", [50, 131])
def test_pings_are_no_pieces_of_a_message(session: ServerSession, size: int) -> None:
    ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True)
    # Every read leaves a ping unfinished, and hardly one does of the message behind them.
    stream = ping * 100 + message(100)
    [event] = feed(session, cut(b"\x89\x80" + bytes(4) + stream, size))
    assert isinstance(event, MessageReceived)


def test_a_ping_in_pieces_does_not_count_against_the_fragments_behind_it(
    session: ServerSession,
) -> None:
    ping = Frame(Opcode.PING, bytes(125)).serialize(mask=True)
    first, last = fragments(2)
    three_cuts = [ping[:10], ping[10:20], ping[20:30], ping[30:] + first, last]
    [event] = feed(session, iter(three_cuts))
    assert isinstance(event, MessageReceived)


def test_pings_between_fragments_do_not_start_the_count_anew(session: ServerSession) -> None:
    ping = Frame(Opcode.PING, b"").serialize(mask=True)
    first = Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=True)
    more = Frame(Opcode.CONT, b"x", fin=False).serialize(mask=True)
    [error] = feed(session, iter([first, *[more + ping, ping] * 5]))
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.TOO_MANY_CHUNKS


def test_the_limit_can_be_off(connection: Connection, upgrade: bytes) -> None:
    session = ServerSession(connection, Limits(max_chunks=0))
    session.receive(upgrade, 1000.5)
    [event] = feed(session, cut(message(200), 1))
    assert isinstance(event, MessageReceived)


def test_large_pieces_are_free() -> None:
    limit = FragmentLimit(1)
    assert all(limit.add(number * PIECE_SIZE) is None for number in range(1, 100))


@pytest.mark.parametrize("first_read", [0, 1])
def test_what_comes_behind_a_message_allows_for_no_more_pieces_of_it(
    session: ServerSession, first_read: int
) -> None:
    received = b"".join(fragments(6)) + message(5000)
    happened = feed(session, iter((received[:first_read], received[first_read:])))
    assert [event.kind for event in happened if isinstance(event, ErrorOccurred)] == [
        ErrorKind.TOO_MANY_CHUNKS
    ]
