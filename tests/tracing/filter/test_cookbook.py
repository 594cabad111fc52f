"""The routes of docs/filter-routes.md decide as the page says."""

import re
from pathlib import Path

import pytest

from sipws.cli.filter import Connection
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
