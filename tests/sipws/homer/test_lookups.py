"""Entries of sipws in lists of homer-app: added, recognised and taken out; others are untouched."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.homer import files
from sipws.homer.lookups import MARK, key_of, slips, with_fields, with_lookups, without
from tests.sipws.homer.stand_in import RECORDED, StandIn

CONNECTION = files.wanted("connection").lookups_of(1, "call")
CALL = files.wanted("call").lookups_of(1, "call")
EVENTS = files.wanted("connection").lookups_of(35, "default")
FIELDS = files.wanted().mapping["fields_mapping"]

numbers = st.integers(-100_000, 100_000)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5)
ours = st.sampled_from([*CONNECTION.add, *CONNECTION.widen, *CALL.add, *EVENTS.add]).map(
    lambda lookup: {name: value for name, value in lookup.items() if name != MARK}
)
"""Lookups as ours, but without the mark: somebody loaded them by hand."""
lookups = st.fixed_dictionaries(
    {},
    optional={
        "source_field": st.sampled_from(["sid", "data_header.callid", "x"]) | scalars,
        "lookup_id": st.sampled_from([1, 35, 100, True, "35"]),
        "lookup_profile": st.sampled_from(["default", "call"]) | scalars,
        "lookup_field": st.sampled_from(["sid", "raw"]) | scalars,
        "lookup_range": st.lists(numbers, max_size=3) | scalars,
        "append_sid": scalars,
    },
)
ranged = st.builds(
    lambda lookup, span: lookup | {"lookup_range": span},
    ours,
    st.tuples(numbers, numbers).map(list) | st.lists(numbers, max_size=3),
)
correlations = st.lists(lookups | ours | ranged | scalars, max_size=6) | st.sampled_from(
    [{}, None, ""]
)


@given(correlations, st.sampled_from([CONNECTION, CALL, EVENTS]))
def test_what_is_added_can_be_taken_out_again(there: Any, ours: files.MappingLookups) -> None:
    before = copy.deepcopy(there)
    assert without(with_lookups(there, ours)) == before
    assert there == before


@given(correlations, st.sampled_from([CONNECTION, CALL]), st.sampled_from([CONNECTION, CALL]))
def test_a_second_time_adds_nothing_and_another_setting_replaces(
    there: Any, first: files.MappingLookups, second: files.MappingLookups
) -> None:
    once = with_lookups(there, first)
    assert with_lookups(without(once), second) == with_lookups(there, second)


@given(st.lists(st.fixed_dictionaries({"id": st.sampled_from(["sid", "raw", "x"])}) | scalars))
def test_fields_are_added_and_taken_out_again(there: Any) -> None:
    added = with_fields(there, FIELDS)
    assert without(added) == there
    ids = [field["id"] for field in added if isinstance(field, dict)]
    assert {field["id"] for field in FIELDS} <= set(ids)
    assert all(ids.count(each) == 1 for each in ids if each not in ("sid", "raw", "x"))


def test_lookups_of_homer_stay_in_place_and_ours_follow() -> None:
    there = StandIn().mapping(1, "call")["correlation_mapping"]
    after = with_lookups(there, CONNECTION)
    assert [key_of(lookup) for lookup in after[: len(there)]] == [key_of(each) for each in there]
    assert after[len(there) :] == list(CONNECTION.add)
    # In place: the lookup of the log lines has a longer range, and nothing else is changed.
    assert after[0]["lookup_range"] == [-300, 7200]
    assert after[1 : len(there)] == there[1:]


def test_the_range_of_the_log_lines_is_restored() -> None:
    there = [dict(CONNECTION.widen[0], lookup_range=[-10, 20])]
    assert with_lookups(there, CONNECTION)[0]["lookup_range"] == [-300, 7200]
    assert without(with_lookups(there, CONNECTION)) == there


def test_a_longer_range_is_kept() -> None:
    there = [dict(CONNECTION.widen[0], lookup_range=[-900, 90_000])]
    assert with_lookups(there, CONNECTION)[0] == there[0]


def test_a_range_that_somebody_changed_again_is_kept() -> None:
    installed = with_lookups([dict(CONNECTION.widen[0], lookup_range=[-10, 20])], CONNECTION)
    installed[0] = installed[0] | {"lookup_range": [-300, 50_000]}
    assert without(installed) == [dict(CONNECTION.widen[0], lookup_range=[-300, 50_000])]


def test_a_missing_lookup_of_the_log_lines_is_added() -> None:
    assert [key_of(each) for each in with_lookups([], CONNECTION)] == [
        *map(key_of, CONNECTION.add),
        *map(key_of, CONNECTION.widen),
    ]


def test_a_lookup_that_was_loaded_by_hand_is_not_added_twice() -> None:
    by_hand = {name: value for name, value in CONNECTION.add[0].items() if name != MARK}
    after = with_lookups([by_hand], CONNECTION)
    assert [key_of(each) for each in after].count(key_of(by_hand)) == 1
    assert without(after) == [by_hand]


def test_a_mark_of_somebody_else_is_not_ours() -> None:
    there = [{"sipws": "mine"}, {"sipws": {"was": 1}}, {"sipws": None}]
    assert without(there) == there


@pytest.mark.parametrize(
    "path", sorted(RECORDED.glob("correlation-*.json")), ids=lambda path: path.stem
)
def test_slips_that_ended_flows_are_found(path: Any) -> None:
    exchange = json.loads(path.read_text())
    found = slips(exchange["mapping_before_the_request"]["correlation_mapping"])
    if path.stem == "correlation-function-not-an-array":
        # Only running the function would show it.
        assert exchange["response"] is None
    else:
        assert bool(found) == (exchange["response"] is None), found


@pytest.mark.parametrize(
    "change",
    [
        {"lookup_range": [1]},
        {"lookup_range": ["1", "2"]},
        {"lookup_range": None},
        {"lookup_id": True},
        {"lookup_field": None},
        {"lookup_profile": 1},
        {"append_sid": "true"},
        {"input_function_js": 5},
        {"source_field": "create"},
    ],
    ids=str,
)
def test_other_slips_of_these_kinds_are_found(change: Any) -> None:
    assert slips([CONNECTION.add[0]]) == []
    [said] = slips([CONNECTION.add[0], CONNECTION.add[0] | change])
    assert said.startswith(f"lookup 2: {next(iter(change))}") or "source_field" in said


@given(correlations)
def test_slips_are_looked_for_in_anything(there: Any) -> None:
    assert all(isinstance(slip, str) for slip in slips(there))
