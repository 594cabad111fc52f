"""What became of each line of an ``opensips.cfg``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from sipws.errors import ConfigurationError
from sipws.masking.handshakes import USUAL
from sipws.tracing.filter.syntax.lexer import Token
from sipws.tracing.filter.syntax.source import Source

Outcome = Literal["taken", "changed", "not taken"]

LONGEST_STATEMENT: Final = 200
"""Characters of a statement that a report quotes."""

_WIDTH: Final = len("not taken")


@dataclass(slots=True)
class Line:
    """A statement of the file, and what became of it."""

    place: str
    """Where it is, as ``FILE:LINE``."""

    text: str
    """The statement, on one line."""

    outcome: Outcome = "taken"

    remarks: list[str] = field(default_factory=list)
    """How it was changed, or why it is not taken and what to do."""

    modules: int = 1
    """Number of modules that it sets a parameter of."""

    is_usual: bool = False
    """Whether it is not taken because it has nothing to do with WebSocket or tracing."""

    def change(self, remark: str) -> None:
        """Note that it is taken with a change."""
        if self.outcome != "not taken":
            self.outcome = "changed"
        self._note(remark)

    def drop(self, remark: str, *, is_usual: bool = False) -> None:
        """Note that it is not taken."""
        self.outcome = "not taken"
        self.is_usual = is_usual
        self._note(remark)

    def _note(self, remark: str) -> None:
        """Add a remark once, although a line may set the parameter of two modules."""
        if remark not in self.remarks:
            self.remarks.append(remark)

    def __str__(self) -> str:
        remarks = f": {'; '.join(self.remarks)}" if self.remarks else ""
        return f"{self.place}: {self.outcome:<{_WIDTH}} {self.text}{remarks}"


class Report:
    """Collects the lines of a file, and the errors in it.

    Args:
        source: the text, with the places of its tokens.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._errors: list[tuple[int, str]] = []
        self._lines: list[tuple[int, Line]] = []

    def line(self, tokens: Sequence[Token]) -> Line:
        """Add a statement, as taken.

        Args:
            tokens: of the statement; at least one.
        """
        line = Line(self.place(tokens[0]), written(tokens))
        self._lines.append((tokens[0].at, line))
        return line

    def loaded(self, name: Token) -> None:
        """Add a ``loadmodule`` statement, as taken.

        Args:
            name: the module, in quotes.
        """
        self._lines.append((name.at, Line(self.place(name), f"loadmodule {name.text}")))

    def place(self, token: Token) -> str:
        """Where a token is, as ``FILE:LINE``."""
        filename, number, _ = self._source.place(token.at)
        return f"{filename}:{number}"

    def refuse(self, at: int, problem: str) -> None:
        """Note an error.

        Args:
            at: position of the wrong token.
            problem: what is wrong, and the remedy.
        """
        self._errors.append((at, problem))

    def check(self) -> None:
        """Raise all errors.

        Raises:
            ConfigurationError: there are errors; each has its place, the line and carets.
        """
        if self._errors:
            found = (self._source.diagnostic(*error) for error in sorted(set(self._errors)))
            raise ConfigurationError("\n".join(map(str, found)))

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines, in the order of the file."""
        return tuple(line for _, line in sorted(self._lines, key=lambda each: each[0]))


def written(tokens: Sequence[Token]) -> str:
    """A statement as it is written, on one line and without comments."""
    text, end = "", tokens[0].at
    for token in tokens:
        text += (" " if token.at > end else "") + " ".join(token.text.split())
        end = token.at + len(token.text)
    # A trace_id may be the URL of a database, with its password.
    text = USUAL.text(text)
    return text if len(text) <= LONGEST_STATEMENT else text[: LONGEST_STATEMENT - 1] + "…"
