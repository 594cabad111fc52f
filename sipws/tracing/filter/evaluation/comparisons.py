"""From comparisons to closures: what is compared with what, and when that is an error.

As OpenSIPS compares (``comp_scriptvar``): an address or a network, a number, a text whatever its
case, a pattern, NULL, or another variable.
"""

import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sipws.tracing.filter.bounds import LONGEST_ADDRESS, SHORT_TEXT
from sipws.tracing.filter.evaluation.patterns import (
    MAX_PARTS,
    Pattern,
    PatternError,
    TooLargeError,
    compile_pattern,
)
from sipws.tracing.filter.evaluation.run import Getter, Run, Scope, Test
from sipws.tracing.filter.evaluation.values import FAILED, Value, address_of, number_of, text_of
from sipws.tracing.filter.evaluation.variables import compile_variable
from sipws.tracing.filter.syntax import nodes

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_FREE_MATCH: Final = 2_000
"""Characters times states of a match that cost nothing; more are counted as steps, five a step."""

_compiled = lru_cache(maxsize=32)(compile_pattern)
"""Patterns that are made while a route runs."""


def compile_comparison(node: nodes.Comparison, scope: Scope) -> Test:
    """The closure of a comparison. Errors are reported to the scope."""
    get, kind = compile_variable(node.left, scope)
    if (direct := _direct(node)) is not None:
        return direct
    sign, right = node.operator, node.right
    match right:
        case nodes.Variable():
            return _against_variable(get, sign, compile_variable(right, scope)[0])
        case nodes.Null():
            return _against_null(get, sign == "==")
        case nodes.Network(text):
            net = network_of(text)
            if net is None:
                scope.error(right.at, f"{text!r} is no address or network")
                return lambda run: -1
            return _against_network(get, sign == "==", net)
        case nodes.Number(number):
            compare = _COMPARE[sign]
            if kind == "number":
                return lambda run: compare(get(run), number)
            return _against_number(get, sign, number)
        case nodes.Text(text) if sign in ("=~", "!~"):
            try:
                pattern = compile_pattern(text)
            except PatternError as exc:
                scope.error(right.at, f"the pattern {text!r} is not valid: {exc}")
                return lambda run: -1
            return _against_pattern(get, sign == "=~", pattern)
        case nodes.Text(text):
            return _against_text(get, kind == "text", sign, text)


class Net(NamedTuple):
    """A network, or a set of addresses with a mask that has holes: OpenSIPS takes both."""

    version: int
    base: int
    mask: int


def network_of(text: str) -> Net | None:
    """The network that an unquoted word is; None: it is none."""
    base, slash, written = text.partition("/")
    address = address_of(base)
    if address is None:
        return None
    every = (1 << address.max_prefixlen) - 1
    if "." in written or ":" in written:
        bits = address_of(written)
        if bits is None or bits.version != address.version:
            return None
        mask = int(bits)
    else:
        length = int(written) if slash else address.max_prefixlen
        if length > address.max_prefixlen:
            return None
        mask = every ^ (every >> length)
    return Net(address.version, int(address) & mask, mask)


def _numbered(text: str) -> tuple[int, int] | None:
    """The version and the number of an address; None: it is none."""
    return _remembered(text) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=1024)
def _remembered(text: str) -> tuple[int, int] | None:
    """A route asks for the same address again and again."""
    address = address_of(text)
    return None if address is None else (address.version, int(address))


def _direct(node: nodes.Comparison) -> Test | None:
    """The commonest comparisons, without the getter: an address or a port with a constant.

    An IPv6 address needs its full form first, and an IPv4 address never equals one.
    """
    if node.operator != "==" or node.left.transformations:
        return None
    match node.left.name, node.left.inner, node.right:
        case ("si", None, nodes.Text(text)) if ":" not in text:
            return lambda run: run.subject.si == text
        case ("sp", None, nodes.Number(number)):
            return lambda run: run.subject.sp == number
        case ("socket_in", "ip", nodes.Text(text)) if ":" not in text:
            return lambda run: run.subject.socket_ip == text
        case ("socket_in", "port", nodes.Number(number)):
            return lambda run: run.subject.socket_port == number
    return None


def _against_null(get: Getter, wanted: bool) -> Test:
    def test(run: Run) -> int:
        value = get(run)
        return -1 if value is FAILED else (value is None) is wanted

    return test


def _against_text(get: Getter, always_text: bool, sign: str, text: str) -> Test:
    compare = _COMPARE[sign]
    if always_text and text.lower() == text.upper():
        # Nothing to fold on one side: equal or not, the other needs none either.
        if sign == "==":
            return lambda run: get(run) == text
        if sign == "!=":
            return lambda run: get(run) != text
    wanted, missing = text.lower(), int(sign == "!=")

    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return missing
        found = text_of(value)
        if found is None:
            return -1
        if len(found) > SHORT_TEXT:
            run.made(found)
        return compare(found.lower(), wanted)

    return test


def _against_number(get: Getter, sign: str, number: int) -> Test:
    compare, missing = _COMPARE[sign], int(sign == "!=")

    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return missing
        found = number_of(value)
        return -1 if found is None else compare(found, number)

    return test


def _against_network(get: Getter, wanted: bool, net: Net) -> Test:
    version, base, mask = net

    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return not wanted
        address = _numbered(text_of(value) or "")
        if address is None:
            return -1
        return (address[0] == version and address[1] & mask == base) is wanted

    return test


def _against_pattern(get: Getter, wanted: bool, pattern: Pattern) -> Test:
    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return not wanted
        text = text_of(value)
        return -1 if text is None else _search(run, pattern, text) is wanted

    return test


def _search(run: Run, pattern: Pattern, text: str) -> bool:
    cost = len(text) * pattern.size
    if cost > _FREE_MATCH:
        run.spend(cost // 5)
    return pattern.search(text)


def _against_variable(get: Getter, sign: str, other: Getter) -> Test:
    negative = sign in ("!=", "!~")

    def test(run: Run) -> int:
        left, right = get(run), other(run)
        if left is FAILED or right is FAILED:
            return -1
        if left is None or right is None:
            both = left is right
            return (both and sign in ("==", "=~")) if both else negative
        if sign in ("=~", "!~"):
            return _match(run, left, right, sign == "=~")
        a, b = number_of(left), number_of(right)
        if a is not None and b is not None:
            return _COMPARE[sign](a, b)
        text, wanted = text_of(left), text_of(right)
        if text is None or wanted is None:
            return -1
        run.made(text)
        run.made(wanted)
        return _COMPARE[sign](text.lower(), wanted.lower())

    return test


def _match(run: Run, left: Value, right: Value, wanted: bool) -> int:
    text, written = text_of(left), text_of(right)
    if text is None or written is None:
        return -1
    # As if it were compiled each time: whether it is depends on what was decided before.
    run.spend(2 * len(written))
    try:
        pattern = (_compiled if len(written) <= SHORT_TEXT else compile_pattern)(written)
    except TooLargeError:
        run.spend(MAX_PARTS)
        return -1
    except PatternError:
        return -1
    run.spend(pattern.size)
    return _search(run, pattern, text) is wanted
