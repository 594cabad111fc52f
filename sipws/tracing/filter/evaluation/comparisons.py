"""Compiles comparisons to closures.

They compare as OpenSIPS does (``comp_scriptvar``): with an address or a network, a number, a text
ignoring case, a pattern, NULL, or another variable.
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
from sipws.tracing.filter.evaluation.values import (
    Value,
    lower,
    number_of,
    parse_ip,
    stored,
    text_of,
)
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
"""Characters times states of a match that cost no steps. Beyond it, five of them cost one step."""

cached_pattern = lru_cache(maxsize=32)(compile_pattern)
"""Compile a pattern that is known only at run time, with a cache."""


def compile_comparison(node: nodes.Comparison, scope: Scope) -> Test:
    """Compile a comparison. Errors go to ``scope.error``."""
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
                scope.error(right.at, f"{text!r} is not an address or network")
                return lambda run: -1
            return _against_network(get, sign == "==", net)
        case nodes.Number(number):
            compare = _COMPARE[sign]
            if kind == "number":
                return lambda run: compare(get(run), number)
            return _against_number(get, sign, number)
        case nodes.Text(text) if sign in ("=~", "!~"):
            try:
                pattern = compile_pattern(stored(text))
            except PatternError as exc:
                scope.error(right.at, f"the pattern {text!r} is not valid: {exc}")
                return lambda run: -1
            return _against_pattern(get, sign == "=~", pattern)
        case nodes.Text(text):
            return _against_text(get, kind == "text", sign, stored(text))


class Net(NamedTuple):
    """A network with its mask. As in OpenSIPS, the mask need not be contiguous."""

    version: int
    base: int
    mask: int


def network_of(text: str) -> Net | None:
    """Parse an unquoted address or network; None if the text is none."""
    base, slash, written = text.partition("/")
    address = parse_ip(base)
    if address is None:
        return None
    every = (1 << address.max_prefixlen) - 1
    if "." in written or ":" in written:
        bits = parse_ip(written)
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
    """IP version and integer of an address; None if the text is not an address."""
    return numbered_address(text) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=1024)
def numbered_address(text: str) -> tuple[int, int] | None:
    """As `_numbered`, with a cache: a route compares the same address many times."""
    address = parse_ip(text)
    return None if address is None else (address.version, int(address))


def _direct(node: nodes.Comparison) -> Test | None:
    """Compile the most common comparisons, without a getter: an address or a port with a constant.

    An IPv6 address has to be expanded first. An IPv4 address never equals an IPv6 address.
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
    return lambda run: (get(run) is None) is wanted


def _against_text(get: Getter, always_text: bool, sign: str, text: str) -> Test:
    compare = _COMPARE[sign]
    if always_text and text.isascii() and text.lower() == text.upper():
        # A constant without letters needs no case folding on either side.
        if sign == "==":
            return lambda run: get(run) == text
        if sign == "!=":
            return lambda run: get(run) != text
    wanted, missing = lower(text), int(sign == "!=")
    # No other character becomes an ASCII letter, so a constant in ASCII needs no more than this.
    fold = str.lower if text.isascii() else lower

    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return missing
        found = text_of(value)
        if found is None:
            return -1
        if len(found) > SHORT_TEXT:
            run.made(found)
        return compare(fold(found), wanted)

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
        return _COMPARE[sign](lower(text), lower(wanted))

    return test


def _match(run: Run, left: Value, right: Value, wanted: bool) -> int:
    text, written = text_of(left), text_of(right)
    if text is None or written is None:
        return -1
    # The cost counts even if the pattern is cached, so it does not depend on earlier decisions.
    run.spend(2 * len(written))
    try:
        pattern = (cached_pattern if len(written) <= SHORT_TEXT else compile_pattern)(written)
    except TooLargeError:
        run.spend(MAX_PARTS)
        return -1
    except PatternError:
        return -1
    run.spend(pattern.size)
    return _search(run, pattern, text) is wanted
