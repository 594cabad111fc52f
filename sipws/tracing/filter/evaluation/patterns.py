r"""POSIX extended regular expressions, matched in linear time.

``=~`` is decided on the event loop, with patterns that users write and texts that the network may
influence. Python's ``re`` backtracks: ``(a+)+$`` takes it longer than anyone waits. Here a pattern
becomes a nondeterministic automaton whose states are followed all at once; the sets of states that
occur are remembered with their transitions, so that a text costs a dictionary look-up a character.

What is accepted and refused is what glibc's ``regcomp`` does with ``REG_EXTENDED | REG_ICASE``:
``*`` after nothing is an error, an unmatched ``)`` stands for itself, ``\d`` is a ``d``, and
``\w \W \s \S \b \B \< \>`` are understood. Back-references are refused: no automaton matches them.
"""

from typing import Final

from sipws.tracing.filter.evaluation.ere import Node, Parser, PatternError, is_word

__all__ = ["Pattern", "PatternError", "compile_pattern"]

MAX_STATES: Final = 10_000
"""Of an automaton; more is refused. ``((a{99}){99}){99}`` would have a million."""

MAX_PARTS: Final = 4 * MAX_STATES
"""Of a pattern, each as often as it is repeated: a group that is empty has no state."""

_MATCHED: Final = -1

MAX_CACHED: Final = 1_000
"""Sets of states that are remembered; at more, all are forgotten and remembering starts anew."""

MAX_REMEMBERED: Final = 50_000
"""States in those sets, and transitions, that are remembered: some megabytes a pattern."""


class TooLargeError(PatternError):
    """A pattern needs too many states."""


def compile_pattern(pattern: str) -> "Pattern":
    """Make the automaton of a pattern.

    Raises:
        PatternError: ``regcomp`` would refuse it, or it is too large.
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
        """States; what a character costs at most is in proportion to it."""
        self._forget()

    def search(self, text: str) -> bool:
        """Whether the pattern matches somewhere in a text, whatever the case of its letters."""
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
        # A state is the instructions that come next, and what kind of character came last.
        self._states: list[tuple[frozenset[int], str]] = [(frozenset({0}), "")]
        self._numbers = {self._states[0]: 0}
        self._after: list[dict[str, int]] = [{}]
        self._at_end: list[bool | None] = [None]
        self._remembered = 0

    def _step(self, state: int, char: str) -> int:
        """The state after a character, found out and remembered."""
        found, matched = self._reach(state, char)
        after = self._after[state]
        self._remembered += 1
        if matched:
            after[char] = _MATCHED
            return _MATCHED
        # The search may begin anywhere: the first instruction is always next.
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
        """The instructions that wait for a character, and whether the pattern has matched.

        Args:
            state: where the automaton is.
            char: the character that comes; "": the end.
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
        # What is repeated may be empty, and need no state.
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
        anchor: its name.
        last: "w" for a letter of a word, "-" for another character, "" for none.
        char: the character that comes; "": none.
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
