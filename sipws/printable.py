"""Texts that others wrote, made harmless for whoever reads them. Pure.

Control characters (C0, C1), line and paragraph separators, marks of direction and other invisible
characters, what is not assigned or for private use, and halves of surrogate pairs act on a terminal
or a page, hide what stands there, or are refused by a database. They are what `str.isprintable`
excludes, blanks other than the space among them; letters, signs and emoji of all scripts are kept.
"""

import json
import re
from typing import Final

NUL: Final = r"\x00"
"""What stands in place of a NUL in JSON: jsonb of PostgreSQL refuses it in any other form."""

_quote: Final = json.encoder.encode_basestring
_LONE_CR: Final = re.compile(r"\r(?!\n)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def on_one_line(text: str) -> str:
    """A text on one line without such characters, which are told as Python writes them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def lines(text: str) -> str:
    """A text of several lines, made harmless; tabs and ends of lines are kept.

    A CR that ends no line is escaped: a terminal would write over what stands before it.
    """
    if text.isprintable():
        return text
    escaped = "".join(
        char if char.isprintable() or char in "\r\n\t" else ascii(char)[1:-1] for char in text
    )
    return _LONE_CR.sub(r"\\r", escaped)


def json_text(text: str) -> str:
    """A text as JSON, quoted, which holds no such character but escaped.

    It can be stored as jsonb: a NUL becomes `NUL`, half a surrogate pair U+FFFD.
    """
    quoted = _quote(text)
    if quoted.isprintable() and r"\u0000" not in quoted:
        return quoted
    if "\0" in text:
        quoted = _quote(text.replace("\0", NUL))
    return json_escaped(_SURROGATE.sub("\ufffd", quoted))


def json_escaped(written: str) -> str:
    r"""JSON in which such characters stand only as ``\uXXXX``, with the same meaning.

    Half a surrogate pair, which is no character, is told as text: ``\\udc80``.
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
