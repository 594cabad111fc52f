"""The budget of instructions: what is compared, and when it fails."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / "peers" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def budget() -> ModuleType:
    return loaded("budget")


@pytest.mark.parametrize(
    ("now", "grown", "shrunk"),
    [
        (100_000, False, False),
        (105_000, False, False),
        (105_001, True, False),
        (95_000, False, False),
        (94_999, False, True),
    ],
)
def test_a_row_may_be_off_by_the_tolerance(budget, now, grown, shrunk) -> None:
    verdict = budget.compare({"mix": 100_000}, {"mix": now}, 0.05)
    assert (bool(verdict.grown), bool(verdict.shrunk)) == (grown, shrunk)
    assert verdict.holds is not grown


def test_one_row_that_grows_is_named_among_others_that_do_not(budget) -> None:
    verdict = budget.compare({"mix": 1000, "BYE": 2000}, {"mix": 900, "BYE": 2200})
    assert verdict.grown == ["BYE: 2,000 -> 2,200 (+10.0%)"]
    assert not verdict.holds


def test_what_is_off_the_most_is_told_where_nothing_is_wrong(budget) -> None:
    verdict = budget.compare({"a": 1000, "b": 1000}, {"a": 1010, "b": 980})
    assert verdict.largest == "b: 1,000 -> 980 (-2.0%)"


def test_a_row_that_is_not_compared_does_not_pass(budget) -> None:
    verdict = budget.compare({"gone": 1000}, {"new": 1000})
    assert (verdict.missing, verdict.unknown) == (["gone"], ["new: 1,000"])
    assert not verdict.holds
    assert not budget.compare({}, {"new": 1000}).holds
    assert not budget.compare({"gone": 1000}, {}).holds


def test_builds_differ_by_name(budget) -> None:
    here = budget.this_build()
    assert budget.differences(here, here) == []
    [line] = budget.differences({**here, "websockets": "16.0"}, here)
    assert line.startswith("websockets: recorded with 16.0, here ")
    [line] = budget.differences(here, {**here, "compiler": "new"})
    assert line == "compiler: recorded with None, here new"


def test_what_is_written_is_read(budget, tmp_path) -> None:
    written = budget.Budget("c33eef1", {"python": "3.11"}, {"mix": 1000})
    written.write(tmp_path / "budget.json")
    assert budget.Budget.read(tmp_path / "budget.json") == written


def test_what_is_recorded_is_what_is_counted() -> None:
    recorded = json.loads((BENCHMARKS / "instructions.json").read_text())
    listed = subprocess.run(
        [sys.executable, str(BENCHMARKS / "instructions.py"), "--rows"],
        capture_output=True,
        text=True,
        check=True,
    )
    *rows, _ = listed.stdout.splitlines()
    assert list(recorded["rows"]) == rows
