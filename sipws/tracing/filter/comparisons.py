"""Comparisons as closures: a variable against a text, a number, a network, a pattern or another.

A comparison is 1, 0, or -1 where it could not be decided.
"""

import operator
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

from sipws.tracing.filter import nodes
from sipws.tracing.filter.patterns import Pattern, PatternError, compile_pattern
from sipws.tracing.filter.run import Getter, Run, Test
from sipws.tracing.filter.values import FAILED, Value, address_of, number_of, text_of

COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_FREE_MATCH: Final = 2_000
"""Characters times states of a match that cost nothing; more are counted as steps, five a step."""

_compiled = lru_cache(maxsize=128)(compile_pattern)


def network_of(text: str) -> IPv4Network | IPv6Network | tuple[int, int] | None:
    """The network that an unquoted word is; a pair (base, mask) where the mask has holes."""
    base, slash, mask = text.partition("/")
    address = address_of(base)
    if address is None:
        return None
    if "." in mask or ":" in mask:
        bits = address_of(mask)
        if bits is None or bits.version != address.version:
            return None
        return (int(address) & int(bits), int(bits)) if address.version == 4 else None
    length = int(mask) if slash else address.max_prefixlen
    if length > address.max_prefixlen:
        return None
    network = IPv4Network if isinstance(address, IPv4Address) else IPv6Network
    return network((int(address), length), strict=False)


def direct(node: nodes.Comparison) -> Test | None:
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


def against_text(get: Getter, always_text: bool, sign: str, text: str) -> Test:
    """A variable against a constant text."""
    compare = COMPARE[sign]
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
        return -1 if found is None else compare(found.lower(), wanted)

    return test


def against_number(get: Getter, sign: str, number: int) -> Test:
    """A variable against a constant number."""
    compare, missing = COMPARE[sign], int(sign == "!=")

    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return missing
        found = number_of(value)
        return -1 if found is None else compare(found, number)

    return test


def against_network(
    get: Getter, wanted: bool, net: IPv4Network | IPv6Network | tuple[int, int]
) -> Test:
    """A variable against an address or a network."""

    def test(run: Run) -> int:
        value = get(run)
        if value is None:
            return not wanted
        address = address_of(text_of(value) or "")
        if address is None:
            return -1
        return contains(net, address) is wanted

    return test


def contains(
    net: IPv4Network | IPv6Network | tuple[int, int], address: IPv4Address | IPv6Address
) -> bool:
    """Whether an address is in a network; one of another family never is."""
    if isinstance(net, tuple):
        return address.version == 4 and int(address) & net[1] == net[0]
    return address in net


def against_pattern(get: Getter, wanted: bool, pattern: Pattern) -> Test:
    """A variable against a constant pattern."""

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


def against_variable(get: Getter, sign: str, other: Getter) -> Test:
    """A variable against another."""
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
            return COMPARE[sign](a, b)
        text, wanted = text_of(left), text_of(right)
        if text is None or wanted is None:
            return -1
        return COMPARE[sign](text.lower(), wanted.lower())

    return test


def _match(run: Run, left: Value, right: Value, wanted: bool) -> int:
    text, written = text_of(left), text_of(right)
    if text is None or written is None:
        return -1
    run.spend(len(written))
    try:
        pattern = _compiled(written)
    except PatternError:
        return -1
    run.spend(pattern.size // 10)
    return _search(run, pattern, text) is wanted
