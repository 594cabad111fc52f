"""Warnings about script that OpenSIPS silently accepts and that is probably a mistake."""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import singledispatch
from typing import Final

from sipws.tracing.filter.bounds import (
    MAX_EXPRESSION_DEPTH,
    MAX_FINDINGS,
    MAX_WHILE_ROUNDS,
)
from sipws.tracing.filter.evaluation import message
from sipws.tracing.filter.evaluation.functions import CHANGING, WITHOUT_EFFECT
from sipws.tracing.filter.evaluation.run import Run
from sipws.tracing.filter.evaluation.subject import Subject
from sipws.tracing.filter.evaluation.values import parse_ip, written
from sipws.tracing.filter.evaluation.values import shown as shown_value
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.printer import print_condition
from sipws.tracing.filter.syntax.pseudo import print_variable
from sipws.tracing.filter.syntax.walk import walk

Warnings = Iterator[tuple[int, str]]
"""Positions in the script and the warnings there."""

_BARE_DOT: Final = re.compile(r"(?<!\\)[0-9]\.(?![*+?{])[0-9(\[]")
_CLASS: Final = re.compile(r"(?<!\\)(?:\\\\)*\\([adfnrtv])")

_TESTABLE: Final = "$si, $sp or $socket_in(…)"

_LONGEST_VALUE: Final = 60
"""Characters of a value that a warning shows."""

_INITIAL: Final = {
    name: get(Run(Subject("192.0.2.1", 1, "192.0.2.1", 1))) for name, get in message.GETTERS.items()
}
"""The values of the variables that a script can change."""

_LOOKED_THROUGH: Final = 10_000
"""Maximum number of nodes of a loop that are searched for an exit, because loops may be nested."""

_TEXTS: Final = frozenset({"si", "src_ip", "socket_in(ip)", "socket_in(proto)", "socket_in(af)"})
_NUMBERS: Final = frozenset({"sp", "socket_in(port)"})
_ADDRESSES: Final = frozenset({"si", "src_ip", "socket_in(ip)"})
_VALUES: Final = {"socket_in(proto)": ("ws", "wss"), "socket_in(af)": ("INET", "INET6")}


def warnings_of(routes: Iterable[nodes.Route]) -> list[tuple[int, str]]:
    """Find the warnings for some routes.

    Returns:
        positions and warnings, without duplicates, at most `MAX_FINDINGS`.
    """
    routes = tuple(routes)
    every = (said for route in routes for node in walk(route) for said in _of(node))
    found: dict[tuple[int, str], None] = {}
    for said in itertools.chain(every, _never_set(routes), _of_a_message(routes)):
        found[said] = None
        if len(found) >= MAX_FINDINGS:
            break
    return list(found)


@singledispatch
def _of(node: nodes.Node) -> Warnings:
    """The warnings for one node without its children."""
    yield from ()


@_of.register
def _(node: nodes.Route) -> Warnings:
    yield from _unreachable(node.body)


@_of.register
def _(node: nodes.If) -> Warnings:
    for condition, body in node.branches:
        yield from _unreachable(body)
        yield from _constant(condition, "if")
    yield from _unreachable(node.otherwise or ())
    if not any(body for _, body in node.branches) and not node.otherwise:
        yield node.at, "this 'if' has no effect: nothing depends on it"


@_of.register
def _(node: nodes.While) -> Warnings:
    yield from _unreachable(node.body)
    endless = isinstance(node.condition, nodes.Truth) and node.condition.operand == nodes.Number(1)
    ends = (nodes.Break, nodes.Drop, nodes.Exit, nodes.Return, nodes.RouteCall)
    inside = itertools.islice(walk(node), _LOOKED_THROUGH) if endless else ()
    if endless and not any(isinstance(inner, ends) for inner in inside):
        yield node.at, f"this loop never ends: it is left after {MAX_WHILE_ROUNDS:,} rounds"


@_of.register
def _(node: nodes.For) -> Warnings:
    yield from _unreachable(node.body)
    if node.values.index != "*" and node.values.name == "avp":
        shown = print_variable(replace(node.values, index="*"))
        yield node.values.at, f"this loop never runs; to go through all values, write {shown}"
    elif node.values.index != "*":
        yield node.values.at, "this loop never runs: only an $avp(…) has several values"


@_of.register
def _(node: nodes.Case) -> Warnings:
    yield from _unreachable(node.body)


@_of.register
def _(node: nodes.Chain) -> Warnings:
    links = {link for link, _ in node.rest}
    if len(links) > 1:
        text = print_condition(node.first)
        for index, (link, condition) in enumerate(node.rest):
            if len(text) >= 120:
                break
            changes = index and node.rest[index - 1][0] != link
            text = f"({text})" if changes else text
            text = f"{text} {link} {print_condition(condition)}"
        reading = f"this is read as {text}" if len(text) < 120 else "they go from left to right"
        yield node.at, f"'&&' and '||' have equal rank: {reading}; add brackets"
    if len(node.rest) >= MAX_EXPRESSION_DEPTH:
        most = MAX_EXPRESSION_DEPTH
        yield node.at, f"a chain of more than {most} conditions is an error, and never holds"


@_of.register
def _(node: nodes.Done) -> Warnings:
    if len(node.body) == 1 and isinstance(node.body[0], nodes.Assignment):
        only = node.body[0]
        if only.operator == "=":
            shown = print_variable(only.target)
            yield node.at, f"this sets {shown} and holds whatever the value; '==' compares"


@_of.register
def _(node: nodes.Variable) -> Warnings:
    if node.junk.startswith("{"):
        yield node.at, f"{node.junk!r} is lost: write $({node.name}{node.junk})"
    elif node.junk:
        yield node.at, f"{node.junk!r} is run into the variable, and lost; put a blank before it"
    if node.name == "param" and node.inner and not re.fullmatch(r"[0-9]+|\$.*", node.inner):
        yield node.at, f"{print_variable(node)} is always NULL: arguments are numbered from 1"
    for change in node.transformations:
        if (change.kind.lower(), change.name.lower()) == ("ip", "resolve"):
            yield node.at, "{ip.resolve} asks no name server here: only an address gives one"


@_of.register
def _(node: nodes.Call) -> Warnings:
    if node.function in WITHOUT_EFFECT:
        yield node.at, f"{node.function}() has no effect: a filter route has no SIP message"


@_of.register
def _(node: nodes.Assignment) -> Warnings:
    if isinstance(node.value, nodes.Text):
        yield from _not_filled_in(node.value)


@_of.register
def _(node: nodes.Arithmetic) -> Warnings:
    operands = (node.first, *(value for _, value in node.rest))
    if isinstance(node.first, nodes.Text) or _name(node.first) in _TEXTS:
        for value in operands[1:]:
            if isinstance(value, nodes.Number):
                yield value.at, "a number is joined to no text, and nothing is done; quote it"
    for value in operands:
        if isinstance(value, nodes.Text):
            yield from _not_filled_in(value)


@_of.register
def _(node: nodes.Comparison) -> Warnings:
    name, right = _name(node.left), node.right
    shown = print_variable(node.left)
    match right:
        case nodes.Number() if name in _TEXTS:
            yield right.at, f"{shown} is a text: against a number it never holds; quote the number"
        case nodes.Number(number) if name in _NUMBERS and node.operator == "==":
            if not 0 <= number <= 0xFFFF:
                yield right.at, "this never holds: a port is a number from 0 to 65535"
        case nodes.Null() if name in _TEXTS | _NUMBERS:
            yield right.at, f"{shown} is never NULL"
        case nodes.Text(text) if node.operator in ("=~", "!~"):
            yield from _pattern(right, name)
        case nodes.Text(text) if node.operator in ("==", "!="):
            yield from _text(right, text, name, shown, node.operator)
            yield from _not_filled_in(right)


def _text(right: nodes.Text, text: str, name: str, shown: str, sign: str) -> Warnings:
    never = "never holds" if sign == "==" else "always holds"
    if name in _ADDRESSES:
        address, (base, slash, _) = parse_ip(text), text.partition("/")
        if slash and parse_ip(base) is not None:
            yield right.at, f"this {never}: a network stands without quotes: {text}"
        elif address is None:
            yield right.at, f"this {never}: {text!r} is not an address"
        else:
            full = written(str(address))
            seen = f"[{full}]" if address.version == 6 and name == "socket_in(ip)" else full
            if text.lower() != seen.lower():
                bare = text.strip("[]")
                yield right.at, f"this {never}: {shown} is {seen!r} then; write {bare} unquoted"
    elif name in _NUMBERS and not re.fullmatch("0|[1-9][0-9]{0,4}", text):
        yield right.at, f"this {never}: {text!r} is not a port"
    elif name in _VALUES and text.lower() not in map(str.lower, _VALUES[name]):
        yield right.at, f"this {never}: {shown} is {' or '.join(map(repr, _VALUES[name]))}"


def _pattern(right: nodes.Text, name: str) -> Warnings:
    if name in _ADDRESSES and _BARE_DOT.search(re.sub(r"\[[^]]*\]", "[]", right.value)):
        yield right.at, r"a dot in a pattern is any character; write '\.' for a dot"
    if found := _CLASS.search(right.value):
        instead = {"d": "[0-9]", "n": "[[:space:]]", "t": "[[:blank:]]"}.get(found[1], found[1])
        yield right.at, f"'\\{found[1]}' matches nothing here; write {instead}"


def _not_filled_in(text: nodes.Text) -> Warnings:
    if re.search(r"\$[a-zA-Z(]", text.value):
        yield text.at, "a variable in a string is not filled in here; join the parts with '+'"


def _name(node: nodes.Node) -> str:
    """The name of a variable as in the tables above; "" if it has transformations or an index."""
    if not isinstance(node, nodes.Variable) or node.transformations or node.index is not None:
        return ""
    return node.name if node.inner is None else f"{node.name}({node.inner.strip().lower()})"


def _constant(condition: nodes.Condition, word: str) -> Warnings:
    if isinstance(condition, nodes.Truth) and isinstance(condition.operand, nodes.Number):
        held = "always" if condition.operand.value else "never"
        yield condition.at, f"this {word!r} {held} holds"


def _unreachable(body: nodes.Body) -> Warnings:
    for index, statement in enumerate(body[:-1]):
        if _ends(statement):
            yield (
                body[index + 1].at,
                "this is never reached: the statement before it ends the route",
            )
            return


def _ends(statement: nodes.Statement) -> bool:
    match statement:
        case nodes.Drop() | nodes.Exit() | nodes.Return() | nodes.Break():
            return True
        case nodes.If(branches, otherwise):
            bodies = [*(body for _, body in branches), otherwise or ()]
            return all(body and _ends(body[-1]) for body in bodies)
    return False


def _of_a_message(routes: tuple[nodes.Route, ...]) -> Warnings:
    """Warnings for variables of a SIP message, which a connection does not have."""
    everything = [node for route in routes for node in walk(route)]
    changed = {node.target.name for node in everything if isinstance(node, nodes.Assignment)}
    rewrites = any(
        isinstance(node, nodes.Call) and node.function in CHANGING for node in everything
    )
    for node in everything:
        if not isinstance(node, nodes.Variable) or node.problem:
            continue
        name, shown = node.name, print_variable(replace(node, transformations=()))
        if node.inner is not None:
            header = message.HEADERS.get(node.inner.strip().lower())
            if name == "hdr":
                value = shown_value(header)
            elif name == "hdrcnt":
                value = shown_value(int(header is not None))
            elif name in message.WITH_FIELD:
                value = "NULL"
            else:
                continue
        elif name in message.GETTERS:
            if rewrites or not changed.isdisjoint(message.SETTERS) or name in changed:
                continue
            value = f"{shown_value(_INITIAL.get(name))}"
        elif name in message.FIELDS:
            value = shown_value(message.FIELDS[name])
        else:
            continue
        if len(value) > _LONGEST_VALUE:
            value = "of a made-up message"
        yield (
            node.at,
            f"no SIP message here: {shown} is {value} for each connection; test {_TESTABLE}",
        )


def _never_set(routes: tuple[nodes.Route, ...]) -> Warnings:
    """Warnings for variables that are read but never set, which are mostly misspelt."""
    everything = [node for route in routes for node in walk(route)]
    places: set[int] = set()
    names: set[str] = set()
    for node in everything:
        targets: Iterable[nodes.Argument] = ()
        match node:
            case nodes.Assignment(_, target):
                targets = (target,)
            case nodes.For(item):
                targets = (item,)
            case nodes.Call("pv_printf" | "get_timestamp" | "construct_uri", arguments):
                targets = arguments
        for written_to in targets:
            if isinstance(written_to, nodes.Variable):
                names.add(f"{written_to.name}({written_to.inner})")
                places.add(written_to.at)
    for node in everything:
        if isinstance(node, nodes.Variable) and node.name in ("var", "avp") and node.inner:
            dynamic = node.inner.startswith("$")
            if not dynamic and f"{node.name}({node.inner})" not in names and node.at not in places:
                yield node.at, f"{print_variable(node)} is set nowhere: it is always NULL"
