"""The state of one decision, and its limits."""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from sipws.tracing.filter.bounds import (
    COPY,
    MAX_HELD,
    MAX_STEPS,
    MAX_TEXT,
    MAX_WHILE_ROUNDS,
    SHORT_TEXT,
    VALUE,
    Exhausted,
)
from sipws.tracing.filter.evaluation.subject import Socket, Subject
from sipws.tracing.filter.evaluation.values import Value, too_long
from sipws.tracing.filter.syntax.nodes import Node

# Results of a statement other than a return code. They exceed 32 bits, so one comparison with
# `LAST_CODE` separates them from return codes.
BREAK: Final = 1 << 40
RETURN: Final = 1 << 41
"""The return code is in `Run.code`."""
EXIT: Final = 1 << 42
DROP: Final = 1 << 43
LAST_CODE: Final = 0x7FFFFFFF
"""Greatest return code of a statement."""

Getter = Callable[["Run"], Value]
"""Returns the value of a variable or a calculation."""
Setter = Callable[["Run", Value, str], bool]
"""Assigns a value with an operator; returns False if the assignment fails."""
Kind = Literal["text", "number", "any"]
"""Type of a variable's value, known at compile time, which saves a check for each decision."""
Step = Callable[["Run"], int]
"""Executes a statement: returns its return code (positive: true, negative: false) or one of the
results above."""
Test = Callable[["Run"], int]
"""Evaluates a condition: returns 1, 0, -1 for an error, or `EXIT` or `DROP` if a called route ended
the script."""


class Run:
    """The state of one decision.

    Defaults are class attributes: creating a run is most of the cost of a simple decision.
    """

    rc = 0
    """``$rc``: return code of the last statement or route."""
    code = 0
    """Code of the ``return`` in progress."""
    values: tuple[Value, ...] = ()
    """``$return``: values that the last route returned in addition to its code."""
    arguments: "Call | None" = None
    """``$param``: the call of the running route."""
    depth = 1
    """Levels of route calls, from 1."""
    steps = 0
    """Steps so far (`MAX_STEPS`)."""
    held = 0
    """Characters kept so far (`MAX_HELD`)."""
    long = 0
    """Characters of long texts in ``$var``. While it is 0, assigning to ``$var`` counts nothing."""
    own: frozenset[tuple[str, int] | Socket] = frozenset()
    """Listeners in addition to that of the connection, for ``is_myself`` and ``$socket_out``."""
    messages: list[str] | None = None
    """Messages of ``xlog``; None discards them."""
    trail: list[Any] | None = None
    """Steps recorded by `sipws.tracing.filter.explain`; None records nothing."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.variables: dict[str, Any] = {}
        """Values by key: ``$var`` as ``name``, the list of an ``$avp`` as ``@name`` (newest first),
        flags as ``#name``, other variables as ``$name``."""

    def spend(self, steps: int) -> None:
        """Count steps.

        Raises:
            Exhausted: there are more than `MAX_STEPS`.
        """
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise Exhausted(f"its loops, routes and texts took more than {MAX_STEPS} steps")

    def made(self, text: str) -> None:
        """Count a new text.

        Raises:
            Exhausted: the text is longer than `MAX_TEXT`, or there are more than `MAX_STEPS` steps.
        """
        size = len(text)
        if size > SHORT_TEXT:
            if size > MAX_TEXT:
                raise too_long()
            self.spend(size // COPY)

    def hold(self, characters: int) -> None:
        """Count kept characters.

        Args:
            characters: characters kept in addition; negative for characters released.

        Raises:
            Exhausted: there are more than `MAX_HELD`.
        """
        self.held += characters
        if self.held > MAX_HELD:
            raise Exhausted(f"it keeps more than {MAX_HELD} characters in variables and logs")

    def put(self, key: str, value: Value) -> bool:
        """Set a ``$var`` and count long texts. The names of variables come from the script."""
        change = _long(value) - _long(self.variables.get(key))
        self.hold(change)
        self.long += change
        self.variables[key] = value
        return True


def weight_of(value: Value) -> int:
    """The characters that a kept value counts, with its overhead."""
    return VALUE + (len(value) if isinstance(value, str) else 0)


def _long(value: Any) -> int:
    return len(value) if isinstance(value, str) and len(value) > SHORT_TEXT else 0


Call = tuple[tuple[Value, ...], "Call | None", str]
"""A call of a route: the values of its arguments, the call of the calling route, and its name. The
filter route itself has none, unless the script reads the names of calling routes."""


class Globals(NamedTuple):
    """Global parameters that change what a script does."""

    max_while_loops: int = MAX_WHILE_ROUNDS
    """Rounds of one ``while``."""
    enable_asserts: int = 0
    """Other than 0: a failed ``assert`` ends the script."""


DEFAULTS: Final = Globals()
"""The parameters of a file that sets none."""


class Scope:
    """The context of the compiler.

    Args:
        error: called with the position and the text of each error.
        routes: the names of all routes.
        place: returns file, line and column of a position.
        tracks_rc: whether the script reads ``$rc``. Recording it slows down each statement.
        globals: the global parameters of the file.
    """

    def __init__(
        self,
        error: Callable[[int, str], None],
        routes: frozenset[str],
        place: Callable[[int], tuple[str, int, int]],
        tracks_rc: bool = True,
        globals: Globals = DEFAULTS,  # noqa: A002 - the name in OpenSIPS
    ) -> None:
        self.error = error
        self.routes = routes
        self.place = place
        self.tracks_rc = tracks_rc
        self.globals = globals
        self.variable_depth = 0
        """Number of variables around the current one."""
        self.route = ""
        """Name of the route being compiled."""
        self.calls: list[tuple[str, int]] = []
        """Names and positions of the routes that it calls."""
        self.steps: dict[str, tuple[Step, int]] = {}
        """The compiled routes with their number of statements."""

    def watch(self, node: Node, made: Any) -> Any:
        """Return the compiled part unchanged. `sipws.tracing.filter.explain` wraps it."""
        return made
