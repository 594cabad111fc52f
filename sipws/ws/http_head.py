"""Reads the head of an HTTP message into the engine's headers. Pure.

websockets' engine has fixed limits for heads (8,192 bytes per line, 128 header lines). A listener's
settings can exceed them, so sipws reads heads itself; the caller checks the limits. Wrong heads are
rejected as the engine rejects them: names are tokens, values hold no control characters, lines end
in CRLF, and no line continues in the next one (RFC 9112 section 5).
"""

import re
from collections.abc import Sequence
from typing import Final

from websockets.datastructures import Headers

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")

END: Final = b"\r\n\r\n"
"""The end of a head."""


class HeadError(ValueError):
    """A head is not valid HTTP. The text names the problem and the line and quotes nothing."""


def lines_of(raw: bytes) -> list[bytes]:
    """The lines of a head: the start line, then the headers.

    Args:
        raw: the head, up to and including its blank line.

    Returns:
        the lines without their CRLF.

    Raises:
        HeadError: a line does not end in CRLF (RFC 9112 section 2.2).
    """
    lines = raw.removesuffix(END).split(b"\r\n")
    for number, line in enumerate(lines, 1):
        if b"\n" in line:
            raise HeadError(f"line without CRLF (line {number})")
    return lines


def headers_of(lines: Sequence[bytes]) -> Headers:
    """The headers of a message, in the engine's form.

    Args:
        lines: all lines of the head; the first one, the start line, is not read.

    Returns:
        the headers, in their order.

    Raises:
        HeadError: a line is not a header.
    """
    headers = Headers()
    for number, line in enumerate(lines[1:], 2):
        name, colon, value = line.partition(b":")
        if not colon:
            raise HeadError(f"invalid HTTP header line (line {number})")
        if not _TOKEN.fullmatch(name):
            raise HeadError(f"invalid HTTP header name (line {number})")
        value = value.strip(b" \t")
        if not _VALUE.fullmatch(value):
            raise HeadError(f"invalid HTTP header value (line {number})")
        # RFC 9110 section 5.5: bytes outside ASCII are opaque; ISO-8859-1 keeps each of them.
        headers[name.decode()] = value.decode("latin-1")
    return headers
