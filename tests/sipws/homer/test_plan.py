"""What is done with what homer-app has, without homer-app."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws.homer import files
from sipws.homer.difference import difference
from sipws.homer.lookups import MARK, is_added
from sipws.homer.plan import Existing, Plan, plan_install, plan_remove, summary
from tests.sipws.homer.stand_in import Json, StandIn, exchange, whole

WANTED = files.wanted("connection")
FOREIGN = {
    "guid": "9",
    "profile": "default",
    "hepid": 35,
    "hep_alias": "JSON",
    "retention": 3,
    "correlation_mapping": [],
    "fields_mapping": [
        {"id": "sid", "name": "Session"},
        {"id": "data_header.Error", "name": "Fault"},
    ],
}


def existing(*more: Json, dashboard: Json | None = None, owner: str = "admin") -> Existing:
    mappings = [*StandIn().mappings, *copy.deepcopy(more)]
    return Existing(mappings, dashboard, owner if dashboard else "", "admin")


def done(there: Existing, plan: Plan) -> Existing:
    """What homer-app has after a plan."""
    mappings = {each["guid"]: each for each in there.mappings}
    dashboard = there.dashboard
    for step in plan.steps:
        if step.kind == "dashboard":
            dashboard = step.after
        elif step.after is None:
            del mappings[step.guid]
        else:
            guid = step.guid or "new"
            mappings[guid] = step.after | {"guid": guid}
    # The list's order is not fixed.
    shuffled = list(reversed(mappings.values()))
    return Existing(shuffled, dashboard, "admin" if dashboard else "", "admin")


def installed(there: Existing, wanted: files.Wanted = WANTED) -> Existing:
    return done(there, plan_install(there, wanted))


def actions(plan: Plan) -> dict[str, str]:
    return {step.name.partition(" (")[0]: step.action for step in plan.steps}


def by_guid(there: Existing) -> dict[str, Json]:
    return {each["guid"]: each for each in there.mappings}


def events(there: Existing) -> list[Json]:
    return [each for each in there.mappings if each["hepid"] == 35]


def old_mapping(guid: str = "5") -> Json:
    """The mapping as it was loaded by hand: without marks, with hyphens in its fields."""
    body: Json = whole(exchange("mapping-create")["request"]["body"])
    return body | {"guid": guid}


def test_a_new_homer_gets_everything() -> None:
    assert actions(plan_install(existing(), WANTED)) == {
        "mapping 35 default": "create",
        "mapping 1 call": "change",
        "mapping 1 registration": "change",
        "mapping 1 default": "change",
        "mapping 100 default": "change",
        "dashboard sipws": "create",
    }
    assert plan_install(existing(), WANTED).warnings == ()


def test_a_second_run_changes_nothing() -> None:
    plan = plan_install(installed(existing()), WANTED)
    assert plan.changes == ()
    assert plan.warnings == ()
    assert {summary(step) for step in plan.steps} == {"unchanged"}


def test_removing_restores_what_there_was() -> None:
    there = existing()
    after = done(installed(there), plan_remove(installed(there), WANTED))
    assert by_guid(after) == by_guid(there)
    assert after.dashboard is None
    assert plan_remove(after, WANTED).changes == ()


def test_the_other_setting_replaces_the_lookups() -> None:
    call = files.wanted("call")
    after = installed(installed(existing()), call)
    assert by_guid(after) == by_guid(installed(existing(), call))
    assert plan_install(after, call).changes == ()


def test_what_the_user_changed_in_our_mapping_is_kept() -> None:
    there = installed(existing())
    [ours] = events(there)
    own_field = {"id": "data_header.Tenant", "name": "Tenant"}
    own_lookup = {"source_field": "sid", "lookup_id": 53, "lookup_profile": "default",
                  "lookup_field": "sid", "lookup_range": [-1, 1]}  # fmt: skip
    ours["retention"] = 90
    ours["fields_mapping"] = [own_field, *ours["fields_mapping"]]
    ours["correlation_mapping"] = [own_lookup, *ours["correlation_mapping"]]
    after = installed(there)
    [kept] = events(after)
    assert kept["retention"] == 90
    assert own_field in kept["fields_mapping"]
    assert kept["correlation_mapping"] == ours["correlation_mapping"]
    assert plan_install(after, WANTED).changes == ()

    plan = plan_remove(after, WANTED)
    [left] = events(done(after, plan))
    assert left["fields_mapping"] == [own_field]
    assert left["correlation_mapping"] == [own_lookup]
    assert "mapping 35 default (WEBSOCKET) has fields or lookups that are not" in plan.warnings[0]


@pytest.mark.parametrize("own", ["fields_mapping", "correlation_mapping"])
def test_our_mapping_is_not_deleted_with_anything_of_the_user(own: str) -> None:
    there = installed(existing())
    [ours] = events(there)
    ours[own] = [*ours[own], {"id": "data_header.Tenant"}]
    [left] = events(done(there, plan_remove(there, WANTED)))
    assert left[own] == [{"id": "data_header.Tenant"}]


def test_a_field_of_ours_that_is_missing_comes_back() -> None:
    there = installed(existing())
    [ours] = events(there)
    ours["fields_mapping"] = ours["fields_mapping"][:5]
    plan = plan_install(there, WANTED)
    assert actions(plan)["mapping 35 default"] == "change"
    expected = len(WANTED.mapping["fields_mapping"]) - 5
    assert summary(plan.changes[0]) == f"changed: {expected} fields added"


def test_a_mapping_of_somebody_else_keeps_its_own_fields() -> None:
    there = existing(FOREIGN)
    plan = plan_install(there, WANTED)
    [after] = events(done(there, plan))
    assert after["fields_mapping"][:2] == FOREIGN["fields_mapping"]
    assert {name: after[name] for name in ("hep_alias", "retention")} == {
        "hep_alias": "JSON",
        "retention": 3,
    }
    ids = [field["id"] for field in after["fields_mapping"]]
    assert ids.count("data_header.Error") == ids.count("sid") == 1
    assert "data_header.Close_Code" in ids
    assert "is not from sipws" in plan.warnings[0]


def test_a_mapping_of_somebody_else_is_not_deleted() -> None:
    there = existing(FOREIGN)
    plan = plan_remove(installed(there), WANTED)
    assert by_guid(done(installed(there), plan)) == by_guid(there)
    assert "is not from sipws and stays" in plan.warnings[0]


def test_a_mapping_of_somebody_else_without_sid_is_not_taken_for_ours() -> None:
    there = existing(FOREIGN | {"fields_mapping": {}, "correlation_mapping": {}})
    assert by_guid(done(installed(there), plan_remove(installed(there), WANTED))) == by_guid(there)


def test_a_mapping_that_was_loaded_by_hand_is_brought_up_to_date() -> None:
    there = existing(old_mapping() | {"retention": 33})
    plan = plan_install(there, WANTED)
    assert actions(plan)["mapping 35 default"] == "change"
    [after] = events(done(there, plan))
    assert after["fields_mapping"] == WANTED.mapping["fields_mapping"]
    assert after["retention"] == 33
    assert actions(plan_remove(there, WANTED))["mapping 35 default"] == "delete"


def test_of_our_mapping_loaded_twice_one_stays() -> None:
    there = existing(old_mapping("5"), old_mapping("6"))
    plan = plan_install(there, WANTED)
    assert len(events(done(there, plan))) == 1
    assert "was loaded twice" in plan.warnings[0]
    assert "guid 6 is deleted" in plan.warnings[0]
    assert plan_install(done(there, plan), WANTED).changes == ()


def test_the_duplicate_with_changes_of_the_user_stays() -> None:
    own = {"id": "data_header.Tenant", "name": "Tenant"}
    changed = old_mapping("6")
    changed["fields_mapping"] = [*changed["fields_mapping"], own]
    there = existing(old_mapping("5"), changed)
    assert [each["guid"] for each in events(installed(there))] == ["6"]
    both = existing(changed | {"guid": "7"}, changed)
    plan = plan_install(both, WANTED)
    assert {each["guid"] for each in events(done(both, plan))} == {"6", "7"}
    assert "is a second one with changes that are not from sipws" in plan.warnings[0]


def test_beside_a_mapping_of_somebody_else_ours_is_a_duplicate() -> None:
    there = existing(FOREIGN, old_mapping("5"))
    assert [each["guid"] for each in events(installed(there))] == ["9"]


def test_several_mappings_of_somebody_else_are_named() -> None:
    plan = plan_install(existing(FOREIGN, FOREIGN | {"guid": "8"}), WANTED)
    assert "there are 2 mappings 35 default that are not from sipws (guid 8, 9)" in plan.warnings[0]


def test_a_mapping_that_is_not_there_is_reported() -> None:
    there = existing()
    left = [each for each in there.mappings if each["profile"] != "registration"]
    plan = plan_install(Existing(left), WANTED)
    assert "there is no mapping 1 registration" in plan.warnings[0]
    assert "mapping 1 registration" not in actions(plan)


def test_a_broken_lookup_of_the_user_is_reported() -> None:
    there = existing()
    [call] = [each for each in there.mappings if each["profile"] == "call"]
    call["correlation_mapping"].insert(0, {"source_field": "sid", "lookup_id": "35"})
    plan = plan_install(there, WANTED)
    assert any("mapping 1 call (SIP), lookup 1: lookup_id" in said for said in plan.warnings)
    assert (
        call["correlation_mapping"][0]
        in by_guid(installed(there))[call["guid"]]["correlation_mapping"]
    )


def stored_by_the_page(dashboard: Json) -> Json:
    """A dashboard after the page of Homer has stored it: with keys of its own."""
    changed = copy.deepcopy(dashboard)
    for widget in changed["widgets"]:
        widget |= {"output": {}, "layerIndex": 2, "isWarning": True}
        for field in widget["config"].get("fields", []):
            field["value"] = ""
    return changed


def test_a_dashboard_that_was_used_is_unchanged() -> None:
    there = existing(dashboard=stored_by_the_page(WANTED.dashboard))
    assert actions(plan_install(there, WANTED))["dashboard sipws"] == "unchanged"


def test_layout_weight_and_name_of_the_dashboard_are_the_users() -> None:
    moved = stored_by_the_page(WANTED.dashboard) | {"name": "Phones", "weight": 5, "shared": True}
    moved["widgets"][0] |= {"x": 9, "cols": 3, "title": "Find"}
    moved["widgets"].append({"id": "clock-1", "name": "clock"})
    there = existing(dashboard=moved)
    assert actions(plan_install(there, WANTED))["dashboard sipws"] == "unchanged"
    moved["widgets"][0]["config"]["fields"].pop(3)
    changed = plan_install(there, WANTED).changes[-1]
    assert changed.after is not None
    assert changed.after["name"] == "Phones"
    assert changed.after["widgets"][0]["x"] == 9
    assert changed.after["widgets"][2] == {"id": "clock-1", "name": "clock"}
    fields = changed.after["widgets"][0]["config"]["fields"]
    assert len(fields) == len(WANTED.dashboard["widgets"][0]["config"]["fields"])


def test_a_dashboard_never_loses_its_weight() -> None:
    there = existing(dashboard=WANTED.dashboard | {"weight": None})
    changed = plan_install(there, WANTED).changes[-1]
    assert changed.after is not None
    assert changed.after["weight"] == 20


def test_widgets_of_the_user_stay_when_ours_are_taken_out() -> None:
    clock = {"id": "clock-1", "name": "clock"}
    widgets = [*WANTED.dashboard["widgets"], clock]
    plan = plan_remove(existing(dashboard=WANTED.dashboard | {"widgets": widgets}), WANTED)
    [step] = [step for step in plan.steps if step.kind == "dashboard"]
    assert step.after is not None
    assert step.after["widgets"] == [clock]


@pytest.mark.parametrize(
    ("dashboard", "owner", "said"),
    [
        ({"name": "Mine", "weight": 1, "widgets": []}, "admin", "without a widget from sipws"),
        (WANTED.dashboard | {"shared": True}, "boss", "is shared by the user 'boss'"),
    ],
)
def test_a_dashboard_of_somebody_else_is_left_alone(dashboard: Any, owner: str, said: str) -> None:
    there = existing(dashboard=dashboard, owner=owner)
    for plan in (plan_install(there, WANTED), plan_remove(there, WANTED)):
        assert "dashboard sipws" not in actions(plan)
        assert said in plan.warnings[0]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.lists(st.tuples(st.sampled_from([(35, "default"), (1, "call")]), values, values), max_size=3)
)
def test_any_mapping_is_restored(found: list[Any]) -> None:
    mappings = [
        {"guid": str(number), "hepid": hepid, "profile": profile, "hep_alias": "X",
         "fields_mapping": fields, "correlation_mapping": lookups}
        for number, ((hepid, profile), fields, lookups) in enumerate(found)
    ]  # fmt: skip
    there = Existing(mappings)
    after = installed(there)
    assert plan_install(after, WANTED).changes == ()
    assert by_guid(done(after, plan_remove(after, WANTED))) == by_guid(there)


def test_a_difference_names_each_lookup_on_its_own_line() -> None:
    plan = plan_install(existing(), WANTED)
    [step] = [step for step in plan.steps if step.name == "mapping 1 registration (SIP)"]
    lines = list(difference(step))
    assert lines[:2] == [
        "--- mapping 1 registration (SIP), as it is",
        "+++ mapping 1 registration (SIP), as it is to be",
    ]
    added = [line for line in lines[2:] if line.startswith("+")]
    removed = [line for line in lines[2:] if line.startswith("-")]
    assert len(added) == 2
    assert '"lookup_range": [-300, 7200], "sipws": {"was": [-300, 200]' in added[0]
    assert '"lookup_id": 35' in added[1]
    assert len(removed) == 1


def test_marks_are_the_only_addition_to_what_comes_by_hand(tmp_path: Path) -> None:
    # Who loads the file by hand has what the command installs.
    [path, *_] = files.write(tmp_path)
    by_hand = json.loads(path.read_text()) | {"guid": "1"}
    assert actions(plan_install(existing(by_hand), WANTED))["mapping 35 default"] == "unchanged"
    assert all(is_added(field) and MARK in field for field in by_hand["fields_mapping"])
