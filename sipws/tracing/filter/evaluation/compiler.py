"""Compiles the syntax tree of a route to a closure, once per script. It is called per connection.

A statement returns its return code, or a change of control flow (`run`). Return codes are exactly
those of OpenSIPS, because scripts can read them: 0 ends the script, ``break`` leaves -5, and an
``if`` without a matching branch leaves the result of its condition in ``$rc`` but returns 1.
"""

from collections.abc import Sequence
from typing import Final, Literal

from sipws.tracing.filter.bounds import (
    MAX_ROUTE_DEPTH,
    MAX_TEXT,
    SHORT_TEXT,
    Exhausted,
)
from sipws.tracing.filter.evaluation.expressions import Ended, Expressions
from sipws.tracing.filter.evaluation.functions import compile_call, compile_format, compile_log
from sipws.tracing.filter.evaluation.run import (
    BREAK,
    DROP,
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
    Value,
    change,
    kept,
    lower,
    number_of,
    readable,
    stored,
    text_of,
)
from sipws.tracing.filter.evaluation.variables import compile_target, compile_variable
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.source import nearest
from sipws.tracing.filter.syntax.walk import walk

_BUG: Final = -5
"""Return code of ``break``, ``assert`` and an unknown route (OpenSIPS ``E_BUG``)."""

_SCRIPT: Final = -10
"""Return code of a ``for`` that is not over ``[*]`` (OpenSIPS ``E_SCRIPT``)."""


def compile_route(route: nodes.Route, scope: Scope) -> None:
    """Compile a route into ``scope.steps``. Errors go to ``scope.error``."""
    scope.route = route.name
    statements = _Statements(scope)
    step = statements.body(route.body) if route.body else (lambda run: 1)
    scope.steps[route.name] = (step, statements.weigh(route.body) // 2)


def _weight(node: nodes.Node) -> int:
    """The cost of a node without its children, in half steps.

    A statement costs one step, and a variable half a step. Variables count because a statement may
    have any number of conditions and arguments.
    """
    match node:
        case nodes.Log(_, _, text):
            return 2 + text.value.count("$")
        case nodes.Call(_, arguments):
            return 2 + sum(a.value.count("$") for a in arguments if isinstance(a, nodes.Text))
        case nodes.Transformation() | nodes.If() | nodes.While() | nodes.For() | nodes.Switch():
            return 2
        case nodes.Variable() | nodes.Truth():
            return 1
    return 2 if isinstance(node, nodes.Assignment | nodes.Break | nodes.Command) else 0


class _Statements:
    def __init__(self, scope: Scope, in_loop: bool = False) -> None:
        self._scope = scope
        self._in_loop = in_loop
        self._expressions = Expressions(scope, lambda body, scope: self.body(body))
        self._weights: dict[int, int] = {}

    def weigh(self, body: nodes.Body) -> int:
        """The cost of one execution of a body, in half steps."""
        # The result is cached: nested loops need the same body again.
        known = self._weights.get(id(body))
        if known is None:
            known = self._weights[id(body)] = sum(map(self._weigh, body))
        return known

    def _weigh(self, statement: nodes.Statement) -> int:
        heads: tuple[nodes.Node, ...] = ()
        bodies: tuple[nodes.Body | None, ...] = ()
        match statement:
            case nodes.If(branches, otherwise):
                heads = tuple(condition for condition, _ in branches)
                bodies = (*(body for _, body in branches), otherwise)
            case nodes.While(condition, body):
                heads, bodies = (condition,), (body,)
            case nodes.For(_, _, body):
                bodies = (body,)
            case nodes.Switch(_, cases, default):
                bodies = (*(case.body for case in cases), default)
            case _:
                return sum(map(_weight, walk(statement)))
        total = 2 + sum(_weight(node) for head in heads for node in walk(head))
        return total + sum(self.weigh(body) for body in bodies if body)

    def body(self, body: Sequence[nodes.Statement]) -> Step:
        """Compile a sequence of one statement or more."""
        if len(body) == 1:
            return self._kept(body[0])
        made = tuple(map(self._guarded, body))

        def run_all(run: Run) -> int:
            code = 1
            for test, step in made:
                if test is not None:
                    held = test(run)
                    if not held:
                        code = 1
                        continue
                    if held != 1:
                        if held > 1:
                            return held
                        code = 1
                        continue
                code = step(run)
                if code > LAST_CODE:
                    return code
            return code

        return run_all

    def _guarded(self, statement: nodes.Statement) -> tuple[Test | None, Step]:
        """Compile a statement and its test: a plain ``if`` is split in two, which saves a call."""
        match statement:
            case nodes.If(((condition, body),), None) if body and not self._scope.tracks_rc:
                return self._expressions.condition(condition), self.body(body)
        return None, self._kept(statement)

    def _kept(self, statement: nodes.Statement) -> Step:
        """Compile a statement that stores its return code in ``$rc``, if the script reads it."""
        step: Step = self._scope.watch(statement, self._statement(statement))
        if not self._scope.tracks_rc or isinstance(statement, (nodes.If, nodes.RouteCall)):
            return step

        def keep(run: Run) -> int:
            code = step(run)
            if code <= LAST_CODE:
                run.rc = code
            return code

        return keep

    def _loop(self, body: nodes.Body) -> Step:
        outside, self._in_loop = self._in_loop, True
        made = self.body(body) if body else (lambda run: 1)
        self._in_loop = outside
        return made

    def _statement(self, node: nodes.Statement) -> Step:
        match node:
            case nodes.Drop():
                return lambda run: DROP
            case nodes.Exit():
                return lambda run: EXIT
            case nodes.Break():
                if not self._in_loop:
                    self._scope.error(node.at, "'break' stands outside of every loop and switch")
                return lambda run: BREAK
            case nodes.Return():
                return self._return(node)
            case nodes.If():
                return self._if(node)
            case nodes.While(condition, body):
                return self._while(condition, body)
            case nodes.For():
                return self._for(node)
            case nodes.Switch():
                return self._switch(node)
            case nodes.Assignment():
                return self._assignment(node)
            case nodes.RouteCall():
                return self._route_call(node)
            case nodes.Call():
                return compile_call(node, self._scope)
            case nodes.Log():
                return compile_log(node, self._scope)
            case nodes.Assert(condition):
                return self._assert(condition)

    def _assert(self, condition: nodes.Condition) -> Step:
        test = self._expressions.condition(condition)
        if not self._scope.globals.enable_asserts:
            return lambda run: _BUG

        def check(run: Run) -> int:
            held = test(run)
            if held == 1:
                return 1
            # OpenSIPS stops processing the message.
            return held if held > 1 else EXIT

        return check

    def _if(self, node: nodes.If) -> Step:
        tests = [self._expressions.condition(condition) for condition, _ in node.branches]
        bodies = [self.body(body) if body else None for _, body in node.branches]
        otherwise = self.body(node.otherwise) if node.otherwise else None
        if self._scope.tracks_rc:
            return _remembering_if(tests, bodies, otherwise)
        test, then = tests[0], bodies[0]
        if len(tests) == 1 and then is not None and otherwise is None:

            def plain_if(run: Run) -> int:
                held = test(run)
                if held > 0:
                    return then(run) if held == 1 else held
                return 1

            return plain_if
        branches = tuple(zip(tests, bodies, strict=True))

        def full_if(run: Run) -> int:
            for test, body in branches:
                held = test(run)
                if held > 0:
                    if held > 1:
                        return held
                    return body(run) if body is not None else 1
            return otherwise(run) if otherwise is not None else 1

        return full_if

    def _while(self, condition: nodes.Condition, body: nodes.Body) -> Step:
        test = self._expressions.condition(condition)
        condition_weight = sum(map(_weight, walk(condition)))
        step, cost = self._loop(body), 1 + (self.weigh(body) + condition_weight) // 2
        rounds = self._scope.globals.max_while_loops
        if not body:
            # OpenSIPS evaluates the condition once and continues.
            return lambda run: held if (held := test(run)) > 1 else 1

        def loop(run: Run) -> int:
            code = 1
            for _ in range(rounds):
                held = test(run)
                if held != 1:
                    return held if held > 1 else 1
                run.spend(cost)
                code = step(run)
                if code > LAST_CODE:
                    return _BUG if code == BREAK else code
            return code

        return loop

    def _for(self, node: nodes.For) -> Step:
        if node.item.name not in ("var", "avp") or node.item.problem:
            self._scope.error(node.item.at, "the item of a 'for' is a $var(…) or an $avp(…)")
        put, name = compile_target(node.item, self._scope), f"@{stored(node.values.inner or '')}"
        compile_variable(node.values, self._scope)
        step, cost = self._loop(node.body), 1 + self.weigh(node.body) // 2
        is_list, has_body = node.values.name == "avp", bool(node.body)
        if node.values.index != "*":
            return lambda run: _SCRIPT if has_body else 1

        def loop(run: Run) -> int:
            code, index = 1, 0
            values: list[Value] = run.variables.get(name, []) if is_list and has_body else []
            while index < len(values):
                run.spend(cost)
                put(run, values[index], "=")
                code = step(run)
                if code > LAST_CODE:
                    return _BUG if code == BREAK else code
                index += 1
            return code

        return loop

    def _switch(self, node: nodes.Switch) -> Step:
        get, _ = compile_variable(node.operand, self._scope)
        places: dict[int | str, int] = {}
        for index, case in enumerate(node.cases):
            label = case.label.value
            key = lower(stored(label)) if isinstance(label, str) else label
            places.setdefault(key, index)
        bodies = [self._loop(case.body) if case.body else None for case in node.cases]
        bodies.append(self._loop(node.default) if node.default else None)
        behind = len(bodies) - 1

        def choose(run: Run) -> int:
            value = get(run)
            number, text = number_of(value), text_of(value)
            start = behind if number is None else places.get(number, behind)
            if text is not None:
                run.made(text)
                start = min(start, places.get(lower(text), behind))
            code = 1
            # A case without `break` falls through to the next one, and finally to the default.
            for index in range(start, len(bodies)):
                body = bodies[index]
                if body is not None:
                    code = body(run)
                    if code > LAST_CODE:
                        return _BUG if code == BREAK else code
            return code

        return choose

    def _assignment(self, node: nodes.Assignment) -> Step:
        target, sign = node.target, node.operator
        put = compile_target(target, self._scope)
        if isinstance(node.value, nodes.Null):
            if sign == ":=" and target.name != "avp":
                self._scope.error(node.at, "only an $avp(…) takes NULL with ':='")
            return lambda run: 1 if put(run, None, sign) else -1
        get = self._expressions.value(node.value)
        old = compile_variable(target, self._scope)[0] if sign not in ("=", ":=") else None
        decides = isinstance(node.value, nodes.Comparison)

        def assign(run: Run) -> int:
            try:
                value = get(run)
            except Ended as ended:
                return ended.signal
            if value is FAILED or (decides and value == -1):
                return -1
            if old is not None:
                value = change(sign[:-1], old(run), value, run)
                if value is FAILED:
                    return -1
            return 1 if put(run, value, sign) else -1

        return assign

    def _return(self, node: nodes.Return) -> Step:
        values = tuple(self._parameter(value) for value in node.values)
        if isinstance(node.code, nodes.Variable):
            get, _ = compile_variable(node.code, self._scope)

            def give_back(run: Run) -> int:
                value = get(run)
                number = number_of(value)
                code = (-1 if value is None else 1) if number is None else number
                run.code, run.values = code, _returned(values, run)
                return RETURN if code else EXIT

            return give_back
        code = 1 if node.code is None else node.code.value
        if code == 0:
            return lambda run: EXIT

        def give(run: Run) -> int:
            run.code = code
            if values:
                run.values = _returned(values, run)
            return RETURN

        return give

    def _parameter(self, argument: nodes.Argument) -> Getter:
        match argument:
            case nodes.Variable():
                return compile_variable(argument, self._scope)[0]
            case nodes.Text(text):
                made = stored(text)
                return lambda run: made
            case nodes.Number(number):
                return lambda run: number
        return lambda run: None

    def _route_call(self, node: nodes.RouteCall) -> Step:
        scope, name = self._scope, node.name
        getters = tuple(self._parameter(argument) for argument in node.arguments)
        are_fixed = not any(isinstance(argument, nodes.Variable) for argument in node.arguments)
        fixed = tuple(_constant(argument) for argument in node.arguments) if are_fixed else None
        dynamic: Getter | None = None
        if isinstance(name, nodes.Variable):
            dynamic = compile_variable(name, scope)[0]
        elif "$" in name:
            dynamic = compile_format(name, scope, node.at)
        else:
            scope.calls.append((name, node.at))
            if name not in scope.routes:
                scope.error(node.at, f"there is no route {name!r}{nearest(name, scope.routes)}")
        routes, static = scope.steps, name if isinstance(name, str) else ""

        def call(run: Run) -> int:
            called = static if dynamic is None else readable(text_of(dynamic(run)) or "")
            found = routes.get(called)
            if found is None:
                return _BUG
            if run.depth >= MAX_ROUTE_DEPTH:
                run.rc = -1
                return -1
            step, cost = found
            run.spend(cost + 1)
            caller = run.arguments
            if fixed is not None:
                values, held = fixed, 0
            else:
                values = tuple([get(run) for get in getters])
                held = sum(
                    [len(it) for it in values if isinstance(it, str) and len(it) > SHORT_TEXT]
                )
                if held:
                    run.hold(held)
            run.arguments, run.values = (values, caller, called), ()
            run.depth += 1
            code = step(run)
            run.depth -= 1
            run.arguments = caller
            if held:
                run.hold(-held)
            if code > LAST_CODE:
                if code != RETURN:
                    return code
                code = run.code
            run.rc = code
            return code

        return call


def _constant(argument: nodes.Argument) -> Value:
    """The value of an argument that is not a variable."""
    if isinstance(argument, nodes.Text):
        return stored(argument.value)
    return argument.value if isinstance(argument, nodes.Number) else None


def _returned(getters: tuple[Getter, ...], run: Run) -> tuple[Value, ...]:
    values = tuple(kept(get(run)) for get in getters)
    if sum(len(value) for value in values if isinstance(value, str)) > MAX_TEXT:
        raise Exhausted(f"a route returns more than {MAX_TEXT} characters")
    return values


def _remembering_if(tests: list[Test], bodies: list[Step | None], otherwise: Step | None) -> Step:
    """Compile an ``if`` that stores in ``$rc`` the value that OpenSIPS stores."""
    branches = tuple(zip(tests, bodies, strict=True))

    def remembering_if(run: Run) -> int:
        held = 0
        for test, body in branches:
            held = test(run)
            if held > 1:
                return held
            if held == 1:
                return _taken(run, body, len(branches))
        if otherwise is not None:
            return _taken(run, otherwise, 1)
        run.rc = int(held) if len(branches) == 1 else 1
        return 1

    return remembering_if


def _taken(run: Run, body: Step | None, branches: Literal[1] | int) -> int:
    if body is None:
        run.rc = 1
        return 1
    code = body(run)
    if code <= LAST_CODE:
        run.rc = code
    return code
