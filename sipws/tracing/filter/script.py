"""A script: finds, checks and compiles its routes."""

import io
import itertools
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, NoReturn, Self

from sipws.errors import ConfigurationError, Diagnostic, FilterRouteError
from sipws.tracing.filter.bounds import MAX_FINDINGS, MAX_SCRIPT, Enough, Exhausted
from sipws.tracing.filter.check import warnings_of
from sipws.tracing.filter.evaluation.compiler import compile_route
from sipws.tracing.filter.evaluation.run import DROP, Globals, Run, Scope, Step
from sipws.tracing.filter.evaluation.subject import Outcome, Socket, Subject
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.lexer import Report
from sipws.tracing.filter.syntax.source import Source, nearest
from sipws.tracing.filter.syntax.toplevel import Contents, Item, Read, Reader
from sipws.tracing.filter.syntax.walk import walk

Decider = Callable[[Subject], bool]
"""Decides about a connection: True traces it, False does not."""

Own = Iterable[tuple[str, int] | Socket]
"""Listeners in addition to that of the connection, for ``is_myself`` and ``$socket_out``. Of a pair
of address and port the protocol is ``ws``."""

_MAX_FILE: Final = 4 * MAX_SCRIPT
"""Maximum size of a script file in bytes: a character has up to four. The rest is not read."""

_NAMES_CALLERS: Final = re.compile(r"\$\(route[.a-z]*\[")
"""A variable with the name of a calling route."""

_TOO_DEEP = "its routes and brackets within each other are nested too deep"


class Script:
    """A parsed and compiled script with its routes. Made by `parse` or `load`.

    A file with routes only is a script, and all of it must be valid. A file with other statements
    is an ``opensips.cfg``: only its filter routes, and the routes that they call, must be valid.

    Args:
        text: the script.
        filename: its name in diagnostics.
        read: reads the files that it includes; None ignores them.
    """

    def __init__(self, text: str, filename: str, read: Read | None) -> None:
        self._source = Source(text, filename)
        self._filename = filename
        self._noted: list[tuple[int, str]] = []
        self._steps: dict[str, tuple[Step, int]] = {}
        self._warnings: tuple[Diagnostic, ...] | None = None
        self._items: dict[str, list[Item]] = {}
        self._parsed: dict[str, tuple[nodes.Route | None, list[tuple[int, str]]]] = {}
        self._mistakes = 0
        """Number of errors in the routes parsed so far."""
        errors = _Errors()
        reader = Reader(self._source, errors, self._note, read)
        self._contents: Contents = reader.contents
        try:
            reader.run(text, filename)
        except Enough:
            self._refuse(errors.found)
        for item in self._contents.routes:
            self._items.setdefault(item.name, []).append(item)
        self._tracks_rc = any(
            "rc" in token.text or "retcode" in token.text
            for item in self._contents.routes
            for token in item.tokens
            if token.kind in ("VARIABLE", "STRING")
        )
        self._tracks_names = any(
            _NAMES_CALLERS.search(token.text)
            for item in self._contents.routes
            for token in item.tokens
            if token.kind in ("VARIABLE", "STRING")
        )
        roots = self.filters if self.is_cfg else self._items
        self._compile(roots, [*errors.found, *self._repeated()], self._contents.others)

    @classmethod
    def parse(cls, text: str, *, filename: str = "<script>") -> Self:
        """Parse and compile a script.

        Args:
            text: the script. ``include_file`` reads nothing; use `load` for included files.
            filename: name of the script in messages.

        Returns:
            the script.

        Raises:
            FilterRouteError: OpenSIPS would refuse to start with the script. The exception has all
                errors, each with its place, the line and carets.
        """
        return cls(text, filename, None)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load a script or an ``opensips.cfg`` with the files that it includes.

        Args:
            path: the file, UTF-8.

        Returns:
            the script.

        Raises:
            ConfigurationError: the file cannot be read.
            FilterRouteError: as for `parse`.
        """
        return cls(_read(path), str(path), _include)

    from_opensips_cfg = load

    @property
    def is_cfg(self) -> bool:
        """Whether the file has statements other than routes."""
        return self._contents.is_cfg

    @property
    def filters(self) -> tuple[str, ...]:
        """The filter routes that the file names (``modparam``, ``trace_filter_route``)."""
        return tuple(dict.fromkeys(self._contents.filters.values()))

    def filter_of(self, module: str) -> str | None:
        """The filter route that the file names for ``proto_ws`` or ``proto_wss``; None if none."""
        return self._contents.filters.get(module)

    @property
    def contents(self) -> Contents:
        """The statements of a cfg outside of routes, as tokens with places in `source`."""
        return self._contents

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Summary of the statements that were ignored, such as ``12 loadmodule``."""
        counts = self._contents.passed_over
        others = [name for name in self._items if name not in self._steps]
        found = [(len(others), "other route"), (self._contents.unknown_lines, "unknown line")]
        return (
            *(f"{count} {word}" for word, count in sorted(counts.items())),
            *(f"{count} {what}{'s' * (count != 1)}" for count, what in found if count),
        )

    @property
    def routes(self) -> tuple[str, ...]:
        """The names of all routes."""
        return tuple(self._items)

    @property
    def trees(self) -> tuple[nodes.Route, ...]:
        """The syntax trees of the routes that are in use."""
        trees = (self._parsed[name][0] for name in self._items if name in self._steps)
        return tuple(tree for tree in trees if tree is not None)

    @property
    def source(self) -> Source:
        """The source text with its places."""
        return self._source

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """Warnings about script that OpenSIPS silently accepts and that is probably a mistake."""
        if self._warnings is None:
            found = sorted([*self._noted, *warnings_of(self.trees)])[:MAX_FINDINGS]
            self._warnings = tuple(
                self._source.diagnostic(at, problem, "warning") for at, problem in found
            )
        return self._warnings

    def missing(self, route: str) -> Diagnostic | None:
        """A warning if the route does not exist; None if it does."""
        if route in self._items:
            return None
        there = f"; routes there: {_listed(self._items)}"
        problem = (
            f"there is no route {route!r}: every connection is traced"
            f"{nearest(route, self._items) or there}"
        )
        return Diagnostic(self._filename, 1, 1, "warning", problem, f"{self._source.line(0)}\n^")

    def decider(self, route: str, own: Own = ()) -> Decider:
        """Make the decision function of a filter route.

        It traces the connection if the script exceeds a limit of `sipws.tracing.filter.bounds` or
        if the route does not exist.

        Args:
            route: name of the route.
            own: further local addresses and ports, for ``is_myself``.

        Returns:
            a function that returns True to trace a connection. It never raises.

        Raises:
            FilterRouteError: a route of an ``opensips.cfg`` is not valid as a filter route.
        """
        body = self._body(route)
        if body is None:
            return lambda subject: True
        step: Step = body
        ours = frozenset(own)

        def decide(subject: Subject) -> bool:
            run = Run(subject)
            if ours:
                run.own = ours
            try:
                return step(run) != DROP
            except (Exhausted, RecursionError):
                return True

        return decide

    def evaluate(self, route: str, subject: Subject, own: Own = ()) -> Outcome:
        """Decide about a connection and collect the messages of ``xlog``.

        Args:
            route: name of the route.
            subject: the connection.
            own: further local addresses and ports, for ``is_myself``.

        Returns:
            the decision, why the script was stopped, and its messages.

        Raises:
            FilterRouteError: as for `decider`.
        """
        body = self._body(route)
        return Outcome(True) if body is None else conclude(body, prepared(subject, own))

    def compiled_for(self, route: str, scope: Callable[..., Scope]) -> Step | None:
        """Compile all routes in a new scope.

        Args:
            route: name of a route.
            scope: class of the scope.

        Returns:
            the closure of the route; None if the route does not exist.

        Raises:
            FilterRouteError: as for `decider`.
        """
        if self._body(route) is None:
            return None
        made = self._scope(lambda at, problem: None, scope)
        for name in self._steps:
            tree = self._parsed[name][0]
            if tree is not None:
                compile_route(tree, made)
        return self._named(route, made.steps[route][0])

    def _repeated(self) -> list[tuple[int, str]]:
        """The errors for routes with the name of an earlier one."""
        found = []
        for name, (first, *others) in self._items.items():
            line = self._source.place(first.at)[1]
            problem = f"route {name!r} is there already, in line {line}"
            found += [(other.at, problem) for other in others[:MAX_FINDINGS]]
        return found[:MAX_FINDINGS]

    def _body(self, route: str) -> Step | None:
        if route not in self._items:
            return None
        if route not in self._steps:
            self._compile([route], [])
        return self._named(route, self._steps[route][0])

    def _named(self, route: str, step: Step) -> Step:
        """A filter route that leaves its name for ``$(route.name[1])`` of the routes it calls."""
        if not self._tracks_names:
            return step

        def named(run: Run) -> int:
            run.arguments = ((), None, route)
            return step(run)

        return named

    def _tree(self, name: str) -> nodes.Route | None:
        if name not in self._parsed:
            # The parser is slow to import, so it is imported for the first script.
            from sipws.tracing.filter.syntax.parser import parse_route

            errors: list[tuple[int, str]] = []

            def error(at: int, problem: str) -> None:
                errors.append((at, problem))
                self._mistakes += 1
                if self._mistakes >= MAX_FINDINGS:
                    raise Enough

            self._parsed[name] = None, errors
            first, *others = self._items[name]
            tree = parse_route(first.tokens, error)
            for other in others:
                parse_route(other.tokens, error)
            self._parsed[name] = tree, errors
            for item in self._items[name]:
                # The tokens take most of the memory of a long script.
                item.tokens = []
        return self._parsed[name][0]

    def _reachable(self, roots: Iterable[str]) -> list[str]:
        """The given routes and all routes that they call, in the order of the script."""
        found: set[str] = set()
        # The list is a stack: its last route is visited first.
        left = [name for name in reversed(tuple(roots)) if name in self._items]
        while left:
            name = left.pop()
            if name in found:
                continue
            found.add(name)
            tree = self._tree(name)
            if tree is not None:
                left += [
                    node.name
                    for node in walk(tree)
                    if isinstance(node, nodes.RouteCall)
                    and isinstance(node.name, str)
                    and node.name in self._items
                ]
        return [name for name in self._items if name in found]

    def _scope(self, error: Report, kind: Callable[..., Scope] = Scope) -> Scope:
        return kind(
            error,
            frozenset(self._items),
            self._source.place,
            self._tracks_rc,
            Globals(**self._contents.globals),
        )

    def _compile(
        self, roots: Iterable[str], errors: list[tuple[int, str]], others: Iterable[Item] = ()
    ) -> None:
        """Compile routes and all routes that they call.

        Args:
            roots: names of the routes.
            errors: positions and texts of errors found before.
            others: routes of other kinds, which are only checked.

        Raises:
            FilterRouteError: there are errors, earlier or new ones.
        """
        found = _Errors()
        scope = self._scope(found)
        scope.steps = self._steps
        names: list[str] = []
        try:
            names = self._reachable(roots)
            for name in names:
                tree = self._tree(name)
                if tree is not None:
                    compile_route(tree, scope)
            for item in others:
                self._check_other(item, scope)
        except Enough:
            pass
        except RecursionError:
            at = self._items[scope.route][0].at if scope.route in self._items else 0
            found.found.append((at, "this route is nested too deep; simplify it"))
        concerned = names or self._parsed
        inside = [*found.found, *(error for name in concerned for error in self._parsed[name][1])]
        torn = self._contents.torn
        # Errors after a string that is never closed are consequences of it.
        unique = sorted({*errors, *(it for it in inside if torn is None or it[0] < torn)})
        if unique:
            for name in names:
                self._steps.pop(name, None)
            self._refuse(unique)

    def _check_other(self, item: Item, scope: Scope) -> None:
        from sipws.tracing.filter.syntax.parser import parse_route

        tree = parse_route(item.tokens, scope.error)
        item.tokens = []
        if tree is not None:
            compile_route(tree, scope)
            scope.steps.pop(tree.name, None)

    def _note(self, at: int, problem: str) -> None:
        if len(self._noted) < MAX_FINDINGS:
            self._noted.append((at, problem))

    def _refuse(self, errors: list[tuple[int, str]]) -> NoReturn:
        shown = errors[:MAX_FINDINGS]
        raise FilterRouteError([self._source.diagnostic(at, problem) for at, problem in shown])


class _Errors:
    """Collects errors. It raises `Enough` at `MAX_FINDINGS` errors."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def __call__(self, at: int, problem: str) -> None:
        self.found.append((at, problem))
        if len(self.found) >= MAX_FINDINGS:
            raise Enough


def _listed(names: Collection[str]) -> str:
    """Format up to 20 names for a message."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(itertools.islice(names, 20)) or "none") + more


def prepared(subject: Subject, own: Own) -> Run:
    """Make a run that collects the messages of ``xlog``."""
    run = Run(subject)
    run.own = frozenset(own)
    run.messages = []
    return run


def conclude(step: Step, run: Run) -> Outcome:
    """Run a route and return the decision. A script that exceeds a limit traces the connection."""
    stopped = None
    traced = True
    try:
        traced = step(run) != DROP
    except Exhausted as exc:
        stopped = str(exc)
    except RecursionError:
        stopped = _TOO_DEEP
    return Outcome(traced, stopped, tuple(run.messages or ()))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) <= _MAX_FILE:
            return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
    except OSError as exc:
        raise ConfigurationError(f"script {path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise ConfigurationError(
            f"{path}:{line}: error: byte 0x{exc.object[exc.start]:02x} is not UTF-8; write the file"
            f" in UTF-8, for example with: iconv -f latin1 -t utf-8 {path}"
        ) from exc
    raise ConfigurationError(
        f"script {path}: it has more than {_MAX_FILE} bytes; a script has at most {MAX_SCRIPT}"
        " characters"
    )


def _include(name: str, includer: str) -> tuple[str, str] | None:
    """Read an included file, from the working directory or next to the including file."""
    for path in dict.fromkeys((Path(name), Path(includer).parent / name)):
        if path.is_file():
            return str(path), _read(path)
    return None
