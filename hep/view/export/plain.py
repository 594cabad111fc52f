"""Texts of peers made harmless for a terminal, a page and a diagram. Pure."""

import re
from datetime import UTC, datetime
from typing import Final

from hep.view.model.record import MICROSECONDS

# Control characters act on terminals, and marks of direction turn what one reads.
_ACTS: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    r"""A text without what acts: such characters are written as ``\xNN`` or ``\uNNNN``.

    Args:
        text: any text. Line ends and tabs are kept; CRLF becomes LF.
    """
    return _ACTS.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """A text without what acts, on one line."""
    return " ".join(plain(text).split())


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        # A byte that is no UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def time_text(at: int) -> str:
    """A time in UTC, as ISO 8601 writes it.

    Args:
        at: microseconds since the epoch.
    """
    try:
        seconds, rest = divmod(at, MICROSECONDS)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"
    except (ValueError, OverflowError, OSError):
        return str(at)


def since(at: int, first: int) -> str:
    """Seconds since the first packet."""
    return f"+{(at - first) / MICROSECONDS:.3f}"
