"""Tracing for ASGI applications: a middleware, whatever the framework and the server.

Example::

    trace = Pipeline("10.0.0.2:9060;transport=udp", trace_sip=True)
    app = TraceMiddleware(app, trace)                    # any ASGI application
    app.add_middleware(TraceMiddleware, trace=trace)     # or with Starlette and FastAPI

The pipeline starts and ends with the application (ASGI lifespan). With a server that has no
lifespan it starts with the first connection.

ASGI passes parsed requests, not bytes: handshakes are rebuilt. Messages are exact. Bytes are
counted without frame headers.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from sipws.adapters.http import Header, accept_headers, phrase, rebuilt_reply, rebuilt_request
from sipws.adapters.reporter import Reporter, harmless, kind_of_failure, kind_of_status, size_of
from sipws.address import Proto
from sipws.events import ABNORMAL, NO_STATUS, ErrorKind, Side
from sipws.tracing.pipeline import Pipeline

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SERVICE_RESTART = 1012
"""Close code of a server that shuts down; no client has a reason to send it (IANA registry)."""


class TraceMiddleware:
    """Traces the WebSocket connections of an application; other scopes pass through.

    Args:
        app: the application.
        trace: the pipeline.
        tag: a name for the listener, for filters (``$socket_in(tag)``).
    """

    def __init__(self, app: App, trace: Pipeline, *, tag: str | None = None) -> None:
        self._app = app
        self._trace = trace
        self._tag = tag
        self._ours = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the application's lifespan."""
        if scope["type"] == "websocket":
            self._start()
            watch = _Watch(receive, send)
            watch.begin(self._trace, scope, self._tag)
            try:
                await self._app(scope, watch.receive, watch.send)
            except BaseException as exc:
                if isinstance(exc, Exception):
                    await watch.hear_out()
                watch.ended(exc)
                raise
            await watch.hear_out()
            watch.ended(None)
        elif scope["type"] == "lifespan":
            await self._app(scope, self._starting(receive), self._ending(send))
        else:
            await self._app(scope, receive, send)

    @harmless
    def _start(self) -> None:
        if self._trace.sender is None:
            self._trace.start()
            self._ours = True

    def _starting(self, receive: Receive) -> Receive:
        async def call() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._start()
            return message

        return call

    def _ending(self, send: Send) -> Send:
        async def call(message: Message) -> None:
            if self._ours and message["type"].startswith("lifespan.shutdown"):
                self._ours = False
                await self._trace.aclose()
            await send(message)

        return call


class _Watch:
    """Watches the messages between server and application on one connection."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._headers: list[Header] = []
        self._refusal: tuple[int, list[Header]] | None = None
        """Status and headers of an answer that is under way."""
        self._body = b""
        self._broken: BaseException | None = None
        """The exception that sending raised."""
        self._disconnect: Message | None = None
        """The end, which the application did not receive itself."""
        self._reporter: Reporter | None = None

    @harmless
    def begin(self, trace: Pipeline, scope: Scope, tag: str | None) -> None:
        """Report a connection and its upgrade request.

        Args:
            trace: the pipeline.
            scope: of the connection.
            tag: a name for the listener.
        """
        proto: Proto = "wss" if scope.get("scheme") == "wss" else "ws"
        reporter = Reporter(trace, proto, scope.get("server"), scope.get("client"), tag=tag)
        self._headers = [(bytes(name), bytes(text)) for name, text in scope["headers"]]
        target = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        if scope.get("query_string"):
            target += b"?" + scope["query_string"]
        version = scope.get("http_version", "1.1").encode()
        request = rebuilt_request(b"GET", target, self._headers, version)
        reporter.bytes_in += len(request)
        reporter.request(request)
        self._reporter = reporter

    async def receive(self) -> Message:
        """Receive for the application."""
        message = await self._receive()
        self._came(message)
        return message

    async def send(self, message: Message) -> None:
        """Send for the application."""
        try:
            await self._send(message)
        except BaseException as exc:
            self._broken = exc
            raise
        self._went(message)

    @harmless
    def _came(self, message: Message) -> None:
        reporter = self._reporter
        if reporter is None:
            return
        if message["type"] == "websocket.receive":
            data, text = _data(message)
            reporter.bytes_in += size_of(data)
            reporter.message_received(data, text=text)
        elif message["type"] == "websocket.disconnect":
            self._disconnected(reporter, message)

    def _disconnected(self, reporter: Reporter, message: Message) -> None:
        code = message.get("code") or NO_STATUS
        reason = message.get("reason") or ""
        if not reporter.accepted:
            self._handshake_ended(reporter)
        elif code == ABNORMAL or (code == NO_STATUS and "reason" not in message):
            # uvicorn reports a lost connection as 1005; a close frame always has a reason.
            reporter.lost()
        else:
            # Only the code shows that the server itself failed or ended the connection.
            kind = kind_of_failure(code, reason)
            ours = code == SERVICE_RESTART or kind is not None
            if kind is not None:
                reporter.error(kind, reason or f"closed with code {code}")
            reporter.closed(code, reason, Side.LOCAL if ours else Side.PEER, clean=True)

    @harmless
    def _went(self, message: Message) -> None:
        reporter = self._reporter
        if reporter is None:
            return
        match message["type"]:
            case "websocket.send":
                data, text = _data(message)
                reporter.bytes_out += size_of(data)
                reporter.message_sent(data, text=text)
            case "websocket.accept":
                self._accepted(reporter, message)
            case "websocket.close" if reporter.accepted:
                code, reason = message.get("code", 1000), message.get("reason") or ""
                reporter.closed(code, reason, Side.LOCAL, clean=True)
            case "websocket.close":
                self._refused(reporter, HTTPStatus.FORBIDDEN, [])
            case "websocket.http.response.start":
                self._refusal = message["status"], list(message.get("headers", ()))
            case "websocket.http.response.body" if self._refusal is not None:
                self._body += message.get("body", b"")
                if not message.get("more_body", False):
                    self._refused(reporter, *self._refusal)

    def _accepted(self, reporter: Reporter, message: Message) -> None:
        headers = accept_headers(self._headers)
        if subprotocol := message.get("subprotocol"):
            headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode()))
        headers += message.get("headers") or ()
        reply = rebuilt_reply(HTTPStatus.SWITCHING_PROTOCOLS, headers)
        reporter.bytes_out += len(reply)
        reporter.reply(HTTPStatus.SWITCHING_PROTOCOLS, reply)

    def _refused(
        self,
        reporter: Reporter,
        status: int,
        headers: list[Header],
        kind: ErrorKind | None = None,
        detail: str = "",
    ) -> None:
        reply = rebuilt_reply(status, headers, self._body)
        reporter.bytes_out += len(reply)
        detail = detail or f"HTTP {status} {phrase(status)}".rstrip()
        reporter.reply(status, reply)
        reporter.refused(kind or kind_of_status(status), detail)
        reporter.closed(ABNORMAL, detail, Side.LOCAL, clean=False)

    def _handshake_ended(self, reporter: Reporter) -> None:
        detail = "the peer left before its upgrade request was answered"
        reporter.refused(ErrorKind.HANDSHAKE_ABORTED, detail)
        reporter.closed(ABNORMAL, detail, Side.PEER, clean=False)

    async def hear_out(self) -> None:
        """Receive the end of the connection, for an application that did not receive it."""
        reporter = self._reporter
        if reporter is None or reporter.ended or not reporter.accepted:
            return
        # If receiving raises, there is no end to receive.
        with suppress(Exception):
            # Takes only what has arrived, and does not wait.
            async with asyncio.timeout(0):
                while (message := await self._receive())["type"] != "websocket.disconnect":
                    pass
                self._disconnect = message

    @harmless
    def ended(self, exc: BaseException | None) -> None:
        """Report how the application ended.

        Args:
            exc: what it raised; None if it returned.
        """
        reporter = self._reporter
        if reporter is None or reporter.ended:
            return
        problem = "the application ended without a close"
        if exc is not None:
            problem = f"the application raised {type(exc).__name__}: {exc}".rstrip(": ")
        if self._refusal is not None:
            self._refused(reporter, *self._refusal)
        elif self._broken is not None and isinstance(self._broken, OSError):
            # ASGI: a server raises OSError on sending to a connection that is gone.
            if self._disconnect is not None:
                self._disconnected(reporter, self._disconnect)
            elif reporter.accepted:
                reporter.lost("the connection had ended before a send")
            else:
                self._handshake_ended(reporter)
        elif not reporter.accepted:
            # The answer of servers for an application that sends none.
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self._refused(reporter, status, [], ErrorKind.HANDLER_FAILED, problem)
        else:
            if isinstance(exc, Exception):
                reporter.failed(exc)
            if self._disconnect is not None:
                self._disconnected(reporter, self._disconnect)
            reporter.closed(ABNORMAL, problem, Side.LOCAL, clean=False)


def _data(message: Message) -> tuple[bytes | str, bool]:
    """Return the payload of a message, and whether it is text."""
    data: bytes | None = message.get("bytes")
    return (message.get("text") or "", True) if data is None else (data, False)
