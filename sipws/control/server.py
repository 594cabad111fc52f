"""The control interface: MI methods over HTTP (``POST /mi``), and pages for monitoring (``GET``).

Whoever can reach it can switch tracing, so without a token it listens on loopback or on a Unix
socket for its owner alone. A browser on this machine can reach loopback too, for any page that it
shows: ``/mi`` takes ``application/json`` only, which a page cannot send to another origin unasked,
and without a token nothing is told or done for another origin, or under a name that is not this
machine's own: a page can have the browser resolve such a one to this machine. That holds for a Unix
socket as well, since ``ssh -L`` and the like make it a port.

Connections are bounded in number and time, and served from sockets of our own instead of asyncio's
transports: a descriptor that one frees is taken back before anything else can have it, so that the
interface answers when phones have taken all that there are.
"""

import asyncio
import errno
import hmac
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple, Self, TypeVar

import h11

from sipws.address import is_loopback, split_host_port
from sipws.control.unix_socket import (
    BACKLOG,
    ControlAddress,
    SpareFiles,
    UnixPath,
    bound_to,
    close_control,
    identity_of,
    open_control,
    require_private,
)
from sipws.errors import AddressError
from sipws.metrics.prometheus_text import Family

log = logging.getLogger(__name__)

PATH: Final = "/mi"
LONGEST_BODY: Final = 64 * 1024
"""Bytes of a request: more than any command line has."""

FIRST_REQUEST_TIMEOUT: Final = 2.0
"""Seconds from the connection to the end of its first request, however slowly it comes. Whoever
connects has something to ask."""

REQUEST_TIMEOUT: Final = 30.0
"""Seconds from one request to the end of the next, however slowly it comes, and for an answer to be
read. Prometheus keeps connections from one scrape to the next."""

LINGER: Final = 2.0
"""Seconds that what a refused peer still sends is read: closing on it would reset the connection,
and the refusal with it."""

MOST_CONNECTIONS: Final = 64
"""Connections at once: some monitors and some operators. For one more the one that has waited
longest for a request makes room."""

SPARE_FILES: Final = 8
"""File descriptors kept aside for connections and answers, while phones have taken all others."""

FILES_OF_AN_ANSWER: Final = 3
"""Of those, how many are free while an answer is made: reading counters opens files."""

ACCEPT_PAUSE: Final = 1.0
"""Seconds until it is tried again to accept, when the system could not."""

ACCEPTED_AT_ONCE: Final = 16
"""Connections accepted in one turn of the event loop. Their requests are read before the next ones
are accepted, so that a flood does not push out those that ask."""

NO_FILES: Final = (errno.EMFILE, errno.ENFILE)
"""How the system says that there are no file descriptors."""

_READ: Final = 16 * 1024
"""Bytes read at once."""

_LONGEST_HEAD: Final = 16 * 1024
"""Bytes of a request's line and headers."""

_MOST_DIGITS: Final = 18
"""Digits of a length. Python refuses to read numbers of more than 4,300."""

_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
"""The answer to a connection that there is no room for."""


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
        reply: answers a request of JSON-RPC; see `sipws.control.mi.reply`.
        token: what an ``Authorization: Bearer`` header must carry; none unless given.
        metrics_token: another one, which opens the pages and never ``/mi``.
        pages: what can be looked at, by path.
        inherited: a socket that listens there already.
    """

    def __init__(
        self,
        listen: ControlAddress,
        reply: Callable[[bytes], bytes | Awaitable[bytes]],
        token: str | None = None,
        *,
        metrics_token: str | None = None,
        pages: Mapping[str, Page] | None = None,
        inherited: socket.socket | None = None,
    ) -> None:
        self.reply = reply
        self.pages = pages or {}
        # An empty token would let in whoever sends an empty one.
        self._token = _given(token)
        self._metrics_token = _given(metrics_token)
        self.connections: dict[_Http, asyncio.Task[None]] = {}
        """Those that are alive; of those that wait, the one that has waited longest is first."""
        self.ended: Counter[str] = Counter()
        """How many this side has ended, by cause."""
        self._listen = listen
        self._inherited = inherited
        self._listening: list[socket.socket] = []
        self._file: tuple[int, int] | None = None
        """Of the Unix socket that we made, its device and inode."""
        self._spare = SpareFiles(0)

    @property
    def address(self) -> ControlAddress:
        """Where it listens, with the real port once started."""
        return bound_to(self._listening[0]) if self._listening else self._listen

    @property
    def url(self) -> str:
        """Where it is, for a person."""
        where = self.address
        return str(where) if isinstance(where, UnixPath) else f"http://{where}{PATH}"

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            TransportError: the address cannot be listened on.
            ConfigurationError: there is no token, and not only this machine can reach the socket.
        """
        if self._inherited is not None:
            listening = [self._inherited]
            if not self._inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._inherited.listen(BACKLOG)
        else:
            listening = await open_control(self._listen)
        if self._inherited is None and isinstance(self._listen, UnixPath):
            self._file = identity_of(self._listen.path)
        self._listening = listening
        try:
            if self._token is None:
                require_private(listening)
        except BaseException:
            self._shut()
            raise
        self._spare = SpareFiles(SPARE_FILES)
        for each in listening:
            each.setblocking(False)
            self._accept_from(each)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._shut()
        tasks = tuple(self.connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._spare.close()

    def _shut(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self._listening:
            loop.remove_reader(each)
        close_control(self._listening, self._listen, self._file)
        self._listening = []

    def _accept_from(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, _peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # That one has gone meanwhile.
                continue
            except OSError as exc:
                if exc.errno in NO_FILES and self._spare.release():
                    continue
                log.warning("the control interface cannot accept a connection: %s", exc.strerror)
                self._make_room()
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(ACCEPT_PAUSE, self._accept_from, listening)
                return
            accepted.setblocking(False)
            if len(self.connections) >= MOST_CONNECTIONS and not self._make_room():
                self.ended["refused"] += 1
                with accepted, suppress(OSError):
                    accepted.send(_TOO_MANY)
                self._spare.refill()
                continue
            http = _Http(self, accepted)
            self.connections[http] = asyncio.get_running_loop().create_task(http.run())

    def _make_room(self) -> bool:
        """End the connection that has waited longest, first of all one that has never asked.

        Returns whether there was one. One that is being answered is not ended.
        """
        waiting = [http for http in self.connections if http.waits]
        if not waiting:
            return False
        chosen = next((http for http in waiting if not http.has_asked), waiting[0])
        self.ended["evicted"] += 1
        # It holds its descriptor for one turn more, and does not count any longer.
        self.connections.pop(chosen).cancel()
        return True

    def begins_to_wait(self, http: "_Http") -> None:
        """Take note that a connection has been answered."""
        if (task := self.connections.pop(http, None)) is not None:
            self.connections[http] = task

    def forget(self, http: "_Http") -> None:
        """Take note that a connection is closed, and take its descriptor back if it was ours."""
        self.connections.pop(http, None)
        if self._listening:
            self._spare.refill()

    def _with_files(self, make: Callable[[], T]) -> T:
        """Make an answer with some file descriptors free, which nobody can take meanwhile."""
        for _ in range(FILES_OF_AN_ANSWER):
            self._spare.release()
        try:
            return make()
        finally:
            if self._listening:
                self._spare.refill()

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
            reply = await _in_time(self._with_files(lambda: self.reply(body)))
            return Answer(HTTPStatus.OK if reply else HTTPStatus.ACCEPTED, reply)
        page = self.pages.get(path)
        if page is None:
            return Answer(HTTPStatus.NOT_FOUND)
        if request.method not in (b"GET", b"HEAD"):
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, allow="GET, HEAD")
        if not page.public and (refused := self._refusal(headers, is_page=True)) is not None:
            return Answer(refused)
        status, text = await _in_time(self._with_files(page.read))
        return Answer(status, text.encode(), page.content_type)

    def _refusal(
        self, headers: Mapping[bytes, bytes], *, is_page: bool = False
    ) -> HTTPStatus | None:
        """Why whoever sent these may not ask; None where they may."""
        if self._token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            # A scheme's name may be in any case (RFC 9110 section 11.1).
            given = given.strip() if scheme.lower() == b"bearer" else b""
            if hmac.compare_digest(given, self._token):
                return None
            reads = self._metrics_token
            if reads is None or not hmac.compare_digest(given, reads):
                return HTTPStatus.UNAUTHORIZED
            return None if is_page else HTTPStatus.FORBIDDEN
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
        here = [x.ip for x in (self._listen, self.address) if not isinstance(x, UnixPath)]
        return is_loopback(name) or name.endswith(".localhost") or name in here


def families(control: ControlServer | None) -> Iterator[Family]:
    """What is counted of a control interface, where there is one."""
    alive = Family(
        "sipws_control_connections", "gauge", "Connections to the control interface that are alive."
    )
    ended = Family(
        "sipws_control_connections_ended_total",
        "counter",
        "Connections that the control interface has ended itself, by cause.",
    )
    if control is not None:
        alive.add(len(control.connections))
        for cause in ("evicted", "refused", "timeout"):
            ended.add(control.ended[cause], cause=cause)
    yield alive
    yield ended


def _given(token: str | None) -> bytes | None:
    """A token as it comes in a header; None for one that is empty or blank, which is none."""
    return token.encode() if token is not None and token.strip() else None


async def _in_time(found: T | Awaitable[T]) -> T:
    """What is there at once, or has to be waited for."""
    return await found if isinstance(found, Awaitable) else found


class _RefusedError(Exception):
    """A request that is not answered but refused, and its connection closed."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _Http:
    """One connection of HTTP, around h11."""

    def __init__(self, server: ControlServer, connected: socket.socket) -> None:
        self.waits = True
        """Whether it waits for the peer, and not the peer for it."""
        self.has_asked = False
        self._server = server
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._request: h11.Request | None = None

    async def run(self) -> None:
        """Answer requests, one after the other, until either side ends it."""
        try:
            await self._serve()
        except TimeoutError:
            self._server.ended["timeout"] += 1
        except OSError:
            # The peer is gone.
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
            # What comes meanwhile is not read: a request waits for the answer to the one before.
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
        """The body of the next request, which is kept as `_request`; None where none comes.

        Raises:
            _RefusedError: it is no request, or too long.
        """
        body = bytearray()
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                raise _RefusedError(HTTPStatus(exc.error_status_hint)) from exc
            except ValueError as exc:
                # Such as a length of more digits than Python reads.
                raise _RefusedError(HTTPStatus.BAD_REQUEST) from exc
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._loop.sock_recv(self._socket, _READ))
            elif isinstance(event, h11.Request):
                self._request = event
                _check_framing(event)
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


def _check_framing(request: h11.Request) -> None:
    """Refuse a request whose end two programs could see in two places.

    RFC 9112 section 6.1: with a Transfer-Encoding there is no Content-Length, and in HTTP/1.0 there
    is no Transfer-Encoding.

    Raises:
        _RefusedError: it is one, or its body is too long.
    """
    headers = dict(request.headers)
    if b"transfer-encoding" in headers and (
        b"content-length" in headers or request.http_version < b"1.1"
    ):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    # A number of so many digits is not worth reading.
    length = headers.get(b"content-length", b"0").lstrip(b"0") or b"0"
    if len(length) > _MOST_DIGITS or int(length) > LONGEST_BODY:
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
