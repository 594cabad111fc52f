"""Rebuilds the bytes of handshakes, for frameworks that keep only the parsed parts. Pure."""

import base64
import hashlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

Header = tuple[bytes, bytes]

BODY_SHOWN: Final = 8192
"""Bytes of a refusal's body that are traced; the rest of an error page is of no use in Homer."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def rebuilt_request(
    method: bytes, target: bytes, headers: Iterable[Header], version: bytes = b"1.1"
) -> bytes:
    """Rebuild an upgrade request, blank line included.

    Args:
        method: the HTTP method.
        target: path and query.
        headers: in the order in which they came.
        version: the HTTP version.
    """
    return _head(b"%b %b HTTP/%b" % (method, target, version), headers)


def rebuilt_reply(
    status: int, headers: Iterable[Header], body: bytes = b"", reason: bytes | None = None
) -> bytes:
    """Rebuild an answer.

    Args:
        status: the HTTP status.
        headers: in the order in which they are sent.
        body: a long one is cut to `BODY_SHOWN`.
        reason: the reason phrase; by default the standard one.
    """
    if reason is None:
        reason = phrase(status).encode()
    return _head(b"HTTP/1.1 %d %b" % (status, reason), headers) + body[:BODY_SHOWN]


def accept_headers(request_headers: Iterable[Header]) -> list[Header]:
    """Return the headers of every accepting answer (RFC 6455 section 4.2.2)."""
    key = next(
        (text for name, text in request_headers if name.lower() == b"sec-websocket-key"), b""
    )
    digest = hashlib.sha1(key.strip() + _GUID, usedforsecurity=False).digest()
    return [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", base64.b64encode(digest)),
    ]


def phrase(status: int) -> str:
    """Return the reason phrase of a status; empty for an unknown one."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _head(start_line: bytes, headers: Iterable[Header]) -> bytes:
    lines = [start_line, *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
