"""What is stored is found again: over segments, restarts and faults."""

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hep.view.store import search
from hep.view.store import store as module
from hep.view.store.keep import Keep
from hep.view.store.query import CallFilter, ConnectionFilter
from hep.view.store.segment import Segment, StoreError
from hep.view.store.store import Store
from hep.view.store.store_reader import StoreReader

from .conftest import NOW, event, sip

MICRO = 1_000_000


def call(call_id: str, at: float = NOW, **more: str) -> list:
    back = {**more, "src": "10.0.0.1:8080", "dst": more.get("src", "10.1.0.7:50123")}
    return [
        sip(call_id, at=at, **more),
        sip(call_id, at=at + 0.1, status=180, **back),
        sip(call_id, at=at + 1, status=486, **back),
    ]


def listed(store: Store, limit: int = 100, **wanted: object) -> list[str]:
    return [row.call_id for row in store.calls(CallFilter(**wanted), limit).rows]


def test_a_call_is_listed_with_what_its_messages_say(store: Store) -> None:
    store.add(call("one"))
    (row,) = store.calls(CallFilter(), 10).rows
    assert (row.from_user, row.to_user, row.code, row.outcome) == ("alice", "bob", 486, "rejected")
    assert row.messages == 3
    assert row.addresses == ["10.1.0.7:50123", "10.0.0.1:8080"]
    assert store.call("one") == row
    assert store.call("two") is None


def test_packets_come_back_as_they_were(store: Store) -> None:
    packets = call("one")
    store.add(packets)
    assert store.records_of_call("one") == packets
    assert [store.record(packet.id) for packet in packets] == packets
    assert store.record(packets[-1].id + 1) is None
    assert store.record(2**52) is None


def test_packets_are_in_the_order_of_their_times(store: Store) -> None:
    packets = call("one")
    store.add(packets[::-1])
    assert [packet.sip.status for packet in store.records_of_call("one")] == [0, 180, 486]


def test_sip_belongs_to_the_connection_between_its_addresses(store: Store) -> None:
    store.add([event("7", "ACCEPTED"), *call("one")])
    connection = store.connection("7")
    assert connection is not None
    assert (connection.peer, connection.local) == ("10.1.0.7:50123", "10.0.0.1:8080")
    assert connection.calls == ["one"]
    assert (connection.messages_in, connection.messages_out) == (1, 2)
    assert len(store.records_of_connection("7")) == 4
    assert store.call("one").connections == ["7"]
    assert {packet.connection for packet in store.records_of_call("one")} == {"7"}


def test_a_port_that_is_used_again_is_of_the_latest_connection(store: Store) -> None:
    store.add([event("7", "ACCEPTED"), sip("one"), event("7", "CLOSED")])
    store.add([event("8", "ACCEPTED"), sip("two")])
    assert store.connection("7").calls == ["one"]
    assert store.connection("8").calls == ["two"]


def test_a_connection_is_found_by_the_correlation_id_of_its_sip(store: Store) -> None:
    packet = sip("one", src="192.0.2.1:1")
    packet.correlation = "7"
    store.add([event("7", "ACCEPTED"), packet])
    assert store.connection("7").calls == ["one"]


def test_a_call_is_lost_with_the_connection_that_it_needs(store: Store) -> None:
    store.add([event("7", "ACCEPTED"), *call("one")[:2], *call("two")])
    store.add([event("7", "CLOSED", at=NOW + 20, Close_Code=1006, Closed_By="peer")])
    assert store.call("one").outcome == "lost"
    assert store.call("two").outcome == "rejected"


def registration(call_id: str, at: float = NOW, src: str = "10.1.0.7:50123") -> list:
    back = {"src": "10.0.0.1:8080", "dst": src}
    return [
        sip(call_id, at=at, method="REGISTER", src=src),
        sip(call_id, at=at + 1, method="REGISTER", status=200, **back),
    ]


@pytest.mark.parametrize(
    ("code", "error", "outcome", "ended"),
    [
        (1006, "connection-lost", "lost", "connection lost"),
        (1002, "", "lost", "connection lost"),
        (1000, "", "ok", "registered"),
        (1001, "", "ok", "registered"),
        (1005, "", "ok", "registered"),
        (1000, "sip-unreadable", "ok", "registered"),
        (0, "connection-lost", "lost", "connection lost"),
        (0, "", "ok", "registered"),
    ],
)
def test_a_registration_is_lost_with_a_connection_that_breaks(
    store: Store, code: int, error: str, outcome: str, ended: str
) -> None:
    store.add([event("7", "ACCEPTED"), *registration("one")])
    assert store.call("one").outcome == "ok"
    store.add([event("7", "CLOSED", at=NOW + 20, Close_Code=code, Closed_By="peer", Error=error)])
    row = store.call("one")
    assert (row.outcome, row.ended, row.code) == (outcome, ended, 200)


def test_a_registration_that_was_lost_is_made_again_on_another_connection(store: Store) -> None:
    store.add([event("7", "ACCEPTED"), *registration("one")])
    store.add([event("7", "CLOSED", at=NOW + 20, Close_Code=1006, Closed_By="peer")])
    store.add([event("8", "ACCEPTED", src="10.1.0.7:50124")])
    again = registration("one", NOW + 30, src="10.1.0.7:50124")
    store.add([*again, event("7", "CLOSED", at=NOW + 40, Close_Code=1006, Closed_By="peer")])
    assert (store.call("one").outcome, store.call("one").ended) == ("ok", "registered")


def test_a_segment_that_begins_while_old_ones_are_removed_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 1)
    monkeypatch.setattr(module, "KEEP_INTERVAL", 0.0)
    for number in range(3):
        store.add([sip(f"{number}")])
    remove = Segment.remove
    prepared: list = []

    def meanwhile(segment: Segment) -> None:
        # What the thread that makes rows does while the one that writes removes a file.
        if not prepared:
            prepared.append(store.prepare([sip("new")]))
        remove(segment)

    monkeypatch.setattr(Segment, "remove", meanwhile)
    store.keep = Keep(bytes=1)
    store.add([sip("last")])
    assert prepared
    assert store.commit(prepared[0])
    assert listed(store)[0] == "new"


def test_a_segment_that_takes_long_to_begin_brings_none_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 1)
    monkeypatch.setattr(module, "KEEP_INTERVAL", 0.0)
    for number in range(3):
        store.add([sip(f"{number}")])
    batch = store.prepare([sip("3")])
    create = Segment.__init__

    def slow(segment: Segment, *given: object, **named: object) -> None:
        # What the thread that writes does while a file is created.
        create(segment, *given, **named)
        store.keep = Keep(bytes=1)
        assert store.commit(batch)

    monkeypatch.setattr(Segment, "__init__", slow)
    assert store.prepare([sip("4")]) is not None
    assert store.status().segments == 2


def test_calls_are_listed_the_latest_first_and_in_parts(store: Store) -> None:
    for number in range(25):
        store.add(call(f"{number}", NOW + number))
    whole = [f"{number}" for number in range(24, -1, -1)]
    assert listed(store) == whole
    page = store.calls(CallFilter(), 10)
    parts = [row.call_id for row in page.rows]
    while page.next is not None:
        page = store.calls(CallFilter(), 10, page.next)
        parts += [row.call_id for row in page.rows]
    assert parts == whole


def test_calls_are_filtered(store: Store) -> None:
    store.add(call("one", NOW))
    store.add(call("two", NOW + 100, caller="Carol_x", callee="+493012345", src="10.2.0.1:7"))
    store.add([sip("three", at=NOW + 200, method="OPTIONS", body="needle")])
    assert listed(store, user="ALI") == ["three", "one"]
    assert listed(store, user="carol_") == ["two"]
    assert listed(store, user="carolx") == []
    assert listed(store, user="bob@example.com") == ["three", "one"]
    assert listed(store, address="10.2.") == ["two"]
    assert listed(store, address="0.2.") == []
    assert listed(store, method="options") == ["three"]
    assert listed(store, code="486") == ["two", "one"]
    assert listed(store, code="4xx") == ["two", "one"]
    assert listed(store, code="5xx") == []
    assert listed(store, text="NEEDLE") == ["three"]
    assert listed(store, since=(NOW + 50) * MICRO) == ["three", "two"]
    assert listed(store, until=(NOW + 50) * MICRO) == ["one"]
    assert listed(store, kinds=("options",)) == ["three"]
    assert listed(store, outcomes=("rejected",)) == ["two", "one"]


@pytest.mark.parametrize("code", ["48", "4x", "700", "4xxx", "²00", "4\x00x"])
def test_a_code_that_is_none_is_named(store: Store, code: str) -> None:
    with pytest.raises(StoreError, match="is no status code: write 486"):
        store.calls(CallFilter(code=code), 10)


@pytest.mark.parametrize("before", ["", "1.2", "a.b.c", "1.2.3.4", "9" * 99 + ".1.1"])
def test_a_cursor_that_is_none_is_named(store: Store, before: str) -> None:
    with pytest.raises(StoreError, match="use an answer's 'next'"):
        store.calls(CallFilter(), 10, before)


def test_connections_are_filtered(store: Store) -> None:
    store.add(
        [
            event("7", "ACCEPTED", User_Agent="Firefox", Origin="https://a.example"),
            event("8", "ACCEPTED", src="10.9.0.1:4", at=NOW + 9, Status="FAILURE",
                  Error="no-subprotocol", Reply_Code=400),
            event("7", "CLOSED", at=NOW + 5, Close_Code=1006, Closed_By="peer"),
        ]
    )  # fmt: skip

    def found(**wanted: object) -> list[str]:
        return [row.id for row in store.connections(ConnectionFilter(**wanted), 10).rows]

    assert found() == ["8", "7"]
    assert found(states=("closed",)) == ["7"]
    assert found(states=("refused", "closed")) == ["8", "7"]
    assert found(address="10.9") == ["8"]
    assert found(text="firefox") == ["7"]
    assert found(text="subproto") == ["8"]
    assert found(since=(NOW + 6) * MICRO) == ["8"]
    assert found(until=(NOW + 6) * MICRO) == ["7"]


def test_refusals_are_grouped(store: Store) -> None:
    for number in range(5):
        store.add(
            [
                event(f"{number}", "ACCEPTED", at=NOW + number,
                      src=f"10.1.0.{number % 2}:{number + 1}", Status="FAILURE",
                      Error="origin" if number < 4 else "path", Reply_Code=403,
                      Error_Detail=f"no {number}")
            ]
        )  # fmt: skip
    found = store.refusals(0, 2 * NOW * MICRO)
    assert [(group.key, group.count, group.status) for group in found.by_reason] == [
        ("origin", 4, 403),
        ("path", 1, 403),
    ]
    assert found.by_reason[0].detail == "no 3"
    assert [(group.key, group.count, group.detail) for group in found.by_address] == [
        ("10.1.0.0", 3, "origin (2), path (1)"),
        ("10.1.0.1", 2, "origin (2)"),
    ]
    assert found.total == 5
    assert store.refusals(0, NOW * MICRO + 2_500_000).total == 3


def test_closes_are_counted_over_time(store: Store) -> None:
    for number, (code, by) in enumerate([(1006, "peer"), (1000, "local"), (1006, "local")]):
        store.add([event(f"{number}", "ACCEPTED", src=f"10.1.0.1:{number + 1}")])
        store.add(
            [event(f"{number}", "CLOSED", at=NOW + 10 * number, Close_Code=code, Closed_By=by)]
        )
    found = store.closes(NOW * MICRO, (NOW + 30) * MICRO, 3)
    assert [(each.code, each.by_peer, each.by_local) for each in found.codes] == [
        (1006, 1, 1),
        (1000, 0, 1),
    ]
    assert [bucket.counts for bucket in found.buckets] == [{1006: 1}, {1000: 1}, {1006: 1}]
    assert found.step == 10 * MICRO


@pytest.mark.parametrize(
    ("text", "calls", "connections", "why"),
    [
        ("one", ["one"], [], "Call-ID"),
        ("alice", ["one"], ["7"], "user"),
        ("ALICE@example.com", ["one"], ["7"], "user"),
        ("sip:alice@example.com", ["one"], ["7"], "user"),
        ("alice@elsewhere.example", [], [], None),
        ("+49 30 1234567", ["two"], [], "number"),
        ("0301234567", ["two"], [], "number"),
        ("1234567", ["two"], [], "number"),
        ("0291234567", [], [], None),
        ("10.1.0.7", ["one"], ["7"], "address"),
        ("10.1.0.7:50123", ["one"], ["7"], "address"),
        ("10.1.0.8", [], [], None),
        ("7", [], ["7"], "connection"),
        ("z9hG4bKspecial", ["two"], [], "branch"),
        ("ali", ["one"], ["7"], "part"),
        ("%", [], [], None),
        ("", [], [], None),
        ("nobody", [], [], None),
    ],
)
def test_search(
    store: Store, text: str, calls: list[str], connections: list[str], why: str | None
) -> None:
    register = {"caller": "alice", "callee": "alice", "method": "REGISTER"}
    back = {"src": "10.0.0.1:8080", "dst": "10.1.0.7:50123"}
    store.add([event("7", "ACCEPTED"), sip("one", **register)])
    store.add([sip("one", status=200, **register, **back), event("7", "CLOSED", at=NOW + 1)])
    store.add(
        call("two", caller="carol", callee="+49301234567", branch="z9hG4bKspecial",
             src="[2001:db8::1]:7")[:1]
    )  # fmt: skip
    found = store.search(text)
    assert [each.call_id for each in found.calls] == calls
    assert [each.id for each in found.connections] == connections
    assert {match.why for match in found.matches} == ({why} if why else set())
    assert found.complete


def test_the_connections_of_a_user(store: Store) -> None:
    register = {"caller": "alice", "callee": "alice", "method": "REGISTER"}
    for number in range(4):
        src = f"10.1.0.{number}:50123"
        store.add([event(f"{number}", "ACCEPTED", src=src, at=NOW + number)])
        store.add([sip(f"r{number}", src=src, **register)])
        if number != 2:
            back = {"src": "10.0.0.1:8080", "dst": src}
            store.add([sip(f"r{number}", status=200, **register, **back)])
        store.add([event(f"{number}", "CLOSED", src=src, at=NOW + 10 + number)])
    assert [each.id for each in store.connections_of("alice@example.com")] == ["3", "1", "0"]
    assert [each.id for each in store.connections_of("alice@example.com", 1)] == ["3"]
    assert store.connections_of("alice@elsewhere.example") == []
    assert store.connections_of("") == []


def registered(connection: str, at: float) -> list:
    """A phone of alice that connects and registers."""
    register = {"caller": "alice", "callee": "alice", "method": "REGISTER"}
    src, server = f"10.1.0.7:{connection}", "10.0.0.1:8080"
    return [
        event(connection, "ACCEPTED", at=at, src=src),
        sip(f"r{connection}", at=at + 0.1, src=src, **register),
        sip(f"r{connection}", at=at + 0.2, src=server, dst=src, status=200, **register),
    ]


def test_a_user_is_found_on_a_connection_that_is_open(store: Store) -> None:
    store.add(registered("50123", NOW))
    assert [each.id for each in store.connections_of("alice@example.com")] == ["50123"]
    assert [each.id for each in store.search("alice").connections] == ["50123"]


def test_the_connections_of_a_user_within_a_time(store: Store) -> None:
    for number in range(3):
        store.add(registered(f"5{number}", NOW + 100 * number))
        closed = NOW + 100 * number + 50
        store.add([event(f"5{number}", "CLOSED", src=f"10.1.0.7:5{number}", at=closed)])
    store.add(registered("53", NOW + 300))

    def within(since: float | None, until: float | None, limit: int = 20) -> list[str]:
        times = [None if at is None else round((NOW + at) * MICRO) for at in (since, until)]
        found = store.connections_of("alice@example.com", limit, *times)
        return [each.id for each in found]

    assert within(None, None) == ["53", "52", "51", "50"]
    assert within(120, 130) == ["51"]
    assert within(150, 200) == ["52", "51"]
    assert within(151, 199) == []
    assert within(151, 9_000) == ["53", "52"]
    assert within(None, 199, 1) == ["51"]


def test_a_connection_that_ends_in_a_later_segment_is_not_open(
    opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 3)
    store = opened()
    store.add(registered("50123", NOW))
    store.add([event("50123", "CLOSED", at=NOW + 50)])
    assert store.status().segments == 2
    (found,) = store.connections_of("alice@example.com")
    assert found.until == (NOW + 50) * MICRO
    assert store.connections_of("alice@example.com", since=(NOW + 51) * MICRO) == []


def test_a_connection_without_events_is_found_by_its_user_in_each_segment(
    opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 3)
    store = opened()
    store.add(registered("50123", NOW))
    store.add([sip("later", at=NOW + 60)])
    newest = StoreReader(store._segments[:1])
    assert [each.id for each in newest.connections_of("alice@example.com")] == ["50123"]


def test_a_user_is_found_behind_many_of_the_same_name_at_another_host(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([sip("here", at=NOW, caller="100", host="b.example.com")])
    store.add([sip(f"{number}", at=NOW + number, caller="100") for number in range(1, 1200)])
    found = store.search("100@b.example.com", 10)
    assert [call.call_id for call in found.calls] == ["here"]
    assert found.complete
    assert not store.search("100@c.example.com", 10).calls
    many = store.search("100@example.com", 10)
    assert (len(many.calls), many.calls[0].call_id, many.complete) == (10, "1199", False)
    monkeypatch.setattr(search, "PATIENCE", -1.0)
    assert not store.search("100@c.example.com", 10).complete


def test_an_ipv6_address_is_found_with_and_without_brackets(store: Store) -> None:
    store.add([sip("one", src="2001:db8::1:50123")])
    for text in ("2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:50123"):
        assert [each.call_id for each in store.search(text).calls] == ["one"], text


def test_a_search_that_leaves_off_says_so(store: Store) -> None:
    for number in range(12):
        store.add(call(f"{number}", NOW + number))
    found = store.search("alice", 5)
    assert [each.call_id for each in found.calls] == ["11", "10", "9", "8", "7"]
    assert not found.complete


def test_a_call_goes_on_in_the_next_segment(
    opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 4)
    store = opened()
    for number in range(6):
        store.add(call(f"{number}", NOW + number)[:2])
    for number in range(6):
        store.add(call(f"{number}", NOW + number)[2:])
    assert store.status().segments > 3
    assert listed(store) == [f"{number}" for number in range(5, -1, -1)]
    assert [row.outcome for row in store.calls(CallFilter(), 10).rows] == ["rejected"] * 6
    assert [packet.sip.status for packet in store.records_of_call("0")] == [0, 180, 486]
    assert store.counts() == (6, 0, 0)
    page = store.calls(CallFilter(), 2)
    parts = [row.call_id for row in page.rows]
    while page.next is not None:
        page = store.calls(CallFilter(), 2, page.next)
        parts += [row.call_id for row in page.rows]
    assert parts == [f"{number}" for number in range(5, -1, -1)]
    assert len(store.search("alice").calls) == 6


def test_a_call_that_left_the_memory_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hep.view.store.writer.MOST_CALLS", 2)
    monkeypatch.setattr("hep.view.store.writer._EVICTED", 1)
    for number in range(8):
        store.add(call(f"{number}", NOW + number)[:2])
    store.add(call("0")[2:])
    row = store.call("0")
    assert row is not None
    assert (row.messages, row.outcome) == (3, "rejected")
    assert len(listed(store)) == 8


def test_what_is_too_old_or_too_much_goes_by_whole_segments(
    opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 10)
    monkeypatch.setattr(module, "KEEP_INTERVAL", 0.0)
    store = opened(Keep(bytes=400_000))
    for number in range(200):
        store.add(call(f"{number}", NOW + number))
    status = store.status()
    assert status.bytes <= 700_000
    assert 0 < status.packets < 600
    names = listed(store, limit=1000)
    assert names[0] == "199"
    assert "0" not in names
    assert store.call("0") is None
    assert store.search("alice", 1000).complete


def test_segments_that_end_while_their_rows_wait_are_written(
    opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PACKETS", 1)
    monkeypatch.setattr(module, "KEEP_INTERVAL", 0.0)
    store = opened()
    batches = [store.prepare(call(f"{number}", NOW + number)) for number in range(5)]
    assert len({batch.segment.number for batch in batches}) == 5
    assert all(store.commit(batch) for batch in batches)
    assert listed(store) == ["4", "3", "2", "1", "0"]
    # A file that is not written any more is closed.
    if store.path is not None:
        assert [each.writer is not None for each in store._segments[:2]] == [True, False]


def test_counts_are_read_while_others_are_written(store: Store) -> None:
    done = threading.Event()
    faults: list[Exception] = []

    def read() -> None:
        while not done.is_set():
            try:
                store.counts()
                store.status()
            except Exception as exc:
                faults.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        store.add([event(f"{number}", "ACCEPTED", src=f"10.1.0.1:{number + 1}"), sip(f"{number}")])
    done.set()
    reader.join(30)
    assert not faults
    assert store.counts() == (300, 300, 300)


def test_age_is_that_of_the_last_packet_stored(
    opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [float(NOW)]
    monkeypatch.setattr(module.time, "time", lambda: clock[0])
    monkeypatch.setattr(module, "KEEP_INTERVAL", 0.0)
    store = opened(Keep(seconds=3600))
    for minute in range(0, 180, 5):
        clock[0] = NOW + 60 * minute
        # The packets are of another year: a capture is kept from when it was read.
        store.add(call(f"{minute}", 1_000_000_000 + minute))
    assert listed(store)[0] == "175"
    assert "110" not in listed(store)
    assert "120" in listed(store)


def test_a_store_opens_again_with_all_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path, Keep()) as store:
        store.add([event("7", "ACCEPTED"), *call("one")[:2]])
        before = store.status()
    with Store(path, Keep()) as store:
        assert (store.status().packets, store.status().oldest) == (before.packets, before.oldest)
        store.add([*call("one")[2:], event("7", "CLOSED", at=NOW + 9)])
        row = store.call("one")
        assert row is not None
        assert (row.messages, row.outcome, row.connections) == (3, "rejected", ["7"])
        assert store.connection("7").state == "closed"
        assert [each.id for each in store.connections(ConnectionFilter(), 9).rows] == ["7"]


def test_a_killed_process_leaves_a_store_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "store"
    # Within a transaction: the process ends while rows are being written.
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from conftest import *
from hep.view.store import schema
store = Store(Path({str(path)!r}), Keep())
store.add([sip(f"kept {{n}}") for n in range(100)])
schema.TERMS.write = lambda *given: os._exit(9)
store.add([sip(f"lost {{n}}") for n in range(100)])
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 9
    with Store(path, Keep()) as store:
        names = listed(store, limit=1000)
        assert len(names) == 100
        assert all(name.startswith("kept") for name in names)
        assert store.add([sip("new")])
        assert store.call("new") is not None


def test_a_second_program_cannot_use_a_store(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "store", Keep()),
        pytest.raises(StoreError, match="another hep view stores there"),
    ):
        Store(tmp_path / "store", Keep())


def test_a_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with Store(tmp_path / "store", Keep()) as store:
            store.add(call("one"))
            files = [tmp_path / "store", *(tmp_path / "store").iterdir()]
            assert len(files) > 2
            assert {path.name: path.stat().st_mode & 0o077 for path in files} == {
                path.name: 0 for path in files
            }
    finally:
        os.umask(mask)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="is a file: name a folder"):
        Store(tmp_path / "store", Keep())


def test_a_damaged_segment_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path, Keep()) as store:
        store.add(call("one"))
    (path / "00000001.sqlite").write_bytes(b"no database" * 1000)
    with Store(path, Keep()) as store:
        assert store.status().packets == 0
        assert store.add(call("two"))
    assert (path / "00000001.sqlite.damaged").exists()


def test_a_segment_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store(path, Keep()) as store:
        store.add(call("one"))
    database = sqlite3.connect(path / "00000001.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="has version 99 of the store"):
        Store(path, Keep())


def test_a_full_disk_stops_storing_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.0)
    store.add([event("7", "ACCEPTED"), *call("one")[:1]])
    for segment in store._segments:
        (pages,) = segment.writer.execute("PRAGMA page_count").fetchone()
        segment.writer.execute(f"PRAGMA max_page_count = {pages + 8}")
    for number in range(200):
        store.add(call(f"{number}"))
    status = store.status()
    assert status.problem == "the disk is full"
    assert status.stored + status.dropped == 602
    assert status.dropped > 300
    for segment in store._segments:
        segment.writer.execute("PRAGMA max_page_count = 1000000")
    assert store.add([sip("two"), *call("one")[1:]])
    assert store.status().problem == ""
    assert store.call("one").outcome == "rejected"
    assert store.call("one").connections == ["7"]
    assert "two" in listed(store, limit=1000)
    # What was counted as stored is there, and nothing else.
    (held,) = store._segments[0].writer.execute("SELECT count(*) FROM packets").fetchone()
    assert held == store.status().stored


def test_what_was_prepared_behind_a_lost_batch_is_lost_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.0)
    first, second = store.prepare(call("one")[:1]), store.prepare(call("one")[1:])
    assert first is not None
    assert second is not None
    with monkeypatch.context() as patch:
        patch.setattr(first.segment, "writing", _raising)
        assert not store.commit(first)
    # Its packets refer to a row that is not there.
    assert not store.commit(second)
    assert store.status().dropped == 3
    assert store.add(call("one"))
    assert store.call("one").messages == 3
    assert len(store.records_of_call("one")) == 3


def _raising() -> None:
    raise sqlite3.OperationalError("database is locked")


def test_readers_see_whole_batches_while_others_are_written(store: Store) -> None:
    faults: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for row in store.calls(CallFilter(), 50).rows:
                packets = store.records_of_call(row.call_id)
                if len(packets) != 3 or row.messages != 3:
                    faults.append(row)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    for number in range(150):
        store.add(call(f"{number}", NOW + number))
    done.set()
    for thread in readers:
        thread.join(30)
    assert not faults


def test_changes_are_reported_as_copies(store: Store) -> None:
    told: list = []
    store.on_change = lambda calls, connections: told.append((calls, connections))
    store.add([event("7", "ACCEPTED"), *call("one")[:1]])
    store.add(call("one")[1:])
    assert [[row.messages for row in calls] for calls, _ in told] == [[1], [3]]
    assert [[row.id for row in connections] for _, connections in told] == [["7"], ["7"]]


def test_hostile_packets_are_stored_as_they_are(store: Store) -> None:
    ids = ["", "\n", "a\nb", "\x00", "%", "'; DROP TABLE calls; --", "\ud800", "x" * 5000, "1" * 30]
    for name in ids:
        packet = sip("x")
        packet.sip.call_id = name.encode("utf-8", "backslashreplace").decode()
        packet.payload = b"\x00\xff" + os.urandom(64)
        packet.correlation = "\x00\n%"
        packet.at = -(2**62)
        assert store.add([packet]), name
        packet.at = 2**62
        assert store.add([packet]), name
    assert len(store.calls(CallFilter(), 100).rows) == len(ids) - 1


def test_a_call_of_many_branches_and_addresses_is_bounded(store: Store) -> None:
    store.add(
        [
            sip("one", branch=f"z9hG4bK{number}", src=f"10.2.{number % 250}.1:{number % 60000 + 1}")
            for number in range(5000)
        ]
    )
    (terms,) = store._segments[0].writer.execute("SELECT count(*) FROM terms").fetchone()
    assert terms < 200
    assert len(store.call("one").addresses) <= 32
    assert len(store.records_of_call("one", 100)) == 100
