r"""What PostgreSQL's type ``jsonb`` refuses of a text. Pure.

``jsonb`` takes JSON as RFC 8259 defines it, with these further limits (PostgreSQL manual, section
8.14): no ``\u0000``, no surrogate escape without its other half, no number beyond ``numeric``,
and no nesting beyond the server's stack. The check is linear in the text and does not recurse.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_LEVELS: Final = 13_000
"""Arrays and objects within one another. PostgreSQL 15 with its default ``max_stack_depth`` of 2 MB
takes 14,500 arrays or 13,000 objects."""

MOST_DIGITS: Final = 131_072
"""Digits of a number before the decimal point (PostgreSQL manual, section 8.1.2)."""

MOST_DECIMALS: Final = 16_383
"""Digits of a number after the decimal point (PostgreSQL manual, section 8.1.2)."""

_EXPONENT: Final = 2**30 - 1
"""PostgreSQL refuses this exponent and larger ones, even of zero."""


class Kind(StrEnum):
    """The kinds of faults."""

    NUL = "nul"
    """The escape ``\\u0000``."""
    SURROGATE = "surrogate"
    """The escape of one half of a surrogate pair alone, or of two in the wrong order."""
    CONTROL = "control"
    """A control character that is not escaped."""
    NUMBER = "number"
    """A number too large or with too many decimals."""
    DEPTH = "depth"
    """Too many levels."""
    SYNTAX = "syntax"
    """Not JSON."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing in a text that ``jsonb`` refuses."""

    kind: Kind
    """What it is."""
    offset: int
    """Where it is, in characters from 0."""
    what: str
    """It in words, for users."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the outermost object."""

    key: str
    """The key, as JSON text without its quotes; escapes are not resolved."""
    value: str | None
    """The same of a value that is a string; None for any other value."""


_STRING_BODY: Final = (
    r'(?:[^"\\\x00-\x1f]++'
    r'|\\["\\/bfnrt]'
    r"|\\u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
_BLANK: Final = re.compile(r"[ \t\n\r]*+")
_BODY: Final = re.compile(_STRING_BODY)
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*+)(?:\.([0-9]++))?(?:[eE]([+-]?[0-9]++))?")
_WORD: Final = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff]++")
"""PostgreSQL reads letters, digits and all that is not ASCII as one word."""
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_LITERALS: Final = ("true", "false", "null")

_CLOSES: Final = {"{": "}", "[": "]"}


class _Next(StrEnum):
    """What may come next in a text."""

    VALUE = "a value"
    FIRST_VALUE = "a value or ]"
    KEY = "a key in quotes"
    FIRST_KEY = "a key in quotes or }"
    COLON = "a colon"
    COMMA = "a comma or the end of the array or object"
    END = "the end of the text"


_VALUES: Final = (_Next.VALUE, _Next.FIRST_VALUE)
_KEYS: Final = (_Next.KEY, _Next.FIRST_KEY)
_MAY_CLOSE: Final = (_Next.COMMA, _Next.FIRST_VALUE, _Next.FIRST_KEY)


def fault(text: str) -> Fault | None:
    """Find the first thing in a text that ``jsonb`` refuses.

    Returns:
        the fault; None if ``jsonb`` takes the text.
    """
    return _Scan(text).run()


def members(text: str) -> list[Member] | None:
    """The members of the outermost object in their order, each doubled key included.

    Returns:
        the members; None if ``jsonb`` refuses the text, or if it is not an object.
    """
    scan = _Scan(text)
    if scan.run() is not None or not scan.is_object:
        return None
    return scan.members


class _Scan:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.members: list[Member] = []
        self.is_object = False
        self._text = text
        self._open: list[str] = []
        """The brackets that are open, outermost first."""
        self._next = _Next.VALUE
        self._key = ""

    def run(self) -> Fault | None:
        text = self._text
        at = _end(_BLANK, text, 0)
        while at < len(text):
            end = self._take(text[at], at)
            if isinstance(end, Fault):
                return end
            at = _end(_BLANK, text, end)
        if self._next is _Next.END:
            return None
        return Fault(Kind.SYNTAX, at, f"the text ends where {self._next} belongs")

    def _take(self, char: str, at: int) -> int | Fault:
        """Read the token that starts with ``char``; returns the offset of its end."""
        following = self._next
        if following in _VALUES and char != "]":
            return self._value(char, at)
        if following in _KEYS and char == '"':
            end = _string(self._text, at)
            if not isinstance(end, Fault):
                self._key = self._text[at + 1 : end - 1]
                self._next = _Next.COLON
            return end
        if char == ":" and following is _Next.COLON:
            self._next = _Next.VALUE
        elif char == "," and following is _Next.COMMA:
            self._next = _Next.KEY if self._open[-1] == "{" else _Next.VALUE
        elif following in _MAY_CLOSE and char == _CLOSES[self._open[-1]]:
            self._open.pop()
            self._next = _Next.COMMA if self._open else _Next.END
        else:
            return _misplaced(char, at, following)
        return at + 1

    def _value(self, char: str, at: int) -> int | Fault:
        if char in _CLOSES:
            end: int | Fault = self._opened(char, at)
        else:
            end = _string(self._text, at) if char == '"' else _scalar(self._text, at)
            if not isinstance(end, Fault):
                self._member(self._text[at + 1 : end - 1] if char == '"' else None)
                self._next = _Next.COMMA if self._open else _Next.END
            elif end.kind is Kind.SYNTAX and char != '"' and end.offset == at:
                return _misplaced(char, at, self._next)
        return end

    def _opened(self, char: str, at: int) -> int | Fault:
        if len(self._open) == MOST_LEVELS:
            return Fault(Kind.DEPTH, at, f"more than {MOST_LEVELS} levels")
        self._member(None)
        if not self._open:
            self.is_object = char == "{"
        self._open.append(char)
        self._next = _Next.FIRST_KEY if char == "{" else _Next.FIRST_VALUE
        return at + 1

    def _member(self, value: str | None) -> None:
        if len(self._open) == 1 and self.is_object:
            self.members.append(Member(self._key, value))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _misplaced(char: str, at: int, expected: _Next) -> Fault:
    return Fault(Kind.SYNTAX, at, f"{char!r} where {expected} belongs")


def _string(text: str, at: int) -> int | Fault:
    """The end of the string that starts at ``at``."""
    end = _end(_BODY, text, at + 1)
    char = text[end : end + 1]
    if char == '"':
        return end + 1
    if not char:
        return Fault(Kind.SYNTAX, end, "the text ends within a string")
    if char != "\\":
        return Fault(Kind.CONTROL, end, f"the control character {char!r} is not escaped")
    escape = text[end : end + 6]
    if escape == r"\u0000":
        return Fault(Kind.NUL, end, r"\u0000 is not allowed")
    if _HALF.match(escape):
        return Fault(Kind.SURROGATE, end, f"{escape} is half of a surrogate pair")
    return Fault(Kind.SYNTAX, end, f"{escape[:2]!r} is not a JSON escape")


def _scalar(text: str, at: int) -> int | Fault:
    """The end of the number or literal that starts at ``at``."""
    number = _NUMBER.match(text, at)
    if number is None:
        end = _end(_WORD, text, at)
        if text[at:end] in _LITERALS:
            return end
        return Fault(Kind.SYNTAX, at, "not a JSON value")
    if _WORD.match(text, number.end()):
        return Fault(Kind.SYNTAX, number.end(), "letters or digits right after a number")
    digits, decimals, exponent = number.groups(default="")
    if _beyond(digits, decimals, exponent):
        shown = number[0] if len(number[0]) <= 20 else f"{number[0][:20]}…"
        return Fault(Kind.NUMBER, at, f"the number {shown} is beyond PostgreSQL's numeric")
    return number.end()


def _beyond(digits: str, decimals: str, exponent: str) -> bool:
    """Whether a number has too many digits before or after its decimal point."""
    power = exponent.lstrip("+-").lstrip("0")
    if len(power) > len(str(_EXPONENT)) or int(power or "0") >= _EXPONENT:
        return True
    shift = int(power or "0") * (-1 if exponent.startswith("-") else 1)
    if len(decimals) - shift > MOST_DECIMALS:
        return True
    significant = (digits + decimals).lstrip("0")
    leading = len(digits) - (len(digits) + len(decimals) - len(significant))
    return bool(significant) and leading + shift > MOST_DIGITS
