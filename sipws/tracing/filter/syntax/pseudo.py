"""How a pseudo-variable is written: ``$name``, ``$name(inner)``, ``$(name(inner)[index]{s.len})``.

As OpenSIPS reads it (``pv_parse_spec``, ``parse_transformation``). What a name means is in
`variables`, what a transformation does in `transformations`.
"""

import re
from typing import Final

from sipws.tracing.filter.syntax.nodes import Transformation, Variable

_NAME: Final = re.compile(r"[0-9A-Za-z_.]*")


class Problem(Exception):  # noqa: N818 - never leaves the package: it becomes a diagnostic
    """Something in a variable or a string is wrong; the text says what."""


def parse_variable(word: str, at: int = 0) -> Variable:
    """Read a variable as the scanner cut it.

    Raises:
        Problem: it is not written as a variable is.
    """
    variable, end = _variable(word, 0, at)
    # What follows is lost in OpenSIPS, and nobody notices.
    return Variable(
        variable.name, variable.inner, variable.index, variable.transformations, word[end:], at=at
    )


def parse_format(text: str, at: int = 0) -> tuple[str | Variable, ...]:
    """Read a text with variables in it, as ``xlog`` takes it.

    Raises:
        Problem: a variable in it is not written as a variable is.
    """
    parts: list[str | Variable] = []
    offset = 0
    while (dollar := text.find("$", offset)) >= 0:
        if dollar > offset:
            parts.append(text[offset:dollar])
        variable, offset = _variable(text, dollar, at)
        parts.append(variable)
    if offset < len(text):
        parts.append(text[offset:])
    return tuple(parts)


def print_variable(variable: Variable) -> str:
    """A variable as it is written."""
    inner = "" if variable.inner is None else f"({variable.inner})"
    if variable.index is None and not variable.transformations:
        return f"${variable.name}{inner}"
    index = "" if variable.index is None else f"[{variable.index}]"
    changes = "".join(
        "{" + ",".join((f"{change.kind}.{change.name}", *change.arguments)) + "}"
        for change in variable.transformations
    )
    return f"$({variable.name}{inner}{index}{changes})"


def _variable(text: str, start: int, at: int) -> tuple[Variable, int]:
    offset = start + 1
    if text.startswith("$", offset):
        return Variable("$", at=at), offset + 1
    if not text.startswith("(", offset):
        name, offset = _name(text, offset)
        inner = None
        if text.startswith("(", offset):
            inner, offset = _enclosed(text, offset, "()", f"${name}")
        if not name:
            raise Problem("a '$' begins a variable; write '$$' for the sign itself")
        return Variable(name, inner, at=at), offset
    if text.startswith("$)", offset + 1):
        return Variable("$", at=at), offset + 3
    name, offset = _name(text, offset + 1)
    inner = index = None
    if text.startswith("(", offset):
        inner, offset = _enclosed(text, offset, "()", f"$({name}")
    if text.startswith("[", offset):
        index, offset = _enclosed(text, offset, "[]", f"$({name}")
    changes: list[Transformation] = []
    while text[offset : offset + 1] in ("{", " ", "\t"):
        if text[offset] == "{":
            change, offset = _enclosed(text, offset, "{}", f"$({name}")
            changes.append(_transformation(change, at))
        else:
            offset += 1
    if not text.startswith(")", offset):
        found = repr(text[offset]) if offset < len(text) else "the end"
        raise Problem(f"in $({name}…) {found} stands where ')' is expected")
    return Variable(name, inner, index, tuple(changes), at=at), offset + 1


def _name(text: str, offset: int) -> tuple[str, int]:
    found = _NAME.match(text, offset)
    return (found[0], found.end()) if found else ("", offset)


def _enclosed(text: str, offset: int, pair: str, what: str) -> tuple[str, int]:
    depth = 0
    for index in range(offset, len(text)):
        if text[index] == pair[0]:
            depth += 1
        elif text[index] == pair[1]:
            depth -= 1
            if depth == 0:
                inside = text[offset + 1 : index]
                if not inside:
                    raise Problem(f"the brackets {pair} of {what} are empty")
                return inside, index + 1
    raise Problem(f"the bracket {pair[0]!r} of {what} is never closed")


def _transformation(inside: str, at: int) -> Transformation:
    kind, dot, rest = inside.partition(".")
    if not dot or not kind:
        raise Problem(f"{{{inside}}} is no transformation: it is written {{kind.name,…}}")
    # `select` takes the character behind its second comma as it stands, were that a comma too.
    selects = rest.lstrip().lower().startswith("select")
    name, *arguments = rest.split(",", 2) if selects else _split(rest)
    return Transformation(kind.strip(), name.strip(), tuple(arguments), at=at)


def _split(text: str) -> list[str]:
    """Split at commas, but not within brackets of any kind or after a backslash."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        if char in "({[":
            depth += 1
        elif char in ")}]":
            depth -= 1
        elif char == "," and depth <= 0 and text[index - 1 : index] != "\\":
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
