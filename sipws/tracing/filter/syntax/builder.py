"""Builds syntax trees from the matches of lark: one method for each rule of grammar.lark."""

# ruff: noqa: D102

from typing import Any

from lark import Token, Transformer, v_args

from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.lexer import defined_name, number, unquote, wrap
from sipws.tracing.filter.syntax.nodes import Body, Condition, Statement, Value
from sipws.tracing.filter.syntax.pseudo import Problem, parse_variable

_SUMS = frozenset("+-*/%")


def _at(token: Token) -> int:
    return token.start_pos or 0


def _body(statements: tuple[Any, ...]) -> Body:
    return tuple(_whole(statement) for statement in statements if statement is not None)


class _Branches:
    """An incomplete ``if``. The parser finds the last ``else if`` first.

    With complete nodes, each earlier ``else if`` would copy the branches of the later ones.
    """

    def __init__(self, condition: Condition, body: Body, otherwise: Body | None, at: int) -> None:
        self.branches = [(condition, body)]
        """Conditions and bodies, the last one first."""
        self.otherwise = otherwise
        self.at = at


def _whole(statement: Any) -> Statement:
    if isinstance(statement, _Branches):
        branches = tuple(reversed(statement.branches))
        return nodes.If(branches, statement.otherwise, at=statement.at)
    made: Statement = statement
    return made


def _whole_body(body: tuple[Any, ...]) -> Body:
    return tuple(map(_whole, body))


@v_args(inline=True)
class Builder(Transformer[Token, Any]):
    """Builds the tree of a route."""

    def route(self, word: Token, name: Token, *body: Statement | None) -> nodes.Route:
        return nodes.Route(defined_name(route_name(name)), _body(body), at=_at(name))

    def default_route(self, word: Token, *body: Statement | None) -> nodes.Route:
        return nodes.Route("0", _body(body), at=_at(word))

    def body(self, *statements: Any) -> tuple[Any, ...]:
        found = tuple(statement for statement in statements if statement is not None)
        # A single statement may be the `if` of an `else if`.
        return found if len(found) == 1 else _whole_body(found)

    def break_(self, word: Token) -> nodes.Break:
        return nodes.Break(at=_at(word))

    def if_(self, word: Token, condition: Condition, then: Any, *rest: Any) -> _Branches:
        then = _whole_body(then)
        otherwise = rest[1] if rest else None
        if otherwise and isinstance(chained := otherwise[0], _Branches):
            chained.branches.append((condition, then))
            chained.at = _at(word)
            return chained
        return _Branches(condition, then, otherwise, _at(word))

    def while_(self, word: Token, condition: Condition, body: Any) -> nodes.While:
        return nodes.While(condition, _whole_body(body), at=_at(word))

    def for_(
        self, word: Token, item: nodes.Variable, in_: Token, values: nodes.Variable, body: Any
    ) -> nodes.For:
        return nodes.For(item, values, _whole_body(body), at=_at(word))

    def switch(self, word: Token, operand: nodes.Variable, *parts: Any) -> nodes.Switch:
        cases = tuple(part for part in parts if isinstance(part, nodes.Case))
        default: Body | None = parts[-1] if isinstance(parts[-1], tuple) else None
        return nodes.Switch(operand, cases, default, at=_at(word))

    def case(self, word: Token, label: nodes.Text | nodes.Number, *body: Statement) -> nodes.Case:
        return nodes.Case(label, _body(body), at=_at(word))

    def default(self, word: Token, *body: Statement | None) -> Body:
        return _body(body)

    def nothing(self) -> None:
        return None

    def assignment(
        self, target: nodes.Variable, operator: Token, value: Value | nodes.Null
    ) -> nodes.Assignment:
        return nodes.Assignment(str(operator), target, value, at=target.at)

    def chain(self, first: Condition, *links: Any) -> nodes.Chain:
        operators, conditions = links[::2], links[1::2]
        signs = ("&&" if operator.type == "AND" else "||" for operator in operators)
        return nodes.Chain(first, tuple(zip(signs, conditions, strict=True)), at=_at(links[0]))

    def negated(self, sign: Token, condition: Condition) -> nodes.Not:
        return nodes.Not(condition, at=_at(sign))

    def group(self, condition: Condition) -> nodes.Group:
        return nodes.Group(condition, at=condition.at)

    def bracketed(self, value: Value) -> nodes.Bracketed:
        return nodes.Bracketed(value, at=value.at)

    def truth(self, operand: nodes.Variable | nodes.Number) -> nodes.Truth:
        return nodes.Truth(operand, at=operand.at)

    def done(self, *body: Statement | None) -> nodes.Done:
        statements = _body(body)
        return nodes.Done(statements, at=statements[0].at if statements else 0)

    def comparison(
        self, left: nodes.Variable, operator: Token, right: nodes.Operand
    ) -> nodes.Comparison:
        return nodes.Comparison(str(operator), left, right, at=left.at)

    def bits(self, first: Value, *links: Any) -> nodes.Arithmetic:
        return _calculation(first, links, isinstance(first, nodes.Arithmetic))

    def sum(self, first: Value, *links: Any) -> nodes.Arithmetic:
        flat = isinstance(first, nodes.Arithmetic) and all(sign in _SUMS for sign, _ in first.rest)
        return _calculation(first, links, flat)

    def invert(self, sign: Token, operand: Value) -> nodes.Invert:
        return nodes.Invert(operand, at=_at(sign))

    def drop(self, word: Token) -> nodes.Drop:
        return nodes.Drop(at=_at(word))

    def exit(self, word: Token) -> nodes.Exit:
        return nodes.Exit(at=_at(word))

    def return_(
        self,
        word: Token,
        code: nodes.Variable | nodes.Number | None = None,
        *values: nodes.Argument,
    ) -> nodes.Return:
        return nodes.Return(code, values, at=_at(word))

    def return_values(self, word: Token, *values: nodes.Argument) -> nodes.Return:
        return nodes.Return(None, values, at=_at(word))

    def route_call(
        self, word: Token, name: Token | nodes.Variable, *arguments: nodes.Argument
    ) -> nodes.RouteCall:
        called = name if isinstance(name, nodes.Variable) else route_name(name)
        at = name.at if isinstance(name, nodes.Variable) else _at(name)
        return nodes.RouteCall(called, arguments, at=at)

    def call(self, name: Token, *arguments: nodes.Argument) -> nodes.Call:
        return nodes.Call(str(name), () if arguments == (None,) else arguments, at=_at(name))

    def async_(self, word: Token, *parts: Any) -> nodes.Call:
        return nodes.Call(str(word), (), at=_at(word))

    def argument(self, *written: nodes.Argument) -> nodes.Argument:
        return written[0] if written else None

    def log(self, word: Token, *parts: Any) -> nodes.Log:
        *level, text = parts
        return nodes.Log(str(word), level[0] if level else None, text, at=_at(word))

    def assert_(
        self, word: Token, condition: Condition, text: nodes.Text | None = None
    ) -> nodes.Assert:
        return nodes.Assert(condition, text, at=_at(word))

    def folded(self, *strings: Token) -> nodes.Text:
        return nodes.Text("".join(map(unquote, strings)), at=_at(strings[0]))

    def string(self, word: Token) -> nodes.Text:
        return nodes.Text(unquote(word), at=_at(word))

    def number(self, *words: Token) -> nodes.Number:
        value = number(str(words[-1]))
        sign = -1 if words[0].type == "MINUS" else 1
        return nodes.Number(wrap(sign * value), at=_at(words[0]))

    def null(self, word: Token) -> nodes.Null:
        return nodes.Null(at=_at(word))

    def network(self, word: Token) -> nodes.Network:
        return nodes.Network(str(word), at=_at(word))

    def variable(self, word: Token) -> nodes.Variable:
        try:
            return parse_variable(str(word), _at(word))
        except Problem as exc:
            return nodes.Variable("", problem=str(exc), at=_at(word))


def _calculation(first: Value, links: tuple[Any, ...], flat: bool) -> nodes.Arithmetic:
    rest = tuple(zip(map(str, links[::2]), links[1::2], strict=True))
    if flat and isinstance(first, nodes.Arithmetic):
        return nodes.Arithmetic(first.first, (*first.rest, *rest), at=first.at)
    return nodes.Arithmetic(first, rest, at=first.at)


def route_name(word: Token) -> str:
    """The name of a route from the token between its brackets."""
    match word.type:
        case "STRING":
            return unquote(word)
        case "NUMBER":
            return str(number(str(word)))
    return str(word)
