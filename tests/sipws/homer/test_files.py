"""The files for homer-app keep the rules that were found with a real one."""

import json
import re
import shutil
import subprocess
from importlib.resources import files as resources
from pathlib import Path
from typing import Any, get_args

import pytest

from sipws.homer import files
from sipws.homer.lookups import MARK, key_of, slips
from tests.sipws.homer.stand_in import RECORDED, Json

ROOT = Path(__file__).parents[3]
MODES = get_args(files.SipCorrelation)

SENT = {
    "Protocol", "Event", "Status", "Message", "event", "Error", "Error_Detail", "Destination",
    "Instance", "Superseded_By", "Close_Code", "Close_Reason", "Closed_By", "Duration",
    "Messages_In", "Messages_Out", "Bytes_In", "Bytes_Out", "Ws_Message", "Ws_Message_Bytes",
    "Call_ID", "Packets", "From", "To", "Most_Of", "Filter_Remark", "Relayed_With", "Client",
    "Call_IDs", "Resource", "Host", "Origin", "User_Agent", "Reply_Code",
}  # fmt: skip
"""Keys of events. Ws-Request and Ws-Reply have a hyphen: homer-app searches the last five."""


def mapping() -> Json:
    return files.wanted().mapping


def all_lookups() -> list[tuple[str, files.MappingLookups]]:
    return [(mode, each) for mode in MODES for each in files.wanted(mode).lookups]


def recorded_lookups() -> list[Json]:
    """The lookups of homer-app's flows that found something."""
    found = []
    for path in sorted(RECORDED.glob("correlation-*.json")):
        exchange = json.loads(path.read_text())
        if exchange["response"] is not None:
            found += exchange["mapping_before_the_request"]["correlation_mapping"]
    return found


@pytest.mark.parametrize("name", files.NAMES)
def test_the_documents_have_the_files_of_the_package(name: str) -> None:
    assert (ROOT / "docs" / "homer" / name).read_text() == files.text(name)


@pytest.mark.parametrize("name", files.NAMES)
def test_the_package_has_its_files(name: str) -> None:
    assert resources("sipws.homer").joinpath(name).is_file()
    # What hatchling takes into the wheel: files under the package that git does not ignore.
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        path = str(ROOT / "sipws" / "homer" / name)
        ignored = subprocess.run([git, "-C", str(ROOT), "check-ignore", "-q", path], check=False)
        assert ignored.returncode == 1


def test_homer_app_searches_every_field() -> None:
    for field in mapping()["fields_mapping"]:
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", part) for part in field["id"].split("."))


def test_every_key_of_an_event_has_a_field() -> None:
    ids = {field["id"] for field in mapping()["fields_mapping"]}
    assert {f"data_header.{key}" for key in SENT} == {each for each in ids if "data_" in each}


def test_fields_are_numbered_and_marked() -> None:
    fields = mapping()["fields_mapping"]
    assert [field["position"] for field in fields] == list(range(1, len(fields) + 1))
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field[MARK] == "added" for field in fields)


def test_the_mapping_has_what_homer_app_requires_and_lists() -> None:
    listed = json.loads((RECORDED / "mapping-list.json").read_text())
    assert {"guid", *mapping()} == set(listed["response"]["body"]["data"][0])
    required = ("profile", "hepid", "partid", "version", "retention", "partition_step")
    assert all(mapping()[name] for name in required)


def test_the_mapping_alone_has_the_lookups_for_the_default() -> None:
    ours = files.wanted("connection").lookups_of(35, "default")
    assert mapping()["correlation_mapping"] == list(ours.add)
    assert not ours.widen


@pytest.mark.parametrize(("mode", "ours"), all_lookups())
def test_no_lookup_ends_the_flows_of_its_mapping(mode: str, ours: files.MappingLookups) -> None:
    assert slips([*ours.add, *ours.widen]) == []
    assert all(lookup[MARK] == "added" for lookup in ours.add)
    # An entry that is there twice would be added once.
    keys = [key_of(lookup) for lookup in (*ours.add, *ours.widen)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("mode", "ours"), all_lookups())
def test_lookups_use_functions_and_expressions_that_were_tried(
    mode: str, ours: files.MappingLookups
) -> None:
    tried = recorded_lookups()
    functions = {lookup.get("input_function_js") for lookup in tried}
    expressions = {lookup["lookup_field"] for lookup in tried}
    # Calls was the key of the recordings.
    expressions |= (
        {"data_header->>'Relayed_With'"} if "data_header->>'Calls'" in expressions else set()
    )
    for lookup in ours.add:
        assert lookup.get("input_function_js") in functions
        assert lookup["lookup_field"] in expressions


@pytest.mark.parametrize(("mode", "ours"), all_lookups())
def test_a_connection_that_opened_hours_before_is_found(
    mode: str, ours: files.MappingLookups
) -> None:
    for lookup in ours.add:
        if (lookup["lookup_id"], lookup["lookup_field"]) == (35, "sid"):
            assert lookup["lookup_range"][0] <= -86400


def test_lookups_that_append_stand_before_those_that_use_what_was_found() -> None:
    for mode, ours in all_lookups():
        appends = [bool(lookup.get("append_sid")) for lookup in ours.add]
        if any(appends):
            assert not appends[-1], (mode, ours.hepid, ours.profile)


def test_the_dashboard_can_be_listed() -> None:
    dashboard = files.wanted().dashboard
    # Without a weight homer-app answers no list of dashboards any more.
    assert isinstance(dashboard["weight"], int)
    assert dashboard["id"] == dashboard["dashboardId"] == dashboard["param"] == "sipws"
    stored = json.loads((RECORDED / "dashboard-store.json").read_text())["request"]["body"]
    assert dashboard.keys() == stored.keys()
    assert dashboard["config"] == stored["config"]


def test_the_dashboard_searches_fields_of_the_mapping() -> None:
    names = {field["id"]: field for field in mapping()["fields_mapping"]}
    [search, results] = files.wanted().dashboard["widgets"]
    assert search["strongIndex"] == "ProtosearchWidgetComponent"
    assert results["strongIndex"] == "ResultWidgetComponent"
    assert search["config"]["protocol_id"] == {"name": mapping()["hep_alias"], "value": 35}
    for field in search["config"]["fields"]:
        name = field["field_name"]
        assert field["name"] == f"35:default:{name}"
        if name not in ("limit", "targetResultsContainer"):
            assert field["selection"] == names[name]["name"]


def test_the_files_are_written_out(tmp_path: Path) -> None:
    written: list[Any] = list(files.write(tmp_path / "new" / "folder"))
    assert {path.name for path in written} == set(files.NAMES)
    assert all(path.read_text() == files.text(path.name) for path in written)
