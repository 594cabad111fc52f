"""A look at SIP messages: start line, headers, Call-ID. Pure, and no parser of SIP's grammar.

The transport carries messages whole and unread; this is for whoever needs a header of one.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

COMPACT_FORMS: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""One-letter header names (IANA, SIP parameters, header fields)."""

_END_OF_HEADERS: Final = re.compile(rb"\r?\n\r?\n")
_CALL_ID: Final = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]*[^\r\n \t])", re.IGNORECASE)
_START_LINE: Final = re.compile(r"(?:[!-~]+ [!-~]+ SIP/\d\.\d|SIP/\d\.\d \d{3} .*)")
_FOLD: Final = re.compile(r"\r?\n[ \t]+")


def call_id(message: bytes) -> bytes | None:
    """The Call-ID of a message, without parsing the rest of it; None where there is none."""
    match = _CALL_ID.search(message)
    if match is None:
        return None
    end = _END_OF_HEADERS.search(message)
    return match[1] if end is None or match.start() <= end.start() else None


@dataclass(frozen=True, slots=True)
class Message:
    """Start line and headers of a SIP message."""

    start_line: str
    headers: tuple[tuple[str, str], ...]
    """In order; names in lower case and in their long form, folded values on one line."""

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Read the head of a message; None where there is no SIP start line."""
        end = _END_OF_HEADERS.search(data)
        head = data[: end.start()] if end else data
        # SIP is UTF-8 (RFC 3261 section 7.3.1); what is not is kept, to be echoed as it came.
        text = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape"))
        start_line, *lines = text.split("\n")
        start_line = start_line.rstrip("\r")
        if not _START_LINE.fullmatch(start_line):
            return None
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                name = name.strip().lower()
                headers.append((COMPACT_FORMS.get(name, name), value.strip()))
        return cls(start_line, tuple(headers))

    @property
    def is_request(self) -> bool:
        """Whether this is a request rather than a response."""
        return not self.start_line.startswith("SIP/")

    @property
    def method(self) -> str:
        """The request's method (upper case matters: RFC 3261 section 7.1)."""
        return self.start_line.partition(" ")[0]

    def get(self, name: str) -> str | None:
        """The first value of a header, by its long name in lower case."""
        return next((value for header, value in self.headers if header == name), None)

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for header, value in self.headers if header == name]


def split_values(header: str) -> list[str]:
    """Split a header value at its commas, except those in quotes or in angle brackets."""
    values, start, quoted, bracketed, escaped = [], 0, False, False, False
    for index, character in enumerate(header):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character in "<>":
            bracketed = character == "<"
        elif character == "," and not bracketed:
            values.append(header[start:index].strip())
            start = index + 1
    values.append(header[start:].strip())
    return [value for value in values if value]
