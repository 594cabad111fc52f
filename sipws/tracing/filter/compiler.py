"""From a syntax tree to a function: closures, made once a script. Pure.

A body is a tuple of steps; a step returns the decision, or None where the route goes on. All that
can be known beforehand is settled here, so that a decision costs a few calls.
"""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from sipws.tracing.filter import nodes
from sipws.tracing.filter.nodes import Place
from sipws.tracing.filter.subject import Subject

Step = Callable[[Subject], bool | None]
Test = Callable[[Subject], bool]
Getter = Callable[[Subject], Any]

TRACED: Final = True
DROPPED: Final = False

_VERDICTS: Final = {"drop": DROPPED, "exit": TRACED, "return": TRACED}
"""``drop`` excludes a connection; any other end of a route traces it."""

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Unknown(Exception):  # noqa: N818 - becomes a FilterRouteError where the text is known
    """A script names or does something that there is not."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(problem)
        self.place = place
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Value:
    """How an operand is read: as text, and as a number where it has one too."""

    text: Getter
    number: Getter | None = None


def _number(get: Callable[[Subject], int | None]) -> Value:
    def text(subject: Subject) -> str | None:
        number = get(subject)
        return None if number is None else str(number)

    return Value(text, get)


def _in_full(ip: str) -> str:
    """An address as OpenSIPS writes it: every group of an IPv6 address, without leading zeros."""
    if ":" not in ip:
        return ip
    packed = ip_address(ip).packed
    groups = (packed[index : index + 2] for index in range(0, len(packed), 2))
    return ":".join(f"{int.from_bytes(group, 'big'):x}" for group in groups)


def _in_brackets(ip: str) -> str:
    return f"[{_in_full(ip)}]" if ":" in ip else ip


VARIABLES: Final[dict[str, Value]] = {
    "$si": Value(lambda subject: _in_full(subject.si)),
    "$sp": _number(lambda subject: subject.sp),
}
"""Pseudo-variables without a field."""

SOCKET_FIELDS: Final[dict[str, Value]] = {
    "ip": Value(lambda subject: _in_brackets(subject.socket_ip)),
    "port": _number(lambda subject: subject.socket_port),
    "proto": Value(lambda subject: subject.proto),
    "tag": Value(lambda subject: subject.tag),
    "advertised_ip": Value(lambda subject: subject.advertised_ip),
    "advertised_port": _number(lambda subject: subject.advertised_port),
}
"""The fields of ``$socket_in``."""


def compile_route(route: nodes.Route) -> Callable[[Subject], bool]:
    """The decision of a route: True traces the connection.

    Raises:
        Unknown: it names a variable or a field that there is not, or compares what cannot be.
    """
    steps = _body(route.body)

    def decide(subject: Subject) -> bool:
        verdict = steps(subject)
        return TRACED if verdict is None else verdict

    return decide


def _body(statements: Sequence[nodes.Statement]) -> Step:
    steps = tuple(_statement(statement) for statement in statements)
    if len(steps) == 1:
        return steps[0]

    def run(subject: Subject) -> bool | None:
        for step in steps:
            verdict = step(subject)
            if verdict is not None:
                return verdict
        return None

    return run


def _statement(statement: nodes.Statement) -> Step:
    if isinstance(statement, nodes.Decision):
        verdict = _VERDICTS[statement.verb]
        return lambda subject: verdict
    test = _condition(statement.condition)
    then, otherwise = _body(statement.then), _body(statement.otherwise)
    return lambda subject: then(subject) if test(subject) else otherwise(subject)


def _condition(condition: nodes.Condition) -> Test:
    match condition:
        case nodes.And(left, right):
            first, second = _condition(left), _condition(right)
            return lambda subject: first(subject) and second(subject)
        case nodes.Or(left, right):
            first, second = _condition(left), _condition(right)
            return lambda subject: first(subject) or second(subject)
        case nodes.Not(inner):
            test = _condition(inner)
            return lambda subject: not test(subject)
        case nodes.Truth(operand):
            return _truth(operand)
        case nodes.Comparison():
            return _comparison(condition)
    raise AssertionError(condition)


def _truth(operand: nodes.Operand) -> Test:
    if isinstance(operand, nodes.Network):
        raise Unknown(operand.place, "an address alone is no condition; compare it with == or !=")
    value = _value(operand)
    get = value.number or value.text
    return lambda subject: bool(get(subject))


def _comparison(comparison: nodes.Comparison) -> Test:
    left, right, sign = comparison.left, comparison.right, comparison.operator
    if not isinstance(left, nodes.Variable):
        raise Unknown(left.place, "the left side of a comparison is a variable; turn it around")
    if isinstance(right, nodes.Network):
        return _network(left, right, sign)
    if isinstance(right, nodes.Null):
        return _null(left, comparison)
    if sign in ("=~", "!~"):
        return _pattern(left, right, comparison)
    first, second, order = _value(left), _value(right), _ORDERS[sign]
    if first.number is not None and second.number is not None:
        return _ordered(first.number, second.number, order)
    if isinstance(right, nodes.Number):
        # A text against a number is false for every operator, != included.
        return lambda subject: False
    if sign in ("==", "!="):
        return _ordered(_folded(first.text), _folded(second.text), order)
    return _ordered(first.text, second.text, order)


def _ordered(first: Getter, second: Getter, order: Callable[[Any, Any], bool]) -> Test:
    def test(subject: Subject) -> bool:
        a, b = first(subject), second(subject)
        if a is None or b is None:
            # NULL is equal to nothing else, and neither less nor greater.
            return order is operator.ne
        return order(a, b)

    return test


def _folded(get: Getter) -> Getter:
    """Text for a comparison that ignores case."""

    def folded(subject: Subject) -> str | None:
        text: str | None = get(subject)
        return None if text is None else text.lower()

    return folded


def _null(operand: nodes.Variable, comparison: nodes.Comparison) -> Test:
    if comparison.operator not in ("==", "!="):
        raise Unknown(comparison.place, "NULL is compared with == or != only")
    get, wanted = _value(operand).text, comparison.operator == "=="
    return lambda subject: (get(subject) is None) is wanted


def _network(operand: nodes.Variable, network: nodes.Network, sign: str) -> Test:
    if sign not in ("==", "!="):
        raise Unknown(network.place, "an address is compared with == or != only")
    get, wanted, inside = _value(operand).text, sign == "==", network.value

    def test(subject: Subject) -> bool:
        text = get(subject)
        try:
            address = ip_address(text.strip("[]") if text else "")
        except ValueError:
            return not wanted
        return (address in inside) is wanted

    return test


def _pattern(left: nodes.Variable, right: nodes.Operand, comparison: nodes.Comparison) -> Test:
    if not isinstance(right, nodes.Text):
        raise Unknown(comparison.place, f"{comparison.operator} needs a string as its pattern")
    try:
        search = re.compile(right.value, re.IGNORECASE).search
    except re.error as exc:
        raise Unknown(right.place, f"the pattern {right.value!r} is not valid: {exc}") from exc
    get, wanted = _value(left).text, comparison.operator == "=~"
    return lambda subject: (search(get(subject) or "") is not None) is wanted


def _value(operand: nodes.Operand) -> Value:
    match operand:
        case nodes.Text(text):
            return Value(lambda subject: text)
        case nodes.Number(number):
            return Value(lambda subject: str(number), lambda subject: number)
        case nodes.Null():
            return Value(lambda subject: None)
        case nodes.Variable("$socket_in", field, place):
            return _known(SOCKET_FIELDS, field or "", "$socket_in field", place)
        case nodes.Variable(name, None, place):
            return _known(VARIABLES, name, "variable", place)
        case nodes.Variable(name, field, place):
            raise Unknown(place, f"{name} has no fields, and so no {field!r}")
    raise AssertionError(operand)


def _known(table: dict[str, Value], name: str, kind: str, place: Place) -> Value:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"; do you mean {near[0]!r}?" if near else f"; there are: {', '.join(table)}"
    raise Unknown(place, f"unknown {kind} {name!r}{hint}")
