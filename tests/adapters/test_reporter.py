"""What adapters share: a reporter that keeps the order of events, and never gets in the way."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from sipws.adapters.asgi import TraceMiddleware
from sipws.adapters.http import rebuilt_reply, rebuilt_request
from sipws.adapters.reporter import UNKNOWN, Reporter, address_or_unknown
from sipws.adapters.websockets import traced
from sipws.address import Address
from sipws.events import (
    Accepted,
    Closed,
    ConnectionOpened,
    ErrorKind,
    Event,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
    MessageReceived,
    Side,
)
from sipws.tracing.pipeline import Pipeline

from .support import Homer, sip

PEER = ("192.0.2.5", 50123)


class Told(list[Event]):
    """What came over the bus."""

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self]


@pytest.fixture
def pipeline() -> Pipeline:
    """One that is never started: its bus is all that a reporter needs."""
    return Pipeline("127.0.0.1:9060;transport=udp")


@pytest.fixture
def told(pipeline: Pipeline) -> Told:
    told = Told()
    pipeline.bus.subscribe(told.append)
    return told


@pytest.fixture
def reporter(pipeline: Pipeline, told: Told) -> Reporter:
    clock: Iterator[int] = iter(range(1000, 2000))
    monotonic: Iterator[float] = iter((1.0, 6.0))
    return Reporter(
        pipeline, "wss", ("10.0.0.1", 443), PEER, tag="edge",
        clock=lambda: next(clock), monotonic=lambda: next(monotonic),
    )  # fmt: skip


def test_a_life_is_told_in_order(reporter: Reporter, told: Told) -> None:
    reporter.request(b"GET / HTTP/1.1\r\n\r\n")
    reporter.reply(101, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    reporter.message_received("OPTIONS", text=True)
    reporter.message_sent(bytearray(b"SIP/2.0"), text=False)  # type: ignore[arg-type]
    reporter.closed(1000, "", Side.PEER, clean=True)
    opened, request, reply, accepted, received, sent, closed = told
    assert told.names == [
        "ConnectionOpened",
        "HandshakeRequest",
        "HandshakeReply",
        "Accepted",
        "MessageReceived",
        "MessageSent",
        "Closed",
    ]
    assert isinstance(opened, ConnectionOpened)
    assert str(opened.connection.listener) == "wss:10.0.0.1:443 tag edge"
    assert opened.connection.peer == Address(*PEER)
    assert isinstance(request, HandshakeRequest)
    assert request.connection.request is not None
    assert request.connection.request.path == "/"
    assert isinstance(accepted, Accepted)
    assert (accepted.request, accepted.reply) == (request.raw, getattr(reply, "raw", None))
    assert isinstance(received, MessageReceived)
    assert received.data == b"OPTIONS"
    assert getattr(sent, "data", None) == b"SIP/2.0"
    assert isinstance(closed, Closed)
    assert (closed.duration, closed.messages_in, closed.messages_out) == (5.0, 1, 1)
    assert {event.connection.id for event in told} == {opened.connection.id}


def test_a_refusal_is_a_reply_and_a_failure(reporter: Reporter, told: Told) -> None:
    reporter.request(b"GET / HTTP/1.1\r\n\r\n")
    reporter.reply(403, b"HTTP/1.1 403 Forbidden\r\n\r\n")
    reporter.refused(ErrorKind.REFUSED, "not you")
    reporter.closed(1006, "not you", Side.LOCAL, clean=False)
    *_, reply, failed, closed = told
    assert isinstance(reply, HandshakeReply)
    assert isinstance(failed, HandshakeFailed)
    assert (failed.request, failed.reply) == (b"GET / HTTP/1.1\r\n\r\n", reply.raw)
    assert isinstance(closed, Closed)
    assert not closed.accepted


def test_nothing_is_told_behind_the_close(reporter: Reporter, told: Told) -> None:
    reporter.reply(101, b"")
    reporter.closed(1000, "", Side.PEER, clean=True)
    count = len(told)
    reporter.closed(1001, "", Side.PEER, clean=True)
    reporter.error(ErrorKind.PROTOCOL_ERROR, "")
    reporter.reply(101, b"")
    reporter.refused(ErrorKind.REFUSED, "")
    reporter.message_received(b"", text=False)
    reporter.message_sent(b"", text=False)
    reporter.lost()
    assert len(told) == count


def test_ids_count_on_and_the_living_are_known(pipeline: Pipeline) -> None:
    first, second = (Reporter(pipeline, "ws", ("10.0.0.1", 80), PEER) for _ in range(2))
    assert second.connection.id == first.connection.id + 1
    assert list(pipeline.connections) == [first, second]
    first.lost()
    assert list(pipeline.connections) == [second]


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("192.0.2.5", 5060), Address("192.0.2.5", 5060)),
        (["192.0.2.5", 5060], Address("192.0.2.5", 5060)),
        (("::ffff:192.0.2.5", 5060, 0, 0), Address("192.0.2.5", 5060)),
        (("fe80::1%eth0", 5060, 0, 2), Address("fe80::1", 5060)),
        (("127.0.0.1", None), Address("127.0.0.1", 0)),
        (("/run/app.sock", None), UNKNOWN),
        (("testclient", 50000), UNKNOWN),
        ("/run/app.sock", UNKNOWN),
        (b"", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_an_address_is_one_that_a_packet_can_carry(name: Any, address: Address) -> None:
    assert address_or_unknown(name) == address


def test_a_text_that_is_none_is_left_out(
    reporter: Reporter, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    count = len(told)
    reporter.message_received("\ud800", text=True)
    reporter.message_sent(None, text=True)  # type: ignore[arg-type]
    assert len(told) == count
    assert caplog.text.count("not reported") == 2


def test_handshakes_are_written_out_again() -> None:
    headers = [(b"Host", b"a"), (b"upgrade", b"websocket")]
    request = rebuilt_request(b"GET", b"/x?y", headers, b"1.0")
    assert request == b"GET /x?y HTTP/1.0\r\nHost: a\r\nupgrade: websocket\r\n\r\n"
    assert rebuilt_reply(404, [(b"a", b"b")], b"no") == b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\nno"
    assert rebuilt_reply(499, []) == b"HTTP/1.1 499 \r\n\r\n"
    assert len(rebuilt_reply(404, [], 100_000 * b"x")) < 10_000


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def test_a_tracer_that_raises_does_not_hurt_the_application(
    trace: Pipeline, homer: Homer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("broken tracer")

    trace.bus.subscribe(broken)
    options: Any = {"create_connection": traced(trace)}
    async with serve(echo, "127.0.0.1", 0, **options) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None) as websocket:
            for _ in range(20):
                await websocket.send(sip())
                assert await websocket.recv() == sip()
        await homer.closed()
    assert len(homer.messages) == 40
    assert "broken tracer" in caplog.text


async def test_a_collector_that_is_not_there_does_not_hurt_the_application() -> None:
    async with Pipeline("127.0.0.1:1;transport=tcp", trace_sip=True) as trace:
        options: Any = {"create_connection": traced(trace)}
        async with serve(echo, "127.0.0.1", 0, **options) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}", proxy=None) as websocket:
                await websocket.send(sip())
                assert await websocket.recv() == sip()
        trace.flush()
        assert trace.sender is not None
        assert trace.sender.counters.queued >= 4
        await trace.aclose(timeout=0)


@pytest.mark.parametrize("scope", [{}, {"headers": 7}, {"headers": [], "path": 1}])
async def test_a_scope_that_is_odd_does_not_hurt_the_application(
    trace: Pipeline, scope: dict[str, Any]
) -> None:
    passed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(await receive())
        await send({"type": "websocket.accept"})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        passed.append(message)

    await TraceMiddleware(app, trace)({"type": "websocket", **scope}, receive, send)
    assert [message["type"] for message in passed] == ["websocket.connect", "websocket.accept"]


@pytest.mark.parametrize(
    ("module", "package"), [("aiohttp", "aiohttp"), ("websockets", "websockets")]
)
def test_a_framework_that_is_missing_is_named(module: str, package: str) -> None:
    code = (
        f"import sys\nimport sipws, sipws.adapters.reporter\n"
        f"for name in [n for n in sys.modules if n.split('.')[0] == {package!r}]:\n"
        f"    del sys.modules[name]\n"
        f"sys.modules[{package!r}] = None\n"
        f"import sipws.adapters.{module}"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: sipws.adapters.{module} needs {package} ")
    assert f"pip install {package}" in last


def test_asgi_needs_no_framework() -> None:
    code = "import sys, sipws.adapters.asgi; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"uvicorn", "starlette", "aiohttp"} & set(loaded)
