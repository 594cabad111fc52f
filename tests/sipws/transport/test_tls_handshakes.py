"""TLS handshakes: which fail and how that is told, certificates by name, and read anew."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from sipws import Client, ConfigurationError, ConnectError, Limits, Server
from sipws.events import Closed, ConnectionOpened, ErrorKind, HandshakeFailed
from sipws.transport.tls import Certificate, Certificates, context_for

Issue = Callable[..., Path]
Serve = Callable[..., Awaitable[tuple[Server, Any]]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def issue(authority: trustme.CA, tmp_path: Path) -> Issue:
    def write(*names: str, file: str = "server.pem") -> Path:
        path = tmp_path / file
        authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)
        return path

    return write


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def port_of(server: Server) -> int:
    return server.listeners[0].port


async def connect(
    server: Server, context: ssl.SSLContext | None, name: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "127.0.0.1", port_of(server), ssl=context, server_hostname=name if context else None
    )


async def failure(server: Server, events: Any) -> HandshakeFailed:
    """The one failed handshake; what comes with it, and nothing left behind."""
    await events.wait_for(Closed)
    opened, failed, closed = events.events
    assert isinstance(opened, ConnectionOpened)
    assert isinstance(failed, HandshakeFailed)
    assert isinstance(closed, Closed)
    assert opened.connection == failed.connection == closed.connection
    assert opened.connection.peer.ip == "127.0.0.1"
    assert opened.connection.peer.port != 0
    assert (failed.request, failed.reply) == (b"", b"")
    assert (closed.accepted, closed.reason) == (False, failed.detail)
    assert server.admission.refused == {failed.kind: 1}
    assert (server.admission.connections, len(server.flows)) == (0, 0)
    return failed


async def test_plain_http_on_a_wss_port_is_told(serve: Serve, issue: Issue) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=Certificates([Certificate(issue("localhost"))])
    )
    reader, writer = await connect(server, None)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert failed.detail.startswith("plain HTTP on a wss listener")
    async with asyncio.timeout(5):
        assert not (await reader.read()).startswith(b"HTTP")
    writer.close()


async def test_garbage_on_a_wss_port_is_told(serve: Serve, issue: Issue) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=Certificates([Certificate(issue("localhost"))])
    )
    _, writer = await connect(server, None)
    writer.write(b"OPTIONS sip:a SIP/2.0\r\n\r\n")
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert failed.detail.startswith("not a TLS handshake")
    writer.close()


async def test_a_client_that_does_not_trust_us_is_told(serve: Serve, issue: Issue) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=Certificates([Certificate(issue("localhost"))])
    )

    def refuse() -> None:
        # A plain socket, as asyncio's clients leave without the alert that others send.
        with (
            socket.create_connection(("127.0.0.1", port_of(server))) as connected,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            ssl.create_default_context().wrap_socket(connected, server_hostname="localhost")

    await asyncio.to_thread(refuse)
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert "does not trust who issued our certificate" in failed.detail


@pytest.mark.parametrize(
    ("version", "alert"),
    [
        (ssl.TLSVersion.TLSv1_2, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        (ssl.TLSVersion.TLSv1_3, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    ],
)
async def test_a_client_that_is_refused_hears_why(
    serve: Serve,
    issue: Issue,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
    tmp_path: Path,
    version: ssl.TLSVersion,
    alert: str,
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    certificates = Certificates(
        [Certificate(issue("localhost"))],
        verify_client="required",
        client_ca=tmp_path / "authority.pem",
    )
    server, events = await serve(listen="wss:127.0.0.1:0", tls=certificates)
    trusting.maximum_version = version

    def be_refused() -> None:
        with (
            socket.create_connection(("127.0.0.1", port_of(server))) as connected,
            pytest.raises(ssl.SSLError, match=alert),
            trusting.wrap_socket(connected, server_hostname="localhost") as wrapped,
        ):
            # With TLS 1.3 a client is through before its certificate is looked at.
            wrapped.recv(1)

    await asyncio.to_thread(be_refused)
    assert "shows no certificate" in (await failure(server, events)).detail


async def test_a_context_of_ones_own_refuses_clients_too(
    serve: Serve, issue: Issue, trusting: ssl.SSLContext
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issue("localhost"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    server, events = await serve(listen="wss:127.0.0.1:0", tls=context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connect(server, trusting, "localhost")
    assert (await failure(server, events)).kind is ErrorKind.TLS_FAILURE


async def test_a_handshake_that_never_ends_is_told(serve: Serve, issue: Issue) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0",
        tls=Certificates([Certificate(issue("localhost"))]),
        limits=Limits(handshake_timeout=0.05),
    )
    _, writer = await connect(server, None)
    failed = await failure(server, events)
    assert (failed.kind, failed.detail) == (
        ErrorKind.TLS_FAILURE,
        "the TLS handshake took longer than 0.05 s",
    )
    writer.close()


async def test_a_client_that_leaves_is_told(serve: Serve, issue: Issue) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=Certificates([Certificate(issue("localhost"))])
    )
    _, writer = await connect(server, None)
    # The beginning of a ClientHello: without a byte it would be a health check.
    writer.write(b"\x16\x03\x01\x02\x00\x01")
    writer.close()
    await writer.wait_closed()
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert failed.detail.startswith("the client left during the TLS handshake")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_below_tls_1_2(serve: Serve, issue: Issue, trusting: ssl.SSLContext) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=Certificates([Certificate(issue("localhost"))])
    )
    trusting.minimum_version = ssl.TLSVersion.TLSv1
    trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    # Security level 1 forbids TLS 1.1 to the client as well.
    trusting.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(OSError):  # noqa: PT011 - how it ends is the client's business
        await connect(server, trusting, "localhost")
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert "nothing newer than TLS 1.1" in failed.detail


# Client certificates.


@pytest.fixture
def authorities(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


async def test_a_required_client_certificate_that_is_missing_is_told(
    serve: Serve, issue: Issue, authorities: Path, trusting: ssl.SSLContext
) -> None:
    tls = Certificates(
        [Certificate(issue("localhost"))], verify_client="required", client_ca=authorities
    )
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls)
    # TLS 1.3 lets the client believe that it is connected until it reads.
    _, writer = await connect(server, trusting, "localhost")
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert failed.detail.startswith("the client shows no certificate, and one is required")
    writer.close()


@pytest.mark.parametrize("verify", ["optional", "required"])
async def test_a_client_certificate_of_ours_is_let_in(
    serve: Serve,
    issue: Issue,
    authorities: Path,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
    upgrade: bytes,
    verify: str,
) -> None:
    tls = Certificates(
        [Certificate(issue("localhost"))],
        verify_client=verify,  # type: ignore[arg-type]
        client_ca=authorities,
    )
    server, _ = await serve(listen="wss:127.0.0.1:0", tls=tls)
    authority.issue_cert("client.example.com").configure_cert(trusting)
    reader, writer = await connect(server, trusting, "localhost")
    writer.write(upgrade)
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
    [flow] = server.flows
    assert flow.peer_certificate is not None
    assert ("DNS", "client.example.com") in flow.peer_certificate["subjectAltName"]
    writer.close()


@pytest.mark.parametrize("verify", ["optional", "required"])
async def test_a_client_certificate_of_others_is_told(
    serve: Serve, issue: Issue, authorities: Path, trusting: ssl.SSLContext, verify: str
) -> None:
    tls = Certificates(
        [Certificate(issue("localhost"))],
        verify_client=verify,  # type: ignore[arg-type]
        client_ca=authorities,
    )
    server, events = await serve(listen="wss:127.0.0.1:0", tls=tls)
    trustme.CA().issue_cert("client.example.com").configure_cert(trusting)
    _, writer = await connect(server, trusting, "localhost")
    failed = await failure(server, events)
    assert failed.kind is ErrorKind.TLS_FAILURE
    assert failed.detail.startswith("the client's certificate cannot be verified: ")
    writer.close()


async def test_an_optional_client_certificate_may_be_missing(
    serve: Serve, issue: Issue, authorities: Path, trusting: ssl.SSLContext, upgrade: bytes
) -> None:
    tls = Certificates(
        [Certificate(issue("localhost"))], verify_client="optional", client_ca=authorities
    )
    server, _ = await serve(listen="wss:127.0.0.1:0", tls=tls)
    reader, writer = await connect(server, trusting, "localhost")
    writer.write(upgrade)
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
    [flow] = server.flows
    assert flow.peer_certificate is None
    writer.close()


# Certificates by name, and read anew.


async def shown(server: Server, context: ssl.SSLContext, name: str) -> set[str]:
    """The names of the certificate that a client is shown when it asks for a name."""
    context.check_hostname = False
    _, writer = await connect(server, context, name)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    return {value for kind, value in certificate["subjectAltName"] if kind == "DNS"}


async def test_the_certificate_is_chosen_by_the_name_asked_for(
    serve: Serve, issue: Issue, trusting: ssl.SSLContext
) -> None:
    tls = Certificates(
        [
            Certificate(issue("default.test", file="default.pem")),
            Certificate(issue("sip.example.com", file="a.pem"), None, ("sip.example.com",)),
            Certificate(issue("*.example.org", file="b.pem"), None, ("*.Example.org",)),
        ]
    )
    server, _ = await serve(listen="wss:127.0.0.1:0", tls=tls)
    assert await shown(server, trusting, "sip.example.com") == {"sip.example.com"}
    assert await shown(server, trusting, "SIP.example.com") == {"sip.example.com"}
    assert await shown(server, trusting, "a.example.org") == {"*.example.org"}
    assert await shown(server, trusting, "example.org") == {"default.test"}
    assert await shown(server, trusting, "a.b.example.org") == {"default.test"}
    assert await shown(server, trusting, "other.test") == {"default.test"}


async def test_a_new_certificate_is_shown_and_connections_stay(
    serve: Serve, issue: Issue, trusting: ssl.SSLContext, upgrade: bytes
) -> None:
    tls = Certificates([Certificate(issue("old.test"))])
    server, _ = await serve(
        lambda flow, message: flow.send(message), listen="wss:127.0.0.1:0", tls=tls
    )
    trusting.check_hostname = False
    reader, writer = await connect(server, trusting, "old.test")
    writer.write(upgrade)
    async with asyncio.timeout(5):
        await reader.readuntil(b"\r\n\r\n")
        issue("new.test")
        assert await shown(server, trusting, "a.test") == {"old.test"}
        tls.reload()
        assert await shown(server, trusting, "a.test") == {"new.test"}
        # A masked text frame with "hi", masked with zeros.
        writer.write(b"\x81\x82\x00\x00\x00\x00hi")
        assert await reader.readexactly(4) == b"\x81\x02hi"
    writer.close()


async def test_a_broken_new_certificate_keeps_the_old_one(
    serve: Serve, issue: Issue, trusting: ssl.SSLContext
) -> None:
    path = issue("old.test")
    tls = Certificates([Certificate(path)])
    server, _ = await serve(listen="wss:127.0.0.1:0", tls=tls)
    path.write_text("half a file")
    with pytest.raises(ConfigurationError, match=r"server\.pem cannot be used"):
        tls.reload()
    assert await shown(server, trusting, "a.test") == {"old.test"}


def test_a_key_with_a_password_is_refused_rather_than_asked_for(
    tmp_path: Path, authority: trustme.CA
) -> None:
    from cryptography.hazmat.primitives import serialization

    issued = authority.issue_cert("localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with pytest.raises(ConfigurationError, match="without a password"):
        Certificates([Certificate(tmp_path / "cert.pem", path)])


def test_a_server_name_that_is_none_is_refused(issue: Issue) -> None:
    with pytest.raises(ConfigurationError, match=r"server name 'a\.\*' is not a name"):
        Certificates([Certificate(issue("localhost"), None, ("a.*",))])


def test_authorities_that_cannot_be_read_are_named(issue: Issue, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "none.pem"):
        with pytest.raises(ConfigurationError, match=rf"{name} cannot be used"):
            Certificates(
                [Certificate(issue("localhost"))],
                verify_client="required",
                client_ca=tmp_path / name,
            )


def test_a_name_has_its_own_context_before_a_wildcard() -> None:
    own, wildcard = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
    by_name = {"a.test": own, "*.test": wildcard}
    assert context_for("A.test.", by_name) is own
    assert context_for("b.test", by_name) is wildcard
    assert context_for("test", by_name) is None


async def test_a_server_that_our_client_does_not_trust_hears_so(serve: Serve, issue: Issue) -> None:
    server, events = await serve(
        listen="wss:127.0.0.1:0", tls=Certificates([Certificate(issue("localhost"))])
    )
    async with Client() as client:
        with pytest.raises(ConnectError, match="certificate"):
            await client.connect(f"wss://localhost:{port_of(server)}/")
    assert "does not trust who issued our certificate" in (await failure(server, events)).detail
