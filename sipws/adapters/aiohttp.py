"""Tracing for aiohttp servers: a middleware, and a response that reports its messages.

Example::

    async def sip(request: web.Request) -> web.StreamResponse:
        websocket = TracedWebSocketResponse(protocols=["sip"])   # instead of WebSocketResponse
        await websocket.prepare(request)
        async for message in websocket:
            ...
        return websocket

    app = web.Application(middlewares=[tracing(trace)])
    app.router.add_get("/sip", sip)

aiohttp does not keep the bytes of a request. Handshakes are rebuilt from their headers, whose
names, order and spelling are kept. Messages are exact, and are traced when the handler reads them.
Bytes are counted without frame headers.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

try:
    from aiohttp import WSCloseCode, WSMsgType, web
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import WebSocketError
except ImportError as exc:
    raise ImportError(
        f"sipws.adapters.aiohttp needs aiohttp 3.11 or later (pip install aiohttp): {exc}"
    ) from exc

from sipws.adapters.http import rebuilt_reply, rebuilt_request
from sipws.adapters.reporter import Reporter, harmless, kind_of_status, size_of
from sipws.errors import ERROR_OF_CODE
from sipws.events import ABNORMAL, ErrorKind, Side
from sipws.tracing.pipeline import Pipeline

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

# Up to 3.13 keys are plain strings; from 3.14 on these cause a warning.
REPORTER: Final[Any] = (
    web.RequestKey("sipws.reporter", Reporter) if hasattr(web, "RequestKey") else "sipws.reporter"
)
"""The key of a request's reporter."""


def tracing(trace: Pipeline, *, tag: str | None = None) -> Middleware:
    """Make the middleware that traces every upgrade request and its outcome; it has to be first.

    Args:
        trace: the pipeline.
        tag: a name for the listener, for filters (``$socket_in(tag)``).
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").strip().lower() != "websocket":
            return await handler(request)
        _begin(trace, request, tag)
        try:
            response = await handler(request)
        except BaseException as exc:
            _raised(request, exc)
            raise
        _returned(request, response)
        return response

    return middleware


class TracedWebSocketResponse(web.WebSocketResponse):
    """A `WebSocketResponse` that reports its messages and its end.

    It needs the middleware `tracing`.
    """

    _reporter: Reporter | None = None
    _reading = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Answer the upgrade request."""
        was_prepared = self.prepared
        writer = await super().prepare(request)
        if not was_prepared:
            self._reporter = request.get(REPORTER)
            _accepted(self, self._reporter)
        return writer

    async def receive(self, timeout: float | None = None) -> Any:
        """Read a message. All other methods that read call this one."""
        self._reading = True
        try:
            message = await super().receive(timeout)
        finally:
            self._reading = False
        if self._reporter is not None:
            _came(self._reporter, message)
        return message

    async def send_str(self, data: str, compress: int | None = None) -> None:
        """Send a text message."""
        await self._try(super().send_str(data, compress))
        _went(self._reporter, data, text=True)

    async def send_bytes(self, data: Any, compress: int | None = None) -> None:
        """Send a binary message."""
        await self._try(super().send_bytes(data, compress))
        _went(self._reporter, data, text=False)

    async def send_frame(
        self, message: bytes, opcode: WSMsgType, compress: int | None = None
    ) -> None:
        """Send a frame; a text or binary frame is a message.

        Args:
            message: the payload.
            opcode: the type of the frame.
            compress: window bits of permessage-deflate for this frame; None for the agreed ones.
        """
        await self._try(super().send_frame(message, opcode, compress))
        if opcode in (WSMsgType.TEXT, WSMsgType.BINARY):
            _went(self._reporter, message, text=opcode is WSMsgType.TEXT)

    async def _try(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError:
            # The handler will raise this too, without having failed itself. While the connection
            # is being closed, `close` and `receive` report its end.
            if self._reporter is not None and (not self.closed or self.close_code == ABNORMAL):
                detail = "the connection had ended before a send"
                _lost(self._reporter, self.exception(), detail)
            raise

    async def close(
        self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True
    ) -> bool:
        """Close. `receive` calls it too, when the peer closes or breaks the protocol.

        Args:
            code: the close code.
            message: the reason, at most 123 bytes.
            drain: whether to wait until the close frame is written.

        Returns:
            False if the connection was closed already.
        """
        # A code before ours was sent is the peer's, or the one that aiohttp failed the connection
        # with: `receive` reports these with more detail.
        first = self.close_code is None and not self.closed
        try:
            return await super().close(code=code, message=message, drain=drain)
        finally:
            if first:
                _closed_by_us(self, self._reporter, code, message)
            elif not self._reading and self._reporter is not None:
                # No handler was reading when it ended, and aiohttp noticed at a ping.
                _lost(self._reporter, self.exception(), "the connection had ended before a ping")


@harmless
def _begin(trace: Pipeline, request: web.Request, tag: str | None) -> None:
    transport = request.transport
    sockname = transport.get_extra_info("sockname") if transport is not None else None
    peername = transport.get_extra_info("peername") if transport is not None else None
    reporter = Reporter(trace, "wss" if request.secure else "ws", sockname, peername, tag=tag)
    version = b"%d.%d" % (request.version.major, request.version.minor)
    target = request.raw_path.encode("utf-8", "surrogateescape")
    raw = rebuilt_request(request.method.encode(), target, request.raw_headers, version)
    reporter.bytes_in += len(raw)
    reporter.request(raw)
    request[REPORTER] = reporter


@harmless
def _accepted(response: web.StreamResponse, reporter: Reporter | None) -> None:
    if reporter is not None:
        reply = _rebuilt(response)
        reporter.bytes_out += len(reply)
        reporter.reply(response.status, reply)


@harmless
def _returned(request: web.Request, response: web.StreamResponse) -> None:
    """Report the handler's result: a refusal, or a connection that aiohttp closes next."""
    reporter: Reporter | None = request.get(REPORTER)
    if reporter is None or reporter.ended:
        return
    if not isinstance(response, web.WebSocketResponse):
        _refuse(reporter, response)
    elif not isinstance(response, TracedWebSocketResponse):
        # Its messages were not reported, but its handshake and its end can be.
        _accepted(response, reporter)
        code = response.close_code or ABNORMAL
        reporter.closed(code, "", Side.PEER, clean=code != ABNORMAL)


@harmless
def _raised(request: web.Request, exc: BaseException) -> None:
    reporter: Reporter | None = request.get(REPORTER)
    if reporter is None or reporter.ended:
        return
    problem = f"{type(exc).__name__}: {exc}".rstrip(": ")
    if reporter.accepted:
        # aiohttp cannot answer any more, and drops the connection.
        if isinstance(exc, Exception):
            reporter.failed(exc)
        detail = f"the application raised {problem}"
        reporter.closed(ABNORMAL, detail, Side.LOCAL, clean=False)
    elif isinstance(exc, web.HTTPException):
        _refuse(reporter, exc)
    elif isinstance(exc, Exception):
        reply = rebuilt_reply(HTTPStatus.INTERNAL_SERVER_ERROR, ())
        reporter.reply(HTTPStatus.INTERNAL_SERVER_ERROR, reply)
        reporter.refused(ErrorKind.HANDLER_FAILED, problem)
        reporter.closed(ABNORMAL, problem, Side.LOCAL, clean=False)
    else:
        detail = "the peer left before its upgrade request was answered"
        reporter.refused(ErrorKind.HANDSHAKE_ABORTED, detail)
        reporter.closed(ABNORMAL, detail, Side.PEER, clean=False)


def _refuse(reporter: Reporter, response: web.StreamResponse) -> None:
    reply = _rebuilt(response)
    detail = f"HTTP {response.status} {response.reason or ''}".rstrip()
    reporter.bytes_out += len(reply)
    reporter.reply(response.status, reply)
    reporter.refused(kind_of_status(response.status), detail)
    reporter.closed(ABNORMAL, detail, Side.LOCAL, clean=False)


def _rebuilt(response: web.StreamResponse) -> bytes:
    body = getattr(response, "body", None)
    headers = [(name.encode(), text.encode()) for name, text in response.headers.items()]
    return rebuilt_reply(
        response.status,
        headers,
        body if isinstance(body, bytes) else b"",
        (response.reason or "").encode(),
    )


@harmless
def _came(reporter: Reporter, message: Any) -> None:
    match message.type:
        case WSMsgType.TEXT | WSMsgType.BINARY:
            reporter.bytes_in += size_of(message.data)
            reporter.message_received(message.data, text=message.type is WSMsgType.TEXT)
        case WSMsgType.CLOSE:
            # aiohttp shows a close frame without a code as code 0.
            reporter.closed(message.data or 1005, message.extra or "", Side.PEER, clean=True)
        case WSMsgType.ERROR if isinstance(message.data, WebSocketError):
            code, detail = int(message.data.code), str(message.data)
            reporter.error(ERROR_OF_CODE.get(code, ErrorKind.PROTOCOL_ERROR), detail)
            reporter.closed(code, detail, Side.LOCAL, clean=False)
        case WSMsgType.ERROR:
            _lost(reporter, message.data, str(message.data))
        case WSMsgType.CLOSED if not reporter.ended:
            # The end of the stream, which aiohttp shows as a close with 1000.
            reporter.lost()


def _lost(reporter: Reporter, exc: BaseException | None, detail: str) -> None:
    """Report that the peer vanished; a timeout on an open connection is that of a ping."""
    if isinstance(exc, TimeoutError):
        detail = str(exc) or "the peer did not answer a ping in time"
        reporter.error(ErrorKind.PING_TIMEOUT, detail)
        reporter.closed(ABNORMAL, detail, Side.LOCAL, clean=False)
    else:
        reporter.lost(detail)


@harmless
def _went(reporter: Reporter | None, data: Any, *, text: bool) -> None:
    if reporter is not None:
        reporter.bytes_out += size_of(data)
        reporter.message_sent(data, text=text)


@harmless
def _closed_by_us(
    response: TracedWebSocketResponse, reporter: Reporter | None, code: int, reason: bytes
) -> None:
    if reporter is None:
        return
    if response.close_code == ABNORMAL and not isinstance(response.exception(), TimeoutError):
        reporter.lost("the connection was gone when it was to be closed")
        return
    clean = response.close_code != ABNORMAL
    if not clean:
        reporter.error(ErrorKind.CLOSE_TIMEOUT, "the peer did not answer the close frame in time")
    reporter.closed(code, reason.decode("utf-8", "replace"), Side.LOCAL, clean=clean)
