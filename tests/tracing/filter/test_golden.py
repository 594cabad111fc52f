"""The scripts that OpenSIPS 3.6.8 was given, and what it decided: the specification."""

import json
from pathlib import Path
from typing import Any

import pytest

from sipws.tracing.filter import FilterRouteError, Script, Subject
from sipws.tracing.filter.evaluation.subject import Socket
from sipws.tracing.filter.explain import explain
from sipws.tracing.filter.syntax.printer import print_route

GOLDEN = Path(__file__).parents[2] / "data" / "opensips-3.6.8"


def recorded(name: str) -> dict[str, dict[str, Any]]:
    scripts: dict[str, dict[str, Any]] = json.loads((GOLDEN / name).read_text())["scripts"]
    return scripts


FIRST, SECOND = recorded("filter_routes.json"), recorded("filter_routes_2.json")
SCRIPTS = FIRST | {f"2-{name}": case for name, case in SECOND.items()}
ACCEPTED = [name for name, case in SCRIPTS.items() if case["accepted"]]
REFUSED = [name for name, case in SCRIPTS.items() if not case["accepted"]]

LISTENERS = (
    ("127.0.0.1", 18081),
    ("127.0.0.10", 15060),
    ("::1", 18082),
    ("127.0.0.1", 21081),
    Socket("127.0.0.10", 21160, tag="edge"),
    ("::1", 21082),
    Socket("127.0.0.11", 21083, tag="adv", advertised_ip="203.0.113.9", advertised_port=9443),
)
"""What OpenSIPS listened on, three sockets for the first file and four for the second."""


def subject(decision: dict[str, Any]) -> Subject:
    socket = decision["socket_in"]
    return Subject(
        si=decision["si"],
        sp=decision["sp"],
        socket_ip=socket["ip"],
        socket_port=socket["port"],
        proto=socket["proto"],
        tag="edge" if socket["port"] == 15060 else socket.get("tag"),
        advertised_ip=socket.get("advertised_ip"),
        advertised_port=socket.get("advertised_port"),
    )


def test_the_golden_scripts_are_complete() -> None:
    assert (len(FIRST), len(SECOND)) == (150, 266)
    assert (len(ACCEPTED), len(REFUSED)) == (126 + 231, 24 + 35)


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


EXPRESSIONS: dict[str, dict[str, Any]] = json.loads((GOLDEN / "transformations.json").read_text())[
    "expressions"
]


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_transformations_give_what_opensips_shows(name: str) -> None:
    case = EXPRESSIONS[name]
    written = case["input"].replace("\\", "\\\\").replace('"', '\\"')
    body = f'$var(x) = "{written}"; xlog("$(var(x){case["expression"]})");'
    if not case["accepted"]:
        with pytest.raises(FilterRouteError):
            Script.parse(f"route[f] {{ {body} }}")
        return
    (message,) = Script.parse(f"route[f] {{ {body} }}").evaluate("f", subject_of_none()).messages
    assert message.removeprefix("ERR: ") == case["value"]


@pytest.mark.parametrize("name", [name for name, case in EXPRESSIONS.items() if case["accepted"]])
def test_a_variable_takes_what_a_transformation_gives(name: str) -> None:
    case = EXPRESSIONS[name]
    written = case["input"].replace("\\", "\\\\").replace('"', '\\"')
    body = f'$var(x) = "{written}"; $var(y) = $(var(x){case["expression"]}); xlog("$var(y)");'
    (message,) = Script.parse(f"route[f] {{ {body} }}").evaluate("f", subject_of_none()).messages
    assert message.removeprefix("ERR: ") == case["value"]


def subject_of_none() -> Subject:
    return Subject("192.0.2.5", 8000, "10.0.0.1", 80)
