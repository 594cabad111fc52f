"""The client's opening handshake: the request, and the end and meaning of its answer. Pure.

websockets' engine checks a 101 (RFC 6455 section 4.1). This module adds the check of RFC 7118. It
finds the end of a refusal's body, so that errors can quote it. It reads ``Location`` and
``Retry-After`` of a refusal.
"""

import logging
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI

from sipws.errors import ConfigurationError
from sipws.request import STATUS_LINE, status_of
from sipws.ws.destination import Destination
from sipws.ws.engine import CLIENT_COMPRESSION
from sipws.ws.handshake import SUBPROTOCOL, end_of_request
from sipws.ws.http_head import HeadError, headers_of, lines_of

LONGEST_REPLY: Final = 16 * 1024
"""Maximum bytes of an answer up to its blank line: as much as servers accept of a request."""

LONGEST_BODY: Final = 4 * 1024
"""Bytes that are kept of a refusal's body: a page of text with the reason."""

MOST_INTERIM: Final = 16
"""Maximum interim answers before the final one; their bytes count for `LONGEST_REPLY`. A server
sends one or two (100, 103). The limit ends a handshake that would never end."""

LONGEST_WAIT: Final = 3600.0
"""Maximum seconds of a server's ``Retry-After``. A longer time is cut to this, so that a mistyped
date does not keep a phone away until it is restarted."""

LONGEST_LOCATION: Final = 200
"""Characters of a redirect's target that errors quote."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Status codes of redirects (RFC 9110 section 15.4). The client does not follow them, so that
credentials for one server are not sent to another."""

_RESERVED: Final = frozenset(
    {"connection", "content-length", "host", "origin", "transfer-encoding", "upgrade"}
)
"""Headers that the handshake sets itself, beside all that begin with ``Sec-WebSocket-``."""

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_PRINTABLE: Final = "".join(chr(code) for code in range(0x21, 0x7F))
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_START: Final = b"HTTP/1."
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:[^\n]*chunked", re.IGNORECASE)
_LOCATION: Final = re.compile(rb"\nlocation:[ \t]*([^\r\n]*)", re.IGNORECASE)
_RETRY_AFTER: Final = re.compile(rb"\nretry-after:[ \t]*([^\r\n]*)", re.IGNORECASE)
_DATE: Final = re.compile(rb"\ndate:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LAST_CHUNK: Final = re.compile(rb"(?:\A|\r\n)0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n\Z")


@dataclass(frozen=True, slots=True)
class Offer:
    """What our upgrade requests contain beside the destination.

    Raises:
        ConfigurationError: (on construction) a header or a subprotocol must not be sent.
    """

    subprotocols: tuple[str, ...] = (SUBPROTOCOL,)
    """In order of preference; the server must choose one of them. Empty for peers that are no SIP
    servers; then the server must choose none."""

    origin: str | None = None
    """The ``Origin`` header. Only browsers must send one (RFC 6455 section 4.1), but some servers
    refuse requests without it."""

    headers: tuple[tuple[str, str], ...] = ()
    """More headers, such as ``Authorization`` or ``Cookie``."""

    def __post_init__(self) -> None:
        for subprotocol in self.subprotocols:
            if not _TOKEN.fullmatch(subprotocol):
                raise ConfigurationError(f"subprotocol {subprotocol!r} is not an HTTP token")
        if len(set(self.subprotocols)) != len(self.subprotocols):
            raise ConfigurationError(f"subprotocols {self.subprotocols!r}: each goes in once")
        for name, text in (("Origin", self.origin or ""), *self.headers):
            if not _TOKEN.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
                # The value may be a credential, so the error does not quote it.
                raise ConfigurationError(f"header {name!r} cannot be sent in HTTP as it is")
        for name, _ in self.headers:
            if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
                raise ConfigurationError(f"header {name!r} is the handshake's own; leave it out")


@dataclass(frozen=True, slots=True)
class Head:
    """The part of an answer up to its blank line."""

    status: int
    phrase: str
    size: int
    """Bytes, blank line included."""
    length: int | None
    """The ``Content-Length``, in bytes; None for a body that ends with the connection."""
    chunked: bool


def engine_for(
    destination: Destination,
    offer: Offer,
    longest: int,
    logger: logging.Logger,
    compression: bool = False,
) -> ClientProtocol:
    """Make an engine for the upgrade request to a destination.

    Args:
        destination: where the request goes.
        offer: subprotocols and ``Origin`` of the request.
        longest: maximum bytes of a message.
        logger: the engine's logger.
        compression: whether permessage-deflate is offered (RFC 7692).
    """
    path, _, query = destination.resource.partition("?")
    secure = destination.proto == "wss"
    return ClientProtocol(
        WebSocketURI(secure, destination.host, destination.port, path, query),
        origin=None if offer.origin is None else Origin(offer.origin),
        subprotocols=[Subprotocol(name) for name in offer.subprotocols] or None,
        extensions=CLIENT_COMPRESSION if compression else None,
        max_size=longest,
        logger=logger,
    )


def request_of(engine: ClientProtocol, offer: Offer) -> Request:
    """Make the upgrade request of a connection."""
    request = engine.connect()
    for name, text in offer.headers:
        request.headers[name] = text
    return request


def no_reply(received: bytes | bytearray) -> str | None:
    """Recognise by the first bytes that a server does not answer in HTTP.

    Returns:
        the problem, for a person to read; None while the bytes may be an HTTP answer.
    """
    if not _START.startswith(received[: len(_START)]):
        return "the server does not answer in HTTP"
    if b"\n" in received and not STATUS_LINE.match(received):
        return "the server's answer has no HTTP status line"
    return None


def head_of(received: bytes | bytearray, looked_at: int = 0) -> Head | None:
    """Read the head of an answer that passes `no_reply`.

    Args:
        received: all bytes until now.
        looked_at: bytes in which an earlier call found no end.

    Returns:
        the head; None while it is incomplete.
    """
    size, line = end_of_request(received, looked_at), STATUS_LINE.match(received)
    if size is None or line is None:
        return None
    head = bytes(received[:size])
    length = _LENGTH.search(head)
    return Head(
        status=int(line[1]),
        phrase=(line[2] or b"").decode("latin-1").strip(),
        size=size,
        length=int(length[1]) if length else None,
        chunked=_CHUNKED.search(head) is not None,
    )


def is_whole(head: Head, body: bytes) -> bool:
    """Whether a refusal's body is complete, or at least `LONGEST_BODY` bytes of it have come."""
    if len(body) >= LONGEST_BODY:
        return True
    if head.chunked:
        return _LAST_CHUNK.search(body) is not None
    if head.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return True
    return head.length is not None and len(body) >= head.length


def is_interim(head: Head) -> bool:
    """Whether another answer follows this one (RFC 9110 section 15.2)."""
    return head.status < 200 and head.status != HTTPStatus.SWITCHING_PROTOCOLS


def problem_of(engine: ClientProtocol, head: bytes) -> str | None:
    """Let the engine check a 101.

    Args:
        engine: the engine that made the request.
        head: the answer, up to and including its blank line.

    Returns:
        the problem, for a person to read; None when the connection is open now.
    """
    try:
        lines = lines_of(head)
        if not lines[0].startswith(b"HTTP/1.1 "):
            raise HeadError("unsupported protocol; expected HTTP/1.1")
        response = Response(HTTPStatus.SWITCHING_PROTOCOLS, "", headers_of(lines))
        engine.process_response(response)
    except (HeadError, InvalidHandshake) as exc:
        return f"the server's answer is not valid: {exc}"
    engine.state = State.OPEN
    if engine.available_subprotocols and engine.subprotocol is None:
        offered = ", ".join(map(repr, engine.available_subprotocols))
        return f"the server chose none of the subprotocols offered: {offered}"
    return None


def location_of(reply: bytes) -> str | None:
    """The target of a redirect, for a person to read.

    The query, the fragment and the part before an ``@`` are left out: they may be credentials.
    Characters that are not printable are percent-encoded.

    Args:
        reply: the answer; bytes behind its blank line are not read.

    Returns:
        the target, at most `LONGEST_LOCATION` characters; None for an answer that is no
        redirect.
    """
    if status_of(reply) not in REDIRECTS:
        return None
    if (found := _LOCATION.search(_head_in(reply))) is None:
        return None
    place = re.split(rb"[?#]", found[1].strip(b" \t"), maxsplit=1)[0]
    shown = re.sub(r"[^/\\]*@", "***@", quote(place, safe=_PRINTABLE))
    if len(shown) > LONGEST_LOCATION:
        shown = f"{shown[:LONGEST_LOCATION]}…"
    return shown or None


def retry_after_of(reply: bytes, now: float) -> float | None:
    """The ``Retry-After`` of a server that refused (RFC 9110 section 10.2.3).

    Args:
        reply: the answer; bytes behind its blank line are not read.
        now: the time, in seconds since the epoch. The server's ``Date`` takes precedence.

    Returns:
        seconds, 0 to `LONGEST_WAIT`; None without a valid ``Retry-After``.
    """
    head = _head_in(reply)
    if (found := _RETRY_AFTER.search(head)) is None:
        return None
    asked = found[1].strip(b" \t")
    if asked.isdigit():
        # A number of more than 20 digits exceeds the maximum anyway.
        return min(float(asked[:20]), LONGEST_WAIT)
    then = _seconds_of(asked)
    if then is None:
        return None
    own = _DATE.search(head)
    begin = _seconds_of(own[1].strip(b" \t")) if own else None
    return min(max(0.0, then - (now if begin is None else begin)), LONGEST_WAIT)


def _head_in(reply: bytes) -> bytes:
    size = end_of_request(reply)
    return reply if size is None else reply[:size]


def _seconds_of(date: bytes) -> float | None:
    """An HTTP date as seconds since the epoch."""
    try:
        return parsedate_to_datetime(date[:64].decode("latin-1")).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
