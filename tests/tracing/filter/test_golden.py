"""The scripts that OpenSIPS 3.6.8 was given, and what it decided: the specification."""

import json
from pathlib import Path
from typing import Any

import pytest

from sipws.tracing.filter import FilterRouteError, Script, Subject
from sipws.tracing.filter.explain import explain
from sipws.tracing.filter.syntax.printer import print_route

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "filter_routes.json"
SCRIPTS: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text())["scripts"]
ACCEPTED = [name for name, case in SCRIPTS.items() if case["accepted"]]
REFUSED = [name for name, case in SCRIPTS.items() if not case["accepted"]]

LISTENERS = [("127.0.0.1", 18081), ("127.0.0.10", 15060), ("::1", 18082)]
"""What OpenSIPS listened on; the second with the tag ``edge``."""


def subject(decision: dict[str, Any]) -> Subject:
    socket = decision["socket_in"]
    return Subject(
        si=decision["si"],
        sp=decision["sp"],
        socket_ip=socket["ip"],
        socket_port=socket["port"],
        proto=socket["proto"],
        tag="edge" if socket["port"] == 15060 else None,
    )


def test_the_golden_scripts_are_complete() -> None:
    assert (len(ACCEPTED), len(REFUSED)) == (126, 24)


@pytest.mark.parametrize("name", ACCEPTED)
def test_decisions_are_those_of_opensips(name: str) -> None:
    case = SCRIPTS[name]
    decide = Script.parse(case["script"]).decider("ws_filter", LISTENERS)
    decisions = ["traced" if decide(subject(it)) else "dropped" for it in case["decisions"]]
    assert decisions == [it["decision"] for it in case["decisions"]]


@pytest.mark.parametrize("name", ACCEPTED)
def test_explaining_changes_no_decision(name: str) -> None:
    case = SCRIPTS[name]
    script = Script.parse(case["script"])
    found = [explain(script, "ws_filter", subject(it), LISTENERS) for it in case["decisions"]]
    decisions = ["traced" if it.outcome.traced else "dropped" for it in found]
    assert decisions == [it["decision"] for it in case["decisions"]]


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_printed_parses_to_the_same_tree(name: str) -> None:
    trees = Script.parse(SCRIPTS[name]["script"]).trees
    assert Script.parse("".join(map(print_route, trees))).trees == trees


@pytest.mark.parametrize("name", REFUSED)
def test_scripts_that_opensips_rejects_are_errors_with_a_place(name: str) -> None:
    with pytest.raises(FilterRouteError) as refused:
        Script.parse(SCRIPTS[name]["script"], filename="filter.cfg")
    assert str(refused.value).startswith("filter.cfg:")
    assert "^" in str(refused.value)
