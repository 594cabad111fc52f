"""Health checks and port scans: counted apart, no failed handshakes, and not traced."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from sipws import Server
from sipws.admission.admission import Rules
from sipws.admission.proxy_headers import SIGNATURE_V2, Networks
from sipws.events import Closed, ConnectionOpened, ErrorKind, HandshakeFailed, Probe
from sipws.metrics.counters import CLIENT, Counts, Traffic
from sipws.tracing.tracer import Tracer, TraceSettings
from sipws.transport.tls import Certificate, Certificates
from sipws.ws.health_check import HealthCheck, health_check

Serve = Callable[..., Awaitable[tuple[Server, Any]]]
PROXIED = Rules(trusted_proxies=Networks(["127.0.0.0/8"]), proxy_protocol=True)
LOCAL_V2 = SIGNATURE_V2 + bytes.fromhex("20000000")
PROXY_V2 = SIGNATURE_V2 + bytes.fromhex("2111000c cb007107 c0000201 c3cb 01bb")
UNKNOWN_V1 = b"PROXY UNKNOWN\r\n"
HELLO_CHECK = (
    bytes.fromhex("16 0300 0079 01 000075 0300")
    + bytes(4)
    + b"HAPROXYSSLCHK\nHAPROXYSSLCHK\n"
    + b"\0\0\x4e"
    + b"".join(bytes((0, n)) for n in range(1, 40))
    + b"\1\0"
)
"""The ClientHello of HAProxy's ``option ssl-hello-chk``: SSL 3.0, and nothing else."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> Certificates:
    path = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return Certificates([Certificate(path)])


def reset_by(connected: socket.socket) -> None:
    """Have a socket's close reset the connection, as HAProxy's checks do."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def look(server: Server, data: bytes, *, reset: bool) -> None:
    """Connect, say something, and leave."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connected:
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", server.listeners[0].port))
        await loop.sock_sendall(connected, data)
        if reset:
            reset_by(connected)


async def probe_of(events: Any, count: int = 1) -> Probe | None:
    """What a connection was, of which nothing is told but that it came and went."""
    closed = await events.wait_for(Closed, count)
    assert [type(event) for event in events.events] == [ConnectionOpened, Closed] * count
    probe: Probe | None = closed.probe
    return probe


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("proto", ["ws", "wss"])
@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (None, b""),
        (PROXIED, b""),
        (PROXIED, LOCAL_V2),
        (PROXIED, PROXY_V2),
        (PROXIED, UNKNOWN_V1),
    ],
    ids=["plain", "no header", "LOCAL", "PROXY", "UNKNOWN"],
)
async def test_who_says_nothing_has_not_failed(
    serve: Serve, tls: Certificates, rules: Rules | None, said: bytes, proto: str, reset: bool
) -> None:
    server, events = await serve(listen=f"{proto}:127.0.0.1:0", rules=rules, tls=tls)
    await look(server, said, reset=reset)
    assert await probe_of(events) is Probe.TCP
    assert not server.admission.refused
    async with asyncio.timeout(5):
        await server.flows.wait_empty()
    assert server.admission.connections == 0


@pytest.mark.parametrize("said", [b"PROXY TCP4 203", b"GET / HTTP/1.1\r\n"])
async def test_half_a_header_is_a_failure(serve: Serve, said: bytes) -> None:
    server, events = await serve(rules=PROXIED)
    await look(server, said, reset=False)
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.PROXY_HEADER
    assert (await events.wait_for(Closed)).probe is None


async def test_half_a_request_is_a_failure(serve: Serve) -> None:
    server, events = await serve()
    await look(server, b"GET / HTTP/1.1\r\n", reset=False)
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.HANDSHAKE_ABORTED
    assert (await events.wait_for(Closed)).probe is None


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_tls_handshake_alone_has_not_failed(
    serve: Serve, tls: Certificates, authority: trustme.CA, version: ssl.TLSVersion, reset: bool
) -> None:
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls)
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    authority.configure_trust(context)

    def shake_hands() -> None:
        # With a socket of its own: event loops may drop what ends the handshake when they reset.
        with socket.create_connection(("127.0.0.1", server.listeners[0].port), 5) as connected:
            if reset:
                reset_by(connected)
            context.wrap_socket(connected, server_hostname="localhost").close()

    await asyncio.to_thread(shake_hands)
    assert await probe_of(events) is Probe.TLS


async def test_a_check_of_tls_by_its_hello_has_not_failed(serve: Serve, tls: Certificates) -> None:
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(HELLO_CHECK)
    async with asyncio.timeout(5):
        # HAProxy is content with an alert.
        assert (await reader.read())[:1] == b"\x15"
    writer.close()
    assert await probe_of(events) is Probe.TLS


async def test_an_old_client_is_a_failure(serve: Serve, tls: Certificates) -> None:
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls)
    await look(server, HELLO_CHECK.replace(b"HAPROXYSSLCHK", b"anything else"), reset=False)
    assert (await events.wait_for(HandshakeFailed)).kind is ErrorKind.TLS_FAILURE


# Over HTTP.


async def answer_to(server: Server, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_the_health_path_is_answered(serve: Serve, method: str) -> None:
    rules = Rules(resource="/ws", require_origin=True)
    server, events = await serve(rules=rules, health_path="/healthz")
    request = f"{method} /healthz?x=1 HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n".encode()
    head, _, body = (await answer_to(server, request)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == (b"" if method == "HEAD" else b"ok\n")
    assert await probe_of(events) is Probe.HTTP
    assert not server.admission.refused


async def test_the_health_path_says_that_the_server_ends(serve: Serve) -> None:
    server, events = await serve(health_path="/healthz")
    server.admission.draining = 5.0
    answer = await answer_to(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert await probe_of(events) is Probe.HTTP


async def test_a_websocket_at_the_health_path_is_none_of_it(serve: Serve, upgrade: bytes) -> None:
    server, events = await serve(health_path="/healthz")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listeners[0].port)
    writer.write(upgrade.replace(b"GET / ", b"GET /healthz "))
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
    writer.close()
    assert (await events.wait_for(Closed)).probe is None


async def test_an_unknown_path_is_checked_without_a_failure(serve: Serve) -> None:
    server, events = await serve()
    request = b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"
    assert (await answer_to(server, request)).startswith(b"HTTP/1.1 426 ")
    assert await probe_of(events) is Probe.HTTP


SERVED = HealthCheck(is_served=True, wants_body=True)
NOT_SERVED = HealthCheck(is_served=False, wants_body=True)


@pytest.mark.parametrize(
    ("request_line", "headers", "found"),
    [
        ("GET /healthz HTTP/1.1", (), SERVED),
        ("HEAD /healthz HTTP/1.1", (), HealthCheck(is_served=True, wants_body=False)),
        ("OPTIONS /healthz HTTP/1.0", (), SERVED),
        ("POST /healthz HTTP/1.1", (), None),
        ("GET /healthz/ HTTP/1.1", (), None),
        ("GET / HTTP/1.1", ("User-Agent: ELB-HealthChecker/2.0",), NOT_SERVED),
        ("GET / HTTP/1.1", ("User-Agent: kube-probe/1.31",), NOT_SERVED),
        ("GET / HTTP/1.1", ("User-Agent: GoogleHC/1.0",), NOT_SERVED),
        ("OPTIONS / HTTP/1.0", (), NOT_SERVED),
        ("OPTIONS / HTTP/1.1", ("User-Agent: Mozilla/5.0",), None),
        ("GET / HTTP/1.1", ("User-Agent: Mozilla/5.0",), None),
        ("GET / HTTP/1.1", ("User-Agent: not ELB-HealthChecker/2.0",), None),
        ("GET / HTTP/1.1", (), None),
        # A proxy that takes Upgrade off a client's request is what somebody has to hear of.
        ("GET /healthz HTTP/1.1", ("Sec-WebSocket-Key: x",), None),
        ("GET /healthz HTTP/1.1", ("Upgrade: websocket",), None),
    ],
)
def test_what_is_a_health_check(
    request_line: str, headers: tuple[str, ...], found: HealthCheck | None
) -> None:
    raw = "\r\n".join([request_line, "Host: x", *headers, "", ""]).encode()
    assert health_check(raw, "/healthz") == found


async def test_probes_are_counted_apart_and_not_traced(serve: Serve) -> None:
    sent: list[bytes] = []
    server, events = await serve()
    counts = Counts(server.bus)
    Tracer(server.bus, sent.append, TraceSettings())
    await look(server, b"", reset=False)
    await probe_of(events)
    text = {family.name: family for family in counts.families({CLIENT: Traffic()})}
    assert counts.probes == {"tcp": 1}
    assert not counts.handshakes
    assert "sipws_probes_total" in text
    assert not sent
    # What fails is traced as ever.
    await look(server, b"GET / HTTP/1.1\r\n", reset=False)
    await events.wait_for(Closed, 2)
    assert counts.probes == {"tcp": 1}
    assert len(sent) == 2
