"""What was cut up, put together again."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hep.captures.reassembly import (
    FRAGMENTS_LOST,
    LONGEST_WAIT,
    MOST_FRAGMENTED,
    MOST_FRAGMENTS,
    MOST_WAITING,
    Fragments,
    Piece,
    Stream,
)
from hep.captures.wire import FIN, SYN, TCP, UDP, Fragment, Ip, Segment

SRC, DST = b"\1\2\3\4", b"\5\6\7\10"


def part(payload: bytes, offset: int, more: bool, ident: int = 1) -> Ip:
    return Ip(SRC, DST, UDP, payload, 0, Fragment(ident, offset, more))


def segment(seq: int, payload: bytes, flags: int = 0, missing: int = 0) -> Segment:
    return Segment(TCP, SRC, DST, 1, 2, payload, missing, seq % 2**32, flags)


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces)


@given(data=st.binary(min_size=9, max_size=400), draw=st.data())
def test_the_order_of_fragments_makes_no_difference(data: bytes, draw: st.DataObject) -> None:
    parts = [part(data[at : at + 8], at, at + 8 < len(data)) for at in range(0, len(data), 8)]
    doubled = draw.draw(st.lists(st.sampled_from(parts), max_size=3))
    shuffled = draw.draw(st.permutations(parts))
    fragments = Fragments(Counter())
    whole = [each for each in map(fragments.add, [*doubled, *shuffled]) if each is not None]
    assert whole[:1] == [Ip(SRC, DST, UDP, data)]


def test_fragments_of_two_packets_are_not_mixed() -> None:
    fragments = Fragments(Counter())
    assert fragments.add(part(b"a" * 8, 0, True, 1)) is None
    assert fragments.add(part(b"b" * 8, 0, True, 2)) is None
    assert fragments.add(part(b"B", 8, False, 2)) == Ip(SRC, DST, UDP, b"b" * 8 + b"B")
    assert fragments.add(part(b"A", 8, False, 1)) == Ip(SRC, DST, UDP, b"a" * 8 + b"A")


def test_overlapping_fragments_count_once_and_a_packet_has_an_end() -> None:
    fragments = Fragments(Counter())
    assert fragments.add(part(b"a" * 16, 0, True)) is None
    assert fragments.add(part(b"b" * 16, 8, False)) == Ip(SRC, DST, UDP, b"a" * 16 + b"b" * 8)
    assert fragments.add(part(b"a" * 65_528, 0, True, 2)) is None
    assert fragments.add(part(b"a" * 100, 65_528, False, 2)) is None


def test_incomplete_packets_are_bounded_and_counted() -> None:
    counters: Counter[str] = Counter()
    fragments = Fragments(counters)
    for ident in range(MOST_FRAGMENTED + 5):
        fragments.add(part(b"a" * 8, 0, True, ident))
    assert counters[FRAGMENTS_LOST] == 5
    for number in range(MOST_FRAGMENTS + 1):
        fragments.add(part(b"a", 8 * number + 8, True, -1))
    fragments.add(Ip(SRC, DST, UDP, b"cut", 5, Fragment(0, 0, True)))
    fragments.finish()
    assert counters[FRAGMENTS_LOST] == 5 + 1 + 1 + 1 + MOST_FRAGMENTED - 1


@given(data=st.binary(min_size=1, max_size=300), start=st.integers(0, 2**32 - 1), draw=st.data())
def test_the_order_of_segments_makes_no_difference(data, start, draw) -> None:
    ends = sorted(draw.draw(st.sets(st.integers(1, len(data)), max_size=8)) | {len(data)})
    segments = [
        segment(start + 1 + at, data[at:end])
        for at, end in zip([0, *ends], ends, strict=False)
    ]  # fmt: skip
    again = draw.draw(st.lists(st.sampled_from(segments), max_size=4))
    overlapping = [segment(start + 1, data[: draw.draw(st.integers(0, len(data)))])]
    stream = Stream()
    pieces = stream.feed(segment(start, b"", SYN))
    for each in draw.draw(st.permutations([*segments, *again, *overlapping])):
        pieces += stream.feed(each)
    assert joined(pieces) == data
    assert not any(piece.after_gap for piece in pieces)
    assert stream.finish() == []


def test_a_capture_may_begin_during_a_connection() -> None:
    stream = Stream()
    assert stream.feed(segment(1000, b"ab")) == [Piece(b"ab", False)]
    assert stream.feed(segment(1002, b"cd", FIN)) == [Piece(b"cd", False)]


def test_keep_alive_probes_and_retransmissions_add_nothing() -> None:
    stream = Stream()
    stream.feed(segment(10, b"abc"))
    assert stream.feed(segment(12, b"c")) == []
    assert stream.feed(segment(10, b"abcd")) == [Piece(b"d", False)]


def test_a_lost_segment_is_a_gap_at_the_end_of_the_capture() -> None:
    stream = Stream()
    stream.feed(segment(0, b"ab"))
    assert stream.feed(segment(5, b"fg")) == []
    assert stream.feed(segment(3, b"d")) == []
    assert stream.finish() == [Piece(b"d", True), Piece(b"fg", True)]


def test_a_lost_segment_is_a_gap_when_the_buffer_is_full() -> None:
    stream = Stream()
    stream.feed(segment(0, b"ab"))
    big = bytes(60_000)
    pieces: list[Piece] = []
    count = 0
    while not pieces:
        pieces = stream.feed(segment(10 + count * len(big), big))
        count += 1
    assert pieces[0].after_gap
    assert not pieces[1].after_gap
    assert (count - 1) * len(big) <= LONGEST_WAIT < count * len(big) == len(joined(pieces))
    small = Stream()
    small.feed(segment(0, b"ab"))
    found = [small.feed(segment(10 + 2 * each, b"x")) for each in range(MOST_WAITING + 1)]
    assert [len(each) for each in found] == [0] * MOST_WAITING + [1]


def test_bytes_truncated_by_the_capture_are_a_gap() -> None:
    stream = Stream()
    assert stream.feed(segment(0, b"ab", missing=3)) == [Piece(b"ab", False)]
    assert stream.gap == (True, True)
    assert stream.feed(segment(5, b"f")) == [Piece(b"f", True, is_cut=True)]


def test_a_new_connection_of_the_same_addresses_restarts_the_stream() -> None:
    stream = Stream()
    stream.feed(segment(0, b"ab"))
    stream.feed(segment(100, b"never"))
    assert stream.feed(segment(5_000, b"", SYN)) == [Piece(b"never", True)]
    assert stream.feed(segment(5_001, b"new")) == [Piece(b"new", False)]
    assert stream.feed(segment(2**31, b"far")) == [Piece(b"far", True)]


@given(
    st.lists(
        st.builds(
            segment, st.integers(0, 60) | st.integers(0, 2**32 - 1), st.binary(max_size=20),
            st.integers(0, 7), st.integers(0, 5),
        )
    )
)  # fmt: skip
def test_any_segments_never_raise(segments: list[Segment]) -> None:
    stream = Stream()
    pieces = [piece for each in segments for piece in stream.feed(each)] + stream.finish()
    assert len(joined(pieces)) <= sum(len(each.payload) for each in segments)
    assert all(piece.data for piece in pieces)
