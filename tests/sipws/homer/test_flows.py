"""What the lookups of sipws show in Homer: a call with its connection, and the way back."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from sipws.homer import files
from sipws.homer.lookups import with_lookups
from tests.sipws.homer.flow import FUNCTIONS, Row, flow, recorded_rows
from tests.sipws.homer.stand_in import RECORDED, StandIn

NOT_IMITATED = {
    # It runs a function that assigns, or SQL with a join.
    "correlation-function-replaces-data",
    "correlation-join-in-lookup-profile",
    "correlation-join-in-lookup-profile-heplify-default",
    "correlation-registration-join-in-lookup-profile",
    # The rows of its second call were not recorded.
    "correlation-connection-to-calls",
}
FLOWS = [
    path
    for path in sorted(RECORDED.glob("correlation-*.json"))
    if path.stem not in NOT_IMITATED and "messages" in json.loads(path.read_text())
]


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_flows_are_imitated_as_they_were_recorded(path: Path) -> None:
    exchange = json.loads(path.read_text())
    asked = exchange["request"]["body"]
    [(table, search)] = asked["param"]["search"].items()
    span = (asked["timestamp"]["from"] / 1000, asked["timestamp"]["to"] / 1000)
    lookups = exchange["mapping_before_the_request"]["correlation_mapping"]
    shown = flow(recorded_rows(), lookups, table, search["callid"], span)
    recorded = [(kind, sid) for kind, sid, _ in exchange["messages"]]
    assert [(row.protocol_header["payloadType"], row.sid) for row in shown] == recorded


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
@pytest.mark.parametrize("code", [code for code in FUNCTIONS if code.endswith(" r;")])
def test_functions_are_imitated_as_javascript_runs_them(code: str) -> None:
    data = ["1879", "a%_b", "WebSocket connection 42 a > b and WebSocket connection 43", ""]
    script = (
        f"const data = {json.dumps(data)}; console.log(JSON.stringify(eval({json.dumps(code)})))"
    )
    ran = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [new for value in data for new in FUNCTIONS[code](value)]


def test_enough_flows_were_recorded() -> None:
    assert len(FLOWS) >= 14


HOUR = 3600.0
PHONE, UPSTREAM, OTHER = "1879", "1880", "1999"
MODES = get_args(files.SipCorrelation)


def network_event(sid: str, at: float, name: str, forced: bool, **more: str) -> Row:
    """An event, as heplify stores it: with ForceHEPPayload, or by default."""
    data = {"Event": name, **more}
    if forced:
        return Row("35_default", sid, at, '{"node":"1"}', data, {"correlation_id": sid})
    return Row("35_default", sid, at, json.dumps(data), {}, {"correlation_id": sid})


def sip(table: str, call: str, at: float, connection: str, mode: str) -> Row:
    correlation = connection if mode == "connection" else call
    header = {"correlation_id": correlation}
    return Row(table, call, at, f"{table} {call}", {"callid": call}, header)


def log_line(call: str, at: float, connection: str) -> Row:
    return Row("100_default", call, at, f"WebSocket connection {connection} a > b closed 1006")


def rows(mode: str, forced: bool) -> list[Row]:
    """A phone that connects at 0, registers, calls after 8 hours, and is lost an hour later.

    Its messages are relayed on a connection of its own to the upstream. Another phone, with the
    same address, calls at the same time.
    """
    call, lost = 8 * HOUR, 9 * HOUR
    ends = {"Call_IDs": "reg@a call-1@a"}
    found = [
        network_event(PHONE, 0, "ACCEPTED", forced),
        network_event(UPSTREAM, 1, "CONNECTED", forced, Relayed_With=PHONE),
        network_event(PHONE, lost, "CLOSED", forced, Relayed_With=UPSTREAM, **ends),
        network_event(UPSTREAM, lost + 1, "CLOSED", forced, Relayed_With=PHONE, **ends),
        network_event(OTHER, call - 1, "ACCEPTED", forced),
        network_event(OTHER, lost, "CLOSED", forced, Call_IDs="call-2@a"),
    ]
    for leg, seconds in ((PHONE, 0.0), (UPSTREAM, 0.5)):
        found.append(sip("1_registration", "reg@a", call - 60 + seconds, leg, mode))
        found.append(sip("1_call", "call-1@a", call + seconds, leg, mode))
        found.append(sip("1_default", "opt@a", lost - 60 + seconds, leg, mode))
        found.append(log_line("call-1@a", lost + seconds, leg))
        found.append(log_line("reg@a", lost + seconds, leg))
    found.append(sip("1_call", "call-2@a", call, OTHER, mode))
    found.append(log_line("call-2@a", lost, OTHER))
    return found


def shown(mode: str, forced: bool, table: str, sid: str, at: float) -> set[tuple[str, str, float]]:
    hepid, _, profile = table.partition("_")
    wanted = files.wanted(mode)  # type: ignore[arg-type]
    if int(hepid) == 35:
        there = []
    else:
        there = StandIn().mapping(int(hepid), profile)["correlation_mapping"]
        # Its own function, which is not imitated, concerns other lookups.
        there = [each for each in there if "input_function_js" not in each]
    lookups = with_lookups(there, wanted.lookups_of(int(hepid), profile))
    found = flow(rows(mode, forced), lookups, table, [sid], (at - 600, at + 600))
    return {(row.table, row.sid, row.at) for row in found}


def events_of(*sids: str) -> set[tuple[str, str, float]]:
    return {
        (row.table, row.sid, row.at)
        for row in rows("call", True)
        if row.table == "35_default" and row.sid in sids
    }


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("table", "sid"), [("1_call", "call-1@a"), ("1_registration", "reg@a")])
def test_from_a_call_or_registration_to_its_connections(
    mode: str, forced: bool, table: str, sid: str
) -> None:
    found = shown(mode, forced, table, sid, 8 * HOUR)
    # The connection opened hours before, and was lost an hour later.
    assert {each for each in found if each[0] == "35_default"} == events_of(PHONE, UPSTREAM)
    logs = [each for each in found if each[0] == "100_default"]
    assert [sid for _, sid, _ in logs] == [sid, sid]


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_from_a_connection_to_its_calls_and_registrations(mode: str, forced: bool) -> None:
    found = shown(mode, forced, "35_default", PHONE, 9 * HOUR)
    calls = {(table, sid) for table, sid, _ in found if table.startswith("1_")}
    assert {("1_call", "call-1@a"), ("1_registration", "reg@a")} <= calls
    assert ("1_call", "call-2@a") not in calls
    assert {sid for table, sid, _ in found if table == "100_default"} == {"reg@a", "call-1@a"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("leg", "other", "at"),
    [
        (PHONE, UPSTREAM, 9 * HOUR),
        (UPSTREAM, PHONE, 9 * HOUR),
        (PHONE, UPSTREAM, 0),
        (UPSTREAM, PHONE, 0),
    ],
)
def test_from_one_leg_of_a_relayed_connection_to_the_other(
    mode: str, leg: str, other: str, at: float
) -> None:
    # The first event of a phone does not name the other leg yet: the way back finds it.
    found = shown(mode, True, "35_default", leg, at)
    assert {each for each in found if each[0] == "35_default"} == events_of(leg, other)


def test_with_the_ids_of_connections_a_request_outside_of_calls_is_found() -> None:
    found = shown("connection", True, "1_default", "opt@a", 9 * HOUR)
    assert {each for each in found if each[0] == "35_default"} == events_of(PHONE, UPSTREAM)


@pytest.mark.parametrize("mode", MODES)
def test_from_a_log_line_to_its_connections(mode: str) -> None:
    found = shown(mode, True, "100_default", "call-1@a", 9 * HOUR)
    assert {each for each in found if each[0] == "35_default"} == events_of(PHONE, UPSTREAM)
