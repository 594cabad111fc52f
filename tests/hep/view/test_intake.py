"""What comes is stored in the background, in bounded queues, and is there when a reader asks."""

import threading
import time
from collections.abc import Iterator

import pytest

import hep
from hep.view import intake as module
from hep.view.intake import Intake
from hep.view.model.record import record_of
from hep.view.store.keep import Keep
from hep.view.store.query import CallFilter
from hep.view.store.store import Store


def packet(call_id: str) -> hep.Packet:
    message = (
        f"INVITE sip:bob@example.com SIP/2.0\r\nFrom: <sip:alice@example.com>;tag=1\r\n"
        f"To: <sip:bob@example.com>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\r\n"
    )
    return hep.Packet(src_ip="10.0.0.1", src_port=1, dst_ip="10.0.0.2", dst_port=2,
                      payload=message.encode())  # fmt: skip


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(None, Keep()) as opened:
        yield opened


@pytest.fixture
def intake(store: Store) -> Iterator[Intake]:
    made = Intake(store)
    yield made
    made.close()


def test_a_reader_that_flushes_sees_what_came_before(store: Store, intake: Intake) -> None:
    for number in range(20):
        assert intake.receive(packet(f"{number}"))
        assert intake.flush(10)
        assert store.call(f"{number}") is not None


def test_a_flush_does_not_wait_for_what_comes_later(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    commit = store.commit

    def slow(batch: object) -> bool:
        reached.set()
        go_on.wait(10)
        return commit(batch)

    monkeypatch.setattr(store, "commit", slow)
    intake.receive(packet("first"))
    assert reached.wait(10)
    assert not intake.flush(0.01)
    go_on.set()
    assert intake.flush(10)


def test_what_does_not_fit_is_dropped_and_counted(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    go_on = threading.Event()
    prepare = store.prepare
    monkeypatch.setattr(store, "prepare", lambda records: go_on.wait(10) and prepare(records))
    results = [intake.receive(packet(f"{number}")) for number in range(100)]
    go_on.set()
    assert intake.flush(10)
    assert 10 <= sum(results) <= 21
    status = store.status()
    assert (status.stored, status.dropped) == (sum(results), 100 - sum(results))


def test_large_packets_are_bounded_by_their_bytes(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 3 * len(packet("0").payload))
    go_on = threading.Event()
    prepare = store.prepare
    monkeypatch.setattr(store, "prepare", lambda records: go_on.wait(10) and prepare(records))
    results = [intake.receive(packet(f"{number}")) for number in range(9)]
    go_on.set()
    assert sum(results) <= 6
    assert intake.flush(10)
    # There is room again.
    assert intake.receive(packet("later"))


def test_a_fault_in_one_batch_does_not_end_the_storing(
    store: Store, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = store.prepare
    faults = [ValueError("ours")]

    def failing(records: object) -> object:
        if faults:
            raise faults.pop()
        return prepare(records)

    monkeypatch.setattr(store, "prepare", failing)
    intake.receive(packet("lost"))
    assert intake.flush(10)
    intake.receive(packet("kept"))
    assert intake.flush(10)
    assert store.call("lost") is None
    assert store.call("kept") is not None
    assert store.status().dropped == 1


def test_what_waits_is_stored_at_the_end(store: Store) -> None:
    intake = Intake(store)
    for number in range(1000):
        intake.receive(packet(f"{number}"))
    intake.close()
    assert store.status().stored == 1000
    intake.close()


def test_files_and_the_network_are_stored_side_by_side(store: Store, intake: Intake) -> None:
    lists = [
        [record_of(packet(f"file {n} {i}"), time.time()) for i in range(50)] for n in range(40)
    ]
    threads = [
        threading.Thread(target=intake.store_all, args=(lists[part::2],)) for part in range(2)
    ]
    for thread in threads:
        thread.start()
    for number in range(500):
        intake.receive(packet(f"network {number}"))
    for thread in threads:
        thread.join(30)
    assert intake.flush(10)
    intake.close()
    assert store.status().stored == 2500
    assert len(store.calls(CallFilter(), 1000).rows) == 1000
    assert intake.rate > 0
