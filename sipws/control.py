"""The control interface: MI methods over HTTP (``POST /mi``), for operators and opensips-cli.

Whoever can reach it can switch tracing, so it listens on loopback unless a token is set, and takes
``application/json`` only: a page in a browser cannot send that to another origin unasked.
"""

import asyncio
import hmac
from http import HTTPStatus
from typing import Final, Self, cast

import h11

from sipws import mi
from sipws.address import Address
from sipws.server import cannot_listen

PATH: Final = "/mi"
LONGEST_BODY: Final = 64 * 1024
"""Bytes of a request: more than any command line has."""

IDLE_TIMEOUT: Final = 30.0
"""Seconds that a connection may say nothing."""


class ControlServer:
    """Answers MI requests over HTTP.

    Args:
        listen: where; port 0 takes a free one.
        methods: the functions that can be called, by name.
        token: what an ``Authorization: Bearer`` header must carry; none unless given.
    """

    def __init__(self, listen: Address, methods: mi.Methods, token: str | None = None) -> None:
        self.methods = methods
        self.token = token
        self.connections: set[asyncio.Transport] = set()
        self._listen = listen
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

    def answer(self, request: h11.Request, body: bytes) -> tuple[HTTPStatus, bytes]:
        """The HTTP answer to a request."""
        headers = dict(request.headers)
        if request.target.split(b"?")[0] != PATH.encode():
            return HTTPStatus.NOT_FOUND, b""
        if request.method != b"POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, b""
        if self.token is not None:
            expected = f"Bearer {self.token}".encode()
            if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
                return HTTPStatus.UNAUTHORIZED, b""
        if headers.get(b"content-type", b"").partition(b";")[0].strip() != b"application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, b""
        return HTTPStatus.OK, mi.reply(body, self.methods)


class _Http(asyncio.Protocol):
    """One connection of HTTP, around h11."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self._transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._wait()
        self._http.receive_data(data)
        try:
            self._read()
        except h11.RemoteProtocolError as exc:
            self._send(HTTPStatus(exc.error_status_hint), b"")
            self._transport.close()

    def eof_received(self) -> None:
        """Nothing more will be asked: asyncio closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self._transport)
        if self._idle is not None:
            self._idle.cancel()

    def _wait(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_TIMEOUT, self._transport.abort)

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > LONGEST_BODY:
                    self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"")
                    self._transport.close()
                    return
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                status, body = self._server.answer(self._request, bytes(self._body))
                self._body.clear()
                self._send(status, body)
                if self._http.our_state is h11.MUST_CLOSE:
                    self._transport.close()
                    return
                self._http.start_next_cycle()
            else:
                # More data is needed, or the peer has closed its side.
                return

    def _send(self, status: HTTPStatus, body: bytes) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Length", str(len(body))), ("Content-Type", "application/json")]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "POST"))
        if status is HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self._transport.write(self._http.send(event) or b"")
