"""What a destination did not get is told to it once it is back."""

from collections import Counter
from itertools import pairwise

import pytest

import hep
from hep import Outbox
from sipws.tracing.losses import LONGEST_WAIT, WARNING_INTERVAL, Loss, Losses


@pytest.fixture
def ledger() -> Outbox:
    return Outbox(limit=1)


def lose(ledger: Outbox, count: int, cause: str = "queue-full") -> None:
    for _ in range(count):
        ledger.refuse(cause)


def test_nothing_is_told_while_nothing_is_lost(ledger: Outbox) -> None:
    losses = Losses(ledger, 0.0)
    assert [losses.look(float(now), reachable=True) for now in range(1, 5)] == [None] * 4


def test_a_loss_is_told_when_it_is_over_and_the_destination_is_back(ledger: Outbox) -> None:
    losses = Losses(ledger, 100.0)
    assert losses.look(101.0, reachable=False) is None
    lose(ledger, 100)
    assert losses.look(102.0, reachable=False) is None
    lose(ledger, 30)
    lose(ledger, 7, "refused")
    assert losses.look(103.0, reachable=False) is None
    assert losses.look(104.0, reachable=False) is None
    loss = losses.look(105.0, reachable=True)
    assert loss == Loss(Counter({"queue-full": 130, "refused": 7}), 101.0, 103.0)
    assert str(loss) == (
        "137 packets lost from 1970-01-01T00:01:41Z to 1970-01-01T00:01:43Z:"
        " 130 queue-full, 7 refused"
    )
    assert losses.look(106.0, reachable=True) is None


def test_a_clock_that_is_set_back_makes_no_loss_end_before_it_began(ledger: Outbox) -> None:
    losses = Losses(ledger, 5000.0)
    lose(ledger, 1)
    losses.look(5001.0, reachable=False)
    lose(ledger, 1)
    losses.look(1401.0, reachable=False)
    loss = losses.look(1402.0, reachable=True)
    assert loss == Loss(Counter({"queue-full": 2}), 1401.0, 1401.0)


def test_it_waits_until_what_is_queued_has_left(ledger: Outbox) -> None:
    losses = Losses(ledger, 0.0)
    ledger.put(b"first")
    ledger.put(b"second")
    losses.look(1.0, reachable=True)
    assert losses.look(2.0, reachable=True) is None
    ledger.take(100)
    ledger.done()
    assert losses.look(3.0, reachable=True) is not None


def test_a_report_that_is_lost_itself_is_not_repeated_every_second(ledger: Outbox) -> None:
    losses = Losses(ledger, 0.0)
    lose(ledger, 1, "refused")
    told = []
    for now in range(1, 1000):
        if losses.look(float(now), reachable=True):
            told.append(now)
            lose(ledger, 1, "refused")
    pauses = [later - earlier for earlier, later in pairwise(told)]
    assert pauses[:4] == [2, 3, 5, 9]
    assert pauses[-1] == LONGEST_WAIT + 1


def test_after_a_quiet_time_it_is_told_at_once_again(ledger: Outbox) -> None:
    losses = Losses(ledger, 0.0)
    for start in (0, 10):
        lose(ledger, 1)
        assert losses.look(start + 1.0, reachable=True) is None
        assert losses.look(start + 2.0, reachable=True) is not None
        assert losses.look(start + 3.0, reachable=True) is None


def flood(ledger: Outbox, port: int, count: int) -> None:
    for _ in range(count):
        ledger.put(
            hep.encode(
                hep.Packet(
                    src_ip="192.0.2.5", src_port=port, dst_ip="10.0.0.1", dst_port=443, seconds=1,
                    microseconds=0, payload=b"",
                )
            )
        )  # fmt: skip


def test_whose_packets_were_dropped_is_told(ledger: Outbox) -> None:
    losses = Losses(ledger, 100.0)
    flood(ledger, 1000, 31)
    for port in range(1001, 1005):
        flood(ledger, port, 8 - (port - 1000))
    ledger.drop_all("shutdown")
    losses.look(101.0, reachable=False)
    loss = losses.look(102.0, reachable=True)
    assert loss is not None
    assert loss.whose == (
        "10.0.0.1:443 - 192.0.2.5:1000 (31), 10.0.0.1:443 - 192.0.2.5:1001 (7),"
        " 10.0.0.1:443 - 192.0.2.5:1002 (6)"
    )
    assert str(loss).endswith(f"queue-full, 1 shutdown; most of {loss.whose}")
    # What has been told is not told again.
    flood(ledger, 2000, 2)
    ledger.drop_all("shutdown")
    losses.look(103.0, reachable=False)
    later = [losses.look(now, reachable=True) for now in (104.0, 105.0)]
    assert [each.whose for each in later if each] == ["10.0.0.1:443 - 192.0.2.5:2000 (1)"]


def test_a_full_queue_is_warned_of_while_it_is_full_once_a_minute(ledger: Outbox) -> None:
    losses = Losses(ledger, 100.0)
    assert losses.warning(100.0) is None
    flood(ledger, 1000, 11)
    assert losses.warning(101.0) == (
        "the queue is full: 10 packets dropped, most of 10.0.0.1:443 - 192.0.2.5:1000 (10)"
    )
    flood(ledger, 1000, 5)
    assert losses.warning(101.0 + WARNING_INTERVAL - 1) is None
    assert losses.warning(101.0 + WARNING_INTERVAL) == (
        "the queue is full: 5 packets dropped, most of 10.0.0.1:443 - 192.0.2.5:1000 (15)"
    )
    assert losses.warning(101.0 + 2 * WARNING_INTERVAL) is None
