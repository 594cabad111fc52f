"""One HTTP connection to the control interface, around h11.

The server counts connections and makes answers; this module reads requests and writes answers.
"""

import asyncio
import logging
import socket
from collections import Counter
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

import h11

log = logging.getLogger(__name__)

JSON: Final = "application/json"
"""The media type of MI requests and replies."""

LONGEST_BODY: Final = 64 * 1024
"""Bytes of a request's body. More than any command line holds; a longer body gets 413."""

FIRST_REQUEST_TIMEOUT: Final = 2.0
"""Seconds from the connection to the end of its first request, at whatever pace the bytes come. A
client connects because it has a request."""

REQUEST_TIMEOUT: Final = 30.0
"""Seconds from one request to the end of the next, and for the peer to read an answer. Prometheus
keeps its connection from one scrape to the next."""

LINGER: Final = 2.0
"""Seconds for which the rest of a refused request is read and dropped. Closing with unread bytes
resets the connection, and the peer loses the refusal."""

_READ: Final = 16 * 1024
"""Bytes of one read."""

_LONGEST_HEAD: Final = 16 * 1024
"""Bytes of a request line with its headers."""

_MOST_DIGITS: Final = 18
"""Digits of a Content-Length. Python refuses to read numbers of more than 4,300."""

_SINGLE: Final = (b"authorization", b"content-type", b"host", b"origin")
"""Headers that the control interface reads and that may occur once (RFC 9110 section 5.3)."""


class Answer(NamedTuple):
    """An HTTP response, as far as one differs from the next."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = JSON
    allow: str = ""
    """The methods that the path has, for a 405."""


class Answering(Protocol):
    """What a connection needs of its server."""

    ended: Counter[str]
    """Connections that this side has ended, by cause."""

    async def answer(self, request: h11.Request, body: bytes) -> Answer:
        """Make the answer to a request."""

    def begins_to_wait(self, http: "HttpConnection") -> None:
        """Take note that a connection waits for its next request."""

    def forget(self, http: "HttpConnection") -> None:
        """Take note that a connection is closed."""


class _RefusedError(Exception):
    """A request that gets a refusal, after which its connection is closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class HttpConnection:
    """Reads requests from one connection and writes the answers, one after the other.

    Args:
        server: makes the answers, and counts this connection.
        connected: an accepted socket that does not block; closed at the end of `run`.
    """

    def __init__(self, server: Answering, connected: socket.socket) -> None:
        self.waits = True
        """Whether it waits for the peer; otherwise the peer waits for an answer."""
        self.has_asked = False
        """Whether a request of it has been answered."""
        self._server = server
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._request: h11.Request | None = None

    async def run(self) -> None:
        """Serve the connection until either side closes it."""
        try:
            await self._serve()
        except TimeoutError:
            self._server.ended["timeout"] += 1
        except OSError:
            # The peer has closed the connection.
            pass
        except Exception:
            log.exception("a control connection failed")
        finally:
            self._socket.close()
            self._server.forget(self)

    async def _serve(self) -> None:
        limit = FIRST_REQUEST_TIMEOUT
        while True:
            try:
                async with asyncio.timeout(limit):
                    body = await self._receive()
            except _RefusedError as exc:
                await self._refuse(exc.status)
                return
            request = self._request
            if body is None or request is None:
                return
            # Nothing is read meanwhile: a request waits for the answer to the one before.
            self.waits = False
            answer = await self._answer(request, body)
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._send(answer)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()
            self.waits = self.has_asked = True
            self._server.begins_to_wait(self)
            limit = REQUEST_TIMEOUT

    async def _receive(self) -> bytes | None:
        """Read the next request, which is kept as `_request`.

        Returns:
            its body; None if the peer has closed its side.

        Raises:
            _RefusedError: the request is malformed or too long.
        """
        body = bytearray()
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                raise _RefusedError(HTTPStatus(exc.error_status_hint)) from exc
            except ValueError as exc:
                # Such as a chunk length of more digits than Python reads.
                raise _RefusedError(HTTPStatus.BAD_REQUEST) from exc
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._loop.sock_recv(self._socket, _READ))
            elif isinstance(event, h11.Request):
                self._request = event
                _check_head(event)
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[])
                    await self._loop.sock_sendall(self._socket, self._http.send(go_on) or b"")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LONGEST_BODY:
                    raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                # The peer has closed its side.
                return None

    async def _answer(self, request: h11.Request, body: bytes) -> Answer:
        try:
            return await self._server.answer(request, body)
        except Exception:
            log.exception("%s cannot be answered", request.target.decode("ascii", "replace"))
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _refuse(self, status: HTTPStatus) -> None:
        async with asyncio.timeout(LINGER):
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send(Answer(status), closes=True)
            self._socket.shutdown(socket.SHUT_WR)
            while await self._loop.sock_recv(self._socket, _READ):
                pass

    async def _send(self, answer: Answer, *, closes: bool = False) -> None:
        status = answer.status
        headers = [
            ("Content-Length", str(len(answer.body))),
            ("Content-Type", answer.content_type),
        ]
        if answer.allow:
            headers.append(("Allow", answer.allow))
        if status is HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        if closes:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        only_head = self._request is not None and self._request.method == b"HEAD"
        body = b"" if only_head else answer.body
        events = (response, h11.Data(data=body), h11.EndOfMessage())
        written = b"".join(self._http.send(event) or b"" for event in events)
        await self._loop.sock_sendall(self._socket, written)


def _check_head(request: h11.Request) -> None:
    """Refuse a request that two programs could read in two ways.

    RFC 9112 section 6.1: a request with Transfer-Encoding has no Content-Length, and HTTP/1.0 has
    no Transfer-Encoding. RFC 9110 section 5.3: a header that is not a list occurs once; of two
    Authorization headers a proxy may have checked the other one.

    Raises:
        _RefusedError: the request is ambiguous (400), or its body is too long (413).
    """
    headers = dict(request.headers)
    names = [name for name, _ in request.headers]
    if any(names.count(name) > 1 for name in _SINGLE):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    if b"transfer-encoding" in headers and (
        b"content-length" in headers or request.http_version < b"1.1"
    ):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    # A longer number is too large, whatever its digits are.
    length = headers.get(b"content-length", b"0").lstrip(b"0") or b"0"
    if len(length) > _MOST_DIGITS or int(length) > LONGEST_BODY:
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
