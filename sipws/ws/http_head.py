"""The head of an HTTP message read into the engine's headers, within limits of our own. Pure.

websockets' engine reads heads with limits of its process (8,192 bytes a line, 128 header lines),
which no setting of a listener can move. Here they are arguments. What is no HTTP is refused as the
engine refuses it: names are tokens, values hold no control characters, lines end in CRLF, and a
line that goes on in the next one is none (RFC 9112 section 5).
"""

import re
from collections.abc import Sequence
from typing import Final

from websockets.datastructures import Headers

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")

END: Final = b"\r\n\r\n"
"""What ends a head."""


class HeadError(ValueError):
    """A head is no HTTP; the text says what is wrong and in which line, and quotes nothing."""


def lines_of(raw: bytes) -> list[bytes]:
    """The lines of a head: the start line, then the headers.

    Args:
        raw: the head, up to and including its blank line.

    Raises:
        HeadError: a line does not end in CRLF (RFC 9112 section 2.2).
    """
    lines = raw.removesuffix(END).split(b"\r\n")
    for number, line in enumerate(lines, 1):
        if b"\n" in line:
            raise HeadError(f"line without CRLF (line {number})")
    return lines


def headers_of(lines: Sequence[bytes]) -> Headers:
    """The headers of a message, as the engine has them.

    Args:
        lines: its lines, the start line included, which is not looked at.

    Raises:
        HeadError: a line is no header.
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
        # RFC 9110 section 5.5: what is not ASCII is opaque; ISO-8859-1 keeps it byte for byte.
        headers[name.decode()] = value.decode("latin-1")
    return headers
