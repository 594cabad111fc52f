"""The opening handshake from the client's side: what is offered, and where an answer ends. Pure.

Whether a 101 is right, websockets' engine says (RFC 6455 section 4.1); this module adds what RFC
7118 asks, finds the end of a refusal's body so that it can be told whole, and reads of a refusal
where else to go and when to come back.
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
from sipws.ws.destination import Destination
from sipws.ws.engine import CLIENT_COMPRESSION
from sipws.ws.handshake import SUBPROTOCOL, end_of_request
from sipws.ws.http_head import HeadError, headers_of, lines_of

LONGEST_REPLY: Final = 16 * 1024
"""Bytes of an answer up to its blank line: as much as servers take of a request."""

LONGEST_BODY: Final = 4 * 1024
"""Bytes that are kept of a refusal's body: a page of text that says why."""

MOST_INTERIM: Final = 16
"""Interim answers that may come before the final one; their bytes count for `LONGEST_REPLY`. A
server sends one or two (100, 103); one that never ends is none."""

LONGEST_WAIT: Final = 3600.0
"""Seconds that a server may ask to be left alone for (``Retry-After``). Of a longer time so much is
heeded: a date that was mistyped is not to keep a phone away until somebody starts it again."""

LONGEST_LOCATION: Final = 200
"""Characters of a redirect's target that are told."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Answers that say where else to go (RFC 9110 section 15.4). Nothing follows them by itself: what
logs in here is not to be sent there."""

_RESERVED: Final = frozenset(
    {"connection", "content-length", "host", "origin", "transfer-encoding", "upgrade"}
)
"""Headers that are the handshake's own, as are all that begin with ``Sec-WebSocket-``."""

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_PRINTABLE: Final = "".join(chr(code) for code in range(0x21, 0x7F))
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r?\n")
_START: Final = b"HTTP/1."
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:[^\n]*chunked", re.IGNORECASE)
_LOCATION: Final = re.compile(rb"\nlocation:[ \t]*([^\r\n]*)", re.IGNORECASE)
_RETRY_AFTER: Final = re.compile(rb"\nretry-after:[ \t]*([^\r\n]*)", re.IGNORECASE)
_DATE: Final = re.compile(rb"\ndate:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LAST_CHUNK: Final = re.compile(rb"(?:\A|\r\n)0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n\Z")


@dataclass(frozen=True, slots=True)
class Offer:
    """What our upgrade requests hold beside the destination.

    Raises:
        ConfigurationError: (on construction) a header or a subprotocol that may not be sent.
    """

    subprotocols: tuple[str, ...] = (SUBPROTOCOL,)
    """In order of preference; the server must choose one of them. With none, it must choose none:
    for peers that are no SIP servers."""

    origin: str | None = None
    """Only browsers must send one (RFC 6455 section 4.1); some servers refuse who does not."""

    headers: tuple[tuple[str, str], ...] = ()
    """More headers, such as ``Authorization`` or ``Cookie``."""

    def __post_init__(self) -> None:
        for subprotocol in self.subprotocols:
            if not _TOKEN.fullmatch(subprotocol):
                raise ConfigurationError(f"subprotocol {subprotocol!r} is no HTTP token")
        if len(set(self.subprotocols)) != len(self.subprotocols):
            raise ConfigurationError(f"subprotocols {self.subprotocols!r}: each goes in once")
        for name, text in (("Origin", self.origin or ""), *self.headers):
            if not _TOKEN.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
                # Without the value, which may be a credential.
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
    """Bytes that the body is said to have; None where it goes on to the connection's end."""
    chunked: bool


def engine_for(
    destination: Destination,
    offer: Offer,
    longest: int,
    logger: logging.Logger,
    compression: bool = False,
) -> ClientProtocol:
    """An engine that will send an upgrade request to this place."""
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
    """The upgrade request of a connection."""
    request = engine.connect()
    for name, text in offer.headers:
        request.headers[name] = text
    return request


def no_reply(received: bytes | bytearray) -> str | None:
    """Tell from the first bytes that this will never be an HTTP answer.

    Returns:
        what is wrong, for a person to read; None while it still may become one.
    """
    if not _START.startswith(received[: len(_START)]):
        return "the server does not answer in HTTP"
    if b"\n" in received and not _STATUS_LINE.match(received):
        return "the server's answer has no HTTP status line"
    return None


def head_of(received: bytes | bytearray, looked_at: int = 0) -> Head | None:
    """The head of an answer that `no_reply` lets pass; None while it is incomplete.

    Args:
        received: all that has come.
        looked_at: how much of it was incomplete when it was asked last.
    """
    size, line = end_of_request(received, looked_at), _STATUS_LINE.match(received)
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
    """Whether a refusal's body has come, or as much of it as is kept."""
    if len(body) >= LONGEST_BODY:
        return True
    if head.chunked:
        return _LAST_CHUNK.search(body) is not None
    if head.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return True
    return head.length is not None and len(body) >= head.length


def is_interim(head: Head) -> bool:
    """Whether another answer comes behind this one (RFC 9110 section 15.2)."""
    return head.status < 200 and head.status != HTTPStatus.SWITCHING_PROTOCOLS


def problem_of(engine: ClientProtocol, head: bytes) -> str | None:
    """Hand the engine a 101, up to and including its blank line.

    Returns:
        what is wrong with it, for a person to read; None where the connection is open now.
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
    """Where a redirect leads to, for a person to read; None for an answer that is none.

    Neither query nor fragment are told, nor what stands before an ``@``: these may be credentials.
    Anything that is not printable is written with a percent sign.

    Args:
        reply: the answer; what stands behind its blank line is not looked at.
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
    """For how long a server that refused asks to be left alone (RFC 9110 section 10.2.3).

    Args:
        reply: the answer; what stands behind its blank line is not looked at.
        now: the time, in seconds since the epoch. Where the server tells its own, that counts.

    Returns:
        seconds, 0 to `LONGEST_WAIT`; None where it does not ask, or not in a way that is known.
    """
    head = _head_in(reply)
    if (found := _RETRY_AFTER.search(head)) is None:
        return None
    asked = found[1].strip(b" \t")
    if asked.isdigit():
        # More digits than these are more than the longest wait.
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


def status_of(reply: bytes) -> int | None:
    """The HTTP status of an answer; None for what is none."""
    line = _STATUS_LINE.match(reply)
    return int(line[1]) if line else None
