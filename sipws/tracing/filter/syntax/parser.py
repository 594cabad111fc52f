"""Parses the tokens of a route to its syntax tree and reports each wrong statement.

The grammar is in grammar.lark, next to this file. Only this module and `builder` import lark. A
statement that does not parse is reported and removed, and the rest is parsed again. One run
therefore finds many errors.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import lark
from lark.exceptions import UnexpectedToken
from lark.lexer import Lexer

from sipws.tracing.filter.bounds import MAX_DEPTH, MAX_ERRORS, MAX_NESTING, MAX_REPARSED
from sipws.tracing.filter.syntax import nodes
from sipws.tracing.filter.syntax.builder import Builder
from sipws.tracing.filter.syntax.lexer import KEYWORDS, Report, Token
from sipws.tracing.filter.syntax.walk import deeper_than

_GRAMMAR: Final = Path(__file__).with_name("grammar.lark")

_EXPECTED: Final = {
    "AND": "'&&'",
    "EQUAL": "'='",
    "EQUALITY": "a comparison",
    "IN": "'in'",
    "CASE": "'case'",
    "NAME": "a name",
    "NULL": "NULL",
    "NUMBER": "a number",
    "STRING": "a string",
    "VARIABLE": "a variable",
    "ADDRESS": "an address",
    "_COLON": "':'",
    "_COMMA": "','",
    "_LBRACE": "'{'",
    "_LPAR": "'('",
    "_RBRACE": "'}'",
    "_RPAR": "')'",
    "_RSQB": "']'",
    "_SEMICOLON": "';'",
}
"""Names of terminals in messages. Terminals without a name are not listed."""

_STATEMENT: Final = frozenset({"IF", "WHILE", "_SEMICOLON"})
"""A statement is expected where all of these are."""

_VALUE: Final = frozenset({"NUMBER", "VARIABLE", "STRING"})

_COMPARISONS: Final = ("EQUALITY", "ORDER", "MATCH")

_OLD: Final = {
    "src_ip": "$si",
    "src_port": "$sp",
    "dst_ip": "$socket_in(ip)",
    "dst_port": "$socket_in(port)",
    "proto": "$socket_in(proto)",
    "af": "$socket_in(af)",
    "method": "$rm",
}
"""Words of scripts for OpenSIPS 1, with their replacement."""

_FOREIGN: Final = {
    "then": "there is no 'then': the statement follows the condition",
    "elseif": "write 'else if'",
    "elsif": "write 'else if'",
    "elif": "write 'else if'",
    "foreach": "write 'for ($var(x) in $(avp(list)[*]))'",
    "function": "write 'route[NAME] { … }'",
}
"""Keywords of other languages, with a remedy."""


class _NoLexer(Lexer):
    """A lexer that lark requires but never calls, because `_attempt` feeds the tokens."""

    def __init__(self, conf: Any) -> None: ...

    def lex(self, *args: Any) -> Any:
        raise NotImplementedError


@cache
def _grammar() -> lark.Lark:
    return lark.Lark(
        _GRAMMAR.read_text(),
        start="route",
        parser="lalr",
        lexer=_NoLexer,
        transformer=Builder(),
        maybe_placeholders=False,
    )


def parse_route(tokens: Sequence[Token], error: Report) -> nodes.Route | None:
    """Parse the tokens of one route, from ``route`` to its closing bracket.

    Args:
        tokens: tokens from `lexer.tokenize`.
        error: called with position and text of each error.

    Returns:
        the tree; None if there were errors.
    """
    if (deep := _too_deep(tokens)) is not None:
        error(deep.at, f"this is nested deeper than {MAX_NESTING} brackets; simplify it")
        return None
    left = list(tokens)
    found = _attempt(left)
    if isinstance(found, nodes.Route):
        inner = deeper_than(MAX_DEPTH, found)
        if inner is None:
            return found
        error(inner.at, "this is nested too deep; simplify it")
        return None
    for _ in range(min(MAX_ERRORS, 1 + MAX_REPARSED // len(left))):
        error(*_say(found, left))
        if not _repair(found, left):
            break
        again = _attempt(left)
        if isinstance(again, nodes.Route) or again.is_echo_of(left):
            break
        found = again
    return None


class _Mistake(NamedTuple):
    place: int
    """Index of the unexpected token; the number of tokens if the route is incomplete."""
    allowed: frozenset[str]
    """The terminals that are valid there."""

    def is_echo_of(self, tokens: list[Token]) -> bool:
        """Whether the error is a consequence of an earlier repair."""
        return self.place < len(tokens) and not tokens[self.place].text


def _attempt(tokens: list[Token]) -> nodes.Route | _Mistake:
    parser = _grammar().parse_interactive()
    index = 0
    try:
        for index, token in enumerate(tokens):  # noqa: B007 - the index outlives the loop
            parser.feed_token(lark.Token(token.kind, token.text, token.at))
        index = len(tokens)
        route = parser.feed_token(lark.Token("$END", ""))
    except UnexpectedToken:
        allowed = parser.accepts()  # type: ignore[no-untyped-call]
        return _Mistake(index, frozenset(allowed))
    made: nodes.Route = route
    return made


def _too_deep(tokens: Sequence[Token]) -> Token | None:
    """The first token that is nested too deep; None if there is none."""
    runs, before = [0], ""
    total = 0
    for token in tokens:
        kind = token.kind
        if kind in ("_LPAR", "_LSQB", "_LBRACE"):
            runs.append(0)
            total += 1
        elif kind in ("_RPAR", "_RSQB", "_RBRACE") and len(runs) > 1:
            total -= runs.pop() + 1
        elif kind in ("NOT", "INVERT") or (kind in ("IF", "WHILE", "FOR") and before == "_RPAR"):
            runs[-1] += 1
            total += 1
        if kind in ("_SEMICOLON", "AND", "OR", "_RBRACE"):
            total -= runs[-1]
            runs[-1] = 0
        if total > MAX_NESTING:
            return token
        before = kind
    return None


def _repair(mistake: _Mistake, tokens: list[Token]) -> bool:
    """Remove the wrong statement or insert a missing ``;``; returns False if neither works."""
    index = mistake.place
    body = next((i for i, token in enumerate(tokens) if token.kind == "_LBRACE"), len(tokens))
    if index >= len(tokens) or index <= body:
        return False
    if "_SEMICOLON" in mistake.allowed and "IF" not in mistake.allowed:
        tokens.insert(index, Token("_SEMICOLON", "", tokens[index].at))
        return True
    start = index
    while tokens[start - 1].kind not in ("_SEMICOLON", "_LBRACE", "_RBRACE"):
        start -= 1
    end = _end_of_statement(tokens, start, index)
    tokens[start:end] = [Token("_SEMICOLON", "", tokens[start].at)]
    return True


def _end_of_statement(tokens: list[Token], start: int, at_least: int) -> int:
    depth, end = 0, start
    while end < len(tokens) - 1:
        kind = tokens[end].kind
        if kind == "_RBRACE" and depth == 0 and end > at_least:
            return end
        depth += (kind == "_LBRACE") - (kind == "_RBRACE")
        depth = max(depth, 0)
        end += 1
        over = kind == "_SEMICOLON" or kind == "_RBRACE"
        if over and depth == 0 and end > at_least and tokens[end].kind != "ELSE":
            return end
    return end


def _say(mistake: _Mistake, tokens: list[Token]) -> tuple[int, str]:
    """Position and text of the error for a mistake."""
    index, allowed = mistake
    before = tokens[index - 1] if index else Token("", "", 0)
    if index >= len(tokens):
        return before.at + len(before.text), f"the script ends too early{_expected(allowed)}"
    token = tokens[index]
    if (found := _foreign(tokens, index)) is not None:
        return found
    if before.kind == "NAME" and before.text in _OLD:
        return before.at, f"there is no {before.text!r} any more: write {_OLD[before.text]}"
    if before.kind == "NAME" and "_LPAR" in allowed:
        return before.at, f"{before.text!r} says nothing alone: a function is called with brackets"
    if before.kind == "VARIABLE" and before.text[-1] in "[]{}\"'":
        return before.at, f"{before.text!r} is one word: put a blank before {before.text[-1]!r}"
    if token.kind in _COMPARISONS and before.kind in ("NUMBER", "STRING"):
        return before.at, "the left side of a comparison is a variable; turn it around"
    following = tokens[index + 1] if index + 1 < len(tokens) else Token("", "", 0)
    if hint := _hint(token, before, following, allowed):
        return token.at, hint
    if "_SEMICOLON" in allowed and "IF" not in allowed:
        return before.at + len(before.text) - 1, "expected ';' after this"
    return token.at, f"{token.text!r} does not belong here{_expected(allowed)}"


def _foreign(tokens: list[Token], index: int) -> tuple[int, str] | None:
    """The error for a keyword in upper case or of another language; None if there is none."""
    for token in reversed(tokens[: index + 1]):
        if token.kind in ("_SEMICOLON", "_LBRACE", "_RBRACE") and token is not tokens[index]:
            return None
        if token.kind == "NAME" and token.text.lower() in KEYWORDS:
            return token.at, f"keywords are lower case: write {token.text.lower()!r}"
        if token.kind == "NAME" and token.text in _FOREIGN:
            return token.at, _FOREIGN[token.text]
    return None


def _hint(token: Token, before: Token, after: Token, allowed: frozenset[str]) -> str | None:
    """The error text for syntax of other languages; None if it is none.

    Args:
        token: the unexpected token.
        before: the token before it.
        after: the token after it.
        allowed: the terminals that are valid there.
    """
    kind, word = token.kind, token.text
    if word == "/" == after.text and after.at == token.at + 1:
        return "'//' begins no comment here; use '#' or '/* … */'"
    if word in KEYWORDS and {"NAME", "STRING"} <= allowed:
        return f"{word!r} is a keyword; to use it as a name, write it in quotes"
    if kind == "NAME" and word in ("INET", "INET6", "inet", "inet6"):
        return f"{word} is a text: write {word.upper()!r} in quotes"
    if kind == "DOT" and before.kind == "NUMBER":
        return "a number ends here: there are no fractions, and an address has all four parts"
    if kind == "_LBRACE" and allowed >= _STATEMENT:
        return "a block alone is not a statement; take the brackets away"
    if kind == "_RBRACE" and allowed >= _STATEMENT and "_RBRACE" not in allowed:
        return "a route needs a statement, were it 'exit;'"
    if kind == "_RBRACE" and "CASE" in allowed and "DEFAULT" not in allowed:
        return "a switch needs a 'case'"
    if kind == "ELSE" and allowed >= _STATEMENT:
        return "this 'else' belongs to no 'if'"
    if kind == "_RPAR" and before.kind == "_LPAR" and {"VARIABLE", "NOT"} <= allowed:
        return "a condition is expected between these brackets"
    if kind == "STRING" and {"NOT", "VARIABLE"} <= allowed:
        return "the left side of a comparison is a variable; turn it around"
    touches = before.at + len(before.text) == token.at
    if kind == "EQUAL" and touches and before.kind in ("EQUALITY", "ORDER", "EQUAL"):
        return f"there is no operator {before.text + word!r}"
    if kind in ("ADDRESS", "NETWORK") and before.kind in ("ORDER", "MATCH"):
        return "an address is compared with '==' or '!=' only"
    if kind == "NULL" and before.kind in ("ORDER", "MATCH"):
        return "NULL is compared with '==' or '!=' only"
    if before.kind == "MATCH":
        return f"{before.text!r} needs a pattern: a string in quotes, or a variable"
    if kind in ("EQUALITY", "ORDER") and before.kind == "VARIABLE" and "COLONEQ" in allowed:
        return "this compares, and says nothing alone; '=' sets a variable"
    if kind == "EQUAL" and allowed == {"IN"}:
        return "a 'for' goes through a list: for ($var(x) in $(avp(list)[*]))"
    return None


def _expected(allowed: frozenset[str]) -> str:
    if allowed >= _STATEMENT:
        closing = " or '}'" if "_RBRACE" in allowed else ""
        return f"; expected a statement{closing}"
    if allowed >= _VALUE:
        return "; expected a value"
    words = sorted({_EXPECTED[kind] for kind in allowed if kind in _EXPECTED})
    if {"VARIABLE", "NOT"} <= allowed:
        return "; expected a condition"
    if not words:
        return ""
    return "; expected " + (", ".join(words[:-1]) + " or " if len(words) > 1 else "") + words[-1]
