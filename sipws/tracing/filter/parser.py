"""From a script's text to its syntax tree. Pure; the only importer of lark."""

import re
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, VisitError

from sipws.errors import FilterRouteError
from sipws.tracing.filter import nodes
from sipws.tracing.filter.nodes import Place

_GRAMMAR: Final = Path(__file__).with_name("grammar.lark")

_SKIPPED: Final = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*') | (?P<line>\#[^\n]*) | (?P<open>/\*)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_ESCAPE: Final = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "a": "\a"}

_EXPECTED: Final = {
    "COMPARISON": "a comparison",
    "DECISION": "drop, exit or return",
    "IF": "if",
    "LBRACE": "'{'",
    "LPAR": "'('",
    "LSQB": "'['",
    "NULL": "NULL",
    "RBRACE": "'}'",
    "ROUTE": "route",
    "RPAR": "')'",
    "RSQB": "']'",
    "SEMICOLON": "';'",
    "STRING": "a string",
    "INTEGER": "a number",
    "NETWORK": "an address",
    "VARIABLE": "a variable",
    "WORD": "a name",
}
"""How the terminals of the grammar are called in messages; the rest need no mention."""


def parse(text: str, filename: str) -> tuple[nodes.Route, ...]:
    """Read a script.

    Raises:
        FilterRouteError: it breaks the grammar; the message has place, line and caret.
    """
    blanked = _without_comments(text, filename)
    try:
        tree = _lark().parse(blanked)
        routes: tuple[nodes.Route, ...] = _Builder().transform(tree)
    except UnexpectedInput as exc:
        token = getattr(exc, "token", None)
        at_end = token is not None and token.type == "$END"
        place = _end_of(text) if at_end else Place(exc.line, exc.column)
        raise error(text, filename, place, _what_is_wrong(exc)) from exc
    except VisitError as exc:
        if isinstance(exc.orig_exc, _Refused):
            raise error(text, filename, exc.orig_exc.place, exc.orig_exc.problem) from exc
        raise
    return routes


def error(text: str, filename: str, place: Place, problem: str) -> FilterRouteError:
    """An error at a place of a script."""
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    # Tabs stay tabs, so that the caret stands under its character in any terminal.
    indent = "".join(c if c == "\t" else " " for c in line[: place.column - 1])
    return FilterRouteError(filename, place.line, place.column, problem, f"{line}\n{indent}^")


@cache
def _lark() -> Lark:
    return Lark(
        _GRAMMAR.read_text(), parser="lalr", propagate_positions=True, maybe_placeholders=False
    )


def _without_comments(text: str, filename: str) -> str:
    """The text with every ``/* … */`` blanked out, nested ones too; all places stay the same."""
    parts, start = [], 0
    while match := _SKIPPED.search(text, start):
        parts.append(text[start : match.start()])
        if match["open"] is None:
            end = match.end()
            parts.append(match[0])
        else:
            end = _end_of_comment(text, match.start(), filename)
            parts.append(re.sub(r"[^\n]", " ", text[match.start() : end]))
        start = end
    return "".join([*parts, text[start:]])


def _end_of_comment(text: str, start: int, filename: str) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    before = text[:start].splitlines() or [""]
    place = Place(text.count("\n", 0, start) + 1, len(before[-1]) + 1)
    raise error(text, filename, place, "this comment is never closed")


def _what_is_wrong(exc: UnexpectedInput) -> str:
    known: set[str] = getattr(exc, "allowed", None) or getattr(exc, "expected", None) or set()
    expected = sorted({_EXPECTED[name] for name in known if name in _EXPECTED})
    hint = f"; expected {_either(expected)}" if expected else ""
    if isinstance(exc, UnexpectedCharacters):
        return f"{exc.char!r} does not belong here{hint}"
    token = getattr(exc, "token", None)
    if token is None or token.type == "$END":
        return f"the script ends too early{hint}"
    return f"{str(token)!r} does not belong here{hint}"


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _end_of(text: str) -> Place:
    lines = text.splitlines() or [""]
    return Place(len(lines), len(lines[-1]) + 1)


class _Refused(Exception):  # noqa: N818 - not an error of its own, but carries one out of lark
    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(problem)
        self.place = place
        self.problem = problem


def _place(token: Token) -> Place:
    return Place(token.line or 1, token.column or 1)


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    """Turns lark's tree into ours, a method a rule."""

    def start(self, *routes: nodes.Route) -> tuple[nodes.Route, ...]:
        return routes

    def route(self, name: Token, *statements: nodes.Statement | None) -> nodes.Route:
        text = _unquote(name) if name.type == "STRING" else str(name)
        return nodes.Route(text, self.block(*statements), _place(name))

    def route_name(self, name: Token) -> Token:
        return name

    def block(self, *statements: nodes.Statement | None) -> tuple[nodes.Statement, ...]:
        return tuple(statement for statement in statements if statement is not None)

    def nothing(self) -> None:
        return None

    def if_(self, condition: nodes.Condition, then: Any) -> nodes.If:
        return nodes.If(condition, _body(then), ())

    def if_else(self, condition: nodes.Condition, then: Any, otherwise: Any) -> nodes.If:
        return nodes.If(condition, _body(then), _body(otherwise))

    def decision(self, verb: Token, *arguments: Any) -> nodes.Decision:
        return nodes.Decision(str(verb), _place(verb))

    def arguments(self, *operands: nodes.Operand) -> tuple[nodes.Operand, ...]:
        return operands

    def connected(
        self, left: nodes.Condition, operator: Token, right: nodes.Condition
    ) -> nodes.Condition:
        return (nodes.And if operator.type == "AND" else nodes.Or)(left, right)

    def negated(self, operator: Token, condition: nodes.Condition) -> nodes.Not:
        return nodes.Not(condition)

    def comparison(
        self, left: nodes.Operand, operator: Token, right: nodes.Operand
    ) -> nodes.Comparison:
        return nodes.Comparison(str(operator), left, right, _place(operator))

    def truth(self, operand: nodes.Operand) -> nodes.Truth:
        return nodes.Truth(operand)

    def variable(self, name: Token, field: str | None = None) -> nodes.Variable:
        return nodes.Variable(str(name), field, _place(name))

    def field(self, name: Token) -> str:
        return str(name)

    def string(self, text: Token) -> nodes.Text:
        return nodes.Text(_unquote(text), _place(text))

    def integer(self, digits: Token) -> nodes.Number:
        return nodes.Number(int(digits, 0 if "x" in digits.lower() else 10), _place(digits))

    def network(self, written: Token) -> nodes.Network:
        text = written.replace("[", "").replace("]", "")
        try:
            return nodes.Network(ip_network(text, strict=False), _place(written))
        except ValueError:
            raise _Refused(_place(written), f"{str(written)!r} is no address or network") from None

    def null(self, word: Token) -> nodes.Null:
        return nodes.Null(_place(word))


def _body(statement: Any) -> tuple[nodes.Statement, ...]:
    if isinstance(statement, tuple):
        return statement
    return () if statement is None else (statement,)


def _unquote(token: Token) -> str:
    def resolve(match: re.Match[str]) -> str:
        escape = match[1]
        if escape[0] == "x":
            return chr(int(escape[1:], 16))
        if escape.isdecimal():
            return chr(int(escape, 8))
        return _ESCAPES.get(escape, escape)

    return _ESCAPE.sub(resolve, token[1:-1])
