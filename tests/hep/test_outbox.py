"""The queue before a collector, and its ledger."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hep.outbox import Outbox


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
def test_when_it_is_full_one_goes_and_is_counted(when_full: str, kept: list[bytes]) -> None:
    outbox = Outbox(2, when_full)  # type: ignore[arg-type]
    for packet in (b"1", b"2", b"3"):
        outbox.put(packet)
    assert outbox.dropped == {"queue-full": 1}
    assert outbox.take(100) == kept


def test_what_could_not_be_sent_is_first_again() -> None:
    outbox = Outbox()
    for packet in (b"1", b"2", b"3"):
        outbox.put(packet)
    outbox.take(2)
    outbox.undo()
    assert outbox.take(100) == [b"1", b"2", b"3"]


class Ledger(RuleBasedStateMachine):
    """Whatever is done, offered = sent + dropped + queued."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(5)

    @rule(packet=st.binary(min_size=1, max_size=9))
    def put(self, packet: bytes) -> None:
        self.outbox.put(packet)

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
