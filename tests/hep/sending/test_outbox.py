"""The queue before a collector, and its ledger."""

from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hep.sending.outbox import Outbox, WhenFull


def test_packets_leave_in_order_and_are_counted() -> None:
    outbox = Outbox()
    for packet in (b"a", b"bb", b"ccc"):
        outbox.put(packet)
    assert outbox.take(3) == [b"a", b"bb"]
    outbox.done()
    assert outbox.take(100) == [b"ccc"]
    outbox.done()
    assert (outbox.offered, outbox.sent, outbox.bytes_sent, outbox.queued) == (3, 3, 6, 0)


@pytest.mark.parametrize(
    ("when_full", "kept"), [("drop-oldest", [b"2", b"3"]), ("drop-newest", [b"1", b"2"])]
)
def test_a_full_queue_drops_and_counts_a_packet(when_full: str, kept: list[bytes]) -> None:
    outbox = Outbox(2, when_full)  # type: ignore[arg-type]
    for packet in (b"1", b"2", b"3"):
        outbox.put(packet)
    assert outbox.dropped == {"queue-full": 1}
    assert outbox.take(100) == kept


@pytest.mark.parametrize(("when_full", "kept"), [("drop-oldest", b"3"), ("drop-newest", b"1")])
def test_a_queue_of_one_keeps_one(when_full: WhenFull, kept: bytes) -> None:
    outbox = Outbox(1, when_full)
    for packet in (b"1", b"2", b"3"):
        outbox.put(packet)
        assert outbox.queued == 1
    assert outbox.dropped == {"queue-full": 2}
    assert outbox.take(100) == [kept]
    # What is being sent takes the only place, and stays.
    outbox.put(b"4")
    assert outbox.dropped == {"queue-full": 3}
    outbox.undo()
    assert outbox.take(100) == [kept]
    outbox.done()
    outbox.put(b"5")
    assert outbox.take(100) == [b"5"]


def test_a_full_queue_diverts_the_next_packet() -> None:
    outbox, elsewhere = Outbox(1), list[bytes]()
    outbox.divert = elsewhere.append
    for packet in (b"1", b"2", b"3"):
        outbox.put(packet)
    assert outbox.take(100) == [b"1"]
    assert elsewhere == [b"2", b"3"]
    assert outbox.queued == 3
    assert not outbox.dropped


def test_undo_puts_packets_back_to_the_front() -> None:
    outbox = Outbox()
    for packet in (b"1", b"2", b"3"):
        outbox.put(packet)
    outbox.take(2)
    outbox.undo()
    assert outbox.take(100) == [b"1", b"2", b"3"]


def state(outbox: Outbox) -> dict[str, object]:
    """All that an outbox is, what waits in order."""
    return {**vars(outbox), "_waiting": list(outbox._waiting)}


@given(
    limit=st.integers(1, 6),
    limit_bytes=st.integers(1, 40),
    when_full=st.sampled_from(["drop-oldest", "drop-newest"]),
    puts=st.lists(st.lists(st.binary(min_size=1, max_size=9), max_size=5)),
    taken=st.lists(st.integers(0, 20)),
)
def test_put_all_equals_put_for_each_packet(
    limit: int, limit_bytes: int, when_full: WhenFull, puts: list[list[bytes]], taken: list[int]
) -> None:
    at_once, one_by_one = (Outbox(limit, when_full, limit_bytes) for _ in range(2))
    for packets, size in zip_longest(puts, taken):
        at_once.put_all(packets or [], sum(map(len, packets or [])))
        for packet in packets or []:
            one_by_one.put(packet)
        for outbox in (at_once, one_by_one):
            if size is not None:
                outbox.take(size)
        assert state(at_once) == state(one_by_one)


def test_put_all_diverts_packets() -> None:
    outbox, elsewhere = Outbox(2), list[bytes]()
    outbox.divert = elsewhere.append
    outbox.put_all([b"1", b"2", b"3"], 3)
    outbox.put_all([b"4"], 1)
    assert (outbox.in_memory, elsewhere, outbox.spooled) == (2, [b"3", b"4"], 2)


class Ledger(RuleBasedStateMachine):
    """Whatever is done, offered = sent + dropped + queued."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(5)

    @rule(packet=st.binary(min_size=1, max_size=9))
    def put(self, packet: bytes) -> None:
        self.outbox.put(packet)

    @rule(packets=st.lists(st.binary(min_size=1, max_size=9), max_size=4))
    def put_all(self, packets: list[bytes]) -> None:
        self.outbox.put_all(packets, sum(map(len, packets)))

    @rule(size=st.integers(1, 30))
    def take(self, size: int) -> None:
        self.outbox.take(size)

    @rule()
    def done(self) -> None:
        self.outbox.done()

    @rule()
    def undo(self) -> None:
        self.outbox.undo()

    @rule()
    def drop_taken(self) -> None:
        self.outbox.drop_taken("too-long")

    @rule()
    def lost(self) -> None:
        self.outbox.lost("refused")

    @rule()
    def drop_all(self) -> None:
        self.outbox.drop_all("shutdown")

    @invariant()
    def nothing_is_lost_unseen(self) -> None:
        outbox = self.outbox
        assert outbox.offered == outbox.sent + outbox.dropped.total() + outbox.queued
        assert outbox.queued <= 5


TestLedger = Ledger.TestCase


def test_counters_can_be_printed() -> None:
    outbox = Outbox(limit=1, when_full="drop-newest")
    outbox.put(b"first")
    outbox.put(b"second")
    assert repr(outbox) == (
        "Outbox(offered=2, sent=0, dropped={'queue-full': 1}, bounced=0, handed_over=0, queued=1,"
        " spooled=0)"
    )
