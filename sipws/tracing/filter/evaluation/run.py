"""What one decision works with, and the bounds it works within."""

from collections.abc import Callable
from typing import Any, Final

from sipws.tracing.filter.bounds import (
    COPY,
    MAX_HELD,
    MAX_STEPS,
    MAX_TEXT,
    SHORT_TEXT,
    VALUE,
    Exhausted,
)
from sipws.tracing.filter.evaluation.subject import Subject
from sipws.tracing.filter.evaluation.values import Value, too_long
from sipws.tracing.filter.syntax.nodes import Node

# What a statement gives, beside an integer: each is beyond 32 bits, so that one comparison tells.
BREAK: Final = 1 << 40
RETURN: Final = 1 << 41
"""The code is in `Run.code`."""
EXIT: Final = 1 << 42
DROP: Final = 1 << 43
LAST_CODE: Final = 0x7FFFFFFF

Getter = Callable[["Run"], Value]
"""Gives the value of a variable or a calculation."""
Step = Callable[["Run"], int]
"""A statement: gives its return code (above 0: done, below 0: not) or one of the above."""
Test = Callable[["Run"], int]
"""A condition: gives 1, 0, -1 for an error, or `EXIT` or `DROP` where a route it called ended
the script."""


class Run:
    """One decision under way.

    What is rarely changed is kept in the class until it is: making a run is most of what a simple
    decision costs.
    """

    rc = 0
    """``$rc``: what the last statement or route returned."""
    code = 0
    """What is being returned."""
    values: tuple[Value, ...] = ()
    """``$return``: what the last route returned beside its code."""
    arguments: "Arguments | None" = None
    """``$param``: of the route that runs."""
    depth = 1
    steps = 0
    held = 0
    """Characters of what is kept (`MAX_HELD`)."""
    long = 0
    """Those of them in long texts of ``$var``: until there are some, setting one counts nothing."""
    own: frozenset[tuple[str, int]] = frozenset()
    """Addresses and ports that are ours beside the connection's own, for ``is_myself``."""
    messages: list[str] | None = None
    """What ``xlog`` writes; None: nobody wants to know."""
    trail: list[Any] | None = None
    """What `explain` records."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.variables: dict[str, Any] = {}
        """By name: ``$var`` as ``name``, the values of an ``$avp`` as ``@name``, the last first,
        flags as ``#name``, variables of the message as ``$name``."""

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            Exhausted: these were too many.
        """
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise Exhausted(f"its loops, routes and texts took more than {MAX_STEPS} steps")

    def made(self, text: str) -> None:
        """Count a text that was made.

        Raises:
            Exhausted: it is too long, or one text too many.
        """
        size = len(text)
        if size > SHORT_TEXT:
            if size > MAX_TEXT:
                raise too_long()
            self.spend(size // COPY)

    def hold(self, characters: int) -> None:
        """Count characters that are kept; a negative number: that are given up.

        Raises:
            Exhausted: these were too many.
        """
        self.held += characters
        if self.held > MAX_HELD:
            raise Exhausted(f"it keeps more than {MAX_HELD} characters in variables and logs")

    def put(self, key: str, value: Value) -> bool:
        """Set a ``$var`` where there are long texts. Their names stand in the script."""
        change = _long(value) - _long(self.variables.get(key))
        self.hold(change)
        self.long += change
        self.variables[key] = value
        return True


def weight_of(value: Value) -> int:
    """The characters that a value counts where there may be many."""
    return VALUE + (len(value) if isinstance(value, str) else 0)


def _long(value: Any) -> int:
    return len(value) if isinstance(value, str) and len(value) > SHORT_TEXT else 0


Arguments = tuple[tuple[Getter, ...], "Arguments | None"]
"""Of a route, and of the route that called it, where they are evaluated."""


class Scope:
    """What the compiler knows beside the node at hand.

    Args:
        error: takes a position and what is wrong there.
        routes: the names of all routes.
        place: gives file, line and column of a position.
        tracks_rc: whether the script asks for ``$rc``; keeping it costs every statement.
    """

    def __init__(
        self,
        error: Callable[[int, str], None],
        routes: frozenset[str],
        place: Callable[[int], tuple[str, int, int]],
        tracks_rc: bool = True,
    ) -> None:
        self.error = error
        self.routes = routes
        self.place = place
        self.tracks_rc = tracks_rc
        self.variable_depth = 0
        """Variables that the one at hand is within."""
        self.route = ""
        """The route that is being compiled."""
        self.calls: list[tuple[str, int]] = []
        """The routes that it calls by name, and where."""
        self.steps: dict[str, tuple[Step, int]] = {}
        """The compiled routes, and their number of statements."""

    def watch(self, node: Node, made: Any) -> Any:
        """What becomes of a compiled part: here nothing; `explain` puts a recorder around it."""
        return made
