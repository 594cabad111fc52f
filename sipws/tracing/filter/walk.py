"""All nodes of a syntax tree."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from sipws.tracing.filter.nodes import Node


def walk(node: Node) -> Iterator[Node]:
    """A node and all within it, in the order of the script."""
    yield node
    for field in fields(node):
        yield from _within(getattr(node, field.name))


def _within(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield from walk(value)
    elif isinstance(value, tuple):
        for item in value:
            yield from _within(item)
