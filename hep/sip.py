"""The reader of SIP messages, for all that read them. Pure, and no parser of SIP's grammar.

A message is read as RFC 3261 section 7 says, in bytes, and no further than is asked for:

- Line ends before the start line are ignored (section 7.5).
- A line ends in CRLF, or in LF alone. CR without LF is a byte as any other.
- The head ends at the first empty line, or with the message.
- A line that begins with a blank continues the one before it (section 7.3.1).
- Names of headers are the same in upper and lower case and in the compact form (section 7.3.3).
  Blanks may stand before the colon.
- White space around a value is not part of it, CRs too. Bytes that are no UTF-8 are kept.
- Of a header that may come once, the first one counts. An empty one is as none.

Nearly all messages have none of the difficult things: those are read by a regular expression that
passes over the head once. What it declines (continued lines, a header that comes twice, a head
without an end) is read line by line. Both give the same answer, which is a property test.
"""

import re
from collections.abc import Callable, Collection
from typing import Final

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

LINE_ENDS: Final = b"\r\n"
"""Bytes before a start line, in any number and order, that receivers ignore (RFC 3261
section 7.5): such as the keep-alive of RFC 5626 section 3.5.1, sent together with a request."""

ROWS: Final = b"\n"
"""Separates the values of a header that comes in several lines; no value has one."""

_COMPACT: Final = {name: letter for letter, name in COMPACT_FORMS.items()}
_LONG: Final = {letter.encode(): name.encode() for letter, name in COMPACT_FORMS.items()}
_CR: Final = 0x0D
_LF: Final = 0x0A
_has_fold: Final = re.compile(rb"\n[ \t]").search
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_REQUEST_LINE: Final = rb"([!-~]++) [!-~]++ (SIP/[0-9]\.[0-9])\r?\n"
_is_request_line: Final = re.compile(_REQUEST_LINE[: -len(rb"\r?\n")]).fullmatch
_SIP: Final = re.compile(
    rb"(?:[A-Za-z0-9.!%*_+`'~-]{1,64} [^\s\x00-\x1f]{1,4096} SIP/2\.0"
    rb"|SIP/2\.0 [1-6][0-9]{2}[ \r\n])",
    re.IGNORECASE,
)

Values = list[bytes]
"""What a `finder` finds: a value for each name that it was made for."""


def is_sip(data: bytes) -> bool:
    """Whether data starts as a SIP request or response of version 2.0 does (RFC 3261 section 7)."""
    return _SIP.match(data.lstrip(LINE_ENDS)) is not None


def end_of_head(message: bytes) -> int:
    """Where start line and headers end, without the empty line behind them."""
    start = len(message) - len(message.lstrip(LINE_ENDS))
    # A line may end in LF alone, so an empty line is one of these two, whichever comes first.
    end = message.find(b"\n\r\n", start)
    bare = message.find(b"\n\n", start, end + 1 if end >= 0 else len(message))
    if bare >= 0:
        end = bare
    if end < 0:
        return len(message)
    return end - 1 if end > start and message[end - 1] == _CR else end


def unfolded(head: bytes) -> bytes:
    """A head with each header on one line (RFC 3261 section 7.3.1)."""
    # The pattern begins with what may be missing, so it is tried at each byte.
    return _FOLD.sub(b" ", head) if _has_fold(head) else head


def head_of(message: bytes) -> bytes:
    """Start line and headers of a message, each on one line."""
    return unfolded(message[: end_of_head(message)].lstrip(LINE_ENDS))


def start_line(message: bytes) -> bytes | None:
    """The start line of a message; None where another line continues it, as no start line does."""
    message = message.lstrip(LINE_ENDS)
    line, end, rest = message.partition(b"\n")
    if rest[:1] in (b" ", b"\t"):
        return None
    return line.removesuffix(b"\r") if end else line


def fields(head: bytes) -> dict[bytes, list[bytes]]:
    """The values of all headers, each header's in order.

    Args:
        head: as `head_of` returns it.

    Returns:
        the values by the name of their header, in lower case and in its long form.
    """
    found: dict[bytes, list[bytes]] = {}
    lines = head.split(b"\n")
    del lines[0]
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            name = name.rstrip(b" \t").lower()
            known = _LONG.get(name, name)
            if known in found:
                found[known].append(value.strip())
            else:
                found[known] = [value.strip()]
    return found


def _spelled(text: str) -> bytes:
    # Sets of two letters, since the flag for it makes a pattern twice as slow.
    return "".join(
        f"[{each}{each.upper()}]" if each.isalpha() else re.escape(each) for each in text
    ).encode()


def _spellings(name: str) -> list[bytes]:
    """Patterns of a name, in its forms; each begins with a letter, which is fastest to match.

    Raises:
        ValueError: the name is not in lower case, or a compact form.
    """
    if name != name.lower() or name in COMPACT_FORMS or not name:
        raise ValueError(f"{name!r} is not a header's long name in lower case")
    letter = _COMPACT.get(name)
    if letter == name[0]:
        rest = _spelled(name[1:])
        return [_spelled(letter) + (b"(?:" + rest + b"|)" if len(name) > 2 else rest + b"?+")]
    return [_spelled(name)] + ([_spelled(letter)] if letter else [])


def first(name: str) -> Callable[[bytes], bytes]:
    """Make a function that finds the value of a header's first line.

    Args:
        name: of the header, in lower case and in its long form.

    Returns:
        a function that takes a message, and reads it as far as that header. It returns an empty
        value where there is no such header.
    """
    # Without a group: the head's end, or a line that continues another.
    pattern = b"|".join(each + rb"[ \t]*+:([^\n]*+)(?!\n[ \t])" for each in _spellings(name))
    search = re.compile(rb"\n(?:" + pattern + rb"|[ \t]|\r?\n)").search
    encoded = name.encode()

    def find(message: bytes) -> bytes:
        # An empty line before the start line looks like the head's end.
        match = search(message.lstrip(LINE_ENDS))
        if match is None:
            return b""
        if (group := match.lastindex) is not None:
            return match[group].strip()
        if match[0][-1] == _LF:
            return b""
        values = fields(head_of(message)).get(encoded)
        return values[0] if values else b""

    return find


_call_id: Final = first("call-id")


def call_id(message: bytes) -> bytes | None:
    """The Call-ID of a message; None where there is none."""
    return _call_id(message) or None


def finder(
    *names: str, every: Collection[str] = (), request: bool = False
) -> Callable[[bytes], Values | None]:
    """Make a function that finds the values of several headers in one pass.

    Args:
        names: of the headers, in lower case and in their long form.
        every: of those, the headers of which each line counts; of others, the first one.
        request: whether a message must be a request; method and version (``SIP/2.0``) come first
            among the values then.

    Returns:
        a function that takes a message. It returns the values in the order of the names, empty
        ones for headers that are not there. Those of several lines are separated by `ROWS`. It
        returns None for a message that is not a request, if ``request`` is true.
    """
    before = 2 if request else 0
    lines: list[bytes] = []
    others: list[tuple[int, int]] = []
    forms = [_spellings(name) for name in names]

    # The groups of the names come first, in their order, then those of letters of their own.
    for number, form in enumerate(forms, before):
        if form[1:]:
            others.append((number, before + len(names) + len(others)))
    groups = dict(others)

    def add(form: bytes, group: int, other: int | None) -> None:
        # What comes twice takes all that is left, so that the head has no end.
        line = rb"(?(%d)(?s:.*)|([^\n]*+)\n)" % (group + 1)
        if other is not None:
            line = rb"(?(%d)(?s:.*)|%b)" % (other + 1, line)
        lines.append(form + rb"[ \t]*+:" + line)

    for number, form in enumerate(forms, before):
        add(form[0], number, groups.get(number))
    for number, group in others:
        add(forms[number - before][1], group, number)
    # The first letter excludes most lines.
    letters = {each for name in names for each in (name[0], _COMPACT.get(name, name[0]))}
    match_head = re.compile(
        rb"[\r\n]*+%b(?:[^%b\r\n \t][^\n]*+\n|%b|[^\r\n \t][^\n]*+\n)*+\r?\n"
        % (
            _REQUEST_LINE if request else rb"[^\n]*+\n",
            re.escape("".join(sorted(letters | {each.upper() for each in letters}))).encode(),
            b"|".join(lines),
        )
    ).match
    count = before + len(names)
    encoded = [(name.encode(), name in every) for name in names]
    strip = bytes.strip

    def find(message: bytes) -> Values | None:
        match = match_head(message)
        if match is None:
            return find_by_line(message)
        values = [*map(strip, match.groups(b""))]
        for at, other in others:
            if value := values[other]:
                values[at] = value
        del values[count:]
        return values

    def find_by_line(message: bytes) -> Values | None:
        values: Values = []
        if request:
            line = start_line(message)
            match = line and _is_request_line(line)
            if not match:
                return None
            values += match.groups()
        found = fields(head_of(message))
        for name, is_list in encoded:
            rows = found.get(name, [b""])
            values.append(ROWS.join(filter(None, rows)) if is_list else rows[0])
        return values

    return find
