"""All nodes of a syntax tree."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from sipws.tracing.filter.syntax.nodes import Node


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all of its descendants in the order of the script."""
    left: list[Any] = [node]
    while left:
        item = left.pop()
        if isinstance(item, Node):
            yield item
            left += [getattr(item, name) for name in _parts(item)]
        elif isinstance(item, tuple):
            left += reversed(item)


def deeper_than(most: int, node: Node) -> Node | None:
    """Find the first node with more than ``most`` ancestors; None if there is none."""
    left: list[tuple[Any, int]] = [(node, 0)]
    while left:
        item, depth = left.pop()
        if isinstance(item, Node):
            if depth > most:
                return item
            left += [(getattr(item, name), depth + 1) for name in _parts(item)]
        elif isinstance(item, tuple):
            left += [(part, depth) for part in reversed(item)]
    return None


_PARTS: dict[type[Node], tuple[str, ...]] = {}


def _parts(node: Node) -> tuple[str, ...]:
    """The names of a node's fields in reverse order."""
    kind = type(node)
    if kind not in _PARTS:
        _PARTS[kind] = tuple(field.name for field in reversed(fields(kind)))
    return _PARTS[kind]
