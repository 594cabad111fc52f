"""Masks the credentials of handshakes in traces, logs and errors. Pure.

Many people read traces and logs, which must not hold credentials. In requests and replies, each
credential is replaced; names and all other bytes are kept. A text *about* a handshake, such as why
it failed or why a connection was closed, may quote it; each credential of the handshake is replaced
there too.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ConnectionEvent,
    ErrorOccurred,
    HandshakeFailed,
)
from sipws.masking.credentials import (
    BLANKS,
    DEEPEST,
    HEADERS,
    MASK,
    PARAMETERS,
    UNREAD,
    Credentials,
    is_handshake,
)
from sipws.masking.sip_messages import in_quote

LEAST: Final = 4
"""Bytes of the shortest credential that is looked for in texts; a shorter one occurs by chance."""

MOST_FORMS: Final = 1000
"""Forms of credentials that are looked for in a text. With more, the text is masked whole."""

LONG: Final = 8
"""Bytes of a credential from which on it is looked for within words too."""

MOST: Final = 256
"""Lines of a handshake that are read, and credentials that are looked for in texts. Browsers keep
up to 180 cookies per domain, and a request with more than 128 headers is refused. Further lines,
and texts that may quote further credentials, are masked whole."""

REMEMBERED: Final = 1000
"""Lines without credentials that are remembered, of at most 512 bytes each. Most lines of a
handshake are the same as in the one before."""

E = TypeVar("E", bound=ConnectionEvent)

# A union type would be built again for each event.
_WITH_HANDSHAKE: Final = (Accepted, Connected, HandshakeFailed)

# RFC 9112 section 5.2 has lines folded; some end in LF alone.
_LINES: Final = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")
_WHOLE_LINE: Final = re.compile(rb"(?:[!-~\x80-\xff][\t -~\x80-\xff]{0,510})?\r?\n")
"""A usual line, whose meaning does not depend on the lines around it."""
_BLANK_LINES: Final = (b"\n", b"\r\n")
_is_unique: Final = re.compile(
    rb"Sec-WebSocket-(?:Key|Accept): [A-Za-z0-9+/]{22,27}==?\r"
).fullmatch
"""Whether a line is different in each handshake, and holds no credential."""
_BREAKS: Final = re.compile(rb"[\0-\x20\x7f]+")
_SIGNS: Final = re.compile(rb"[\0-\x20\x7f\"'=;,]+")


class Masking:
    """Masks the credentials in handshakes, and in texts about them.

    Args:
        headers: names of headers whose values are masked; see `Credentials`.
        parameters: names of query parameters whose values are masked.
    """

    def __init__(
        self, headers: Sequence[str] = HEADERS, parameters: Sequence[str] = PARAMETERS
    ) -> None:
        self._credentials = Credentials(headers, parameters)
        self._plain: set[bytes] = set()

    def handshake(self, raw: bytes) -> bytes:
        """Mask a request or a reply; returns the same object if it has no credentials."""
        return self._read(raw, [])

    def text(self, text: str, *handshakes: bytes) -> str:
        """Mask a text about a handshake; returns the same object if it has no credentials.

        Args:
            text: the text.
            handshakes: the request and the reply, which it may quote in whole or in part.
        """
        if not text:
            return text
        found: list[bytes] = []
        for raw in handshakes:
            self._read(raw, found)
        return self._without(text, found)

    def _without(self, text: str, found: Sequence[bytes]) -> str:
        data = text.encode("utf-8", "surrogatepass")
        masked = self._credentials.in_text(_without(data, _quotable(found)), [])
        return text if masked == data else masked.decode("utf-8", "replace")

    def about(self, connection: Connection, text: str) -> str:
        """Mask a text about a connection, which may quote its request.

        Args:
            connection: the connection.
            text: the text.
        """
        return self.text(text, *([connection.request.raw] if connection.request else []))

    def event(self, event: E) -> E:
        """Mask the texts and bytes of an event; returns the same object without credentials."""
        if isinstance(event, Closed):
            # Most have no reason.
            return event if not event.reason else self._reworded(event, "reason")
        if isinstance(event, ErrorOccurred) and event.excerpt:
            quoted = event.excerpt.decode("utf-8", "backslashreplace")
            masked = self.about(event.connection, in_quote(quoted, "tokens"))
            event = event if masked == quoted else replace(event, excerpt=masked.encode())
        if not isinstance(event, _WITH_HANDSHAKE):
            is_prose = isinstance(event, (ErrorOccurred, ConnectFailed))
            return self._reworded(event, "detail") if is_prose else event
        found: list[bytes] = []
        request = self._read(event.request, found)
        reply = self._read(event.reply, found, _quotable(found) if found else ())
        if request is not event.request or reply is not event.reply:
            event = replace(event, request=request, reply=reply)
        if isinstance(event, HandshakeFailed):
            event = replace(event, detail=self._without(event.detail, found))
        return event

    def _reworded(self, event: E, field: str) -> E:
        masked: dict[str, Any] = {field: self.about(event.connection, getattr(event, field))}
        return replace(event, **masked)

    def _read(self, raw: bytes, found: list[bytes], quoted: tuple[bytes, ...] | None = ()) -> bytes:
        """Mask a request or a reply.

        Args:
            raw: its bytes.
            found: the credentials are appended to it.
            quoted: the credentials of the request, which a reply may quote; see `_quotable`.
        """
        if quoted == () and self._holds_none(raw):
            return raw
        if quoted:
            quoted = tuple(form for form in quoted if form[:LEAST] in raw)
        masked: list[bytes] = []
        is_started = is_body = False
        for number, line in enumerate(_LINES.findall(raw)):
            if number > MOST or len(found) > MOST:
                found.append(UNREAD)
                masked.append(MASK + b"\r\n")
                break
            is_blank = line in _BLANK_LINES
            is_body = is_body or (is_started and is_blank)
            is_started = is_started or not is_blank
            line = self._masked(line, found, body=is_body)
            if quoted != () and not is_handshake(line):
                line = _without(line, quoted)
            masked.append(line)
        whole = b"".join(masked)
        return raw if whole == raw else whole

    def _holds_none(self, raw: bytes) -> bool:
        """Recognise a handshake without credentials: nearly all of its lines came before."""
        plain = self._plain
        lines = raw.split(b"\n")
        if lines.pop() or len(lines) > MOST:
            # It was cut, or has lines that are not read.
            return False
        for line in lines:
            if line not in plain and not _is_unique(line):
                self._masked(line + b"\n", [])
                if line not in plain:
                    return False
        return True

    def _masked(self, line: bytes, found: list[bytes], *, body: bool = False) -> bytes:
        plain = self._plain
        if line[:-1] in plain and line.endswith(b"\n"):
            return line
        masked = self._credentials.in_line(line, found, body=body)
        # A line of a body may be a credential in a head.
        if masked == line and not body and _WHOLE_LINE.fullmatch(line):
            if len(plain) >= REMEMBERED:
                plain.clear()
            plain.add(line[:-1])
        return masked


def _quotable(found: Sequence[bytes]) -> tuple[bytes, ...] | None:
    """The forms in which a text may quote credentials, longest first; None if they are too many."""
    if len(found) > MOST or UNREAD in found:
        return None
    forms: set[bytes] = set()
    for secret in found:
        whole = secret.strip(BLANKS + b"\"'")
        decoded = [whole, unquote_to_bytes(whole)]
        while decoded[-1] != decoded[-2] and len(decoded) <= DEEPEST:
            decoded.append(unquote_to_bytes(decoded[-1]))
        # A program that splits the header by lines or by values quotes parts of it.
        parts = {part for each in decoded for part in _BREAKS.split(each)}
        parts |= {part for each in decoded for part in _SIGNS.split(each) if len(part) >= LONG}
        if len(forms) + len(parts) > MOST_FORMS:
            return None
        for part in parts.union(decoded):
            text = part.decode("latin-1")
            forms |= {part, text.encode(), escape(text).encode()}
            forms |= {repr(text)[1:-1].encode(), part.decode(errors="backslashreplace").encode()}
    long_enough = (form for form in forms if len(form) >= LEAST)
    return tuple(sorted(long_enough, key=len, reverse=True))


def _without(text: bytes, forms: tuple[bytes, ...] | None) -> bytes:
    """Mask credentials in a text, and the beginning of one where the text was cut.

    Args:
        text: the text.
        forms: from `_quotable`; None masks the whole text.
    """
    if forms is None:
        return MASK + text[len(text.rstrip(b"\r\n")) :]
    for form in forms:
        if form not in text:
            continue
        if len(form) >= LONG:
            text = text.replace(form, MASK)
        else:
            word = rb"(?<![A-Za-z0-9])%b(?![A-Za-z0-9])" % re.escape(form)
            text = re.sub(word, MASK, text)
    for form in forms:
        at = text.find(form[:LEAST], max(0, len(text) - len(form)))
        while at >= 0 and not form.startswith(text[at:]):
            at = text.find(form[:LEAST], at + 1)
        if at >= 0:
            text = text[:at] + MASK
    return text


USUAL: Final = Masking()
"""Masks what is masked by default, for messages from before a configuration is read."""
