"""The text of a script, and how a place in it is shown. Pure."""

import difflib
import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from sipws.errors import Diagnostic
from sipws.tracing.filter.bounds import MAX_COMPARED

_SPAN: Final = re.compile(
    r"""\$\([^\s()]*(?:\([^()\n]*\)[^\s()]*)*\) | \$?[\w.]+(?:\([^()\n]*\))?
      | "(?:[^"\\\n]|\\.)*" | '[^'\n]*' | [=!<>:+*/%&|^-]=|=~|!~|&&|\|\||[^\w\s]""",
    re.VERBOSE,
)
"""What the carets are drawn under: a variable, a word, a string, or one character."""

_FUNCTION: Final = re.compile(r"\w+(?=\()")

_EXCERPT: Final = 200
"""Characters of a line that an excerpt shows; a longer line is cut around the place."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What terminals obey instead of showing it."""

_PROBLEM: Final = 1_000
"""Characters of what is said of a place; a word of the script in it may have a million."""


class _File(NamedTuple):
    name: str
    text: str
    lines: list[int]
    """Where each line starts."""


class Source:
    """One or more files, as one range of positions.

    A position is a number that says file, line and column; the syntax tree carries nothing else.
    """

    def __init__(self, text: str, filename: str) -> None:
        self._files: list[_File] = []
        self._starts: list[int] = []
        self.add(text, filename)

    def add(self, text: str, filename: str) -> int:
        """Take in a file.

        Returns:
            the position of its first character.
        """
        start = self._starts[-1] + len(self._files[-1].text) + 1 if self._files else 0
        lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._files.append(_File(filename, text, lines))
        self._starts.append(start)
        return start

    def place(self, position: int) -> tuple[str, int, int]:
        """The file, line and column of a position; lines and columns from 1."""
        index = bisect_right(self._starts, position) - 1
        name, text, lines = self._files[index]
        offset = min(position - self._starts[index], len(text))
        line = bisect_right(lines, offset) - 1
        return name, line + 1, offset - lines[line] + 1

    def line(self, position: int) -> str:
        """The line that a position is in, without its end."""
        index = bisect_right(self._starts, position) - 1
        _, text, lines = self._files[index]
        offset = min(position - self._starts[index], len(text))
        line = bisect_right(lines, offset) - 1
        end = lines[line + 1] - 1 if line + 1 < len(lines) else len(text)
        return text[lines[line] : end].rstrip("\r")

    def diagnostic(
        self,
        position: int,
        problem: str,
        severity: Literal["error", "warning"] = "error",
    ) -> Diagnostic:
        """A diagnostic with its excerpt: the line, and carets under what stands at the position."""
        name, line, column = self.place(position)
        if len(problem) > _PROBLEM:
            problem = f"{problem[: _PROBLEM // 2]} … {problem[-_PROBLEM // 2 :]}"
        text, at = _cut(self.line(position), column - 1)
        text = _CONTROL.sub("\ufffd", text)
        # Tabs stay tabs, so that the carets stand under their characters in any terminal.
        indent = "".join(c if c == "\t" else " " for c in text[:at].ljust(at))
        # A call is marked by its name, a variable with all that belongs to it.
        found = _FUNCTION.match(text, at) or _SPAN.match(text, at)
        carets = "^" * (len(found[0]) if found else 1)
        return Diagnostic(name, line, column, severity, problem, f"{text}\n{indent}{carets}")


def _cut(line: str, at: int) -> tuple[str, int]:
    """A line as an excerpt shows it, and where a place in it is then."""
    if len(line) <= _EXCERPT:
        return line, at
    start = max(0, min(at - _EXCERPT // 2, len(line) - _EXCERPT))
    before = "… " if start else ""
    after = " …" if start + _EXCERPT < len(line) else ""
    return f"{before}{line[start : start + _EXCERPT]}{after}", at - start + len(before)


def nearest(name: str, known: Iterable[str], quote: str = "'") -> str:
    """``; do you mean 'NAME'?`` for a misspelt name, or nothing where none is near.

    Of very many names only the first are compared.
    """
    names = list(itertools.islice(known, MAX_COMPARED))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if not near:
        folded = {other.lower(): other for other in names}
        near = [folded[name.lower()]] if name.lower() in folded else []
    return f"; do you mean {quote}{near[0]}{quote}?" if near else ""
