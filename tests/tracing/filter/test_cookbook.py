"""The routes of docs/filter-routes.md decide as the page says."""

import argparse
import re
from pathlib import Path

import pytest

from sipws.cli.filter import Connection, run_cases
from sipws.tracing.filter import Script

PAGE = (Path(__file__).parents[3] / "docs" / "filter-routes.md").read_text()

RECIPE = re.compile(
    r"^### (?P<title>[^\n]+)\n+```opensips\n(?P<script>.*?)```\n+(?P<table>(?:    [^\n]+\n)+)",
    re.MULTILINE | re.DOTALL,
)
RECIPES = list(RECIPE.finditer(PAGE))
OTHERS = re.findall(r"```(?:opensips)?\n(route.*?)```", PAGE.partition("## Cookbook")[0], re.DOTALL)


def test_there_are_ten() -> None:
    assert len(RECIPES) == 10


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda found: found["title"])
def test_a_recipe_decides_as_the_page_says(recipe: re.Match[str]) -> None:
    script = Script.parse(recipe["script"])
    decide = script.decider("ws_filter")
    rows = [line.split(maxsplit=1) for line in recipe["table"].splitlines()]
    decisions = ["traced" if decide(Connection.parse(c).subject) else "dropped" for _, c in rows]
    assert decisions == [expected for expected, _ in rows]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda found: found["title"])
def test_a_recipe_has_no_warnings(recipe: re.Match[str]) -> None:
    assert Script.parse(recipe["script"]).warnings == ()


@pytest.mark.parametrize("script", OTHERS)
def test_the_other_examples_are_right(script: str) -> None:
    assert "ws_filter" in Script.parse(script).routes


def test_the_table_of_cases_in_the_page_is_read(tmp_path: Path) -> None:
    table = re.search(r"```toml\n(script.*?)```", PAGE, re.DOTALL)
    assert table
    (tmp_path / "cases.toml").write_text(table[1])
    (tmp_path / "filter.cfg").write_text(
        'route[ws_filter] { if ($time(%H) == "08") exit; if ($socket_in(advertised_port)) drop; }'
    )
    arguments = argparse.Namespace(cases=tmp_path / "cases.toml", time=None, json=False)
    assert run_cases(arguments) == 0
