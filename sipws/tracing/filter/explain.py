"""Explains a decision: the path through the script, line by line, with values.

The compiler and its closures are those of a normal decision. `Scope.watch` wraps each relevant part
in a recorder.
"""

from dataclasses import dataclass
from typing import Any

from sipws.tracing.filter.bounds import Exhausted
from sipws.tracing.filter.evaluation.run import BREAK, DROP, EXIT, RETURN, Getter, Run, Scope
from sipws.tracing.filter.evaluation.subject import Outcome, Subject
from sipws.tracing.filter.evaluation.values import FAILED, shown
from sipws.tracing.filter.evaluation.variables import compile_variable
from sipws.tracing.filter.script import Own, Script, conclude, prepared
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.printer import print_condition, print_statement, print_value
from sipws.tracing.filter.syntax.pseudo import print_variable

MAX_STEPS_SHOWN = 200
"""Maximum number of steps in an explanation. The last steps are kept, because they decide."""

_SHOWN = 500
"""Maximum number of characters of a value in an explanation."""

_FLOW = {BREAK: "leaves the loop", RETURN: "returns", EXIT: "ends: traced", DROP: "ends: dropped"}


@dataclass(frozen=True, slots=True)
class Step:
    """A condition that was evaluated or a statement that was executed."""

    filename: str
    """File of the script."""
    line: int
    """Line number, from 1."""
    column: int
    """Column number, from 1."""
    text: str
    """The source text with normalized blanks and brackets."""
    result: str
    """``true``, ``false`` or ``error`` of a condition; the result of a statement."""
    values: tuple[str, ...]
    """The variables and their values: ``$sp is 28000``."""

    def __str__(self) -> str:
        values = f"   ({', '.join(self.values)})" if self.values else ""
        return f"{self.filename}:{self.line}: {self.text}  -> {self.result}{values}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and the steps that led to it."""

    outcome: Outcome
    """The decision."""
    steps: tuple[Step, ...]
    """The last `MAX_STEPS_SHOWN` steps, in order."""

    @property
    def decisive(self) -> Step | None:
        """The statement that decided; None if the route ran to its end or does not exist."""
        last = self.steps[-1] if self.steps else None
        return last if last is not None and last.result in _FLOW.values() else None


def explain(script: Script, route: str, subject: Subject, own: Own = ()) -> Explanation:
    """Decide about a connection and record the path through the script.

    Args:
        script: the script.
        route: name of the filter route. A route that does not exist traces every connection.
        subject: the connection.
        own: further local addresses and ports, for ``is_myself``.

    Returns:
        the decision and its steps.

    Raises:
        FilterRouteError: as for `Script.decider`.
    """
    body = script.compiled_for(route, _Recording)
    if body is None:
        return Explanation(Outcome(True), ())
    run = prepared(subject, own)
    run.trail = []
    return Explanation(conclude(body, run), tuple(run.trail))


class _Recording(Scope):
    """A scope that wraps compiled parts in recorders, which append to ``Run.trail``."""

    def watch(self, node: nodes.Node, made: Any) -> Any:
        match node:
            case nodes.Comparison() | nodes.Truth() | nodes.Bracketed():
                return self._condition(node, made)
            case nodes.If() | nodes.While() | nodes.For() | nodes.Switch():
                return made
            case nodes.RouteCall():
                return self._route_call(node, made)
            case _:
                return self._statement(node, made)

    def _condition(self, node: nodes.Comparison | nodes.Truth | nodes.Bracketed, made: Any) -> Any:
        text, place = print_condition(node), self.place(node.at)
        values = self._values(node)

        def watched(run: Run) -> int:
            result: int = made(run)
            word = "error" if result < 0 else "true" if result else "false"
            _record(run, Step(*place, text, word, _seen(values, run)))
            return result

        return watched

    def _statement(self, node: Any, made: Any) -> Any:
        text, place = print_statement(node).rstrip(";"), self.place(node.at)
        assigned = isinstance(node, nodes.Assignment)
        get = compile_variable(node.target, self)[0] if assigned else None
        name = print_variable(node.target) if assigned else ""

        def watched(run: Run) -> int:
            code: int = made(run)
            result = _FLOW.get(code, "done" if code > 0 else "not done")
            values = () if get is None else (f"{name} is {_looked_up(get, run)}",)
            _record(run, Step(*place, text, result, values))
            return code

        return watched

    def _route_call(self, node: nodes.RouteCall, made: Any) -> Any:
        text, place = print_statement(node).rstrip(";"), self.place(node.at)

        def watched(run: Run) -> int:
            _record(run, Step(*place, text, "called", ()))
            code: int = made(run)
            if code not in _FLOW:
                _record(run, Step(*place, text, f"returned {code}", ()))
            return code

        return watched

    def _values(self, node: nodes.Node) -> list[tuple[str, Any]]:
        """The variables of a condition without duplicates, each with its getter."""
        match node:
            case nodes.Comparison(_, left, right):
                operands: tuple[Any, ...] = (left, right)
            case nodes.Truth(operand):
                operands = (operand,)
            case nodes.Bracketed(nodes.Comparison(_, left, right)):
                operands = (left, right)
            case nodes.Bracketed(nodes.Arithmetic(first, rest)):
                operands = (first, *(value for _, value in rest))
            case nodes.Bracketed(value):
                operands = (value,)
            case _:
                operands = ()
        variables = {
            print_value(operand): compile_variable(operand, self)[0]
            for operand in operands
            if isinstance(operand, nodes.Variable)
        }
        return list(variables.items())


def _seen(values: list[tuple[str, Any]], run: Run) -> tuple[str, ...]:
    return tuple(f"{name} is {_looked_up(get, run)}" for name, get in values)


def _looked_up(get: Getter, run: Run) -> str:
    """A value as text. Reading it does not count as steps of the script."""
    steps, run.steps = run.steps, 0
    try:
        text = shown(get(run))
    except Exhausted:
        text = shown(FAILED)
    finally:
        run.steps = steps
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … ({len(text)} characters)"


def _record(run: Run, step: Step) -> None:
    if run.trail is not None:
        run.trail.append(step)
        if len(run.trail) > MAX_STEPS_SHOWN:
            del run.trail[0]
