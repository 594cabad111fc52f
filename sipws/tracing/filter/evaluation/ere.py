"""Parser for POSIX extended regular expressions, as glibc's ``regcomp`` reads them.

The flags are ``REG_EXTENDED | REG_ICASE``: characters are compared in upper case. OpenSIPS sets no
locale, so each byte is a character, and only ASCII letters have a case.
"""

import string
from collections.abc import Callable
from typing import Final

MAX_REPEAT: Final = 0x7FFF
"""Maximum number of repetitions in ``{n}``, as in glibc (``RE_DUP_MAX``)."""

CharSet = Callable[[str], bool]
"""Whether a character is in a set."""
Node = tuple[object, ...]
"""``("char", set)``, ``("at", name)``, ``("cat", nodes)``, ``("or", nodes)`` or
``("repeat", node, least, most)``. ``most`` is -1 if there is no limit."""

_CLASSES: Final[dict[str, CharSet]] = {
    "alpha": string.ascii_letters.__contains__,
    "digit": string.digits.__contains__,
    "alnum": (string.ascii_letters + string.digits).__contains__,
    "upper": string.ascii_letters.__contains__,  # case is ignored
    "lower": string.ascii_letters.__contains__,
    "space": string.whitespace.__contains__,
    "blank": " \t".__contains__,
    "punct": string.punctuation.__contains__,
    "graph": (string.ascii_letters + string.digits + string.punctuation).__contains__,
    "print": (string.ascii_letters + string.digits + string.punctuation + " ").__contains__,
    "cntrl": lambda c: c < " " or c == "\x7f",
    "xdigit": string.hexdigits.__contains__,
}


class PatternError(Exception):
    """A pattern is not valid; the message has the reason."""


def is_word(char: str) -> bool:
    """Whether a character is a word character: a letter, a digit or ``_``."""
    return char.isascii() and (char.isalnum() or char == "_")


class Parser:
    """Parses a pattern.

    Args:
        pattern: the regular expression.
    """

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._next = 0
        self._groups = 0
        self._depth = 0

    def parse(self) -> Node:
        """Parse the pattern.

        Returns:
            its tree.

        Raises:
            PatternError: the pattern is not valid.
        """
        return self._alternatives()

    def _peek(self) -> str:
        return self._text[self._next : self._next + 1]

    def _alternatives(self) -> Node:
        choices = [self._sequence()]
        while self._peek() == "|":
            self._next += 1
            choices.append(self._sequence())
        return choices[0] if len(choices) == 1 else ("or", choices)

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while (char := self._peek()) and char != "|" and not (char == ")" and self._depth):
            parts.append(self._repeated())
        return parts[0] if len(parts) == 1 else ("cat", parts)

    def _repeated(self) -> Node:
        node = self._single()
        if node[0] == "at":
            return node
        while (sign := self._peek()) and sign in "*+?{":
            self._next += 1
            match sign:
                case "*":
                    node = ("repeat", node, 0, -1)
                case "+":
                    node = ("repeat", node, 1, -1)
                case "?":
                    node = ("repeat", node, 0, 1)
                case _:
                    node = ("repeat", node, *self._bounds())
        return node

    def _bounds(self) -> tuple[int, int]:
        end = self._text.find("}", self._next)
        if end < 0:
            raise PatternError("'{' is never closed")
        written = self._text[self._next : end]
        least, comma, most = written.partition(",")
        if not all(part == "" or (part.isascii() and part.isdigit()) for part in (least, most)):
            raise PatternError(f"'{{{written}}}' is not a number of repetitions")
        if not written:
            raise PatternError("'{}' is not a number of repetitions")
        self._next = end + 1
        low = int(least[:9] or "0")
        high = low if not comma else int(most[:9]) if most else -1
        if high >= 0 and low > high:
            raise PatternError(f"'{{{written}}}': the first number is the larger one")
        if max(low, high) > MAX_REPEAT:
            raise PatternError(f"'{{{written}}}': at most {MAX_REPEAT} repetitions")
        return low, high

    def _single(self) -> Node:
        char = self._peek()
        self._next += 1
        match char:
            case "(":
                return self._group()
            case "[":
                return ("char", self._bracket())
            case ".":
                return ("char", lambda c: True)
            case "^":
                return ("at", "begin")
            case "$":
                return ("at", "end")
            case "\\":
                return self._escaped()
            case "*" | "+" | "?" | "{":
                raise PatternError(f"{char!r} stands after nothing that could be repeated")
        return ("char", _letter(char))

    def _group(self) -> Node:
        if self._depth >= 100:
            raise PatternError("groups are nested deeper than 100")
        self._groups += 1
        self._depth += 1
        node = self._alternatives()
        self._depth -= 1
        if self._peek() != ")":
            raise PatternError("'(' is never closed")
        self._next += 1
        # A group is never an anchor: `(^)*` may be repeated.
        return ("cat", [node])

    def _escaped(self) -> Node:
        char = self._peek()
        self._next += 1
        match char:
            case "":
                raise PatternError("a backslash ends the pattern")
            case "w":
                return ("char", is_word)
            case "W":
                return ("char", lambda c: not is_word(c))
            case "s":
                return ("char", _CLASSES["space"])
            case "S":
                return ("char", lambda c: not _CLASSES["space"](c))
            case "b" | "B" | "<" | ">":
                return ("at", char)
            case "`":
                return ("at", "begin")
            case "'":
                return ("at", "end")
        if char in "123456789":
            if int(char) > self._groups:
                raise PatternError(f"'\\{char}' refers to a group that is not there")
            raise PatternError(f"'\\{char}': back-references cannot be matched in bounded time")
        # glibc compares in upper case, but keeps an escaped letter: `\d` matches nothing.
        return (
            "char",
            _letter(char) if not (char.isascii() and char.islower()) else lambda c: False,
        )

    def _bracket(self) -> CharSet:
        members: list[CharSet] = []
        negated = self._peek() == "^"
        self._next += negated
        first = True
        while (char := self._peek()) != "]" or first:
            if not char:
                raise PatternError("'[' is never closed")
            first = False
            if char == "[" and self._text[self._next + 1 : self._next + 2] == ":":
                members.append(self._class())
                follows = self._text[self._next : self._next + 2]
                if follows[:1] == "-" and follows[1:] not in ("", "]"):
                    raise PatternError("a class of characters begins no range")
                continue
            low = self._member()
            follows = self._text[self._next : self._next + 2]
            if follows[:1] == "-" and len(follows) == 2 and follows[1] != "]":
                self._next += 1
                if self._text.startswith("[:", self._next):
                    raise PatternError("a class of characters ends no range")
                high = self._member()
                if _upper(low) > _upper(high):
                    raise PatternError(f"'{low}-{high}' is not a range: it runs backwards")
                members.append(_between(_upper(low), _upper(high)))
            else:
                members.append(_letter(low))
        self._next += 1
        return lambda c: any(member(c) for member in members) is not negated

    def _class(self) -> CharSet:
        end = self._text.find(":]", self._next + 2)
        name = self._text[self._next + 2 : end] if end >= 0 else ""
        if name not in _CLASSES:
            raise PatternError(f"there is no class of characters '[:{name}:]'")
        self._next = end + 2
        return _CLASSES[name]

    def _member(self) -> str:
        """A character of a bracket expression, also in the form ``[.x.]`` or ``[=x=]``."""
        char = self._peek()
        sign = self._text[self._next + 1 : self._next + 2]
        if char == "[" and sign in (".", "=") and sign:
            end = self._text.find(f"{sign}]", self._next + 2)
            name = self._text[self._next + 2 : end] if end >= 0 else ""
            if len(name) != 1:
                raise PatternError(f"'[{sign}{name}{sign}]' is not a character")
            self._next = end + 2
            return name
        if not char:
            raise PatternError("'[' is never closed")
        self._next += 1
        return char


def _upper(char: str) -> str:
    return char.upper() if char.isascii() else char


def _letter(char: str) -> CharSet:
    return frozenset({char, char.upper(), char.lower()} if char.isascii() else {char}).__contains__


def _between(low: str, high: str) -> CharSet:
    return lambda c: low <= _upper(c) <= high
