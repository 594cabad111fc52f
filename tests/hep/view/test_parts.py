"""A call that is put together of a real store: what its verdict compares, and what it shows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hep.view import parts
from hep.view.model.picture import Verdict
from hep.view.model.record import Record
from hep.view.parts import CallParts, parts_of_call
from hep.view.store.keep import Keep
from hep.view.store.store import Store
from hep.view.store.store_reader import StoreReader

from .store.conftest import NOW, event, sip

SERVER = "10.0.0.1:8080"
GONE = "bob@example.com was not connected: the connection had closed with 1006 41 s before."


def phone(user: str, at: float, until: float | None = None, *, port: int = 6000) -> list[Record]:
    """A phone that connects, registers, and is lost; times are seconds before or after the call.

    Args:
        user: that registers.
        at: time at which it connects.
        until: time at which it is lost; None if it stays.
        port: of the phone, and the id of the connection.
    """
    src = f"10.1.0.9:{port}"
    register = {"caller": user, "callee": user, "method": "REGISTER"}
    found = [
        event(f"{port}", "ACCEPTED", at=NOW + at, src=src),
        sip(f"r{port}", at=NOW + at, src=src, **register),
        sip(f"r{port}", at=NOW + at, src=SERVER, dst=src, status=200, **register),
    ]
    if until is not None:
        closed = {"Close_Code": 1006, "Closed_By": "peer", "Status": "FAILURE"}
        found.append(event(f"{port}", "CLOSED", at=NOW + until, src=src, **closed))
    return found


CALL = [
    sip("call", at=NOW),
    sip("call", at=NOW + 0.1, src=SERVER, dst="10.1.0.7:50123", status=480),
]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(None, Keep()) as store:
        yield store


@pytest.fixture
def notes(store: Store) -> Callable[..., list[str]]:
    """Store a call to bob with what phones did, and return the notes of its verdict."""

    def notes(*phones: list[Record]) -> list[str]:
        for records in (*phones, CALL):
            assert store.add(records)
        return shown(store).verdict.notes

    return notes


def shown(store: Store | StoreReader, **more: bool) -> CallParts:
    found = parts_of_call(store, "call", round((NOW + 60) * 1e6), **more)
    assert found is not None
    return found


def test_callee_who_has_just_been_lost(notes: Callable[..., list[str]], store: Store) -> None:
    assert notes(phone("bob", -100, -41)) == [GONE]
    # It is no connection of the call.
    assert shown(store).connections == []


def test_callee_who_is_back(notes: Callable[..., list[str]]) -> None:
    # Nothing of the new connection but its registration is stored.
    assert notes(phone("bob", -100, -41), phone("bob", -20, port=6001)) == []


def test_callee_who_is_connected_since_long(notes: Callable[..., list[str]]) -> None:
    assert notes(phone("bob", -7200, port=6001), phone("bob", -100, -41)) == []


def test_callee_who_comes_after_the_call(notes: Callable[..., list[str]]) -> None:
    assert notes(phone("bob", -100, -41), phone("bob", 5, port=6001)) == [GONE]


@pytest.mark.parametrize(("ended", "is_named"), [(-599, True), (-601, False)])
def test_end_long_before_the_call(
    notes: Callable[..., list[str]], ended: float, is_named: bool
) -> None:
    found = notes(phone("bob", -4000, ended))
    assert [note.partition(":")[0] for note in found] == (
        ["bob@example.com was not connected"] if is_named else []
    )


def test_other_users_are_not_the_callee(notes: Callable[..., list[str]]) -> None:
    assert notes(phone("carol", -100, -41), phone("bobby", -100, -41, port=6001)) == []


def test_later_connections_of_the_callee_hide_no_earlier_one(
    notes: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_SIBLINGS", 30)
    later = [phone("bob", 10 * number, 10 * number + 5, port=7000 + number)
             for number in range(1, 40)]  # fmt: skip
    assert notes(phone("bob", -100, -41), *later) == [GONE]


def test_with_too_many_connections_nothing_is_said(
    notes: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_SIBLINGS", 2)
    assert notes(phone("bob", -7200, port=6001), phone("bob", -100, -60),
                 phone("bob", -50, -41, port=6002)) == []  # fmt: skip


def test_phone_of_the_call_that_is_lost_and_comes_back(store: Store) -> None:
    assert store.add(phone("bob", -100))
    assert store.add([CALL[0], sip("call", at=NOW + 0.1, src=SERVER, dst="10.1.0.9:6000")])
    closed = {"Close_Code": 1006, "Closed_By": "peer", "Status": "FAILURE"}
    assert store.add([event("6000", "CLOSED", at=NOW + 30, src="10.1.0.9:6000", **closed)])
    text = "No answer: the phone's connection closed with 1006"
    assert shown(store).verdict == Verdict(f"{text}.", "lost")
    assert store.add(phone("bob", 42, port=6001))
    assert shown(store).verdict.text == f"{text}; it registered again 12 s later."
    assert [each.id for each in shown(store).connections] == ["6000"]


def test_folder_that_is_read_beside_its_writer_says_the_same(tmp_path: Path) -> None:
    with Store(tmp_path / "store", Keep()) as store:
        assert store.add([*phone("bob", -100, -41), *CALL])
        reader = StoreReader.of(tmp_path / "store")
        assert shown(reader) == shown(store)
        assert shown(reader).verdict.notes == [GONE]


def test_call_that_is_not_there(store: Store) -> None:
    assert parts_of_call(store, "call", 0) is None


def test_messages_that_are_not_drawn_are_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.add([sip("call", at=NOW + number, cseq=number + 1) for number in range(2)])
    assert store.add([sip("call", at=NOW + 2, method="OPTIONS", cseq=3)])
    assert store.add([sip("call", at=NOW + number, cseq=number + 1) for number in range(3, 10)])
    whole = shown(store)
    assert (whole.cut, whole.ladder.left_out, len(whole.ladder.steps)) == (0, 1, 9)
    assert shown(store, keepalives=True).ladder.left_out == 0
    monkeypatch.setattr(parts, "MOST_RECORDS", 4)
    found = shown(store)
    assert (found.cut, found.ladder.left_out, len(found.ladder.steps)) == (6, 1, 3)
