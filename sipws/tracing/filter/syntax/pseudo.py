"""Parses pseudo-variables: ``$name``, ``$name(inner)``, ``$(name(inner)[index]{s.len})``.

The syntax is that of OpenSIPS (``pv_parse_spec``, ``parse_transformation``). `variables` has the
meaning of the names, `transformations` that of the transformations.
"""

import re
from typing import Final

from sipws.tracing.filter.syntax.nodes import Transformation, Variable

_NAME: Final = re.compile(r"[0-9A-Za-z_.]*")


class Problem(Exception):  # noqa: N818 - never leaves the package: it becomes a diagnostic
    """A variable or a string has an error; the message has the reason."""


def parse_variable(word: str, at: int = 0) -> Variable:
    """Parse a variable token.

    Args:
        word: the token.
        at: its position.

    Returns:
        the variable.

    Raises:
        Problem: the token is not a variable.
    """
    variable, end = _variable(word, 0, at)
    # OpenSIPS silently ignores the characters that follow.
    return Variable(
        variable.name, variable.inner, variable.index, variable.transformations, word[end:], at=at
    )


def parse_format(text: str, at: int = 0) -> tuple[str | Variable, ...]:
    """Parse a format string with variables, as ``xlog`` takes it.

    Args:
        text: the format string.
        at: its position.

    Returns:
        its literal parts and its variables, in order.

    Raises:
        Problem: a variable in it is invalid.
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
    """Print a variable as script."""
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
    if text[offset : offset + 1] in (" ", "\t"):
        raise Problem(f"a blank stands in $({name}…); write the '{{' directly after the variable")
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
        raise Problem(f"{{{inside}}} is not a transformation: it is written {{kind.name,…}}")
    # `select` takes the character after its second comma literally, even a comma.
    selects = rest.lstrip().lower().startswith("select")
    name, *arguments = rest.split(",", 2) if selects else _split(rest)
    # OpenSIPS takes no blanks around the class, but around the name.
    return Transformation(kind, name.strip(), tuple(arguments), at=at)


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets that do not follow a backslash."""
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
