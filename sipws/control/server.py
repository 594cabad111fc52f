"""The control interface: MI methods over HTTP (``POST /mi``), and pages for monitoring (``GET``).

A client that reaches the interface can switch tracing. Without a token it therefore listens only on
loopback or on a Unix socket that belongs to its owner.

Browsers on this machine reach loopback too, for any page that they show. Three checks keep such
pages out:

- ``/mi`` takes ``application/json`` only, which a page cannot send to another origin without a
  preflight request.
- Without a token, a request with another ``Origin`` gets 403.
- Without a token, a ``Host`` that is not a name of this machine gets 421: a page can make its own
  name resolve to this machine. This holds for a Unix socket as well, since ``ssh -L`` makes it a
  port.

Connections are bounded in number and time. They are plain sockets rather than asyncio transports:
a file descriptor that one frees is reserved again before anything else takes it, so that the
interface answers while phones hold all other descriptors.
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
from typing import Final, Self, TypeVar

import h11

from sipws.address import is_loopback, split_host_port
from sipws.control.http_connection import JSON, Answer, HttpConnection
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
"""The path of the MI methods."""

MOST_CONNECTIONS: Final = 64
"""Connections at once: enough for some monitors and some operators. One more evicts the connection
that has waited longest for a request."""

SPARE_FILES: Final = 8
"""File descriptors reserved for connections and answers, for when phones hold all others."""

FILES_OF_AN_ANSWER: Final = 3
"""Reserved descriptors that are free while an answer is made: reading counters opens files."""

ACCEPT_PAUSE: Final = 1.0
"""Seconds before the next attempt to accept, after the system has failed to."""

ACCEPTED_AT_ONCE: Final = 16
"""Connections accepted in one turn of the event loop. Their requests are read before the next ones
are accepted, so that a flood does not evict clients that have sent one."""

NO_FILES: Final = (errno.EMFILE, errno.ENFILE)
"""Errors of a process, or a system, that has no file descriptor left."""

_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
"""The answer to a connection beyond `MOST_CONNECTIONS` when none can be evicted."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """A page for monitoring."""

    content_type: str
    read: Callable[[], tuple[HTTPStatus, str] | Awaitable[tuple[HTTPStatus, str]]]
    """Makes the page: its status and its text."""
    public: bool = False
    """Whether it needs no token: load balancers have none."""


class ControlServer:
    """Answers MI requests over HTTP, and shows pages.

    Args:
        listen: the address; port 0 takes a free one.
        reply: answers the body of an MI request; see `sipws.control.mi`. An empty reply is a 202.
        token: the token that ``Authorization: Bearer`` must carry. Without one, no token is
            needed, and the address must be private.
        metrics_token: another token, which opens the pages but not ``/mi``.
        pages: the pages, by path.
        inherited: a socket that is bound to that address already.
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
        self._token = _given(token)
        self._metrics_token = _given(metrics_token)
        self.connections: dict[HttpConnection, asyncio.Task[None]] = {}
        """Open connections. Of those that wait, the one that has waited longest comes first."""
        self.ended: Counter[str] = Counter()
        """Connections that this side has ended, by cause."""
        self._listen = listen
        self._inherited = inherited
        self._listening: list[socket.socket] = []
        self._file: tuple[int, int] | None = None
        """Device and inode of the Unix socket that this server made."""
        self._spare = SpareFiles(0)

    @property
    def address(self) -> ControlAddress:
        """The address; once started, with the real port."""
        return bound_to(self._listening[0]) if self._listening else self._listen

    @property
    def url(self) -> str:
        """The address as a URL, for messages."""
        where = self.address
        return str(where) if isinstance(where, UnixPath) else f"http://{where}{PATH}"

    async def __aenter__(self) -> Self:
        """Start to listen.

        Raises:
            TransportError: the address is not available.
            ConfigurationError: there is no token, and the socket is not private.
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
                # The peer has closed the connection meanwhile.
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
            http = HttpConnection(self, accepted)
            self.connections[http] = asyncio.get_running_loop().create_task(http.run())

    def _make_room(self) -> bool:
        """Evict the connection that has waited longest; one without any request goes first.

        A connection that is being answered is not evicted.

        Returns:
            whether one was evicted.
        """
        waiting = [http for http in self.connections if http.waits]
        if not waiting:
            return False
        chosen = next((http for http in waiting if not http.has_asked), waiting[0])
        self.ended["evicted"] += 1
        # It holds its descriptor for one more turn, but no longer counts.
        self.connections.pop(chosen).cancel()
        return True

    def begins_to_wait(self, http: HttpConnection) -> None:
        """Move a connection that has been answered to the end of those that wait."""
        if (task := self.connections.pop(http, None)) is not None:
            self.connections[http] = task

    def forget(self, http: HttpConnection) -> None:
        """Drop a connection that is closed, and reserve descriptors again."""
        self.connections.pop(http, None)
        if self._listening:
            self._spare.refill()

    def _with_files(self, make: Callable[[], T]) -> T:
        """Make an answer while some reserved file descriptors are free.

        Nothing else takes them: no other code runs meanwhile.
        """
        for _ in range(FILES_OF_AN_ANSWER):
            self._spare.release()
        try:
            return make()
        finally:
            if self._listening:
                self._spare.refill()

    async def answer(self, request: h11.Request, body: bytes) -> Answer:
        """Make the answer to a request.

        Args:
            request: its method, path and headers.
            body: its body, at most `LONGEST_BODY` bytes.
        """
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
        """The status that refuses a request with these headers; None if it is allowed."""
        if self._token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            # The scheme is case-insensitive (RFC 9110 section 11.1).
            given = given.strip() if scheme.lower() == b"bearer" else b""
            if hmac.compare_digest(given, self._token):
                return None
            reads = self._metrics_token
            if reads is None or not hmac.compare_digest(given, reads):
                return HTTPStatus.UNAUTHORIZED
            return None if is_page else HTTPStatus.FORBIDDEN
        host, origin = headers.get(b"host", b"").lower(), headers.get(b"origin")
        # Browsers always send Host; a script that speaks HTTP/1.0 may not.
        if host and not self._is_here(host.decode("latin-1")):
            return HTTPStatus.MISDIRECTED_REQUEST
        if origin is not None and origin.lower().partition(b"://")[2] != host:
            return HTTPStatus.FORBIDDEN
        return None

    def _is_here(self, host: str) -> bool:
        """Whether a Host header names this machine by address or as loopback.

        A page cannot make any of these names resolve here.
        """
        try:
            name, _ = split_host_port(host)
        except AddressError:
            return False
        here = [x.ip for x in (self._listen, self.address) if not isinstance(x, UnixPath)]
        return is_loopback(name) or name.endswith(".localhost") or name in here


def families(control: ControlServer | None) -> Iterator[Family]:
    """The metrics of the control interface; without samples if there is none."""
    alive = Family(
        "sipws_control_connections", "gauge", "Open connections to the control interface."
    )
    ended = Family(
        "sipws_control_connections_ended_total",
        "counter",
        "Connections that the control interface has ended, by cause.",
    )
    if control is not None:
        alive.add(len(control.connections))
        for cause in ("evicted", "refused", "timeout"):
            ended.add(control.ended[cause], cause=cause)
    yield alive
    yield ended


def _given(token: str | None) -> bytes | None:
    """A token as a header carries it; None if it is empty or blank, which any client could send."""
    return token.encode() if token is not None and token.strip() else None


async def _in_time(found: T | Awaitable[T]) -> T:
    """Await a value that may be there already."""
    return await found if isinstance(found, Awaitable) else found
