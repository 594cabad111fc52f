"""wss: the same server inside TLS."""

import asyncio
import json
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

import hep
from sipws import ConfigurationError, Listener, Server
from sipws.events import Closed, ErrorKind, HandshakeFailed
from sipws.tracing.tracer import Tracer, TraceSettings
from sipws.transport import tls
from sipws.transport.flow import Flow
from sipws.transport.tls import server_context

SIP = [Subprotocol("sip")]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        path
    )
    return path


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def echo(flow: Flow, message: bytes) -> None:
    flow.send(message)


async def test_messages_go_through_and_traces_say_wss(
    certificate: Path, client_context: ssl.SSLContext
) -> None:
    sent: list[bytes] = []
    async with Server(["wss:127.0.0.1:0"], echo, tls=server_context(certificate)) as server:
        Tracer(server.bus, sent.append, TraceSettings())
        url = f"wss://127.0.0.1:{server.listeners[0].port}/"
        async with connect(url, subprotocols=SIP, ssl=client_context) as client:
            await client.send("OPTIONS sip:a SIP/2.0\r\n\r\n")
            assert await client.recv() == "OPTIONS sip:a SIP/2.0\r\n\r\n"
        async with asyncio.timeout(5):
            await server.flows.wait_empty()
    accepted, closed = (json.loads(hep.decode(data).payload) for data in sent)
    assert (accepted["Protocol"], accepted["Event"]) == ("WSS", "ACCEPTED")
    assert (closed["Close_Code"], closed["Status"]) == ("1000", "SUCCESS")


async def test_a_refusal_is_readable_inside_tls(
    certificate: Path, client_context: ssl.SSLContext
) -> None:
    events: list[object] = []
    async with Server(["wss:127.0.0.1:0"], echo, tls=server_context(certificate)) as server:
        server.bus.subscribe(events.append, HandshakeFailed, Closed)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.listeners[0].port, ssl=client_context
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 426 Upgrade Required\r\n"
        writer.close()
        async with asyncio.timeout(5):
            await server.flows.wait_empty()
    failed, closed = events
    assert isinstance(failed, HandshakeFailed)
    assert failed.kind is ErrorKind.NO_UPGRADE
    assert isinstance(closed, Closed)


async def test_a_wss_listener_needs_a_certificate() -> None:
    with pytest.raises(ConfigurationError, match="needs a TLS certificate"):
        await Server(["wss:127.0.0.1:0"], echo).start()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for name in ("bad.pem", "none.pem"):
        with pytest.raises(ConfigurationError, match=rf"{name} cannot be used: .*PEM"):
            server_context(tmp_path / name)


@pytest.mark.parametrize("name", ["empty.pem", "none.pem", "a\0b.pem"])
def test_an_authority_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigurationError, match=r"TLS authority .* cannot be used: .*PEM"):
        tls.client_context(tmp_path / name)


async def test_a_socket_that_listens_already_is_served(
    certificate: Path, client_context: ssl.SSLContext
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listener = Listener.parse(f"wss:127.0.0.1:{port}")
    tls = server_context(certificate)
    async with Server([listener], echo, tls=tls, inherited={listener: [listening]}) as server:
        url = f"wss://127.0.0.1:{port}/"
        async with connect(url, subprotocols=SIP, ssl=client_context) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            assert [str(flow.connection.listener) for flow in server.flows] == [str(listener)]
