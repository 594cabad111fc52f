"""Reads TOML files of the user, in time linear in their length."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from sipws.errors import ConfigurationError

LARGEST_FILE: Final = 1024 * 1024
"""Bytes of a file. A configuration has some kilobytes."""

MOST_PARTS: Final = 16
"""Parts of a dotted key. Settings have three at most; the parser's work grows with the square of
this number."""

_TOKEN: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?(?:"""|\Z) | \'\'\'.*?(?:\'\'\'|\Z)
      | "(?:[^"\\\n]|\\.)*"? | '[^'\n]*'? | \#[^\n]* | [\w-]+ | [ \t]+ | .''',
    re.VERBOSE | re.DOTALL,
)
"""A string, a comment, a bare word, blanks, or one character. An open string ends with the file."""


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: of the file, which has at most `LARGEST_FILE` bytes.

    Returns:
        its tables.

    Raises:
        ConfigurationError: the file cannot be read, is too large, or is not TOML; a key has more
            than `MOST_PARTS` parts; tables or lists are nested too deeply.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc.strerror}") from exc
    if len(data) > LARGEST_FILE:
        raise ConfigurationError(
            f"{path}: the file has more than {LARGEST_FILE} bytes; is it a configuration?"
        )
    try:
        text = data.decode()
        if (line := line_of_long_key(text)) is not None:
            raise ConfigurationError(
                f"{path}: line {line}: a key has more than {MOST_PARTS} parts; write it as"
                " 'section.setting'"
            )
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path}: not TOML: {exc}") from exc
    except RecursionError as exc:
        raise ConfigurationError(f"{path}: tables or lists are nested too deeply") from exc
    except ValueError as exc:
        # Python refuses to read a number of more than 4,300 digits.
        raise ConfigurationError(f"{path}: a number has too many digits: {exc}") from exc


def line_of_long_key(text: str) -> int | None:
    """The line of the first key with more than `MOST_PARTS` parts, from 1; None without one."""
    dots = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first == ".":
            dots += 1
            if dots >= MOST_PARTS:
                return text.count("\n", 0, token.start()) + 1
        elif not (first in "\"'-_ \t" or first.isalnum()):
            dots = 0
    return None
