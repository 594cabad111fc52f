"""A relay whose upstream is not there, is late, refuses, breaks off or does not keep up."""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from sipws import Limits, Server
from sipws.events import (
    PEER,
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    ConnectionOpened,
    ConnectStarted,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    Side,
)
from sipws.limits import FRAMES_PER_SLICE
from sipws.relay.relay_legs import MOST_WAITING, ClientLeg, UpstreamLeg
from sipws.transport.flow import Flow
from sipws.ws.client_session import ClientSession

Start = Callable[..., Awaitable[Any]]
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ByHand:
    """An upstream that does what a test says, with one connection."""

    def __init__(self) -> None:
        self.url = ""
        self.came: asyncio.Future[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]
        self.came = asyncio.get_running_loop().create_future()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        self.came.set_result((request, reader, writer))

    async def answer(self, behind: bytes = b"") -> tuple[asyncio.StreamReader, Any]:
        """Answer the upgrade request; returns what to read from and what to write to."""
        async with asyncio.timeout(10):
            request, reader, writer = await self.came
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Accept: %b\r\n\r\n%b" % (accept, behind)
        )
        return reader, writer


@pytest.fixture
async def by_hand() -> AsyncIterator[ByHand]:
    upstream = ByHand()
    server = await asyncio.start_server(upstream.take, "127.0.0.1", 0)
    upstream.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield upstream
    server.close()
    if upstream.came.done():
        upstream.came.result()[2].close()


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Opcodes and payloads of what a client sends, until it ends."""
    try:
        while True:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            mask = await reader.readexactly(4)
            data = await reader.readexactly(length)
            yield first & 0xF, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
    except (asyncio.IncompleteReadError, ConnectionError):
        return


def client_leg(both: Any) -> ClientLeg:
    """The connection of the phone."""
    return next(flow for flow in both.front.flows if isinstance(flow, ClientLeg))


async def legs(both: Any, by_hand: ByHand) -> tuple[Any, ClientLeg, UpstreamLeg]:
    """A phone whose upstream has answered, its connection and the one to the upstream."""
    phone = await both.phone()
    await by_hand.answer()
    await both.told.wait_for(Connected)
    client = client_leg(both)
    upstream = client.pair.upstream
    assert upstream is not None
    return phone, client, upstream


async def an_unused_port() -> int:
    async with Server(["ws:127.0.0.1:0"]) as server:
        return server.listeners[0].port


async def test_clients_hear_that_the_upstream_is_not_there_and_the_log_says_it_once(
    relayed: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sipws.relay.relay")
    port = await an_unused_port()
    both = await relayed(upstream=f"ws://127.0.0.1:{port}")
    for _ in range(3):
        assert await both.end_of(await both.phone()) == (1013, "upstream unreachable")
    assert both.relay.reachable is False
    assert [event.kind for event in both.told.of(ConnectFailed)] == [ErrorKind.CONNECT_REFUSED] * 3
    errors = both.told.of(ErrorOccurred)
    assert [event.kind for event in errors] == [ErrorKind.UPSTREAM_FAILED] * 3
    assert {event.connection.opened_by for event in errors} == {Side.PEER}
    async with Server([f"ws:127.0.0.1:{port}"]):
        phone = await both.phone()
        await both.told.wait_for(Connected)
        await phone.close()
        await both.told.wait_for(Closed, opened_by=Side.LOCAL)
    assert both.relay.reachable is True
    down, up = [record.getMessage() for record in caplog.records]
    assert down.startswith(f"no connection to the upstream ws://127.0.0.1:{port}/ (connect-refused")
    assert up == f"there are connections to the upstream ws://127.0.0.1:{port}/ again"


@pytest.mark.parametrize(
    ("status", "told", "reachable"),
    [
        (403, (1008, "upstream refused with 403"), True),
        (503, (1013, "upstream refused with 503"), False),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    relayed: Start, by_hand: ByHand, status: int, told: tuple[int, str], reachable: bool
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    _, _, writer = await by_hand.came
    writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
    assert await both.end_of(phone) == told
    assert both.relay.reachable is reachable
    failed = both.told.of(HandshakeFailed)[0]
    assert (failed.kind, failed.connection.opened_by) == (
        ErrorKind.HANDSHAKE_REFUSED,
        Side.LOCAL,
    )


async def test_an_upstream_that_asks_to_be_left_alone_is(
    relayed: Start, by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    both = await relayed(upstream=by_hand.url)
    now = [1000.0]
    both.relay._monotonic = lambda: now[0]
    phone = await both.phone()
    _, _, writer = await by_hand.came
    writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n")
    assert await both.end_of(phone) == (1013, "upstream refused with 503; retry after 30 s")
    writer.close()
    assert "connect again in 30 s" in caplog.text
    # Who comes meanwhile hears it in HTTP, and the upstream hears nothing.
    started = len(both.told.of(ConnectStarted))
    now[0] += 9.5
    with pytest.raises(InvalidStatus) as refused:
        await both.phone()
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"] == "21"
    assert len(both.told.of(ConnectStarted)) == started
    failed = both.told.of(HandshakeFailed)[-1]
    assert (failed.kind, failed.connection.opened_by) == (ErrorKind.UPSTREAM_FAILED, Side.PEER)
    # Its time is over.
    now[0] += 21
    by_hand.came = asyncio.get_running_loop().create_future()
    phone = await both.phone()
    await by_hand.answer()
    await both.told.wait_for(Connected)


async def test_one_client_that_is_too_fast_does_not_keep_the_others_out(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    _, _, writer = await by_hand.came
    writer.write(b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n")
    assert await both.end_of(phone) == (1013, "upstream refused with 429; retry after 30 s")
    writer.close()
    by_hand.came = asyncio.get_running_loop().create_future()
    await both.phone()
    await by_hand.answer()
    await both.told.wait_for(Connected)


async def test_the_log_names_where_an_upstream_points_to(
    relayed: Start, by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    _, _, writer = await by_hand.came
    writer.write(
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 307 Moved\r\nLocation: wss://b.test/ws?k=v\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert await both.end_of(phone) == (1013, "upstream refused with 307")
    assert "it points to wss://b.test/ws;" in caplog.text


async def test_messages_wait_for_a_late_upstream(relayed: Start, by_hand: ByHand) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    await phone.send("text")
    await phone.send(b"binary")
    await both.told.wait_for(MessageReceived, 2)
    reader, _ = await by_hand.answer()
    await both.told.wait_for(Connected)
    await phone.send("later")
    found = frames(reader)
    assert [await anext(found) for _ in range(3)] == [(1, b"text"), (2, b"binary"), (1, b"later")]


async def test_what_a_client_sent_arrives_though_it_left_before_the_upstream_was_there(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    await phone.send("last words")
    await phone.close(4001, "bye")
    await both.told.wait_for(Closed)
    reader, _ = await by_hand.answer()
    found = frames(reader)
    assert await anext(found) == (1, b"last words")
    assert await anext(found) == (8, (4001).to_bytes(2, "big") + b"bye")


async def test_a_connect_is_given_up_when_the_client_leaves_without_a_word(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    await by_hand.came
    await phone.close()
    failed = await both.told.wait_for(HandshakeFailed)
    assert failed.kind is ErrorKind.CONNECT_CANCELLED
    await both.told.wait_for(Closed, 2)
    assert len(both.front.flows) == 0
    # It was the client's doing.
    assert both.relay.reachable is None


@pytest.mark.parametrize(
    ("messages", "size"), [(MOST_WAITING + 1, 1), (2, 600)], ids=["too many", "too long"]
)
async def test_no_more_than_a_bound_waits_for_the_upstream(
    relayed: Start, by_hand: ByHand, messages: int, size: int
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(message_size=1000))
    phone = await both.phone()
    await by_hand.came
    for _ in range(messages):
        await phone.send("x" * size)
    code, reason = await both.end_of(phone)
    assert (code, reason) == (1013, "too many messages wait for the upstream")
    [error] = both.told.of(ErrorOccurred)
    assert (error.kind, error.connection.opened_by) == (ErrorKind.UPSTREAM_QUEUE_FULL, Side.PEER)
    # Nor does half of it go on.
    await both.told.wait_for(HandshakeFailed)


async def test_an_upstream_may_speak_first(relayed: Start, by_hand: ByHand) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    await phone.send("question")
    reader, _ = await by_hand.answer(behind=b"\x81\x02hi\x82\x01\xff\x88\x02\x0f\xa1")
    assert [await phone.recv(), await phone.recv()] == ["hi", b"\xff"]
    assert await both.end_of(phone) == (4001, "")
    # Though it has closed, what waited for it goes in front of our answer to that.
    found = frames(reader)
    assert [await anext(found) for _ in range(2)] == [(1, b"question"), (8, b"\x0f\xa1")]


async def test_an_upstream_that_breaks_off_is_told_to_the_client(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    _, writer = await by_hand.answer(behind=b"\x81\x02hi")
    assert await phone.recv() == "hi"
    writer.transport.abort()
    assert await both.end_of(phone) == (1011, "upstream lost")


async def test_an_upstream_that_breaks_the_protocol_is_not_blamed_on_the_client(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    reader, _ = await by_hand.answer(behind=b"\x83\x00")
    assert await both.end_of(phone) == (1011, "upstream failed")
    opcode, data = await anext(frames(reader))
    assert (opcode, data[:2]) == (8, (1002).to_bytes(2, "big"))


async def test_shutting_down_gives_connects_up(relayed: Start, by_hand: ByHand) -> None:
    both = await relayed(upstream=by_hand.url)
    phone = await both.phone()
    await phone.send("question")
    await by_hand.came
    stopping = asyncio.create_task(both.front.aclose())
    assert await both.end_of(phone) == (1001, "server shutdown")
    async with asyncio.timeout(5):
        await stopping
    assert len(both.front.flows) == 0
    assert both.relay.reachable is None


# A side that does not keep up.

BIG = b"x" * 60_000
ENOUGH = 400
"""Messages that no socket's buffers have room for."""


def buffered(flow: Flow) -> int:
    return flow.unsent_bytes


async def test_a_slow_upstream_slows_the_client_down_and_gets_everything(
    relayed: Start, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()
    stop_reading = ClientLeg.stop_reading
    monkeypatch.setattr(
        ClientLeg, "stop_reading", lambda leg: (stop_reading(leg), stopped.set())[0]
    )
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30, max_chunks=0))
    phone = await both.phone()
    reader, _ = await by_hand.answer()
    await both.told.wait_for(Connected)

    async def flood() -> None:
        for _ in range(ENOUGH):
            await phone.send(BIG)

    flooding = asyncio.create_task(flood())
    async with asyncio.timeout(20):
        await stopped.wait()
        ours = next(flow for flow in both.front.flows if isinstance(flow, UpstreamLeg))
        # What was read at once, above what asyncio lets wait; 24 MB are on their way.
        assert buffered(ours) < 1_000_000
        assert not flooding.done()
        received = 0
        while received < ENOUGH * len(BIG):
            received += len(await reader.read(1 << 20))
        await flooding
    assert both.told.of(ErrorOccurred) == []


async def test_a_slow_client_slows_the_upstream_down_and_gets_everything(
    relayed: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()
    stop_reading = UpstreamLeg.stop_reading
    monkeypatch.setattr(
        UpstreamLeg, "stop_reading", lambda leg: (stop_reading(leg), stopped.set())[0]
    )
    patient = Limits(send_timeout=30)

    def flood(flow: Flow, message: bytes) -> None:
        for _ in range(ENOUGH):
            flow.send(BIG)

    both = await relayed(flood, limits=patient, upstream_limits=patient)
    phone = await both.phone()
    phone.transport.pause_reading()
    await phone.send("go")
    async with asyncio.timeout(20):
        await stopped.wait()
        client = client_leg(both)
        assert buffered(client) < 1_000_000
        phone.transport.resume_reading()
        for _ in range(ENOUGH):
            assert len(await phone.recv()) == len(BIG)
        # It is not slow any more.
        await phone.send("\r\n\r\n")
        assert await phone.recv() == "\r\n"
    assert both.told.of(ErrorOccurred) == []


async def test_a_large_read_of_a_client_does_not_go_on_while_its_upstream_is_slow(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30, max_chunks=0))
    phone, client, upstream = await legs(both, by_hand)
    client.data_received(Frame(Opcode.BINARY, BIG).serialize(mask=True) * 2)
    assert not client.is_reading
    # It fills up before the client's turn comes.
    upstream.pause_writing()
    turn = asyncio.Event()
    asyncio.get_running_loop().call_soon(turn.set)
    await turn.wait()
    assert not client.is_reading
    upstream.resume_writing()
    # What is left of the read comes first, in a turn of its own.
    async with asyncio.timeout(5):
        while not client.is_reading:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    assert client.traffic[0] == 2
    phone.transport.abort()


async def test_what_a_time_slice_relays_leaves_in_one_write(
    relayed: Start, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(max_chunks=0))
    phone, client, upstream = await legs(both, by_hand)
    messages: list[int] = []
    take_writes = ClientSession.take_writes

    def counted(session: ClientSession) -> tuple[list[bytes], bool]:
        writes, eof = take_writes(session)
        if writes:
            messages.append(len(writes))
        return writes, eof

    monkeypatch.setattr(ClientSession, "take_writes", counted)
    client.data_received(Frame(Opcode.TEXT, b"?").serialize(mask=True) * 3 * FRAMES_PER_SLICE)
    async with asyncio.timeout(5):
        while upstream.traffic[1] < 3 * FRAMES_PER_SLICE:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    assert messages == [FRAMES_PER_SLICE] * 3
    phone.transport.abort()


async def test_a_client_is_not_read_on_for_an_upstream_while_it_is_slow_itself(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30))
    phone, client, upstream = await legs(both, by_hand)
    both_legs = client, upstream
    upstream.pause_writing()
    assert not client.is_reading
    upstream.resume_writing()
    assert client.is_reading
    client.pause_writing()
    assert not upstream.is_reading
    upstream.pause_writing()
    upstream.resume_writing()
    # What it sends could be answered, and the answers would have to wait.
    assert [leg.is_reading for leg in both_legs] == [False, False]
    client.resume_writing()
    assert [leg.is_reading for leg in both_legs] == [True, True]
    client.pause_writing()
    upstream.pause_writing()
    client.resume_writing()
    assert [leg.is_reading for leg in both_legs] == [False, False]
    upstream.resume_writing()
    assert [leg.is_reading for leg in both_legs] == [True, True]
    phone.transport.abort()


async def test_an_upstream_that_comes_while_its_client_is_slow_is_not_read(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30))
    phone = await both.phone()
    await by_hand.came
    client = client_leg(both)
    client.pause_writing()
    await by_hand.answer()
    await both.told.wait_for(Connected)
    upstream = client.pair.upstream
    assert upstream is not None
    assert not upstream.is_reading
    client.resume_writing()
    assert upstream.is_reading
    phone.transport.abort()


async def test_a_slow_client_whose_upstream_is_gone_is_read_when_it_has_caught_up(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30))
    phone, client, upstream = await legs(both, by_hand)
    client.pause_writing()
    upstream.abort(ErrorKind.SEND_TIMEOUT, "enough")
    assert not client.is_open
    assert not client.is_reading
    client.resume_writing()
    assert client.is_reading
    phone.transport.abort()


@pytest.mark.parametrize("end", ["caught up", "aborted", "closed", "upstream gone", "shutdown"])
async def test_what_a_lost_client_sent_waits_for_a_slow_upstream_and_holds_nobody(
    relayed: Start, by_hand: ByHand, end: str
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30, close_timeout=30))
    phone, client, upstream = await legs(both, by_hand)
    client.data_received(Frame(Opcode.TEXT, b"on the way").serialize(mask=True) * 500)
    upstream.pause_writing()
    client._transport.abort()
    taken = client.traffic[0]
    for _ in range(10):
        await asyncio.sleep(0)
    assert client.traffic[0] == taken < 500
    match end:
        case "caught up":
            upstream.resume_writing()
        case "aborted":
            client.abort(ErrorKind.CONNECTION_LOST, "enough")
        case "closed":
            client.close()
        case "upstream gone":
            upstream.abort(ErrorKind.SEND_TIMEOUT, "enough")
        case "shutdown":
            async with asyncio.timeout(5):
                await both.front.aclose(grace=0)
    closed = await both.told.wait_for(Closed, opened_by=PEER)
    assert closed.messages_in == (500 if end == "caught up" else taken)
    async with asyncio.timeout(5):
        while client in set(both.front.flows):  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
    phone.transport.abort()
    await both.front.aclose(grace=0)


async def test_no_side_is_given_up_for_what_is_not_read_while_the_other_is_slow(
    relayed: Start, by_hand: ByHand
) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(send_timeout=30))
    phone, client, upstream = await legs(both, by_hand)
    upstream.pause_writing()
    soon = asyncio.get_running_loop().time()
    for leg in (client, upstream):
        for later in (0, 40, 80, 120):
            leg.look_after(soon + later)
        assert leg.is_open
    upstream.resume_writing()
    for later in (160, 200):
        client.look_after(soon + later)
    assert (await both.told.wait_for(ErrorOccurred)).kind is ErrorKind.PING_TIMEOUT
    phone.transport.abort()


async def test_an_upstream_that_takes_nothing_is_given_up(relayed: Start, by_hand: ByHand) -> None:
    both = await relayed(upstream=by_hand.url, limits=Limits(max_chunks=0))
    phone = await both.phone()
    await by_hand.answer()
    await both.told.wait_for(Connected)

    async def flood() -> None:
        for _ in range(ENOUGH):
            await phone.send(BIG)

    flooding = asyncio.create_task(flood())
    assert await both.end_of(phone) == (1011, "upstream lost")
    await asyncio.gather(flooding, return_exceptions=True)
    kinds = {event.kind: event.connection.opened_by for event in both.told.of(ErrorOccurred)}
    assert kinds[ErrorKind.SEND_TIMEOUT] is Side.LOCAL


async def test_a_client_that_takes_nothing_ends_its_upstream_connection(relayed: Start) -> None:
    def flood(flow: Flow, message: bytes) -> None:
        for _ in range(ENOUGH):
            flow.send(BIG)

    both = await relayed(flood, upstream_limits=Limits(send_timeout=30))
    phone = await both.phone()
    phone.transport.pause_reading()
    await phone.send("go")
    lost = await both.told.wait_for(ErrorOccurred)
    assert (lost.kind, lost.connection.opened_by) == (ErrorKind.SEND_TIMEOUT, Side.PEER)
    closed = await both.told.wait_for(Closed, opened_by=Side.LOCAL)
    assert (closed.code, closed.closed_by) == (1001, Side.LOCAL)
    phone.transport.abort()


async def test_connections_that_come_and_go_leave_nothing_behind(relayed: Start) -> None:
    both = await relayed()
    for number in range(30):
        phone = await both.phone()
        if number % 3:
            await phone.send("x")
        if number % 2:
            await both.told.wait_for(Accepted, number + 1)
            phone.transport.abort()
        else:
            await phone.close()
    # What a client sent before it closed may still be on its way to the upstream.
    async with asyncio.timeout(10):
        await both.front.aclose()
    assert len(both.front.flows) == 0
    opened, closed = both.told.of(ConnectionOpened), both.told.of(Closed)
    assert {event.connection.id for event in opened} == {event.connection.id for event in closed}
