"""Splits text into tokens as the scanner of OpenSIPS does (``cfg.lex``).

Three properties need a scanner of our own. Comments nest. A variable extends to the next operator,
bracket or blank: ``$sp]`` is one token, and its ``]`` is lost. A character that starts no token is
silently ignored.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sipws.tracing.filter.bounds import MAX_TOKENS


class Token(NamedTuple):
    """A token of the language."""

    kind: str
    """Terminal of the grammar."""
    text: str
    at: int
    """Its position."""


_IP4: Final = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_H: Final = r"[0-9A-Fa-f]{1,4}"
_IP6: Final = (
    rf"(?:(?:{_H}:){{7}}{_H}|(?:{_H}:){{1,7}}(?::{_H}){{1,7}}"
    rf"|:(?::{_H}){{1,7}}|(?:{_H}:){{1,7}}:|::)"
)

_TOKEN: Final = re.compile(
    rf"""
      (?P<SKIP> [ \t\x08\r\n]+ | \#[^\n]* | \\\n )
    | (?P<VARIABLE> \$(?: (?!and|or|not)[^ \t\r\n();,=+\-*/%&|^~<>!:] | :(?!=) )*+ )
    | (?P<STRING> "(?:[^"\\]++|\\.)*+" | '[^']*+' )
    | (?P<NETWORK> {_IP4}/(?:{_IP4}|[0-9]{{1,2}}) | {_IP6}/(?:{_IP6}|[0-9]{{1,3}}) )
    | (?P<ADDRESS> {_IP4} | {_IP6} )
    | (?P<NUMBER> 0x[0-9A-Fa-f]+ | 0[0-7]+ | 0 | [1-9][0-9]* )
    | (?P<NAME> [A-Za-z][A-Za-z0-9_]* )
    | (?P<COMMENT> /\* )
    | (?P<SIGN> && | \|\| | [=!]~ | [=!<>]= | << | >> | [:+\-*/%&|^]=
              | [=<>!&|^~+\-*/%:;,(){{}}\[\].] )
    | (?P<UNCLOSED> ["'] )
    """,
    re.VERBOSE | re.DOTALL,
)

KEYWORDS: Final = {
    word: word.upper()
    for word in """
        and assert async break case default drop else error exit for if in launch log not or
        return route switch while xdbg xlog
        """.split()  # noqa: SIM905 - words read better without quotes
}
"""Terminals of the keywords. As in OpenSIPS, keywords are lower case only."""

_WORDS: Final = KEYWORDS | dict.fromkeys(("&&", "and"), "AND") | dict.fromkeys(("||", "or"), "OR")

CONSTANTS: Final = {
    **dict.fromkeys(("yes", "true", "on", "enable"), 1),
    **dict.fromkeys(("no", "false", "off", "disable"), 0),
}
"""Words with a numeric value."""

SIGNS: Final = {
    "&&": "AND", "||": "OR", "!": "NOT",
    "==": "EQUALITY", "!=": "EQUALITY", "=~": "MATCH", "!~": "MATCH",
    "<": "ORDER", ">": "ORDER", "<=": "ORDER", ">=": "ORDER",
    "=": "EQUAL", ":=": "COLONEQ",
    "+": "PLUS", "-": "MINUS", "*": "TIMES", "/": "TIMES", "%": "TIMES",
    "&": "BIT", "|": "BIT", "^": "BIT", "<<": "BIT", ">>": "BIT", "~": "INVERT",
    ":": "_COLON", ";": "_SEMICOLON", ",": "_COMMA", ".": "DOT",
    "(": "_LPAR", ")": "_RPAR", "{": "_LBRACE", "}": "_RBRACE", "[": "_LSQB", "]": "_RSQB",
}  # fmt: skip
"""Terminals of the operators. The other assignments (``+=`` …) are ``CHANGE``."""

_SAME: Final = re.compile(r"(.)\1*+", re.DOTALL)
_EDGE: Final = re.compile(r"/\*|\*/")
_BRACKET: Final = re.compile(r"[()]")

Report = Callable[[int, str], None]
"""Called with the position and the text of an error or a warning."""


def tokenize(text: str, start: int, error: Report, ignored: Report) -> list[Token]:
    """Split a text into tokens.

    Args:
        text: the text of a file.
        start: position of its first character.
        error: called for a comment, string or variable that is never closed. The rest of the text
            gives no tokens.
        ignored: called for characters that OpenSIPS ignores.

    Returns:
        the tokens in order.
    """
    tokens: list[Token] = []
    line, counted = 1, 0
    add, match, offset, size = tokens.append, _TOKEN.match, 0, len(text)
    while offset < size:
        found = match(text, offset)
        if found is None:
            same = _SAME.match(text, offset)
            count = len(same[0]) if same else 1
            if text[offset] not in "\f\v\ufeff":
                times = f", {count} times" if count > 1 else ""
                ignored(start + offset, f"OpenSIPS passes over {text[offset]!r} here{times}")
            offset += count
            continue
        kind, word, begin = found.lastgroup, found[0], offset
        offset = found.end()
        match kind:
            case "SKIP":
                continue
            case "NAME":
                kind = _WORDS.get(word, "NAME")
                if kind == "NAME":
                    if word in CONSTANTS:
                        kind = "NUMBER"
                    elif word.lower() == "null":
                        kind = "NULL"
            case "SIGN":
                kind = SIGNS.get(word, "CHANGE")
            case "VARIABLE":
                if text.startswith("(", offset):
                    offset = _closing(text, offset)
                    if offset < 0:
                        error(start + begin, "the bracket of this variable is never closed")
                        break
                    word = text[begin:offset]
            case "STRING" if "\\\n" in word and word[0] == '"':
                line, counted = line + text.count("\n", counted, begin), begin
                ignored(start + begin, _CONTINUED)
                word = _marked(word, line)
            case "COMMENT":
                offset = _end_of_comment(text, begin)
                if offset < 0:
                    error(start + begin, "this comment is never closed (comments nest here)")
                    break
                continue
            case "UNCLOSED":
                error(start + begin, "this string is never closed")
                break
        if len(tokens) >= MAX_TOKENS:
            error(start + begin, f"the script has more than {MAX_TOKENS} words; shorten it")
            break
        add(Token(kind or "", word, start + begin))
    return tokens


def pieces(text: str) -> Iterator[Token]:
    """Yield the tokens and comments of a text with their texts as written.

    What is never closed is one piece to the end of the text.
    """
    offset, size = 0, len(text)
    while offset < size:
        found = _TOKEN.match(text, offset)
        begin, offset = offset, found.end() if found else offset + 1
        kind, word = (found.lastgroup or "", found[0]) if found else ("", text[begin])
        if kind == "COMMENT":
            offset = _end_of_comment(text, begin)
        elif kind == "VARIABLE" and text.startswith("(", offset):
            offset = _closing(text, offset)
        elif kind == "UNCLOSED":
            offset = size
        if offset < 0:
            offset = size
        if kind == "SKIP" and not word.startswith("#"):
            continue
        if kind == "SKIP":
            kind = "COMMENT"
        elif kind == "NAME":
            kind = _WORDS.get(word, kind)
        elif kind == "SIGN":
            kind = SIGNS.get(word, "CHANGE")
        yield Token(kind, text[begin:offset], begin)


_CONTINUED: Final = (
    "OpenSIPS puts a mark of its own where a backslash ends a line of a string: the parts are not"
    " joined; write the string in one line"
)


def _marked(word: str, line: int) -> str:
    """A string that goes on in the next line, as the preprocessor of OpenSIPS leaves it.

    Args:
        word: the string with its quotes.
        line: the number of its first line.
    """

    def mark(found: re.Match[str]) -> str:
        if found[0] != "\\\n":
            return found[0]
        number = line + word.count("\n", 0, found.end())
        return f"__OSSPP_LINE__ {number}\n"

    return re.sub(r"\\.", mark, word, flags=re.DOTALL)


def _closing(text: str, offset: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(text, offset):
        depth += 1 if bracket[0] == "(" else -1
        if depth == 0:
            return bracket.end()
    return -1


def _end_of_comment(text: str, offset: int) -> int:
    depth = 0
    for edge in _EDGE.finditer(text, offset):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


_ESCAPE: Final = re.compile(r'\\(x[0-9A-Fa-f]{1,2}|[0-7]{2,3}|[nrat"\\\n])')
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", '"': '"', "\\": "\\", "\n": ""}


def unquote(word: str) -> str:
    r"""The value of a quoted string.

    In ``"`` these escapes are resolved: ``\n \r \t \a \" \\ \xHH \OOO`` and a backslash at the end
    of a line. Any other backslash is kept, so that ``"\."`` is a pattern for a dot. In ``'`` no
    escape is resolved.
    """
    if word[0] == "'":
        return word[1:-1]

    def resolve(found: re.Match[str]) -> str:
        escape = found[1]
        if escape[0] == "x" or escape.isdecimal():
            byte = int(escape[1:], 16) if escape[0] == "x" else int(escape, 8) & 0xFF
            # A byte that is no ASCII character, as in the error handler ``surrogateescape``.
            return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
        return _ESCAPES[escape]

    # A string of OpenSIPS ends at the first NUL.
    return _ESCAPE.sub(resolve, word[1:-1]).split("\0", 1)[0]


_BEGINS_ESCAPE: Final = re.compile(r'\\(?=[nrat"\\x0-7\n\r\t\a]|\Z)')


_BYTE: Final = re.compile("[\udc80-\udcff]")


def quote(text: str) -> str:
    """Quote a text; the inverse of `unquote`."""
    # A backslash that starts no escape is kept, which is easier to read.
    text = _BEGINS_ESCAPE.sub(r"\\\\", text).replace('"', '\\"')
    for letter, char in (("n", "\n"), ("r", "\r"), ("t", "\t"), ("a", "\a")):
        text = text.replace(char, f"\\{letter}")
    text = _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return f'"{text}"'


def defined_name(name: str) -> str:
    """The name of a route from its definition: every zero is the default route (``strtol``)."""
    return "0" if re.fullmatch(r"|\s*[+-]?0+", name) else name


def number(word: str) -> int:
    """The value of a number token, cut to 32 bits as in OpenSIPS."""
    if word in CONSTANTS:
        return CONSTANTS[word]
    base = 16 if word[:2] == "0x" else 8 if word[0] == "0" and len(word) > 1 else 10
    # strtol() saturates at the largest long; the result is then cut to an int.
    return wrap(min(int(word[:4300], base), 0x7FFFFFFFFFFFFFFF))


def wrap(value: int) -> int:
    """Wrap an integer to 32 bits with a sign, as C does."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000
