"""From an event to the payload of its packet: masked, in the format of a destination. Pure.

Most handshakes differ from an earlier one only in keys and date, and most closes only in numbers.
The equal parts are masked and written once and remembered: masking and writing are half the cost of
tracing a connection. A property test compares the result with writing each payload again.
"""

import re
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final, Self

from sipws.events import Accepted, Closed, Connected, Connection, ConnectionEvent, ErrorOccurred
from sipws.masking.handshakes import E, Masking
from sipws.masking.sip_messages import Scope, in_quote
from sipws.tracing.payloads import (
    PAYLOADS,
    Keys,
    Part,
    Parts,
    as_homer5,
    as_json,
    with_members,
)
from sipws.tracing.trace_settings import TraceSettings

LONGEST_PAYLOAD: Final = 60_000
"""Bytes of a payload of parts. A longer one would not fit a datagram, and a cut one is not JSON."""

LONGEST_TEXTS: Final = (4_000, 1_000, 250)
"""Characters that each part of a longer payload keeps: the first number that makes it short enough.
No browser's request is that long; a large request of binary garbage is, because each of its bytes
takes six in JSON. A payload has some twenty parts, so the last number always suffices."""

REMEMBERED: Final = 256
"""Payloads that are remembered as templates."""

LONGEST_REMEMBERED: Final = 4_000
"""Bytes of each template: all of them, with their keys, take some megabytes at most."""

_KEY: Final = b"\r\nSec-WebSocket-Key: "
_DATE: Final = b"\r\nDate: "
_ACCEPT: Final = b"\r\nSec-WebSocket-Accept: "
_KEY_SIZE, _DATE_SIZE, _ACCEPT_SIZE = 24, 29, 28
_FORM_OF_DATES: Final = re.compile(
    rb"[A-Z][a-z][a-z], \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d GMT"
)

_DURATION: Final = 100_000_000_001.25
_MESSAGES_IN, _MESSAGES_OUT, _BYTES_IN, _BYTES_OUT = range(100_000_000_002, 100_000_000_006)
"""Numbers that occur in no close. They mark the numbers that change from close to close."""


class Writer:
    """Writes the payloads for a destination.

    Args:
        masking: removes the credentials of handshakes; None keeps them.
        mask_sip: which credentials are removed from quoted SIP messages.
        homer5: whether payloads are colon-joined text rather than JSON (OpenSIPS ``homer5_on``).
        delimiter: replaces the colon (OpenSIPS ``homer5_delim``).
        keys: how the names of JSON members are written that OpenSIPS does not send.
    """

    def __init__(
        self,
        masking: Masking | None = None,
        *,
        mask_sip: Scope = "tokens",
        homer5: bool = False,
        delimiter: str = ":",
        keys: Keys = "underscore",
    ) -> None:
        self._masking = masking
        self._mask_sip = mask_sip
        self._homer5 = homer5
        self._delimiter = delimiter
        self._keys: Keys = keys
        self._templates: dict[tuple[object, ...], bytes] = {}

    @classmethod
    def of(cls, settings: TraceSettings) -> Self:
        """Make the writer that settings ask for."""
        return cls(
            settings.masking,
            mask_sip=settings.mask_sip,
            homer5=settings.homer5,
            delimiter=settings.homer5_delimiter,
            keys=settings.keys,
        )

    def event(self, event: ConnectionEvent, more: tuple[Part, ...] = ()) -> bytes:
        """Write the payload of an event.

        Args:
            event: one of the types in `PAYLOADS`.
            more: parts that follow those of the event, without credentials.
        """
        if isinstance(event, (Accepted, Connected)):
            return self._handshake(event, more)
        if isinstance(event, Closed) and not event.reason and not self._homer5:
            return self._close(event, more)
        return self._unlike_others(self.masked(event), more)

    def parts(self, parts: Parts, more: tuple[Part, ...] = ()) -> bytes:
        """Write the payload of parts. Their texts are shortened if it is too long.

        Args:
            parts: of the payload.
            more: parts that follow them.
        """
        if more:
            parts = parts.with_parts(more)
        payload = self._written(parts)
        for longest in LONGEST_TEXTS:
            if len(payload) <= LONGEST_PAYLOAD:
                break
            payload = self._written(parts.shortened(longest))
        return payload

    def masked(self, event: E) -> E:
        """Return an event without credentials."""
        if isinstance(event, ErrorOccurred) and event.excerpt:
            quoted = event.excerpt.decode("utf-8", "backslashreplace")
            event = replace(event, excerpt=in_quote(quoted, self._mask_sip).encode())
        return event if self._masking is None else self._masking.event(event)

    def masked_text(self, connection: Connection, text: str) -> str:
        """Remove credentials from a text that may quote the handshake of its connection."""
        return text if self._masking is None else self._masking.about(connection, text)

    def quoted(self, connection: Connection, message: str) -> str:
        """Remove credentials from a message or a part of one: its own and its connection's."""
        return self.masked_text(connection, in_quote(message, self._mask_sip))

    def _written(self, parts: Parts) -> bytes:
        return as_homer5(parts, self._delimiter) if self._homer5 else as_json(parts, self._keys)

    def _unlike_others(self, masked: ConnectionEvent, more: tuple[Part, ...] = ()) -> bytes:
        return self.parts(PAYLOADS[type(masked)](masked), more)

    def _like_others(self, payload: bytes, event: ConnectionEvent, more: tuple[Part, ...]) -> bytes:
        """Add further parts to a payload that a template gave."""
        if not more or self._homer5:
            return payload
        longer = with_members(payload, more, self._keys)
        if len(longer) <= LONGEST_PAYLOAD:
            return longer
        return self._unlike_others(self.masked(event), more)

    def _handshake(self, event: Accepted | Connected, more: tuple[Part, ...]) -> bytes:
        """Write the payload of a successful handshake, from a template if there is one."""
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
            return self._unlike_others(self.masked(event), more)
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
            return self._like_others(template % (key, date, accept), event, more)
        masked = self.masked(event)
        if masked is event and _stand_alone(*around):
            written = self._unlike_others(masked)
            self._remember(kind, written, {key: b"%b", date: b"%b", accept: b"%b"})
            return self._like_others(written, event, more)
        return self._unlike_others(masked, more)

    def _close(self, event: Closed, more: tuple[Part, ...]) -> bytes:
        """Write the payload of a close without a reason, from a template if there is one."""
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
            return self._unlike_others(event, more)
        payload = template % (
            event.duration,
            event.messages_in,
            event.messages_out,
            event.bytes_in,
            event.bytes_out,
        )
        return self._like_others(payload, event, more)

    def _remember(
        self, kind: tuple[object, ...], written: bytes, places: Mapping[bytes, bytes]
    ) -> bytes | None:
        """Make and remember the template of a payload.

        Args:
            kind: the key of the template.
            written: the payload.
            places: the values that change, in their order in the payload, and their formats.

        Returns:
            the template; None if the payload is too long or a value occurs not exactly once.
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

    The whole form is checked: a token and a SIP URI with a password consist of letters, digits and
    colons too. The cache helps because many handshakes happen within a second.
    """
    return _FORM_OF_DATES.fullmatch(text) is not None


def _are_usual(key: bytes, date: bytes, accept: bytes) -> bool:
    """Whether key, date and accept are well formed, and so need neither masking nor escaping."""
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
    """Whether key, date and accept are each the whole value of their header.

    Args:
        before_key: the request up to the key.
        behind_key: the rest of the request.
        before_date: the reply up to the date.
        behind_date: the reply from there to the accept key.
        behind: the rest of the reply.
    """
    return (
        before_key.endswith(_KEY)
        and before_date.endswith(_DATE)
        and behind_date.endswith(_ACCEPT)
        and not any(
            each.startswith((b"\r\n ", b"\r\n\t")) or not each.startswith(b"\r\n")
            for each in (behind_key, behind_date, behind)
        )
    )
