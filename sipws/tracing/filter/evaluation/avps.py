"""The variable ``$avp(name)`` of OpenSIPS: each name has a list of values, the newest first."""

import re
from collections.abc import Callable
from typing import Final, Literal

from sipws.tracing.filter.bounds import MAX_HELD, VALUE
from sipws.tracing.filter.evaluation.run import Getter, Run, weight_of
from sipws.tracing.filter.evaluation.values import Value, kept, number_of, stored, text_of
from sipws.tracing.filter.syntax.nodes import Variable
from sipws.tracing.filter.syntax.pseudo import Problem

_FREE_VALUES: Final = 512
"""Length up to which adding to a list costs no steps. Each further 512 values cost one step."""

Inner = Callable[[str], Getter]
"""Compiles a variable inside another one."""


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
        raise Problem(f"[{index}] is not an index: it is a number, *, append or a variable")
    number = int(index)
    return lambda run: number


def _key(variable: Variable, inner: Inner) -> Callable[[Run], str | None]:
    name = variable.inner or ""
    if not name.startswith("$"):
        key = f"@{stored(name)}"
        return lambda run: key
    get = inner(name)

    def dynamic(run: Run) -> str | None:
        found = text_of(get(run))
        return f"@{found}" if found else None

    return dynamic


def compile_avp(variable: Variable, inner: Inner) -> Getter:
    """Compile reading of ``$avp(name)``, ``$(avp(name)[index])`` or ``$(avp(name)[*])``.

    Raises:
        Problem: the index is invalid.
    """
    key, index = _key(variable, inner), _index(variable, inner)

    def get(run: Run) -> Value:
        name = key(run)
        if name is None:
            return None
        values: list[Value] = run.variables.get(name) or []
        if index == "append" or not values:
            return None
        if index == "all":
            run.spend(len(values) // 4)
            joined = ", ".join(text_of(value) or "" for value in values)
            run.made(joined)
            return joined
        number = number_of(index(run))
        if number is None:
            return None
        return values[number] if -len(values) <= number < len(values) else None

    return get


def compile_avp_setter(variable: Variable, inner: Inner) -> Callable[[Run, Value, str], bool]:
    """Compile assignment to ``$avp(name)``, ``$(avp(name)[index])`` or ``$(avp(name)[append])``.

    Raises:
        Problem: the index is invalid.
    """
    key, index = _key(variable, inner), _index(variable, inner)

    def put(run: Run, value: Value, operator: str) -> bool:
        name = key(run)
        if name is None:
            return False
        values: list[Value] | None = run.variables.get(name)
        if values is None:
            run.hold(weight_of(name))
            values = run.variables[name] = []
        number = number_of(index(run)) if callable(index) else 0
        if number is None:
            return False
        if len(values) > _FREE_VALUES:
            run.spend(len(values) // _FREE_VALUES)
        if operator == ":=" or index == "all":
            run.hold(-sum(map(weight_of, values)))
            values.clear()
        if value is None:
            if values and 0 <= number < len(values):
                run.hold(-weight_of(values.pop(number)))
            return number >= 0
        value = kept(value)
        if variable.index is None or index == "all":
            run.hold(weight_of(value))
            values.insert(0, value)
        elif index == "append":
            run.hold(weight_of(value))
            values.append(value)
        elif -len(values) <= number < len(values):
            run.hold(weight_of(value) - weight_of(values[number]))
            values[number] = value
        else:
            return False
        return True

    name = variable.inner or ""
    if variable.index is not None or name.startswith("$"):
        return put
    constant = f"@{stored(name)}"
    cost = weight_of(constant)

    def push(run: Run, value: Value, operator: str) -> bool:
        # Fast path for the usual case: a new value without an index.
        values: list[Value] | None = run.variables.get(constant)
        many = values is not None and len(values) > _FREE_VALUES
        if many or value is None or operator == ":=":
            return put(run, value, operator)
        value = kept(value)
        held = run.held + VALUE + (len(value) if isinstance(value, str) else 0)
        if values is None:
            held += cost
        if held > MAX_HELD:
            run.hold(held - run.held)
        run.held = held
        if values is None:
            run.variables[constant] = [value]
        else:
            values.insert(0, value)
        return True

    return push
