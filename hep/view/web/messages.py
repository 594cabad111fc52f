"""A packet as text: headers as they were sent, and the body. Pure."""

import base64
import re
from typing import Final

from hep.codec.chunks import protocol_name
from hep.sip import COMPACT_FORMS, LINE_ENDS, end_of_head
from hep.view.model.record import Kind, Record
from hep.view.web.models import Header, Message

LONGEST_PAYLOAD: Final = 256 * 1024
"""Bytes of a payload that are shown. A packet of HEP has 64 KiB; inflated ones have more."""

_LINE: Final = re.compile(rb"[^\n]*\n?(?:[ \t][^\n]*\n?)*")
"""A line with those that continue it (RFC 3261 section 7.3.1)."""


def message_of(record: Record, payload: bytes) -> Message:
    r"""Write a packet as text. Bytes that are no UTF-8 are written as ``\xNN``.

    Args:
        record: the packet.
        payload: its payload, or that with its credentials masked.
    """
    shown = payload[:LONGEST_PAYLOAD]
    start_line, body, body_type = "", shown, ""
    headers: list[Header] = []
    if record.kind is Kind.SIP:
        start_line, headers, body = _split(shown)
        body_type = next((h.value for h in headers if _long(h.name) == "content-type"), "")
    elif shown.lstrip()[:1] in (b"{", b"["):
        body_type = "application/json"
    return Message(
        id=record.id,
        at=record.at,
        src=record.src,
        dst=record.dst,
        protocol=protocol_name(record.protocol_type),
        ip_protocol=record.ip_protocol,
        capture_id=record.capture_id,
        node=record.node,
        correlation=record.correlation,
        connection=record.connection,
        start_line=start_line,
        headers=headers,
        body=_text(body),
        body_type=body_type,
        size=len(payload),
        raw=base64.b64encode(shown).decode(),
    )


def _split(message: bytes) -> tuple[str, list[Header], bytes]:
    start = len(message) - len(message.lstrip(LINE_ENDS))
    end = end_of_head(message)
    lines = _LINE.findall(message[start:end])
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if line.strip():
            # A line without a colon is shown as it is.
            name, value = (name.strip(), value.strip()) if colon else (b"", line.strip())
            headers.append(Header(name=_text(name), value=_text(value)))
    return _text(lines[0].strip()), headers, _after(message, end)


def _after(message: bytes, end: int) -> bytes:
    """The body: what stands behind the line end of the last header and the empty line."""
    match = _EMPTY_LINE.match(message, end)
    return message[match.end() :] if match else b""


_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")


def _long(name: str) -> str:
    name = name.lower()
    return COMPACT_FORMS.get(name, name)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
