"""The server's opening handshake: bytes of an upgrade request in, an answer out. Pure.

This module reads the request (RFC 9112) within the limits of its listener. websockets' engine
checks RFC 6455 section 4.2.1. This module adds RFC 7118 section 4 (the subprotocol ``sip``), gives
each error its own HTTP status, and recognises as early as possible that a peer does not send HTTP.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from websockets.exceptions import InvalidUpgrade, NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from sipws.address import is_authority
from sipws.events import ErrorKind
from sipws.limits import Limits
from sipws.ws.http_head import HeadError, headers_of, lines_of

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

# RFC 9110 section 7.8: a sender of Upgrade also lists it in Connection.
_UPGRADE: Final = (("Upgrade", "websocket"), ("Connection", "upgrade, close"))

_HEADERS: Final[dict[ErrorKind, tuple[tuple[str, str], ...]]] = {
    ErrorKind.NO_UPGRADE: _UPGRADE,
    # RFC 6455 section 4.4: the answer lists the supported versions.
    ErrorKind.BAD_VERSION: (*_UPGRADE, ("Sec-WebSocket-Version", VERSION)),
    ErrorKind.NO_SUBPROTOCOL: (("Sec-WebSocket-Protocol", SUBPROTOCOL),),
}
"""Headers that name what the server would have accepted."""

_END_OF_REQUEST: Final = re.compile(rb"\r?\n\r?\n")
_BEFORE_ITS_END: Final = len(b"\r\n\r\n") - 1
"""Bytes of a blank line that an earlier read may have ended with."""
_METHOD: Final = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_REQUEST_LINE: Final = re.compile(rb"[A-Z]+ \S+ HTTP/\d\.\d\r?\n")
_TARGET: Final = re.compile(rb"[!-~]+")
_ABSOLUTE: Final = re.compile(r"(?:https?|wss?)://([^/?]*)", re.IGNORECASE)
_SHOWN: Final = 64
"""Characters of a wrong value that the refusal quotes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a handshake is refused."""

    kind: ErrorKind
    detail: str
    """The reason, for a person to read; the answer's body contains it."""

    status: HTTPStatus | None = None
    """The HTTP status; None for the usual one of the kind."""

    headers: tuple[tuple[str, str], ...] = ()


NOT_AN_UPGRADE: Final = Refusal(
    ErrorKind.NO_UPGRADE,
    "this is a SIP over WebSocket server (RFC 7118); connect with a WebSocket client",
)
"""The answer to a request that asks for no WebSocket."""


def end_of_request(received: bytes | bytearray, looked_at: int = 0) -> int | None:
    """Find the end of the upgrade request.

    Args:
        received: all bytes until now.
        looked_at: bytes in which an earlier call found no end. The search starts there, so that a
            request that comes byte by byte costs no more than one in one read.

    Returns:
        bytes of the request, blank line included; None while it is incomplete.
    """
    match = _END_OF_REQUEST.search(received, max(0, looked_at - _BEFORE_ITS_END))
    return match.end() if match else None


def no_http(received: bytes | bytearray) -> str | None:
    """Recognise by the first bytes that a peer does not send HTTP.

    Returns:
        what the peer sends instead, for a person to read; None while it may be HTTP.
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


def answer(engine: ServerProtocol, raw: bytes, limits: Limits) -> Response | Refusal:
    """Decide on a complete upgrade request.

    Args:
        engine: the connection's engine, in its initial state.
        raw: the upgrade request, up to and including its blank line.
        limits: bounds for its lines. The caller has checked the total length.

    Returns:
        the 101 to send with the engine, or a refusal for `refuse`.
    """
    request = read_request(raw, limits)
    if isinstance(request, Refusal):
        return request
    if refusal := _examine(request):
        return refusal
    response = engine.accept(request)
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return response
    return _refusal(engine.handshake_exc, response)


def read_request(raw: bytes, limits: Limits) -> Request | Refusal:
    """Read an upgrade request; the checks of the engine are not repeated.

    Args:
        raw: the request, up to and including its blank line.
        limits: bounds for the length and the number of its lines.

    Returns:
        the request, or a refusal of a request that is not valid HTTP.
    """
    try:
        lines = lines_of(raw)
        if refusal := _too_large(lines, limits):
            return refusal
        method, target, protocol = _request_line(lines[0])
        if protocol != "HTTP/1.1":
            # RFC 6455 section 4.1: the request is HTTP/1.1. HTTP/1.0 needs no Host.
            return Refusal(
                ErrorKind.BAD_REQUEST,
                f"{protocol} cannot be upgraded; a WebSocket is asked for in HTTP/1.1",
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
            )
        if method != "GET":
            return Refusal(
                ErrorKind.BAD_REQUEST,
                f"a WebSocket is asked for with GET, not with {method}",
                HTTPStatus.METHOD_NOT_ALLOWED,
                (("Allow", "GET"),),
            )
        headers = headers_of(lines)
    except HeadError as exc:
        return Refusal(ErrorKind.BAD_REQUEST, f"invalid HTTP request: {exc}")
    # Some devices send a Content-Length of 0 with a GET.
    if "Transfer-Encoding" in headers or not set(headers.get_all("Content-Length")) <= {"0"}:
        return Refusal(ErrorKind.BAD_REQUEST, "an upgrade request has no body")
    return Request(target, headers, method, protocol)


def _too_large(lines: list[bytes], limits: Limits) -> Refusal | None:
    problem = None
    if len(lines) - 1 > limits.most_headers:
        problem = (
            f"the upgrade request has {len(lines) - 1} header lines, more than"
            f" max_headers = {limits.most_headers}"
        )
    elif (longest := max(map(len, lines))) > limits.longest_line:
        problem = (
            f"the upgrade request has a line of {longest} bytes, more than"
            f" max_header_line = {limits.longest_line} bytes"
        )
    return None if problem is None else Refusal(ErrorKind.REQUEST_TOO_LARGE, problem)


def _request_line(line: bytes) -> tuple[str, str, str]:
    """Method, target and protocol.

    Raises:
        HeadError: the line or its target is not valid (RFC 9112 section 3.2).
    """
    words = line.split(b" ")
    if len(words) != 3:
        raise HeadError("invalid HTTP request line")
    method, target, protocol = words
    if not _TARGET.fullmatch(target):
        raise HeadError("the request's target holds a control character or is not ASCII")
    if b"#" in target:
        raise HeadError("the request's target has a fragment, which is never sent")
    text = target.decode()
    if not text.startswith("/"):
        # RFC 9112 section 3.2.2: a server accepts an absolute URI too. Other methods use the other
        # forms.
        absolute = _ABSOLUTE.match(text)
        if absolute is None or not is_authority(absolute[1]):
            raise HeadError("the request's target is neither a path nor a URL")
    return method.decode("latin-1"), text, protocol.decode("latin-1")


def refuse(engine: ServerProtocol, refusal: Refusal) -> Response:
    """Make the answer that carries a refusal.

    Args:
        engine: the connection's engine; it is closed for messages from then on.
        refusal: why.

    Returns:
        the answer, with the reason as its body.
    """
    status = refusal.status or _STATUS[refusal.kind]
    response = engine.reject(status, f"{refusal.detail}\n")
    for name, text in (*_HEADERS.get(refusal.kind, ()), *refusal.headers):
        if name in response.headers:
            del response.headers[name]
        response.headers[name] = text
    return response


def _examine(request: Request) -> Refusal | None:
    """Check what the engine does not check, or answers with another status."""
    hosts = request.headers.get_all("Host")
    # RFC 9112 section 3.2: 400 to a request without a Host, with more than one or with a wrong one.
    if len(hosts) != 1:
        return Refusal(ErrorKind.BAD_REQUEST, "an HTTP/1.1 request has exactly one Host header")
    if not is_authority(hosts[0]):
        # The part before an @ may be a password.
        shown = "***" if "@" in hosts[0] else repr(hosts[0][:_SHOWN])
        return Refusal(
            ErrorKind.BAD_REQUEST,
            f"Host {shown} is neither a name nor an address, with a port or without one",
        )
    versions = request.headers.get_all("Sec-WebSocket-Version")
    if versions and versions != [VERSION] and "Upgrade" in request.headers:
        return Refusal(
            ErrorKind.BAD_VERSION,
            f"WebSocket version {', '.join(versions)!r} is not supported, only {VERSION}",
        )
    return None


def _refusal(exc: Exception | None, response: Response) -> Refusal:
    """Map the engine's exception to a refusal."""
    match exc:
        case InvalidUpgrade():
            return NOT_AN_UPGRADE
        case NegotiationError():
            return Refusal(
                ErrorKind.NO_SUBPROTOCOL,
                f"the WebSocket subprotocol {SUBPROTOCOL!r} must be offered (RFC 7118 section 4)",
            )
        case _:
            status = HTTPStatus(response.status_code)
            return Refusal(ErrorKind.BAD_REQUEST, f"not a valid upgrade request: {exc}", status)
