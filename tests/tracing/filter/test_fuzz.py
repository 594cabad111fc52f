"""A few rounds of the fuzz target, the same each time."""

import runpy
from pathlib import Path


def test_hundreds_of_mutated_scripts_decide_or_are_refused() -> None:
    fuzz = runpy.run_path(str(Path(__file__).with_name("fuzz.py")))
    assert fuzz["run"](1, lambda done: done < 800) == 800
