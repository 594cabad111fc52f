"""Formats a script: indentation and blank lines. Pure.

Only blanks at the beginning and the end of lines change, so that comments stay and the script means
the same.
"""

from bisect import bisect_right
from typing import Final

from sipws.tracing.filter.syntax.lexer import Token, pieces

_INDENT: Final = "    "

_OPENING: Final = {"_LBRACE": "_RBRACE", "_LPAR": "_RPAR", "_LSQB": "_RSQB"}
_CLOSING: Final = frozenset(_OPENING.values())

_COMPLETE: Final = frozenset({"_SEMICOLON", "_LBRACE", "_RBRACE", "_COLON"})
"""What ends a statement or begins one. A line after anything else continues a statement."""


def formatted(text: str) -> str:
    """Format a script.

    Args:
        text: a script or an ``opensips.cfg``.

    Returns:
        the script with four blanks for each level, without blanks at the ends of lines and with at
        most one empty line in a row.
    """
    found = list(pieces(text))
    starts = [piece.at for piece in found]
    state = _State()
    lines: list[str] = []
    at = index = 0
    for line in text.split("\n"):
        before = bisect_right(starts, at) - 1
        if before >= 0 and found[before].at < at < found[before].at + len(found[before].text):
            # The line is within a string, a variable or a comment.
            lines.append(line)
        else:
            inside: list[Token] = []
            ahead = index
            while ahead < len(found) and found[ahead].at <= at + len(line):
                inside.append(found[ahead])
                ahead += 1
            goes_on = inside and inside[-1].at + len(inside[-1].text) > at + len(line)
            stripped = line.lstrip(" \t") if goes_on else line.strip(" \t\r")
            if stripped or (lines and lines[-1]):
                lines.append(f"{_INDENT * state.level(inside)}{stripped}" if stripped else "")
        while index < len(found) and found[index].at <= at + len(line):
            state.take(found[index])
            index += 1
        at += len(line) + 1
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines) + "\n"


class _State:
    """What is open where a line begins."""

    def __init__(self) -> None:
        self._open: list[tuple[str, bool]] = []
        """What closes each open bracket, and whether it is that of a ``switch``."""
        self._last = "_SEMICOLON"
        self._switches: list[int] = []
        """The number of open brackets at each ``switch`` whose block has not begun."""

    def level(self, line: list[Token]) -> int:
        """The level of a line, from its pieces."""
        first = line[0].kind if line else ""
        closed = 0
        for piece in line:
            if piece.kind not in _CLOSING:
                break
            closed += 1
        there = self._open[: len(self._open) - closed] if closed else self._open
        level = sum(2 if is_switch else 1 for _, is_switch in there)
        if first in ("CASE", "DEFAULT") and there and there[-1][1]:
            return level - 1
        in_block = bool(there) and there[-1][0] == "_RBRACE"
        continues = in_block and self._last not in _COMPLETE
        return level + (continues and first not in ("_LBRACE", "COMMENT"))

    def take(self, piece: Token) -> None:
        """Go on behind a piece."""
        kind = piece.kind
        if kind == "COMMENT":
            return
        if kind == "SWITCH":
            self._switches.append(len(self._open))
        if kind in _OPENING:
            is_switch = kind == "_LBRACE" and self._switches[-1:] == [len(self._open)]
            if is_switch:
                self._switches.pop()
            self._open.append((_OPENING[kind], is_switch))
        elif kind in _CLOSING and self._open:
            self._open.pop()
        self._last = kind
