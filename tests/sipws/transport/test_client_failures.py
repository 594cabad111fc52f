"""Every way in which a connect can fail: an event with the cause, and an error that says it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from sipws import AddressError, Client, ConnectError, Limits
from sipws.events import (
    Closed,
    Connected,
    ConnectFailed,
    ConnectionOpened,
    ConnectStarted,
    ErrorKind,
    HandshakeFailed,
    HandshakeReply,
    HandshakeRequest,
)
from sipws.ws.client_handshake import MOST_INTERIM

BadServer = Callable[..., Awaitable[str]]
SHORT = Limits(connect_timeout=0.05, handshake_timeout=0.05)


@pytest.fixture
async def bad_server() -> AsyncIterator[BadServer]:
    """Servers that answer every request with the same bytes: ``url = await bad_server(bytes)``."""
    async with AsyncExitStack() as stack:

        async def start(reply: bytes | None, *, stay: bool = True, tls_port: bool = False) -> str:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    if reply is not None:
                        await reader.readuntil(b"\r\n\r\n" if not tls_port else b"\x16")
                        writer.write(reply)
                    if stay:
                        await reader.read()
                except (OSError, asyncio.IncompleteReadError):
                    pass
                finally:
                    writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        yield start


Failing = Callable[..., Awaitable[tuple[ConnectError, list[Any]]]]


@pytest.fixture
def failing() -> Failing:
    """Connect in vain: ``error, events = await failing(url, limits=…)``."""

    async def connect(url: str, **options: Any) -> tuple[ConnectError, list[Any]]:
        events: list[Any] = []
        async with asyncio.timeout(5), Client(**options) as client:
            client.bus.subscribe(events.append)
            with pytest.raises(ConnectError) as failed:
                await client.connect(url)
            await client.flows.wait_empty()
            assert not client._open
            assert not client._attempts
        assert failed.value.destination == url
        assert failed.value.remedy in str(failed.value)
        return failed.value, events

    return connect


CONNECT_FAILED = [ConnectStarted, ConnectFailed]
UNANSWERED = [ConnectStarted, ConnectionOpened, HandshakeRequest, HandshakeFailed, Closed]
ANSWERED = [*UNANSWERED[:3], HandshakeReply, *UNANSWERED[3:]]


async def test_nothing_listens(failing: Failing) -> None:
    error, events = await failing("ws://127.0.0.1:1/")
    assert [type(event) for event in events] == CONNECT_FAILED
    assert events[1].kind is error.kind is ErrorKind.CONNECT_REFUSED
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert str(error) == (
        "cannot connect to ws://127.0.0.1:1/: 127.0.0.1:1: Connection refused;"
        " check the port, and that the server is running"
    )
    assert events[0].connection.peer == events[1].connection.peer == ("127.0.0.1", 1)
    assert events[1].connection.local.ip == "127.0.0.1"
    assert events[1].connection.local.port > 0
    assert events[1].connection.destination == "ws://127.0.0.1:1/"


async def test_a_host_that_is_not_dialled(failing: Failing) -> None:
    error, events = await failing("ws://df7jal23ls0d.invalid/")
    assert [type(event) for event in events] == CONNECT_FAILED
    assert events[1].kind is error.kind is ErrorKind.NAME_NOT_FOUND


async def test_a_name_that_is_not_there(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: object, host: str, port: int, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", nothing)
    error, events = await failing("ws://nowhere.example/")
    assert [type(event) for event in events] == CONNECT_FAILED
    assert events[1].kind is error.kind is ErrorKind.NAME_NOT_FOUND
    assert error.detail == "'nowhere.example' has no address: Name or service not known"


async def test_a_name_server_that_is_silent(
    failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(self: object, host: str, port: int, **options: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", silent)
    error, events = await failing("ws://nowhere.example/", limits=SHORT)
    assert events[1].kind is error.kind is ErrorKind.CONNECT_TIMEOUT
    assert error.detail == "0.05 s were not enough for the address of 'nowhere.example'"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port on loopback that answers nobody: as many wait to be accepted as may."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_a_host_that_is_silent(failing: Failing, silent: int) -> None:
    error, events = await failing(f"ws://127.0.0.1:{silent}/", limits=SHORT)
    assert [type(event) for event in events] == CONNECT_FAILED
    assert events[1].kind is error.kind is ErrorKind.CONNECT_TIMEOUT
    assert error.detail == f"0.05 s were not enough for TCP with 127.0.0.1:{silent}"
    connection = events[1].connection
    assert connection.peer == ("127.0.0.1", silent)
    assert connection.local.ip == "127.0.0.1"
    assert connection.local.port > 0


async def test_a_connect_to_a_host_that_is_silent_is_given_up(silent: int) -> None:
    async with Client() as client, client.bus.stream(ConnectFailed) as events:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.connect(f"ws://127.0.0.1:{silent}/")
        failed = await anext(events)
    assert isinstance(failed, ConnectFailed)
    assert failed.kind is ErrorKind.CONNECT_CANCELLED
    assert failed.connection.peer == ("127.0.0.1", silent)
    assert failed.connection.local.port > 0


async def test_a_server_that_does_not_speak_tls_nor_anything_else(
    failing: Failing, bad_server: BadServer
) -> None:
    url = (await bad_server(None)).replace("ws:", "wss:")
    error, events = await failing(url, limits=SHORT)
    assert [type(event) for event in events] == CONNECT_FAILED
    assert events[1].kind is error.kind is ErrorKind.CONNECT_TIMEOUT
    assert "TLS with 127.0.0.1:" in error.detail
    assert events[1].connection.local.port > 0


async def test_a_server_that_hangs_up_in_the_middle_of_tls(
    failing: Failing, bad_server: BadServer
) -> None:
    url = (await bad_server(b"", stay=False, tls_port=True)).replace("ws:", "wss:")
    error, events = await failing(url)
    assert [type(event) for event in events] == CONNECT_FAILED
    assert events[1].kind is error.kind is ErrorKind.TLS_FAILURE
    assert error.detail.startswith("TLS: ")


@pytest.mark.parametrize(
    ("reply", "kind", "problem"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x16", ErrorKind.BAD_REPLY, "does not answer in HTTP"),
        (b"220 mail ready\r\n", ErrorKind.BAD_REPLY, "does not answer in HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", ErrorKind.BAD_REPLY, "no HTTP status line"),
    ],
)
async def test_an_answer_that_is_none(
    failing: Failing, bad_server: BadServer, reply: bytes, kind: ErrorKind, problem: str
) -> None:
    error, events = await failing(await bad_server(reply))
    assert [type(event) for event in events] == UNANSWERED
    failed = events[3]
    assert failed.kind is error.kind is kind
    assert problem in error.detail
    assert reply.startswith(failed.reply)
    assert failed.reply == error.reply


@pytest.mark.parametrize(
    ("reply", "kind", "status"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ErrorKind.BAD_REPLY, 101),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            *(ErrorKind.BAD_REPLY, 101),
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nwrong",
            *(ErrorKind.HANDSHAKE_REFUSED, 404),
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            *(ErrorKind.HANDSHAKE_REFUSED, 302)),
    ],
    ids=["bare", "accept", "refused", "elsewhere"],
)  # fmt: skip
async def test_an_answer_that_is_not_right(
    failing: Failing, bad_server: BadServer, reply: bytes, kind: ErrorKind, status: int
) -> None:
    error, events = await failing(await bad_server(reply))
    assert [type(event) for event in events] == ANSWERED
    assert (events[3].status, events[3].raw) == (status, reply)
    assert (events[4].kind, events[4].reply) == (kind, reply)
    assert (error.kind, error.status, error.reply) == (kind, status, reply)


async def test_a_refusal_that_ends_with_the_connection(
    failing: Failing, bad_server: BadServer
) -> None:
    reply = b"HTTP/1.1 503 Service Unavailable\r\n\r\nlater"
    error, events = await failing(await bad_server(reply, stay=False))
    assert [type(event) for event in events] == ANSWERED
    assert (error.kind, error.status, error.reply) == (ErrorKind.HANDSHAKE_REFUSED, 503, reply)


async def test_a_redirect_names_its_target_and_is_not_followed(
    failing: Failing, bad_server: BadServer
) -> None:
    location = b"wss://me:s3cr3t@sip.example.com/ws/?token=s3cr3t"
    reply = b"HTTP/1.1 301 Moved Permanently\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n"
    error, _ = await failing(await bad_server(reply % location))
    assert error.detail == (
        "the server refused with 301 Moved Permanently: it points to wss://***@sip.example.com/ws/"
    )
    assert error.remedy == "connect there if you trust it: a redirect is not followed"
    assert "s3cr3t" not in str(error)


async def test_a_server_may_say_when_to_come_back(failing: Failing, bad_server: BadServer) -> None:
    reply = b"HTTP/1.1 %d Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"
    for status in (429, 503):
        error, _ = await failing(await bad_server(reply % status))
        assert (error.retry_after, error.status) == (30, status)
        assert "connect again in 30 s" in str(error)
    error, _ = await failing("ws://127.0.0.1:1/")
    assert error.retry_after is None


@pytest.mark.parametrize("interim", [100, 102, 103, 199])
@pytest.mark.parametrize("times", [1, MOST_INTERIM])
async def test_interim_answers_are_passed_over(
    failing: Failing, bad_server: BadServer, interim: int, times: int
) -> None:
    before = b"HTTP/1.1 %d Wait\r\nLink: </a>; rel=preload\r\n\r\n" % interim
    final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    error, events = await failing(await bad_server(before * times + final))
    assert (error.kind, error.status, error.reply) == (ErrorKind.HANDSHAKE_REFUSED, 403, final)
    assert [type(event) for event in events] == ANSWERED


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b"HTTP/1.1 103 X\r\n\r\n" * (MOST_INTERIM + 1), "more than 16 interim answers"),
        (b"HTTP/1.1 103 X\r\nL: %b\r\n\r\n" % (b"x" * 9_000) * 2, "exceeds 16384 bytes"),
        (b"HTTP/1.1 103 X\r\n\r\nnonsense", "does not answer in HTTP"),
    ],
)
async def test_interim_answers_without_end_are_none(
    failing: Failing, bad_server: BadServer, reply: bytes, problem: str
) -> None:
    error, _ = await failing(await bad_server(reply))
    assert error.kind is ErrorKind.BAD_REPLY
    assert problem in error.detail


async def test_a_server_that_says_no_more_than_wait(
    failing: Failing, bad_server: BadServer
) -> None:
    error, _ = await failing(await bad_server(b"HTTP/1.1 100 Continue\r\n\r\n"), limits=SHORT)
    assert error.kind is ErrorKind.HANDSHAKE_TIMEOUT


async def test_a_server_that_does_not_answer(failing: Failing, bad_server: BadServer) -> None:
    error, events = await failing(await bad_server(None), limits=SHORT)
    assert [type(event) for event in events] == UNANSWERED
    assert events[3].kind is error.kind is ErrorKind.HANDSHAKE_TIMEOUT
    assert (error.status, error.reply) == (None, b"")


async def test_a_server_that_hangs_up(failing: Failing, bad_server: BadServer) -> None:
    error, events = await failing(await bad_server(b"HTTP/1.1 101 Swit", stay=False))
    assert [type(event) for event in events] == UNANSWERED
    assert events[3].kind is error.kind is ErrorKind.HANDSHAKE_ABORTED
    assert error.reply == b"HTTP/1.1 101 Swit"


async def test_what_is_no_destination() -> None:
    async with Client() as client:
        for call in (client.connect("http://a/"), client.send("sip:a", b"")):
            with pytest.raises(AddressError, match="a destination is written"):
                await call


# Cancelling.


async def test_a_connect_that_nobody_waits_for_any_more_is_given_up(
    bad_server: BadServer,
) -> None:
    url = await bad_server(None)
    async with Client() as client, client.bus.stream() as events:
        waiters = [asyncio.create_task(client.connect(url)) for _ in range(2)]
        async for event in events:
            if isinstance(event, HandshakeRequest):
                break
        waiters[0].cancel()
        await asyncio.wait(waiters[:1])
        assert len(client.flows) == 1, "the other still waits"
        waiters[1].cancel()
        await asyncio.wait(waiters)
        told = [await anext(events), await anext(events)]
        assert all(waiter.cancelled() for waiter in waiters)
        await client.flows.wait_empty()
    failed, closed = told
    assert isinstance(failed, HandshakeFailed)
    assert failed.kind is ErrorKind.CONNECT_CANCELLED
    assert isinstance(closed, Closed)


async def test_a_connect_that_is_cancelled_before_there_is_a_socket_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(self: object, host: str, port: int, **options: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", silent)
    async with Client() as client, client.bus.stream() as events:
        waiter = asyncio.create_task(client.connect("ws://a.example"))
        assert isinstance(await anext(events), ConnectStarted)
        waiter.cancel()
        failed = await anext(events)
        assert isinstance(failed, ConnectFailed)
        assert failed.kind is ErrorKind.CONNECT_CANCELLED


async def test_closing_ends_a_connect_under_way_with_an_error(bad_server: BadServer) -> None:
    url = await bad_server(None)
    async with Client() as client, client.bus.stream(HandshakeRequest) as requests:
        waiter = asyncio.create_task(client.connect(url))
        await anext(requests)
        await client.aclose()
        with pytest.raises(ConnectError, match="the client was closed meanwhile") as failed:
            await waiter
    assert failed.value.kind is ErrorKind.CONNECT_CANCELLED


async def test_a_timeout_of_the_applications_own_gives_a_connect_up(bad_server: BadServer) -> None:
    url = await bad_server(None)
    async with Client() as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.connect(url)
        async with asyncio.timeout(5):
            await client.flows.wait_empty()


async def test_what_is_told_of_a_destination_has_no_tokens_in_it() -> None:
    events: list[Any] = []
    async with Client() as client:
        client.bus.subscribe(events.append)
        with pytest.raises(ConnectError) as failed:
            await client.connect("ws://127.0.0.1:1/ws?access_token=secret")
    assert failed.value.destination == "ws://127.0.0.1:1/ws"
    assert "secret" not in f"{failed.value!r} {failed.value} {events}"


async def test_a_failed_connect_is_tried_anew(bad_server: BadServer) -> None:
    url = await bad_server(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    ids = set()
    async with Client() as client:
        client.bus.connect_started.subscribe(lambda event: ids.add(event.connection.id))
        for _ in range(3):
            with pytest.raises(ConnectError):
                await client.connect(url)
        assert not client.bus.connected.subscribers
    assert len(ids) == 3
    assert Connected not in ids


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_connect_may_be_cancelled_at_any_moment(bad_server: BadServer, scheme: str) -> None:
    url = (await bad_server(None)).replace("ws", scheme)
    events: list[Any] = []
    async with asyncio.timeout(10):
        async with Client() as client:
            client.bus.subscribe(events.append)
            for turns in range(40):
                waiter = asyncio.create_task(client.connect(url))
                for _ in range(turns):
                    await asyncio.sleep(0)
                waiter.cancel()
                await asyncio.wait([waiter])
                assert waiter.cancelled()
            await client.flows.wait_empty()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
    lives: dict[int, list[type]] = {}
    for event in events:
        lives.setdefault(event.connection.id, []).append(type(event))
    assert lives
    for life in lives.values():
        assert life in (CONNECT_FAILED, UNANSWERED)
