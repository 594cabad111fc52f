"""The control interface: MI methods over HTTP (``POST /mi``), and pages for monitoring (``GET``).

Whoever can reach it can switch tracing, so it listens on loopback unless a token is set. A browser
on this machine can reach it too, for any page that it shows: ``/mi`` takes ``application/json``
only, which a page cannot send to another origin unasked, and without a token nothing is told or
done for another origin, or under a name that is not this machine's own: a page can have the browser
resolve such a one to this machine.
"""

import asyncio
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple, Self, TypeVar, cast

import h11

from sipws.address import Address, is_loopback, split_host_port
from sipws.errors import AddressError
from sipws.listening import cannot_listen

log = logging.getLogger(__name__)

PATH: Final = "/mi"
LONGEST_BODY: Final = 64 * 1024
"""Bytes of a request: more than any command line has."""

REQUEST_TIMEOUT: Final = 30.0
"""Seconds from one request to the end of the next, however slowly it comes."""


JSON: Final = "application/json"

T = TypeVar("T")


class Answer(NamedTuple):
    """An answer in HTTP, as far as it differs from one to the next."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = JSON
    allow: str = ""
    """The methods there are, where the one asked for is not among them."""


@dataclass(frozen=True, slots=True)
class Page:
    """Something to look at."""

    content_type: str
    read: Callable[[], tuple[HTTPStatus, str] | Awaitable[tuple[HTTPStatus, str]]]
    public: bool = False
    """Whether no token is needed: load balancers have none."""


class ControlServer:
    """Answers MI requests over HTTP, and shows pages.

    Args:
        listen: where; port 0 takes a free one.
        reply: answers a request of JSON-RPC; see `sipws.mi.reply`.
        token: what an ``Authorization: Bearer`` header must carry; none unless given.
        pages: what can be looked at, by path.
        inherited: a socket that listens there already.
    """

    def __init__(
        self,
        listen: Address,
        reply: Callable[[bytes], bytes | Awaitable[bytes]],
        token: str | None = None,
        *,
        pages: Mapping[str, Page] | None = None,
        inherited: socket.socket | None = None,
    ) -> None:
        self.reply = reply
        self.pages = pages or {}
        self.token = token
        self.connections: set[asyncio.Transport] = set()
        self._listen = listen
        self._inherited = inherited
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> Address:
        """Where it listens, with the real port once started."""
        if self._server is None:
            return self._listen
        return Address(*self._server.sockets[0].getsockname()[:2])

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            TransportError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        if self._inherited is not None:
            self._inherited.setblocking(False)
            self._server = await loop.create_server(lambda: _Http(self), sock=self._inherited)
            return self
        try:
            self._server = await loop.create_server(lambda: _Http(self), *self._listen)
        except OSError as exc:
            raise cannot_listen(f"control {self._listen}", exc) from exc
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.abort()
        # Closing takes effect on the next turn of the event loop.
        await asyncio.sleep(0)

    async def answer(self, request: h11.Request, body: bytes) -> Answer:
        """The answer to a request."""
        headers = dict(request.headers)
        path = request.target.split(b"?")[0].decode("ascii", "replace")
        if path == PATH:
            if request.method != b"POST":
                return Answer(HTTPStatus.METHOD_NOT_ALLOWED, allow="POST")
            if (refused := self._refusal(headers)) is not None:
                return Answer(refused)
            content_type = headers.get(b"content-type", b"").partition(b";")[0]
            if content_type.strip().lower() != JSON.encode():
                return Answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
            if not body:
                return Answer(HTTPStatus.BAD_REQUEST)
            reply = await _in_time(self.reply(body))
            return Answer(HTTPStatus.OK if reply else HTTPStatus.ACCEPTED, reply)
        page = self.pages.get(path)
        if page is None:
            return Answer(HTTPStatus.NOT_FOUND)
        if request.method not in (b"GET", b"HEAD"):
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, allow="GET, HEAD")
        if not page.public and (refused := self._refusal(headers)) is not None:
            return Answer(refused)
        status, text = await _in_time(page.read())
        return Answer(status, text.encode(), page.content_type)

    def _refusal(self, headers: Mapping[bytes, bytes]) -> HTTPStatus | None:
        """Why whoever sent these may not ask; None where they may."""
        if self.token is not None:
            expected = f"Bearer {self.token}".encode()
            given = headers.get(b"authorization", b"")
            return None if hmac.compare_digest(given, expected) else HTTPStatus.UNAUTHORIZED
        host, origin = headers.get(b"host", b"").lower(), headers.get(b"origin")
        # A browser always says where it means to be; a script that speaks HTTP/1.0 may not.
        if host and not self._is_here(host.decode("latin-1")):
            return HTTPStatus.MISDIRECTED_REQUEST
        if origin is not None and origin.lower().partition(b"://")[2] != host:
            return HTTPStatus.FORBIDDEN
        return None

    def _is_here(self, host: str) -> bool:
        """Whether a Host header names this machine as nobody else can: by address, or loopback."""
        try:
            name, _ = split_host_port(host)
        except AddressError:
            return False
        here = (self._listen.ip, self.address.ip)
        return is_loopback(name) or name.endswith(".localhost") or name in here


async def _in_time(found: T | Awaitable[T]) -> T:
    """What is there at once, or has to be waited for."""
    return await found if isinstance(found, Awaitable) else found


class _Http(asyncio.Protocol):
    """One connection of HTTP, around h11."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self._transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        """Nothing more will be asked: asyncio closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._transport)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._answering is not None:
            self._answering.cancel()

    def _wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(REQUEST_TIMEOUT, self._transport.abort)

    def _read(self) -> None:
        try:
            self._next_request()
        except h11.RemoteProtocolError as exc:
            self._refuse(HTTPStatus(exc.error_status_hint))

    def _next_request(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request = event
                announced = int(dict(event.headers).get(b"content-length", 0))
                if announced > LONGEST_BODY:
                    self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[])
                    self._transport.write(self._http.send(go_on) or b"")
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > LONGEST_BODY:
                    self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                # Requests behind this one wait until it is answered.
                self._transport.pause_reading()
                answering = self._answer(self._request, bytes(self._body))
                self._answering = asyncio.get_running_loop().create_task(answering)
                self._body.clear()
                return
            else:
                # More data is needed, or the peer has closed its side.
                return

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        try:
            answer = await self._server.answer(request, body)
        except Exception:
            log.exception("%s cannot be answered", request.target.decode("ascii", "replace"))
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(answer)
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._wait()
        self._transport.resume_reading()
        self._read()

    def _refuse(self, status: HTTPStatus) -> None:
        # Closing on what the peer still sends would reset the connection, and the answer with it.
        self._refused = True
        self._send(Answer(status))
        self._transport.write_eof()

    def _send(self, answer: Answer) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        status = answer.status
        headers = [
            ("Content-Length", str(len(answer.body))),
            ("Content-Type", answer.content_type),
        ]
        if answer.allow:
            headers.append(("Allow", answer.allow))
        if status is HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        only_head = self._request is not None and self._request.method == b"HEAD"
        body = b"" if only_head else answer.body
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self._transport.write(self._http.send(event) or b"")
