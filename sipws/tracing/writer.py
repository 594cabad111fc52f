"""From an event to the payload of its packet: masked, and in the format of a destination. Pure.

Nearly every handshake is like one before, but for the keys and the date, and every close but for
its numbers. What is the same is masked and written once, for that is half of what the trace of a
connection costs. It is equal to doing it each time, which is a property test.
"""

import re
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from sipws.events import Accepted, Closed, Connected, Connection, ConnectionEvent, ErrorOccurred
from sipws.masking.handshakes import E, Masking
from sipws.masking.sip_messages import Scope, in_quote
from sipws.tracing.payloads import PAYLOADS, Parts, as_homer5, as_json

LONGEST_PAYLOAD: Final = 60_000
"""Bytes of a payload of parts: a longer one would not fit a packet and a datagram, and cut it would
be no JSON."""

LONGEST_TEXTS: Final = (4_000, 1_000, 250)
"""Characters that are left of each part of a longer payload: the first of these with which it is
short enough. No browser's request is that long: it takes a large request of binary garbage, each
byte of which takes six in JSON. A payload has some twenty parts, so that with the last it always
is."""

REMEMBERED: Final = 256
"""Payloads that are remembered without what changes in them."""

LONGEST_REMEMBERED: Final = 4_000
"""Bytes of each: with what they are found by, all of them take some megabytes at most."""

_KEY: Final = b"\r\nSec-WebSocket-Key: "
_DATE: Final = b"\r\nDate: "
_ACCEPT: Final = b"\r\nSec-WebSocket-Accept: "
_KEY_SIZE, _DATE_SIZE, _ACCEPT_SIZE = 24, 29, 28
_FORM_OF_DATES: Final = re.compile(
    rb"[A-Z][a-z][a-z], \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d GMT"
)

_DURATION: Final = 100_000_000_001.25
_MESSAGES_IN, _MESSAGES_OUT, _BYTES_IN, _BYTES_OUT = range(100_000_000_002, 100_000_000_006)
"""Numbers that are in no close, where those stand that change from close to close."""


class Writer:
    """Writes the payloads for a destination.

    Args:
        masking: keeps the credentials of handshakes out of them; None leaves them as they are.
        mask_sip: which credentials of SIP messages that are quoted are kept out of them.
        homer5: whether payloads are colon-joined text rather than JSON (OpenSIPS ``homer5_on``).
        delimiter: what stands in place of the colon (OpenSIPS ``homer5_delim``).
    """

    def __init__(
        self,
        masking: Masking | None = None,
        *,
        mask_sip: Scope = "tokens",
        homer5: bool = False,
        delimiter: str = ":",
    ) -> None:
        self._masking = masking
        self._mask_sip = mask_sip
        self._homer5 = homer5
        self._delimiter = delimiter
        self._templates: dict[tuple[object, ...], bytes] = {}

    def event(self, event: ConnectionEvent, remark: str = "") -> bytes:
        """The payload of an event, of one of the types in `PAYLOADS`.

        Args:
            event: what happened.
            remark: what is to be known of the filter's decision about the connection.
        """
        if not remark:
            if isinstance(event, (Accepted, Connected)):
                return self._handshake(event)
            if isinstance(event, Closed) and not event.reason and not self._homer5:
                return self._close(event)
        return self._unlike_others(self.masked(event), remark)

    def parts(self, parts: Parts, remark: str = "") -> bytes:
        """The payload of these parts, which are shortened where it would be too long."""
        if remark:
            parts = parts.with_part("Filter-Remark", remark)
        payload = self._written(parts)
        for longest in LONGEST_TEXTS:
            if len(payload) <= LONGEST_PAYLOAD:
                break
            payload = self._written(parts.shortened(longest))
        return payload

    def masked(self, event: E) -> E:
        """An event without credentials."""
        if isinstance(event, ErrorOccurred) and event.excerpt:
            quoted = event.excerpt.decode("utf-8", "backslashreplace")
            event = replace(event, excerpt=in_quote(quoted, self._mask_sip).encode())
        return event if self._masking is None else self._masking.event(event)

    def told(self, connection: Connection, text: str) -> str:
        """A text that may quote the handshake of its connection, without credentials."""
        return text if self._masking is None else self._masking.about(connection, text)

    def quoted(self, connection: Connection, message: str) -> str:
        """A message, or a part of one, without credentials of its own and of its connection."""
        return self.told(connection, in_quote(message, self._mask_sip))

    def _written(self, parts: Parts) -> bytes:
        return as_homer5(parts, self._delimiter) if self._homer5 else as_json(parts)

    def _unlike_others(self, masked: ConnectionEvent, remark: str = "") -> bytes:
        return self.parts(PAYLOADS[type(masked)](masked), remark)

    def _handshake(self, event: Accepted | Connected) -> bytes:
        """The payload of a handshake that succeeded, which may be like one before."""
        request, reply = event.request, event.reply
        key_at = request.find(_KEY) + len(_KEY)
        date_at = reply.find(_DATE) + len(_DATE)
        accept_at = reply.find(_ACCEPT) + len(_ACCEPT)
        key_end = key_at + _KEY_SIZE
        date_end = date_at + _DATE_SIZE
        accept_end = accept_at + _ACCEPT_SIZE
        key = request[key_at:key_end]
        date = reply[date_at:date_end]
        accept = reply[accept_at:accept_end]
        if not _are_usual(key, date, accept):
            return self._unlike_others(self.masked(event))
        around = (
            request[:key_at],
            request[key_end:],
            reply[:date_at],
            reply[date_end:accept_at],
            reply[accept_end:],
        )
        kind = type(event), event.connection.listener.proto, around
        template = self._templates.get(kind)
        if template is not None:
            return template % (key, date, accept)
        masked = self.masked(event)
        written = self._unlike_others(masked)
        if masked is event and _stand_alone(*around):
            self._remember(kind, written, {key: b"%b", date: b"%b", accept: b"%b"})
        return written

    def _close(self, event: Closed) -> bytes:
        """The payload of a close for which no reason was given."""
        kind = event.connection.listener.proto, event.code, event.closed_by, event.clean
        template = self._templates.get(kind)
        if template is None:
            like_it = replace(
                event,
                duration=_DURATION,
                messages_in=_MESSAGES_IN,
                messages_out=_MESSAGES_OUT,
                bytes_in=_BYTES_IN,
                bytes_out=_BYTES_OUT,
            )
            numbers = _MESSAGES_IN, _MESSAGES_OUT, _BYTES_IN, _BYTES_OUT
            places = {b"%.3f" % _DURATION: b"%.3f"} | {b"%d" % each: b"%d" for each in numbers}
            template = self._remember(kind, self._unlike_others(like_it), places)
        if template is None:
            return self._unlike_others(event)
        return template % (
            event.duration,
            event.messages_in,
            event.messages_out,
            event.bytes_in,
            event.bytes_out,
        )

    def _remember(
        self, kind: tuple[object, ...], written: bytes, places: Mapping[bytes, bytes]
    ) -> bytes | None:
        """Remember a payload without what changes in it.

        Args:
            kind: what it is found by.
            written: the payload.
            places: what changes, in the order in which it stands there, and how it is written.

        Returns:
            the template; None where it cannot be told what changes.
        """
        if len(written) > LONGEST_REMEMBERED or any(written.count(each) != 1 for each in places):
            return None
        template = written.replace(b"%", b"%%")
        for each, form in places.items():
            template = template.replace(each, form)
        if len(self._templates) >= REMEMBERED:
            self._templates.clear()
        self._templates[kind] = template
        return template


@lru_cache(4)
def _is_date(text: bytes) -> bool:
    """Whether this is a date (RFC 9110 section 5.6.7).

    Letters, digits and colons alone make none: so is a token written, and a SIP URI with a
    password. A second sees many handshakes.
    """
    return _FORM_OF_DATES.fullmatch(text) is not None


def _are_usual(key: bytes, date: bytes, accept: bytes) -> bool:
    """Whether nothing in these is to be masked or to be quoted."""
    if not _is_date(date):
        return False
    try:
        key_size = len(a2b_base64(key, strict_mode=True))
        accept_size = len(a2b_base64(accept, strict_mode=True))
    except ValueError:
        return False
    return key_size == 16 and accept_size == 20


def _stand_alone(
    before_key: bytes, behind_key: bytes, before_date: bytes, behind_date: bytes, behind: bytes
) -> bool:
    """Whether key, date and accept are each the whole of their header."""
    return (
        before_key.endswith(_KEY)
        and before_date.endswith(_DATE)
        and behind_date.endswith(_ACCEPT)
        and not any(
            each.startswith((b"\r\n ", b"\r\n\t")) or not each.startswith(b"\r\n")
            for each in (behind_key, behind_date, behind)
        )
    )
