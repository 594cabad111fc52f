"""The opening handshake as a decision: bytes of an upgrade request in, an answer out. Pure.

websockets' engine checks what RFC 6455 section 4.2.1 asks; this module adds what RFC 7118
section 4 asks (the subprotocol ``sip``), gives each mistake its own HTTP status, and tells as
early as it can that something is no HTTP at all.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from websockets.exceptions import (
    InvalidMessage,
    InvalidUpgrade,
    NegotiationError,
    SecurityError,
)
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from sipws.events import ErrorKind

SUBPROTOCOL: Final = Subprotocol("sip")
"""The WebSocket subprotocol of RFC 7118."""

VERSION: Final = "13"
"""The WebSocket version of RFC 6455."""

_STATUS: Final = {
    ErrorKind.NOT_HTTP: HTTPStatus.BAD_REQUEST,
    ErrorKind.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorKind.NO_UPGRADE: HTTPStatus.UPGRADE_REQUIRED,
    ErrorKind.BAD_VERSION: HTTPStatus.UPGRADE_REQUIRED,
    ErrorKind.NO_SUBPROTOCOL: HTTPStatus.BAD_REQUEST,
    ErrorKind.REQUEST_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ErrorKind.HANDSHAKE_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    ErrorKind.SHUTTING_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKind.TOO_MANY_CONNECTIONS: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorKind.TOO_MANY_FROM_ADDRESS: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorKind.TOO_FAST: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorKind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorKind.HOST_REFUSED: HTTPStatus.MISDIRECTED_REQUEST,
    ErrorKind.ORIGIN_REFUSED: HTTPStatus.FORBIDDEN,
}
"""The HTTP status of each refusal, unless the refusal names a closer one."""

_HEADERS: Final[dict[ErrorKind, tuple[tuple[str, str], ...]]] = {
    ErrorKind.NO_UPGRADE: (("Upgrade", "websocket"),),
    # RFC 6455 section 4.4: the answer lists the versions that would do.
    ErrorKind.BAD_VERSION: (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)),
    ErrorKind.NO_SUBPROTOCOL: (("Sec-WebSocket-Protocol", SUBPROTOCOL),),
}
"""Headers that tell a client what would have been accepted."""

_END_OF_REQUEST: Final = re.compile(rb"\r?\n\r?\n")
_BEFORE_ITS_END: Final = len(b"\r\n\r\n") - 1
"""Bytes of a blank line that may have come before the rest of it."""
_METHOD: Final = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_HEADER_LINE: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r?")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ \S+ HTTP/\d\.\d\r?\n")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a handshake is refused."""

    kind: ErrorKind
    detail: str
    """For a person to read; it is part of the answer's body."""

    status: HTTPStatus | None = None
    """Where the kind's usual status is not the closest one."""

    headers: tuple[tuple[str, str], ...] = ()


NOT_AN_UPGRADE: Final = Refusal(
    ErrorKind.NO_UPGRADE,
    "this is a SIP over WebSocket server (RFC 7118); connect with a WebSocket client",
)
"""The answer to a request that asks for no WebSocket."""


def end_of_request(received: bytes | bytearray, looked_at: int = 0) -> int | None:
    """How many bytes the upgrade request has, blank line included; None while it is incomplete.

    Args:
        received: all that has come.
        looked_at: how much of it had no end when it was asked last. A request that trickles in
            byte by byte would else be read from its start for each of them.
    """
    match = _END_OF_REQUEST.search(received, max(0, looked_at - _BEFORE_ITS_END))
    return match.end() if match else None


def no_http(received: bytes | bytearray) -> str | None:
    """Tell from the first bytes that this will never be HTTP.

    Returns:
        what it is instead, for a person to read; None while it still may be HTTP.
    """
    if received[:1] == b"\x16":
        return "a TLS handshake on a plain ws listener; use a ws: URL or a wss listener"
    if received and not _METHOD.match(received):
        return "not an HTTP request"
    if b"\n" in received and not _REQUEST_LINE.match(received):
        if received.partition(b"\n")[0].rstrip().endswith(b"SIP/2.0"):
            return "SIP without a WebSocket around it; use a WebSocket client"
        return "no HTTP request line"
    return None


def answer(engine: ServerProtocol, raw: bytes) -> Response | Refusal:
    """Decide on a complete upgrade request.

    Args:
        engine: the connection's engine, in its first state; it is fed the request.
        raw: the upgrade request, up to and including its blank line.

    Returns:
        the 101 to send with the engine, or why there is none; see `refuse`.
    """
    engine.receive_data(raw)
    request = next(iter(engine.events_received()), None)
    if not isinstance(request, Request):
        return _refusal(engine.handshake_exc, None, raw)
    if refusal := _examine(request):
        return refusal
    response = engine.accept(request)
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return response
    return _refusal(engine.handshake_exc, response, raw)


def refuse(engine: ServerProtocol, refusal: Refusal) -> Response:
    """The answer that a refusal gets."""
    status = refusal.status or _STATUS[refusal.kind]
    response = engine.reject(status, f"{refusal.detail}\n")
    for name, text in (*_HEADERS.get(refusal.kind, ()), *refusal.headers):
        response.headers[name] = text
    return response


def _examine(request: Request) -> Refusal | None:
    """The checks that the engine leaves to its user, or answers with another status."""
    hosts = request.headers.get_all("Host")
    if len(hosts) != 1:
        # RFC 9112 section 3.2: 400 to a request without a Host, or with more than one.
        return Refusal(ErrorKind.BAD_REQUEST, "an HTTP/1.1 request has exactly one Host header")
    versions = request.headers.get_all("Sec-WebSocket-Version")
    if versions and versions != [VERSION] and "Upgrade" in request.headers:
        return Refusal(
            ErrorKind.BAD_VERSION,
            f"WebSocket version {', '.join(versions)!r} is not supported, only {VERSION}",
        )
    return None


def what_is_wrong(exc: Exception, raw: bytes) -> str:
    """What the engine says of a request or an answer, for a person to read.

    It quotes what it could not read. That may be a credential, so the place is told instead.

    Args:
        exc: the engine's exception.
        raw: what it was given.
    """
    if not isinstance(exc, InvalidMessage) or exc.__cause__ is None:
        return str(exc)
    problem = str(exc.__cause__).partition(": ")[0]
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\n")
    for number, line in enumerate(lines[1:], 2):
        if not _HEADER_LINE.fullmatch(line):
            return f"{problem} (line {number})"
    return problem


def _refusal(exc: Exception | None, response: Response | None, raw: bytes) -> Refusal:
    """What the engine's exception means for the peer."""
    match exc:
        case SecurityError():
            return Refusal(ErrorKind.REQUEST_TOO_LARGE, f"the upgrade request is too large: {exc}")
        case InvalidMessage():
            detail = f"invalid HTTP request: {what_is_wrong(exc, raw)}"
            return Refusal(ErrorKind.BAD_REQUEST, detail)
        case InvalidUpgrade():
            return NOT_AN_UPGRADE
        case NegotiationError():
            return Refusal(
                ErrorKind.NO_SUBPROTOCOL,
                f"the WebSocket subprotocol {SUBPROTOCOL!r} must be offered (RFC 7118 section 4)",
            )
        case _ if response is not None:
            status = HTTPStatus(response.status_code)
            extra = _kept(response, ("Allow",))
            detail = f"not a valid upgrade request: {exc}"
            return Refusal(ErrorKind.BAD_REQUEST, detail, status, tuple(extra))
        case _:
            return Refusal(ErrorKind.BAD_REQUEST, "not a valid upgrade request")


def _kept(response: Response, names: Iterable[str]) -> Iterable[tuple[str, str]]:
    return ((name, response.headers[name]) for name in names if name in response.headers)
