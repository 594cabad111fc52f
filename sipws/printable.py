"""Escapes texts from peers for terminals, pages and databases. Pure.

Escaped is every character for which `str.isprintable` is false: control characters (C0, C1), line
and paragraph separators, marks of direction and other invisible characters, blanks other than the
space, unassigned and private characters, and halves of surrogate pairs. They act on a terminal or a
page, hide other text, or are refused by a database. Letters, signs and emoji of all scripts are
kept.
"""

import json
import re
from typing import Final

NUL: Final = r"\x00"
"""Replaces a NUL in JSON: jsonb of PostgreSQL refuses every other form."""

_quote: Final = json.encoder.encode_basestring
_LONE_CR: Final = re.compile(r"\r(?!\n)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def on_one_line(text: str) -> str:
    """Escape a text as Python does, so that it is one line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def lines(text: str) -> str:
    """Escape a text of several lines; tabs and line ends are kept.

    A CR that does not end a line is escaped: a terminal would overwrite the text before it.
    """
    if text.isprintable():
        return text
    escaped = "".join(
        char if char.isprintable() or char in "\r\n\t" else ascii(char)[1:-1] for char in text
    )
    return _LONE_CR.sub(r"\\r", escaped)


def json_text(text: str) -> str:
    """Write a text as a quoted JSON string, escaped.

    It can be stored as jsonb: a NUL becomes `NUL`, half a surrogate pair U+FFFD.
    """
    quoted = _quote(text)
    if quoted.isprintable() and r"\u0000" not in quoted:
        return quoted
    if "\0" in text:
        quoted = _quote(text.replace("\0", NUL))
    return json_escaped(_SURROGATE.sub("\ufffd", quoted))


def json_escaped(written: str) -> str:
    r"""Escape JSON as ``\uXXXX``, with the same meaning.

    Half a surrogate pair, which is not a character, becomes text: ``\\udc80``.
    """
    if written.isprintable():
        return written
    return "".join(char if char.isprintable() else _escape(char) for char in written)


def _escape(char: str) -> str:
    code = ord(char)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\\\u{code:04x}" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"
