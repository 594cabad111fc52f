"""The values of ``$avp(…)``: each name has a list, the value that was set last first."""

import re
from collections.abc import Callable
from typing import Literal

from sipws.tracing.filter.nodes import Variable
from sipws.tracing.filter.pseudo import Problem
from sipws.tracing.filter.run import Getter, Run
from sipws.tracing.filter.values import FAILED, Value, kept, number_of, text_of

Inner = Callable[[str], Getter]
"""Compiles a variable that stands within another."""


def _index(variable: Variable, inner: Inner) -> Getter | Literal["all", "append"]:
    index = variable.index
    if index is None:
        return lambda run: 0
    if index == "*":
        return "all"
    if index.lower() == "append":
        return "append"
    if index.startswith("$"):
        return inner(index)
    if not re.fullmatch("-?[0-9]{1,9}", index):
        raise Problem(f"[{index}] is no index: it is a number, *, append or a variable")
    number = int(index)
    return lambda run: number


def _key(variable: Variable, inner: Inner) -> Callable[[Run], str | None]:
    name = variable.inner or ""
    if not name.startswith("$"):
        key = f"@{name}"
        return lambda run: key
    get = inner(name)

    def dynamic(run: Run) -> str | None:
        found = text_of(get(run))
        return f"@{found}" if found else None

    return dynamic


def compile_avp(variable: Variable, inner: Inner) -> Getter:
    """How a value is got. Raises Problem."""
    key, index = _key(variable, inner), _index(variable, inner)

    def get(run: Run) -> Value:
        name = key(run)
        if name is None:
            return FAILED
        values: list[Value] = run.variables.get(name) or []
        if index == "append" or not values:
            return None
        if index == "all":
            return ", ".join(text_of(value) or "" for value in values)
        number = number_of(index(run))
        if number is None:
            return FAILED
        return values[number] if -len(values) <= number < len(values) else None

    return get


def compile_avp_setter(variable: Variable, inner: Inner) -> Callable[[Run, Value, str], bool]:
    """How a value is set. Raises Problem."""
    key, index = _key(variable, inner), _index(variable, inner)

    def put(run: Run, value: Value, operator: str) -> bool:
        name = key(run)
        if name is None:
            return False
        values: list[Value] = run.variables.setdefault(name, [])
        number = number_of(index(run)) if callable(index) else 0
        if number is None:
            return False
        if operator == ":=" or index == "all":
            values.clear()
        if value is None:
            if values and 0 <= number < len(values):
                del values[number]
            return number >= 0
        if variable.index is None or index == "all":
            values.insert(0, kept(value))
        elif index == "append":
            values.append(kept(value))
        elif -len(values) <= number < len(values):
            values[number] = kept(value)
        else:
            return False
        return True

    return put
