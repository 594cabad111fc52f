"""A script: its routes found, checked and compiled."""

import io
import itertools
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, NoReturn, Self

from sipws.errors import ConfigurationError, Diagnostic, FilterRouteError
from sipws.tracing.filter.bounds import MAX_FINDINGS, MAX_SCRIPT, Enough, Exhausted
from sipws.tracing.filter.check import warnings_of
from sipws.tracing.filter.evaluation.compiler import compile_route
from sipws.tracing.filter.evaluation.run import DROP, Run, Scope, Step
from sipws.tracing.filter.evaluation.subject import Outcome, Subject
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.lexer import Report
from sipws.tracing.filter.syntax.source import Source, nearest
from sipws.tracing.filter.syntax.toplevel import Contents, Item, Read, Reader
from sipws.tracing.filter.syntax.walk import walk

Decider = Callable[[Subject], bool]
"""True: the connection is traced."""

Own = Iterable[tuple[str, int]]
"""Addresses and ports that are ours beside the connection's own: ``is_myself`` knows them."""

_MAX_FILE: Final = 4 * MAX_SCRIPT
"""Bytes of a file: a character has up to four. What is beyond is not even read."""

_TOO_DEEP = "its routes and brackets within each other are nested too deep"


class Script:
    """A script: its routes, by name. Made by `parse` or `load`.

    A file that holds nothing but routes is a script: all of it must be right, as OpenSIPS wants
    it. A file that holds more is an ``opensips.cfg``: what its filter routes need must be right,
    and its other routes may do with SIP messages what they like.
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
        """In the routes that were parsed."""
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
        roots = self.filters if self.is_cfg else self._items
        self._compile(roots, errors.found)

    @classmethod
    def parse(cls, text: str, *, filename: str = "<script>") -> Self:
        """Read a script.

        Args:
            text: the script. Files that it would include are not read; `load` does that.
            filename: what messages call it.

        Raises:
            FilterRouteError: OpenSIPS would not start with it. It has all that is wrong, each
                with its place, the line and carets.
        """
        return cls(text, filename, None)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a script or an ``opensips.cfg`` from a file, with the files that it includes.

        Raises:
            ConfigurationError: the file cannot be read.
            FilterRouteError: as for `parse`.
        """
        return cls(_read(path), str(path), _include)

    from_opensips_cfg = load

    @property
    def is_cfg(self) -> bool:
        """Whether the file holds more than routes."""
        return self._contents.is_cfg

    @property
    def filters(self) -> tuple[str, ...]:
        """The routes that the file itself names as ``trace_filter_route`` (``modparam``)."""
        return tuple(dict.fromkeys(self._contents.filters))

    @property
    def module_parameters(self) -> tuple[tuple[str, str, str, str], ...]:
        """Each ``modparam`` of a cfg: module, parameter, value, and its place as ``FILE:LINE``."""
        found = self._contents.parameters
        return tuple((*words, self._line(at)) for *words, at in found)  # type: ignore[misc]

    @property
    def sockets(self) -> tuple[tuple[str, str], ...]:
        """Each ``socket=`` or ``listen=`` of a cfg: what stands behind it, and its place."""
        return tuple(
            (_behind_sign(self._source.line(at)), self._line(at)) for at in self._contents.sockets
        )

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What the file holds beside its filter routes, in words (``12 loadmodule``)."""
        counts = self._contents.passed_over
        others = [name for name in self._items if name not in self._steps]
        found = [(len(others), "other route"), (self._contents.unknown_lines, "unknown line")]
        return (
            *(f"{count} {word}" for word, count in sorted(counts.items())),
            *(f"{count} {what}{'s' * (count != 1)}" for count, what in found if count),
        )

    @property
    def routes(self) -> tuple[str, ...]:
        """The names of its routes."""
        return tuple(self._items)

    @property
    def trees(self) -> tuple[nodes.Route, ...]:
        """The syntax trees of the routes that are in use."""
        trees = (self._parsed[name][0] for name in self._items if name in self._steps)
        return tuple(tree for tree in trees if tree is not None)

    @property
    def source(self) -> Source:
        """The text, for those who want to show a place of it."""
        return self._source

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What OpenSIPS accepts in silence and is most likely not meant."""
        if self._warnings is None:
            found = sorted([*self._noted, *warnings_of(self.trees)])[:MAX_FINDINGS]
            self._warnings = tuple(
                self._source.diagnostic(at, problem, "warning") for at, problem in found
            )
        return self._warnings

    def missing(self, route: str) -> Diagnostic | None:
        """A warning where the filter route is defined nowhere; None: it is there."""
        if route in self._items:
            return None
        there = f"; routes there: {_listed(self._items)}"
        problem = (
            f"there is no route {route!r}: every connection is traced"
            f"{nearest(route, self._items) or there}"
        )
        return Diagnostic(self._filename, 1, 1, "warning", problem, f"{self._source.line(0)}\n^")

    def decider(self, route: str, own: Own = ()) -> Decider:
        """The decision of a route: True traces the connection, False drops it.

        A script that goes beyond its bounds (`run`) traces the connection, as does a route that
        is not there.

        Raises:
            FilterRouteError: the route of an ``opensips.cfg`` is no filter route.
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
        """A decision with what happened on the way; for those who show it.

        Raises:
            FilterRouteError: as for `decider`.
        """
        body = self._body(route)
        return Outcome(True) if body is None else conclude(body, prepared(subject, own))

    def compiled_for(self, route: str, scope: Callable[..., Scope]) -> Step | None:
        """The closure of a route in a scope of its own; None: there is no such route."""
        if self._body(route) is None:
            return None
        made = self._scope(lambda at, problem: None, scope)
        for name in self._steps:
            tree = self._parsed[name][0]
            if tree is not None:
                compile_route(tree, made)
        return made.steps[route][0]

    def _line(self, at: int) -> str:
        filename, line, _ = self._source.place(at)
        return f"{filename}:{line}"

    def _body(self, route: str) -> Step | None:
        if route not in self._items:
            return None
        if route not in self._steps:
            self._compile([route], [])
        return self._steps[route][0]

    def _tree(self, name: str) -> nodes.Route | None:
        if name not in self._parsed:
            # The grammar's parser takes a while to import: only those who have a script pay.
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
                line = self._source.place(first.at)[1]
                error(other.at, f"route {name!r} is there already, in line {line}")
                parse_route(other.tokens, error)
            self._parsed[name] = tree, errors
            for item in self._items[name]:
                # Of a long script they are most of the memory.
                item.tokens = []
        return self._parsed[name][0]

    def _reachable(self, roots: Iterable[str]) -> list[str]:
        """The routes that some routes need, in the order of the script."""
        found: set[str] = set()
        # The last is looked at first.
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
        )

    def _compile(self, roots: Iterable[str], errors: list[tuple[int, str]]) -> None:
        """Compile some routes and those that they need.

        Raises:
            FilterRouteError: there are errors, these or others.
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
        except Enough:
            pass
        except RecursionError:
            at = self._items[scope.route][0].at if scope.route else 0
            found.found.append((at, "this route is nested too deep; simplify it"))
        concerned = names or self._parsed
        inside = [*found.found, *(error for name in concerned for error in self._parsed[name][1])]
        torn = self._contents.torn
        # What follows a string that is never closed is lost: there everything seems to be wrong.
        unique = sorted({*errors, *(it for it in inside if torn is None or it[0] < torn)})
        if unique:
            for name in names:
                self._steps.pop(name, None)
            self._refuse(unique)

    def _note(self, at: int, problem: str) -> None:
        if len(self._noted) < MAX_FINDINGS:
            self._noted.append((at, problem))

    def _refuse(self, errors: list[tuple[int, str]]) -> NoReturn:
        shown = errors[:MAX_FINDINGS]
        raise FilterRouteError([self._source.diagnostic(at, problem) for at, problem in shown])


class _Errors:
    """Takes errors; at `MAX_FINDINGS` it raises `Enough`."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def __call__(self, at: int, problem: str) -> None:
        self.found.append((at, problem))
        if len(self.found) >= MAX_FINDINGS:
            raise Enough


def _listed(names: Collection[str]) -> str:
    """Names for a message: the first of many."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(itertools.islice(names, 20)) or "none") + more


def _behind_sign(line: str) -> str:
    return line.partition("=")[2].partition("#")[0].strip().removesuffix(";").strip("\"' ")


def prepared(subject: Subject, own: Own) -> Run:
    """A run that keeps what ``xlog`` writes."""
    run = Run(subject)
    run.own = frozenset(own)
    run.messages = []
    return run


def conclude(step: Step, run: Run) -> Outcome:
    """Run a route to its end."""
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
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", exc)
        raise ConfigurationError(f"script {path}: cannot be read: {reason}") from exc
    raise ConfigurationError(
        f"script {path}: it has more than {_MAX_FILE} bytes; a script has at most {MAX_SCRIPT}"
        " characters"
    )


def _include(name: str, includer: str, may_miss: bool) -> tuple[str, str] | None:
    """As OpenSIPS looks: from where we are, then beside the file that includes."""
    for path in dict.fromkeys((Path(name), Path(includer).parent / name)):
        if path.is_file():
            return str(path), _read(path)
    return None
