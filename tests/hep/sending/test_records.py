"""The records of a spool segment: whatever happens to a file costs the records it happens to."""

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.sending.records import OVERHEAD, Segment, encode_record, read_marked, read_unmarked

MARKER = bytes(range(8))

PACKETS = st.lists(st.binary(max_size=40), min_size=1, max_size=20)


def written(packets: list[bytes]) -> bytes:
    return b"".join(encode_record(MARKER, n, packet) for n, packet in enumerate(packets))


def unmarked(packets: list[bytes]) -> bytes:
    """As earlier versions wrote them."""
    return b"".join(len(each).to_bytes(4) + crc32(each).to_bytes(4) + each for each in packets)


def within(packets: list[bytes], offset: int, overhead: int) -> int:
    """The number of the record that has the byte at an offset."""
    for number, packet in enumerate(packets):
        offset -= overhead + len(packet)
        if offset < 0:
            return number
    raise AssertionError


@given(PACKETS)
def test_records_are_read_as_they_were_written(packets: list[bytes]) -> None:
    found = read_marked(written(packets), MARKER)
    assert (found.packets, found.lost) == (packets, 0)


@given(PACKETS, st.data())
def test_a_flipped_bit_costs_its_record_which_is_counted(packets: list[bytes], data) -> None:
    whole = bytearray(written(packets))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    hit = within(packets, at, OVERHEAD)
    found = read_marked(bytes(whole), MARKER)
    assert found.packets == packets[:hit] + packets[hit + 1 :]
    assert found.lost == 1


@given(PACKETS, st.data())
def test_a_block_of_zeros_costs_the_records_in_it(packets: list[bytes], data) -> None:
    whole = bytearray(written(packets))
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, len(whole) - 1))
    whole[first : last + 1] = bytes(last + 1 - first)
    found = read_marked(bytes(whole), MARKER)
    # Zeros may replace zeros.
    hit, kept, start = set[int](), [], 0
    for number, packet in enumerate(packets):
        record = encode_record(MARKER, number, packet)
        if whole[start : start + len(record)] == record:
            kept.append(packet)
        else:
            hit.add(number)
        start += len(record)
    assert found.packets == kept
    # How many records a damaged end had is not known.
    assert found.lost == (len(hit) if len(packets) - 1 not in hit else 1)


@given(PACKETS, st.data())
def test_of_a_cut_file_the_complete_records_are_read(packets: list[bytes], data) -> None:
    whole = written(packets)
    length = data.draw(st.integers(0, len(whole)))
    complete = 0
    while len(written(packets[: complete + 1])) <= length and complete < len(packets):
        complete += 1
    found = read_marked(whole[:length], MARKER)
    assert found.packets == packets[:complete]
    assert found.lost == (length > len(written(packets[:complete])))


@given(PACKETS, st.binary(min_size=1, max_size=60), st.data())
def test_bytes_between_records_cost_nothing(packets: list[bytes], extra: bytes, data) -> None:
    number = data.draw(st.integers(0, len(packets)))
    before, after = written(packets[:number]), written(packets)[len(written(packets[:number])) :]
    found = read_marked(before + extra + after, MARKER)
    assert found.packets == packets


@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert read_marked(data, MARKER).lost == bool(data)
    read_unmarked(data)


def test_zeros_are_one_damaged_place() -> None:
    found = read_marked(written([b"a"]) + bytes(4096), MARKER)
    assert (found.packets, found.lost) == ([b"a"], 1)
    old = read_unmarked(unmarked([b"a"]) + bytes(4096))
    assert (old.packets, old.lost) == ([b"a"], 1)


def test_a_record_within_a_damaged_packet_is_not_a_packet() -> None:
    # A client writes what it likes into its messages.
    forged = encode_record(bytes(8), 0, b"forged")
    whole = bytearray(written([b"one", b"x" + forged, b"three"]))
    whole[OVERHEAD * 2 + 3] ^= 1
    found = read_marked(bytes(whole), MARKER)
    assert (found.packets, found.lost) == ([b"one", b"three"], 1)
    assert len({Segment.new(1).marker for _ in range(10)}) == 10


@pytest.mark.parametrize(
    "damage", ["header", "length", "payload"], ids=["checksum", "length", "payload"]
)
def test_damage_in_a_file_of_an_earlier_version_costs_its_record(damage: str) -> None:
    packets = [b"HEP3" + b"%03d" % number * 20 for number in range(20)]
    data = bytearray(unmarked(packets))
    start = 7 * (8 + 64)
    data[start + {"header": 5, "length": 1, "payload": 30}[damage]] ^= 1
    found = read_unmarked(bytes(data))
    assert found.packets == packets[:7] + packets[8:]
    assert found.lost == 1


def test_the_last_record_of_an_earlier_version_may_be_damaged() -> None:
    data = bytearray(unmarked([b"HEP3 one", b"HEP3 two"]))
    data[-1] ^= 1
    found = read_unmarked(bytes(data))
    assert (found.packets, found.lost) == ([b"HEP3 one"], 1)


@pytest.mark.parametrize(
    "name",
    [
        "1.spool.bak",
        "x.spool",
        "1000000000-12.spool",
        "-5.spool",
        "1000000000-" + "g" * 16 + ".spool",
    ],
)
def test_other_names_are_not_those_of_segments(name: str) -> None:
    assert Segment.named(name) is None


def test_a_segment_is_found_again_by_its_name() -> None:
    segment = Segment.new(1_000_000_007)
    again = Segment.named(segment.name)
    assert again is not None
    assert (again.number, again.marker) == (segment.number, segment.marker)
    assert again.decode(segment.encode([b"a", b"b"])).packets == [b"a", b"b"]
