"""A look at SIP messages: start line, headers, Call-ID. Pure, and no parser of SIP's grammar.

The transport carries messages whole and unread; this is for whoever needs a header of one.
"""

import re
from typing import Final, Self

from sipws.events import value

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

_SPELLINGS: Final = COMPACT_FORMS | {
    spelling: spelling.lower()
    for spelling in re.findall(
        r"\S+",
        "Via From To Call-ID CSeq Contact Max-Forwards Expires Content-Length Content-Type Allow"
        " Supported User-Agent Accept Authorization Route Record-Route Server",
    )
}
"""Header names as they are mostly written, with their long form in lower case."""

LINE_ENDS: Final = b"\r\n"
"""What may stand before a start line, in any number and order, and is to be ignored (RFC 3261
section 7.5): such as the keep-alive of RFC 5626 section 3.5.1, sent together with a request."""

_CR: Final = 0x0D
_CALL_ID: Final = re.compile(
    # As nearly all write it, then in any other way; spelled out, since the flag for it makes the
    # pattern twice as slow, and each way begins with a letter of its own, as such are told apart
    # at once. The head ends with the first blank line, and the search with it.
    # Blanks are not given back, or a header of blanks would be tried in every way.
    rb"\n(?:Call-ID: ([!-~]+)\r\n"
    rb"|[cC][aA][lL][lL]-[iI][dD][ \t]*+:[ \t]*+([^\r\n]*[^\r\n \t])"
    rb"|[iI][ \t]*+:[ \t]*+([^\r\n]*[^\r\n \t])|\r\n|\n)"
)
_FOLDED_CALL_ID: Final = re.compile(
    rb"\n(?:(?:call-id|i)[ \t]*+:[ \t]*+\r?\n[ \t]++([^\r\n]*[^\r\n \t])|\r?\n)", re.IGNORECASE
)
_FLOW_TIMER: Final = re.compile(
    rb"\nflow-timer[ \t]*:[ \t]*([1-9]\d{0,8})[ \t]*\r?\n", re.IGNORECASE
)
_START_LINE: Final = re.compile(r"(?:[!-~]+ [!-~]+ SIP/\d\.\d|SIP/\d\.\d \d{3} .*)")
_FOLDED: Final = (" ", "\t")
_EMPTY_LINE: Final = (b"\r", b"\n")
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")


def call_id(message: bytes) -> bytes | None:
    """The Call-ID of a message, without parsing the rest of it; None where there is none."""
    # An empty line before the start line looks like the end of the head.
    message = message.lstrip(LINE_ENDS)
    match = _CALL_ID.search(message)
    if match and (found := match[1] or match[2] or match[3]):
        return found
    # It may stand on a line of its own.
    match = _FOLDED_CALL_ID.search(message)
    return match[1] if match else None


def flow_timer(message: bytes) -> int | None:
    """Seconds after which a server gives up a quiet flow, where its answer says so (RFC 5626)."""
    if not message.startswith(b"SIP/2.0 2"):
        if message[:1] not in _EMPTY_LINE:
            return None
        message = message.lstrip(LINE_ENDS)
        if not message.startswith(b"SIP/2.0 2"):
            return None
    match = _FLOW_TIMER.search(message, 0, end_of_head(message) + 2)
    return int(match[1]) if match else None


def end_of_head(message: bytes) -> int:
    """How long start line and headers are, without the blank line behind them."""
    # A line may end in LF alone, so a blank line is one of these two, whichever comes first.
    end = message.find(b"\n\r\n")
    bare = message.find(b"\n\n", 0, end + 1 if end >= 0 else len(message))
    if bare >= 0:
        end = bare
    if end < 0:
        return len(message)
    return end - 1 if end and message[end - 1] == _CR else end


def unfolded(head: bytes) -> bytes:
    """A head with each header on one line (RFC 3261 section 7.3.1)."""
    return _FOLD.sub(b" ", head)


@value
class Message:
    """Start line and headers of a SIP message."""

    start_line: str
    headers: dict[str, list[str]]
    """The values of each header in order, folded ones on one line, by the header's name in lower
    case and in its long form."""

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Read the head of a message; None where there is no SIP start line.

        Empty lines before the start line are ignored (RFC 3261 section 7.5).
        """
        # SIP is UTF-8 (RFC 3261 section 7.3.1); what is not is kept, to be echoed as it came.
        head = data.partition(b"\r\n\r\n")[0].decode("utf-8", "surrogateescape")
        start_line, *lines = head.split("\r\n")
        if head.count("\n") != len(lines):
            # Lines may end in LF alone, the blank line before the body too.
            head = head.replace("\r\n", "\n").partition("\n\n")[0]
            start_line, *lines = head.split("\n")
        if not _START_LINE.fullmatch(start_line):
            if data[:1] in _EMPTY_LINE:
                return cls.parse(data.lstrip(LINE_ENDS))
            return None
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, colon, text = line.partition(":")
            known = _SPELLINGS.get(name)
            if known is None:
                if line.startswith(_FOLDED):
                    return cls.parse(unfolded(head.encode("utf-8", "surrogateescape")))
                known = _long_form(name)
            if not colon:
                continue
            if known in headers:
                headers[known].append(text.strip())
            else:
                headers[known] = [text.strip()]
        return cls(start_line, headers)

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
        values = self.headers.get(name)
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return self.headers.get(name, [])


def _long_form(name: str) -> str:
    name = name.strip().lower()
    return COMPACT_FORMS.get(name, name)


def split_values(header: str) -> list[str]:
    """Split a header value at its commas, except those in quotes or in angle brackets."""
    if "," not in header:
        return [only] if (only := header.strip()) else []
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
