"""Writes what a step changes as a unified difference. Pure."""

import json
from collections.abc import Iterator
from difflib import unified_diff
from typing import Any, Final

from sipws.homer.files import Json
from sipws.homer.plan import Step

_CONTEXT: Final = 1
"""Unchanged lines around each change."""

_WIDTH: Final = 90
"""Characters of a value that is written on one line."""

_ENTRY: Final = 500
"""Characters of an entry of a list that is written on one line: lookups and fields, not widgets."""


def difference(step: Step) -> Iterator[str]:
    """Yield the lines of the difference between the state now and the wanted one.

    A list has a line for each of its entries, because entries are what is added and removed.

    Args:
        step: of a plan.
    """
    before, after = _lines(step.before), _lines(step.after)
    names = (f"{step.name}, as it is", f"{step.name}, as it is to be")
    yield from unified_diff(before, after, *names, n=_CONTEXT, lineterm="")


def _lines(value: Json | None) -> list[str]:
    return [] if value is None else list(_members(value, ""))


def _members(value: Json, indent: str) -> Iterator[str]:
    for name, member in value.items():
        yield from _written(member, f"{indent}{json.dumps(name)}: ", indent)


def _written(value: Any, start: str, indent: str, width: int = _WIDTH) -> Iterator[str]:
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) <= width or not isinstance(value, dict | list):
        yield start + whole
    elif isinstance(value, dict):
        yield start + "{"
        yield from _members(value, indent + "  ")
        yield indent + "}"
    else:
        yield start + "["
        for entry in value:
            yield from _written(entry, indent + "  ", indent + "  ", _ENTRY)
        yield indent + "]"
