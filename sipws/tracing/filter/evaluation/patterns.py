r"""POSIX extended regular expressions, matched in linear time.

``=~`` runs on the event loop, and its text may come from the network. The ``re`` module of Python
backtracks and takes exponential time for patterns such as ``(a+)+$``. Here a pattern becomes a
nondeterministic automaton that follows all states at once. The sets of states are cached with
their transitions, so that matching mostly costs one dictionary look-up per character.

The syntax is that of glibc's ``regcomp`` with ``REG_EXTENDED | REG_ICASE``: a leading ``*`` is an
error, an unmatched ``)`` is literal, ``\d`` matches nothing, and ``\w \W \s \S \b \B \< \>`` have
their GNU meaning. Back-references are rejected, because no automaton matches them.
"""

from typing import Final

from sipws.tracing.filter.evaluation.ere import Node, Parser, PatternError, is_word

__all__ = ["Pattern", "PatternError", "compile_pattern"]

MAX_STATES: Final = 10_000
"""Maximum number of states of an automaton. ``((a{99}){99}){99}`` would have a million."""

MAX_PARTS: Final = 4 * MAX_STATES
"""Maximum number of parts of a pattern after its repetitions are expanded. It also bounds empty
groups, which have no state."""

_MATCHED: Final = -1

MAX_CACHED: Final = 1_000
"""Maximum number of cached sets of states. Beyond it, the cache is cleared."""

MAX_REMEMBERED: Final = 50_000
"""Maximum number of states in cached sets plus cached transitions: some megabytes per pattern."""


class TooLargeError(PatternError):
    """A pattern needs too many states."""


def compile_pattern(pattern: str) -> "Pattern":
    """Compile a POSIX extended regular expression.

    Returns:
        the automaton of the pattern.

    Raises:
        PatternError: ``regcomp`` rejects the pattern, or it is too large.
    """
    try:
        return Pattern(Parser(pattern).parse())
    except RecursionError:
        raise PatternError("it repeats repetitions too often, or its groups are too deep") from None


class Pattern:
    """The automaton of a pattern; made by `compile_pattern`."""

    def __init__(self, tree: Node) -> None:
        self._program: list[Node] = []
        self._emitted = 0
        self._emit(tree)
        self._program.append(("match",))
        self.size = len(self._program)
        """Number of states. The maximum cost of a character is proportional to it."""
        self._forget()

    def search(self, text: str) -> bool:
        """Whether the pattern matches anywhere in a text, ignoring case."""
        state = 0
        for char in text:
            following = self._after[state].get(char)
            if following is None:
                following = self._step(state, char)
            if following == _MATCHED:
                return True
            state = following
        at_end = self._at_end[state]
        if at_end is None:
            at_end = self._at_end[state] = self._reach(state, "")[1]
        return at_end

    def _forget(self) -> None:
        # A state of the cache: the next instructions, and the class of the last character.
        self._states: list[tuple[frozenset[int], str]] = [(frozenset({0}), "")]
        self._numbers = {self._states[0]: 0}
        self._after: list[dict[str, int]] = [{}]
        self._at_end: list[bool | None] = [None]
        self._remembered = 0

    def _step(self, state: int, char: str) -> int:
        """Compute and cache the state after a character."""
        found, matched = self._reach(state, char)
        after = self._after[state]
        self._remembered += 1
        if matched:
            after[char] = _MATCHED
            return _MATCHED
        # A match may begin at any character: the first instruction is always included.
        following = {0}
        for index in found:
            contains = self._program[index][1]
            if contains(char):  # type: ignore[operator]
                following.add(index + 1)
        key = (frozenset(following), "w" if is_word(char) else "-")
        if len(self._states) >= MAX_CACHED or self._remembered >= MAX_REMEMBERED:
            self._forget()
            after = {}
        number = self._numbers.get(key)
        if number is None:
            self._remembered += len(following)
            number = len(self._states)
            self._numbers[key] = number
            self._states.append(key)
            self._after.append({})
            self._at_end.append(None)
        after[char] = number
        return number

    def _reach(self, state: int, char: str) -> tuple[list[int], bool]:
        """Compute the instructions that need a character, and whether the pattern has matched.

        Args:
            state: number of the state.
            char: the next character; empty at the end of the text.
        """
        starts, last = self._states[state]
        waiting: list[int] = []
        seen: set[int] = set()
        stack = list(starts)
        while stack:
            index = stack.pop()
            if index in seen:
                continue
            seen.add(index)
            operation, *operands = self._program[index]
            match operation:
                case "match":
                    return waiting, True
                case "char":
                    waiting.append(index)
                case "go":
                    stack += operands  # type: ignore[arg-type]
                case _ if _holds(str(operands[0]), last, char):
                    stack.append(index + 1)
        return waiting, False

    def _emit(self, node: Node) -> None:
        program = self._program
        # A repeated part may be empty and then adds no state, so parts are counted too.
        self._emitted += 1
        if len(program) > MAX_STATES or self._emitted > MAX_PARTS:
            raise TooLargeError(f"this needs more than {MAX_STATES} states; repeat less")
        match node:
            case ("cat", list(parts)):
                for part in parts:
                    self._emit(part)
            case ("or", list(choices)):
                jumps = []
                for choice in choices[:-1]:
                    fork = len(program)
                    program.append(())
                    self._emit(choice)
                    jumps.append(len(program))
                    program.append(())
                    program[fork] = ("go", fork + 1, len(program))
                self._emit(choices[-1])
                for jump in jumps:
                    program[jump] = ("go", len(program))
            case ("repeat", tuple(inner), int(least), int(most)):
                self._emit_repeat(inner, least, most)
            case _:
                program.append(node)

    def _emit_repeat(self, inner: Node, least: int, most: int) -> None:
        program = self._program
        for _ in range(least):
            self._emit(inner)
        if most < 0:
            fork = len(program)
            program.append(())
            self._emit(inner)
            program.append(("go", fork))
            program[fork] = ("go", fork + 1, len(program))
            return
        forks = []
        for _ in range(most - least):
            forks.append(len(program))
            program.append(())
            self._emit(inner)
        for fork in forks:
            program[fork] = ("go", fork + 1, len(program))


def _holds(anchor: str, last: str, char: str) -> bool:
    """Whether an anchor holds between two characters.

    Args:
        anchor: name of the anchor.
        last: class of the last character: "w" for a word character, "-" for another, "" for none.
        char: the next character; empty at the end of the text.
    """
    before, after = last == "w", char != "" and is_word(char)
    match anchor:
        case "begin":
            return last == ""
        case "end":
            return char == ""
        case "b":
            return before != after
        case "B":
            return before == after
        case "<":
            return after and not before
    return before and not after
