"""The source text of a script, with positions and excerpts for messages. Pure."""

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
"""The text that carets underline: a variable, a word, a string, or one character."""

_FUNCTION: Final = re.compile(r"\w+(?=\()")

_EXCERPT: Final = 200
"""Maximum number of characters of an excerpt. A longer line is cut around the position."""

_PROBLEM: Final = 1_000
"""Maximum number of characters of an error text, which may quote a long word of the script."""


class _File(NamedTuple):
    name: str
    text: str
    lines: list[int]
    """Offset of each line."""


class Source:
    """The text of one file or more, with one range of positions for all of them.

    A position is an integer that identifies file, line and column. Nodes of the syntax tree have
    only this integer.

    Args:
        text: text of the first file.
        filename: its name.
    """

    def __init__(self, text: str, filename: str) -> None:
        self._files: list[_File] = []
        self._starts: list[int] = []
        self.add(text, filename)

    def add(self, text: str, filename: str) -> int:
        """Add a file.

        Returns:
            the position of its first character.
        """
        start = self._starts[-1] + len(self._files[-1].text) + 1 if self._files else 0
        lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._files.append(_File(filename, text, lines))
        self._starts.append(start)
        return start

    def place(self, position: int) -> tuple[str, int, int]:
        """File, line and column of a position. Lines and columns count from 1."""
        index = bisect_right(self._starts, position) - 1
        name, text, lines = self._files[index]
        offset = min(position - self._starts[index], len(text))
        line = bisect_right(lines, offset) - 1
        return name, line + 1, offset - lines[line] + 1

    def line(self, position: int) -> str:
        """The line at a position, without its line end."""
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
        """Make a diagnostic with an excerpt: the line, and carets under the text at the position.

        Args:
            position: position of the problem.
            problem: the text of the message, cut to 1000 characters.
            severity: ``error`` or ``warning``.
        """
        name, line, column = self.place(position)
        if len(problem) > _PROBLEM:
            problem = f"{problem[: _PROBLEM // 2]} … {problem[-_PROBLEM // 2 :]}"
        text, at = _cut(self.line(position), column - 1)
        # One character for one, so that the carets stay under their place.
        text = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)
        # Tabs are kept, so that the carets are under their characters in any terminal.
        indent = "".join(c if c == "\t" else " " for c in text[:at].ljust(at))
        # Carets mark the name of a call, but a whole variable with its brackets.
        found = _FUNCTION.match(text, at) or _SPAN.match(text, at)
        carets = "^" * (len(found[0]) if found else 1)
        return Diagnostic(name, line, column, severity, problem, f"{text}\n{indent}{carets}")


def _cut(line: str, at: int) -> tuple[str, int]:
    """Cut a line to an excerpt; returns it and the offset of the position in it."""
    if len(line) <= _EXCERPT:
        return line, at
    start = max(0, min(at - _EXCERPT // 2, len(line) - _EXCERPT))
    before = "… " if start else ""
    after = " …" if start + _EXCERPT < len(line) else ""
    return f"{before}{line[start : start + _EXCERPT]}{after}", at - start + len(before)


def nearest(name: str, known: Iterable[str], quote: str = "'") -> str:
    """Suggest a name for a misspelt one.

    Args:
        name: the misspelt name.
        known: the valid names; the first `MAX_COMPARED` of them are compared.
        quote: quotation mark around the suggestion.

    Returns:
        ``; do you mean 'NAME'?``, or an empty text if no name is similar.
    """
    names = list(itertools.islice(known, MAX_COMPARED))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if not near:
        folded = {other.lower(): other for other in names}
        near = [folded[name.lower()]] if name.lower() in folded else []
    return f"; do you mean {quote}{near[0]}{quote}?" if near else ""
