"""Compiles conditions and calculations to closures.

A condition is 1, 0, or -1 for an error, such as a text compared with an integer. As in OpenSIPS, an
error is not the same as false: it also ends a ``||``, and ``!`` does not change it.
"""

from collections.abc import Callable

from sipws.tracing.filter.bounds import MAX_EXPRESSION_DEPTH
from sipws.tracing.filter.evaluation.comparisons import compile_comparison
from sipws.tracing.filter.evaluation.run import (
    BREAK,
    EXIT,
    LAST_CODE,
    RETURN,
    Getter,
    Run,
    Scope,
    Step,
    Test,
)
from sipws.tracing.filter.evaluation.values import (
    FAILED,
    Bare,
    Value,
    calculate,
    number_of,
    stored,
)
from sipws.tracing.filter.evaluation.variables import compile_variable
from sipws.tracing.filter.syntax import nodes

Block = Callable[[nodes.Body, Scope], Step]
"""Compiles statements. It is a parameter, because statements contain conditions and vice versa."""


class Ended(Exception):  # noqa: N818 - carries `EXIT` or `DROP` out of a calculation
    """A route called in a calculation ended the script."""

    def __init__(self, signal: int) -> None:
        self.signal = signal


class Expressions:
    """Compiles the conditions and calculations of a script.

    Args:
        scope: context of the compiler; its ``error`` gets the errors.
        block: compiles statements.
    """

    def __init__(self, scope: Scope, block: Block) -> None:
        self._scope = scope
        self._block = block

    def condition(self, node: nodes.Condition, level: int = 1) -> Test:
        """Compile a condition; ``level`` counts the conditions around it, from 1."""
        if level > MAX_EXPRESSION_DEPTH:
            return lambda run: -1
        match node:
            case nodes.Chain():
                return self._chain(node, level)
            case nodes.Group(condition):
                return self.condition(condition, level + 1)
            case nodes.Not(condition):
                return _negated(self.condition(condition, level + 1))
            case nodes.Bracketed(value):
                made = self._bracketed(value, level)
            case nodes.Truth(operand):
                made = self._truth(operand)
            case nodes.Comparison():
                return self.comparison(node)
            case nodes.Done(body):
                return _done(self._block(body, self._scope)) if body else lambda run: 0
        watched: Test = self._scope.watch(node, made)
        return watched

    def value(self, node: nodes.Value, level: int = 1) -> Getter:
        """Compile a calculation; ``level`` counts the conditions around it, from 1."""
        match node:
            case nodes.Variable():
                return compile_variable(node, self._scope)[0]
            case nodes.Text(text):
                made = stored(text)
                return lambda run: made
            case nodes.Number(number):
                bare = Bare(number)
                return lambda run: bare
            case nodes.Comparison():
                test = self.comparison(node)
                return lambda run: Bare(test(run))
            case nodes.Arithmetic():
                return self._arithmetic(node, level)
            case nodes.Invert(operand):
                get = self.value(operand, level + 1)

                def invert(run: Run) -> Value:
                    number = number_of(get(run))
                    return FAILED if number is None else Bare(~number)

                return invert
        step = self._block((node,), self._scope)

        def called(run: Run) -> Value:
            code = step(run)
            if code > LAST_CODE:
                raise Ended(EXIT if code in (RETURN, BREAK) else code)
            return Bare(code)

        return called

    def comparison(self, node: nodes.Comparison) -> Test:
        """Compile a comparison."""
        made = compile_comparison(node, self._scope)
        watched: Test = self._scope.watch(node, made)
        return watched

    def _chain(self, node: nodes.Chain, level: int) -> Test:
        deepest = level + len(node.rest)
        first = self.condition(node.first, deepest)
        links = [
            (link == "&&", self.condition(condition, deepest - index))
            for index, (link, condition) in enumerate(node.rest)
        ]
        if deepest > MAX_EXPRESSION_DEPTH:
            return lambda run: -1
        if all(is_and for is_and, _ in links):
            tests = (first, *(test for _, test in links))

            def all_of(run: Run) -> int:
                for test in tests:
                    held = test(run)
                    if held != 1:
                        return held
                return 1

            return all_of

        def chain(run: Run) -> int:
            held = first(run)
            for is_and, test in links:
                if held == is_and:
                    held = test(run)
            return held

        return chain

    def _truth(self, operand: nodes.Variable | nodes.Number) -> Test:
        if isinstance(operand, nodes.Number):
            holds = int(operand.value != 0)
            return lambda run: holds
        get, _ = compile_variable(operand, self._scope)

        return lambda run: bool(get(run))

    def _bracketed(self, value: nodes.Value, level: int) -> Test:
        if isinstance(value, nodes.Comparison):
            return compile_comparison(value, self._scope)
        if isinstance(value, nodes.Command):
            return _done(self._block((value,), self._scope))
        get = self.value(value, level)
        # A variable in brackets is true if it has a text, even "0".
        has_text = isinstance(value, nodes.Variable)

        def true(run: Run) -> int:
            try:
                found = get(run)
            except Ended as ended:
                return ended.signal
            if found is FAILED or found is None:
                return 0
            return 1 if has_text else int(bool(found))

        return true

    def _arithmetic(self, node: nodes.Arithmetic, level: int) -> Getter:
        deepest = level + len(node.rest)
        first = self.value(node.first, deepest)
        links = [
            (sign, self.value(operand, deepest - index))
            for index, (sign, operand) in enumerate(node.rest)
        ]
        if deepest > MAX_EXPRESSION_DEPTH:
            return lambda run: FAILED

        def result(run: Run) -> Value:
            value = first(run)
            for sign, operand in links:
                value = calculate(sign, value, operand(run), run)
            return value

        return result


def _negated(test: Test) -> Test:
    def negated(run: Run) -> int:
        held = test(run)
        return held if held < 0 or held > 1 else 1 - held

    return negated


def _done(step: Step) -> Test:
    def done(run: Run) -> int:
        code = step(run)
        if code > LAST_CODE:
            # A statement that ends a route ends the script inside a condition.
            return EXIT if code in (RETURN, BREAK) else code
        return int(code > 0)

    return done
