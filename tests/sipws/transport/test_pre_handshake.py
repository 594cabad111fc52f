"""Admission over real sockets: limits, PROXY headers before HTTP and before TLS, nothing left."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from sipws import Address, Limits, Server, TransportError
from sipws.admission.admission import Rules
from sipws.admission.proxy_headers import SIGNATURE_V2, Networks
from sipws.events import (
    Accepted,
    Closed,
    ConnectionOpened,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
)
from sipws.transport import pre_handshake as pre_handshake
from sipws.transport.tls import Certificate, Certificates

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 50123 443\r\n"
V2 = SIGNATURE_V2 + bytes.fromhex("2111000c cb007107 c0000201 c3cb 01bb")
LOCAL = SIGNATURE_V2 + bytes.fromhex("20000000")
REAL = Address("203.0.113.7", 50123)
PROXIED = Rules(
    trusted_proxies=Networks(["127.0.0.0/8"]), proxy_protocol=True, max_connections_per_address=1
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Certificates:
    path = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return Certificates([Certificate(path)])


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Client:
    """One end of a TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, server: Server, *writes: bytes) -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", server.listeners[0].port))
        for data in writes:
            client.writer.write(data)
            await asyncio.sleep(0)
        return client

    async def status(self) -> bytes:
        async with asyncio.timeout(5):
            line = await self.reader.readline()
        return line[9:12]

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


async def gone(server: Server) -> None:
    """Wait until nothing is left, and hold that nothing is counted any more."""
    async with asyncio.timeout(10):
        await server.flows.wait_empty()
        while server.admission.connections:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
    assert server.admission.addresses == 0


# Limits.


async def test_one_connection_too_many_is_a_503(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(rules=Rules(max_connections=1))
    first = await Client.to(server, upgrade)
    assert await first.status() == b"101"
    second = await Client.to(server)
    async with asyncio.timeout(5):
        answer = await second.reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 10\r\n" in answer
    failed = await events.wait_for(HandshakeFailed)
    assert (failed.kind, failed.request) == (ErrorKind.TOO_MANY_CONNECTIONS, b"")
    assert failed.reply == answer
    await second.close()
    await first.close()
    await gone(server)
    third = await Client.to(server, upgrade)
    assert await third.status() == b"101"
    await third.close()


async def test_a_client_reads_why_there_is_no_room(serve: Serve) -> None:
    server, _ = await serve(rules=Rules(max_connections=1))
    url = f"ws://127.0.0.1:{server.listeners[0].port}/"
    async with connect(url, subprotocols=[Subprotocol("sip")]):
        for _ in range(5):
            with pytest.raises(InvalidStatus, match="503"):
                await connect(url, subprotocols=[Subprotocol("sip")])


async def test_one_connection_too_many_from_an_address_is_a_429(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve(rules=Rules(max_connections_per_address=1))
    first = await Client.to(server, upgrade)
    assert await first.status() == b"101"
    second = await Client.to(server, upgrade)
    assert await second.status() == b"429"
    failed = await events.wait_for(HandshakeFailed)
    assert failed.kind is ErrorKind.TOO_MANY_FROM_ADDRESS
    await second.close()
    await first.close()
    await gone(server)


async def test_a_flood_that_is_refused_holds_no_sockets(serve: Serve) -> None:
    server, events = await serve(rules=Rules(max_rate_per_address=0.001))
    clients = [await Client.to(server) for _ in range(200)]
    await events.wait_for(HandshakeFailed, 199)
    replies = [event.reply for event in events.of(HandshakeFailed)]
    assert sum(bool(reply) for reply in replies) == 64
    assert len(server.flows) <= 65
    for client in clients:
        await client.close()
    await gone(server)


async def test_over_tls_a_connection_too_many_is_dropped_before_the_handshake(
    serve: Serve, tls: Certificates, trusting: ssl.SSLContext
) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=tls, rules=Rules(max_rate_per_address=0.001)
    )
    first = await Client.to(server)
    second = await Client.to(server)
    async with asyncio.timeout(5):
        assert await second.reader.read() == b""
    failed = await events.wait_for(HandshakeFailed)
    assert (failed.kind, failed.reply) == (ErrorKind.TOO_FAST, b"")
    await first.close()
    await second.close()
    await gone(server)


async def test_counts_end_at_zero_whatever_becomes_of_the_connections(
    serve: Serve, upgrade: bytes, tls: Certificates
) -> None:
    rules = Rules(
        max_connections=100,
        max_connections_per_address=50,
        trusted_proxies=Networks(["127.0.0.2"]),
        proxy_protocol=True,
    )
    plain, _ = await serve(limits=Limits(handshake_timeout=0.1, close_timeout=0.1), rules=rules)
    secure, _ = await serve(
        listen="wss:127.0.0.1:0", tls=tls, limits=Limits(handshake_timeout=0.1), rules=rules
    )

    async def come_and_go(server: Server, number: int) -> None:
        client = await Client.to(server)
        match number % 6:
            case 0:
                client.writer.write(upgrade)
            case 1:
                client.writer.transport.abort()
            case 2:
                client.writer.write(upgrade)
                client.writer.transport.abort()
            case 3:
                client.writer.write(b"GET / HT")
                await client.reader.read()
            case 4:
                await client.reader.read()
            case 5:
                client.writer.write(b"nonsense")
        await client.close()

    async def rounds(count: int) -> None:
        for start in range(0, 60 * count, 60):
            numbers = range(start, start + 60)
            async with asyncio.timeout(20):
                await asyncio.gather(
                    *(come_and_go(server, n) for n in numbers for server in (plain, secure)),
                    return_exceptions=True,
                )
        await gone(plain)
        await gone(secure)

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    # The first round also opens what the event loop keeps for itself.
    await rounds(1)
    await asyncio.sleep(0.1)
    descriptors, tasks = held()
    await rounds(16)
    async with asyncio.timeout(10):
        while held()[0] > descriptors or held()[1] > tasks:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.005)


# PROXY headers.


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_proxy_header_names_the_peer(
    serve: Serve, upgrade: bytes, header: bytes, size: int
) -> None:
    server, events = await serve(rules=PROXIED)
    stream = header + upgrade
    client = await Client.to(server, *(stream[n : n + size] for n in range(0, len(stream), size)))
    assert await client.status() == b"101"
    accepted = await events.wait_for(Accepted)
    assert accepted.connection.peer == REAL
    assert accepted.request == upgrade
    assert {event.connection.peer for event in events.events} == {REAL}
    await client.close()
    await gone(server)


async def test_a_proxys_health_check_speaks_for_itself(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(rules=PROXIED)
    clients = [await Client.to(server, LOCAL + upgrade) for _ in range(2)]
    for client in clients:
        assert await client.status() == b"101"
    opened = await events.wait_for(ConnectionOpened, 2)
    assert opened.connection.peer.ip == "127.0.0.1"
    for client in clients:
        await client.close()
    await gone(server)


async def test_who_stands_behind_the_proxy_counts(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(rules=PROXIED)
    first = await Client.to(server, V1 + upgrade)
    assert await first.status() == b"101"
    second = await Client.to(server, V2 + upgrade)
    assert await second.status() == b"429"
    failed = await events.wait_for(HandshakeFailed)
    assert failed.connection.peer == REAL
    assert server.admission.refused == {ErrorKind.TOO_MANY_FROM_ADDRESS: 1}
    await first.close()
    await second.close()
    await gone(server)


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "the connection does not start with a PROXY header"),
        (b"PROXY TCP4 a b c d\r\n", "has an invalid address or port"),
        (b"PROXY TCP4 2", "no complete PROXY header within 0.1 s"),
        (b"", "no complete PROXY header within 0.1 s"),
    ],
)
async def test_a_trusted_proxy_without_its_header_is_dropped_and_told(
    serve: Serve, sent: bytes, detail: str
) -> None:
    server, events = await serve(rules=PROXIED, limits=Limits(handshake_timeout=0.1))
    client = await Client.to(server, sent)
    closed = await events.wait_for(Closed)
    _, failed, _ = events.events
    assert isinstance(failed, HandshakeFailed)
    assert failed.kind is ErrorKind.PROXY_HEADER
    assert detail in failed.detail
    assert sent.startswith(failed.request)
    assert not closed.accepted
    assert server.admission.refused == {ErrorKind.PROXY_HEADER: 1}
    await client.close()
    await gone(server)


async def test_a_proxy_that_leaves_within_its_header_is_told(serve: Serve) -> None:
    server, events = await serve(rules=PROXIED)
    client = await Client.to(server, V1[:20])
    await client.close()
    failed = await events.wait_for(HandshakeFailed)
    assert failed.kind is ErrorKind.PROXY_HEADER
    await gone(server)


async def test_nobody_else_may_send_a_proxy_header(serve: Serve, upgrade: bytes) -> None:
    rules = Rules(trusted_proxies=Networks(["10.0.0.1"]), proxy_protocol=True)
    server, events = await serve(rules=rules)
    direct = await Client.to(server, upgrade)
    assert await direct.status() == b"101"
    forged = await Client.to(server, V1 + upgrade)
    assert await forged.status() == b"400"
    failed = await events.wait_for(HandshakeFailed)
    assert (failed.kind, failed.connection.peer.ip) == (ErrorKind.NOT_HTTP, "127.0.0.1")
    await direct.close()
    await forged.close()
    await gone(server)


async def test_only_listeners_with_the_tag_expect_a_proxy_header(
    serve: Serve, upgrade: bytes
) -> None:
    rules = Rules(trusted_proxies=Networks(["127.0.0.1"]), proxy_protocol=frozenset({"edge"}))
    inner, _ = await serve(rules=rules)
    edge, _ = await serve(listen="ws:127.0.0.1:0 tag edge", rules=rules)
    for server, stream in ((inner, upgrade), (edge, V1 + upgrade)):
        client = await Client.to(server, stream)
        assert await client.status() == b"101"
        await client.close()
        await gone(server)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("together", [True, False])
async def test_a_proxy_header_stands_before_tls(
    serve: Serve,
    tls: Certificates,
    trusting: ssl.SSLContext,
    upgrade: bytes,
    header: bytes,
    together: bool,
) -> None:
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls, rules=PROXIED)
    client = await Client.to(server)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        inside.do_handshake()
    hello = outgoing.read()
    # In one segment with the ClientHello, not a byte too much of the header may be read.
    for data in (header + hello,) if together else (header, hello):
        client.writer.write(data)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while True:
            incoming.write(await client.reader.read(65536))
            try:
                inside.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.writer.write(outgoing.read())
        inside.write(upgrade)
        client.writer.write(outgoing.read())
        answer = b""
        while b"\r\n\r\n" not in answer:
            incoming.write(await client.reader.read(65536))
            try:
                answer += inside.read()
            except ssl.SSLWantReadError:
                continue
    assert answer.startswith(b"HTTP/1.1 101 ")
    accepted = await events.wait_for(Accepted)
    assert accepted.connection.peer == REAL
    await client.close()
    await gone(server)


@pytest.mark.parametrize("rules", [Rules(), PROXIED], ids=["direct", "behind a proxy"])
async def test_who_comes_over_tls_while_the_server_ends_gets_a_503(
    serve: Serve, upgrade: bytes, tls: Certificates, trusting: ssl.SSLContext, rules: Rules
) -> None:
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls, rules=rules)
    server.admission.draining = 7.0
    port = server.listeners[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if rules.proxy_protocol:
        writer.write(V1)
    await writer.start_tls(trusting, server_hostname="localhost")
    writer.write(upgrade)
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 7\r\n" in answer
    failed = await events.wait_for(HandshakeFailed)
    assert (failed.kind, failed.request) == (ErrorKind.SHUTTING_DOWN, upgrade)
    assert failed.connection.peer.ip == ("203.0.113.7" if rules.proxy_protocol else "127.0.0.1")
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def test_behind_a_proxy_who_is_refused_hears_it_after_the_header(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve(rules=PROXIED)
    server.admission.draining = 7.0
    client = await Client.to(server, V1 + upgrade)
    assert await client.status() == b"503"
    failed = await events.wait_for(HandshakeFailed)
    assert (failed.kind, failed.request) == (ErrorKind.SHUTTING_DOWN, upgrade)
    await client.close()


async def test_who_is_connected_and_has_not_asked_when_the_server_ends_gets_a_503(
    serve: Serve, upgrade: bytes
) -> None:
    server, events = await serve()
    asks, waits = await Client.to(server), await Client.to(server, upgrade[:20])
    both_open = [await Client.to(server, upgrade) for _ in range(2)]
    for client in both_open:
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    ending = asyncio.create_task(server.aclose(spread=0.5, grace=6))
    # Those that are open are closed one after the other, as if there were no others.
    assert (await both_open[0].reader.readexactly(4))[2:] == (1001).to_bytes(2, "big")
    asks.writer.write(upgrade)
    told = [await client.reader.read() for client in (asks, waits)]
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in told)
    assert all(b"\r\nRetry-After: 7\r\n" in answer for answer in told)
    failures = events.of(HandshakeFailed)
    assert [failed.request for failed in failures] == [upgrade, upgrade[:20]]
    assert server.admission.refused == {ErrorKind.SHUTTING_DOWN: 2}
    assert not events.of(ErrorOccurred)
    assert (await both_open[1].reader.readexactly(4))[2:] == (1001).to_bytes(2, "big")
    for client in (asks, waits, *both_open):
        await client.close()
    await ending


async def test_who_is_within_tls_when_the_server_ends_gets_a_503(
    serve: Serve, upgrade: bytes, tls: Certificates, trusting: ssl.SSLContext
) -> None:
    server, _ = await serve(listen="wss:127.0.0.1:0", tls=tls)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    while not server.admission.connections:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.005)
    server.admission.draining = 7.0
    await writer.start_tls(trusting, server_hostname="localhost")
    writer.write(upgrade)
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def test_shutting_down_drops_what_has_not_begun(serve: Serve, tls: Certificates) -> None:
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls, rules=PROXIED)
    waiting = [await Client.to(server, start) for start in (b"", V1[:10], V1, V1 + b"\x16\x03")]
    while server.admission.connections < len(waiting):  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.005)
    await server.aclose()
    assert len([x for x in events.events if getattr(x, "kind", "") == "handshake-aborted"]) >= 3
    assert len(events.of(ConnectionOpened)) == len(events.of(Closed)) == len(waiting)
    for client in waiting:
        await client.close()
    await gone(server)


@pytest.mark.parametrize(
    ("number", "said", "counted"),
    [
        (errno.EMFILE, "no file descriptor is left", 1),
        (errno.ENFILE, "no file descriptor is left", 1),
        (errno.ENOBUFS, "no connection can be accepted on ws:127.0.0.1:", 0),
    ],
)
async def test_a_connection_that_cannot_be_accepted_is_survived(
    serve: Serve,
    upgrade: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    said: str,
    counted: int,
) -> None:
    server, _ = await serve(rules=PROXIED)
    accept, failures = socket.socket.accept, [OSError(number, os.strerror(number))]

    def fail_once(self: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(self)

    monkeypatch.setattr(pre_handshake, "OUT_OF_FILES", 0.01)
    monkeypatch.setattr(socket.socket, "accept", fail_once)
    client = await Client.to(server, V1 + upgrade)
    assert await client.status() == b"101"
    assert said in caplog.text
    assert server.out_of_descriptors == counted
    await client.close()
    await gone(server)


async def test_an_address_that_is_taken_is_told_like_any_other(
    serve: Serve, tls: Certificates
) -> None:
    server, _ = await serve(listen="wss:127.0.0.1:0", tls=tls)
    with pytest.raises(TransportError, match=r"cannot listen on wss:127\.0\.0\.1:"):
        await Server([str(server.listeners[0])], lambda flow, message: None, tls=tls).start()


@pytest.mark.parametrize("proto", ["ws", "wss"])
async def test_all_phones_may_come_at_once(serve: Serve, tls: Certificates, proto: str) -> None:
    server, events = await serve(listen=f"{proto}:127.0.0.1:0", tls=tls)
    address = ("127.0.0.1", server.listeners[0].port)
    phones = []
    for _ in range(300):
        # Nobody accepts meanwhile; the system would let the one that is too many wait for a second.
        phones.append(socket.create_connection(address, timeout=0.5))
    for phone in phones:
        phone.close()
    await events.wait_for(Closed, len(phones))
