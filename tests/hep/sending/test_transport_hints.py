"""A collector that expects another transport: the error names the transport to try."""

import asyncio
import errno
import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

import hep
from hep.hep_id import Transport
from hep.sending import links
from hep.sending.reasons import HandshakeError

TLS_HINT = "; the collector may expect TLS (transport=tls)"
TCP_HINT = "; the collector may expect plain TCP (transport=tcp)"

SILENCE = 1.0
"""Seconds until a connect fails to a collector that says nothing. TCP connects in less."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(
    serve: Serve,
    tls: ssl.SSLContext | None = None,
    served: list[asyncio.StreamWriter] | None = None,
    port: int = 0,
) -> AsyncIterator[int]:
    """A collector that treats each connection in one way; gives its port.

    Args:
        serve: how.
        tls: its TLS context.
        served: gets the writer of each connection.
        port: its port; 0 is a free one.
    """
    writers = served if served is not None else []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        # Served until the test ends.
        with suppress(asyncio.CancelledError):
            await serve(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def read_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.close()


async def read_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def answer_with_an_alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    # fatal, protocol_version
    writer.write(b"\x15\x03\x01\x00\x02\x02\x46")
    writer.close()


async def read_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def answer_ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await reader.read(65536)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def sender_to(
    port: int, transport: Transport, host: str = "localhost", **settings: object
) -> hep.Sender:
    quick = hep.SenderSettings(retry_first=0.01, retry_longest=0.02, **settings)  # type: ignore[arg-type]
    return hep.open_sender(hep.HepId(host, port, transport), quick)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (close, "the collector closed the connection"),
        (read_and_close, "the collector closed the connection"),
        (read_and_reset, "Connection reset by peer"),
        (answer_with_an_alert, "the collector closed the connection after a TLS alert"),
    ],
)
async def test_a_collector_that_hangs_up_at_the_first_packet_may_expect_tls(
    serve, reason, packet, until, caplog
) -> None:
    async with serving(serve) as port, sender_to(port, "tcp", "127.0.0.1") as sender:
        for failures in range(4):
            sender.send(packet)
            await until(lambda failures=failures: sender.failures > failures)
        assert sender.last_error == reason + TLS_HINT
    # One line, though the sender connected again and again.
    assert warnings(caplog) == [f"connection to {sender.destination} broke: {reason}{TLS_HINT}"]


async def test_a_real_tls_collector_is_recognized(
    packet, until, caplog, collect, inbox, authority
) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=server_context(authority, "localhost"))
    async with sender_to(collector.tls_address[1], "tcp") as sender:
        sender.send(packet)
        await until(lambda: sender.failures)
    assert sender.last_error is not None
    assert sender.last_error.endswith(TLS_HINT)
    assert inbox.packets == []


async def test_a_collector_that_reads_on_gets_no_hint(packet, until, caplog) -> None:
    async with serving(read_on) as port, sender_to(port, "tcp", "127.0.0.1") as sender:
        sender.send(packet)
        await until(lambda: sender.counters.sent)
    assert sender.last_error is None
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("serve", "logged"), [(read_and_close, 0), (read_and_reset, 1), (answer_with_an_alert, 1)]
)
async def test_a_transport_that_worked_is_not_doubted_without_an_alert(
    serve, logged, packet, until, caplog, monkeypatch
) -> None:
    monkeypatch.setattr(links, "SETTLED", 0.0)
    async with serving(serve) as port, sender_to(port, "tcp", "127.0.0.1") as sender:
        sender.send(packet)
        await until(lambda: sender.failures)
        has_hint = serve is answer_with_an_alert
        assert sender.last_error.endswith(TLS_HINT) == has_hint
        monkeypatch.undo()
        # It worked, so that a later end at the first packet has another cause.
        caplog.clear()
        failures = sender.failures
        sender.send(packet)
        await until(lambda: sender.failures > failures)
        assert sender.last_error.endswith(TLS_HINT) == has_hint
    assert len(warnings(caplog)) == logged - has_hint


async def test_the_hint_is_logged_again_after_the_collector_was_away(packet, until, caplog) -> None:
    async with serving(read_and_close) as port:
        sender = sender_to(port, "tcp", "127.0.0.1")
        sender.send(packet)
        await until(lambda: sender.failures)
    await until(lambda: "refused" in (sender.last_error or ""))
    async with serving(read_and_close, port=port):
        sender.send(packet)
        await until(lambda: (sender.last_error or "").endswith(TLS_HINT))
        await sender.aclose(0)
    hints = [text for text in warnings(caplog) if text.endswith(TLS_HINT)]
    assert len(hints) == 2


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (close, "it closed the connection in the TLS handshake"),
        (read_and_close, "it closed the connection in the TLS handshake"),
        (read_and_reset, "it closed the connection in the TLS handshake"),
        (answer_http, "its answer is not TLS"),
        (answer_ssh, "its answer is not TLS"),
        (read_on, "no answer to the TLS handshake"),
    ],
)
async def test_a_collector_without_tls_may_expect_plain_tcp(serve, reason, until, caplog) -> None:
    # Only a collector that says nothing takes this long.
    limit = SILENCE if serve is read_on else 30.0
    async with serving(serve) as port:
        sender = sender_to(port, "tls", "127.0.0.1", connect_timeout=limit)
        await until(lambda: sender.failures > 1)
        assert sender.last_error == reason + TCP_HINT
        await sender.aclose(0)
    logged = f"no connection to {sender.destination}: {reason}{TCP_HINT}; retrying"
    assert warnings(caplog) == [logged]


async def test_a_real_plain_collector_is_recognized(packet, collect, inbox, until) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    sender = sender_to(collector.tcp_address[1], "tls", "127.0.0.1", connect_timeout=SILENCE)
    await until(lambda: sender.failures)
    await sender.aclose(0)
    assert sender.last_error is not None
    assert sender.last_error.endswith(TCP_HINT)


@pytest.mark.parametrize(("later", "is_hinted"), [(read_on, False), (answer_http, True)])
async def test_a_collector_that_spoke_tls_is_doubted_only_when_it_answers_without(
    later, is_hinted, packet, until, authority, trusting
) -> None:
    # As behind a balancer whose TLS end is restarted.
    context, served = server_context(authority, "localhost"), []
    async with serving(read_on, context, served) as port:
        sender = sender_to(port, "tls", connect_timeout=SILENCE, tls=trusting)
        await until(lambda: sender.connected and served)
    async with serving(later, port=port):
        await until(lambda: "TLS" in (sender.last_error or ""))
        await sender.aclose(0)
    assert sender.last_error.endswith(TCP_HINT) == is_hinted


async def test_a_refused_connection_has_no_hint(until) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for transport in ("tcp", "tls"):
        sender = sender_to(port, transport, "127.0.0.1")  # type: ignore[arg-type]
        await until(lambda sender=sender: sender.failures)
        await sender.aclose(0)
        assert "expect" not in sender.last_error


@pytest.mark.parametrize(
    ("host", "name", "reason"),
    [
        (
            "127.0.0.1",
            "localhost",
            "its certificate is not valid for the IP address '127.0.0.1', and most certificates"
            " have names only; write a host name of the certificate instead of the address",
        ),
        (
            "localhost",
            "homer.example",
            "its certificate is not valid for the name 'localhost'; write a host name of the"
            " certificate",
        ),
    ],
)
async def test_a_certificate_for_another_name_says_which_was_expected(
    host, name, reason, until, authority, trusting
) -> None:
    async with serving(read_on, server_context(authority, name)) as port:
        sender = sender_to(port, "tls", host, tls=trusting)
        await until(lambda: sender.failures)
        await sender.aclose(0)
    assert sender.last_error == reason


async def test_a_self_signed_certificate_is_to_be_trusted_itself(
    until, authority, tmp_path: Path
) -> None:
    # The certificate of an authority is signed by itself.
    file = tmp_path / "self.pem"
    file.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    async with serving(read_on, context) as port:
        sender = sender_to(port, "tls")
        await until(lambda: sender.failures)
        await sender.aclose(0)
    assert sender.last_error == (
        "its certificate is not trusted, because it is self-signed; set hep_tls_ca (for the"
        " command hep: SSL_CERT_FILE) to its certificate"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "it closed the connection"),
        (ConnectionResetError(104, "Connection reset by peer"), "it closed the connection"),
        (TimeoutError(), "no answer"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_INTERNAL_ERROR]"), None),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), None),
    ],
)
def test_only_a_collector_that_does_not_speak_tls_is_doubted(error, reason) -> None:
    found = HandshakeError.of(error)
    assert (found is None) == (reason is None)
    assert found is None or str(found).startswith(reason)


@pytest.mark.parametrize("sends_authority", [False, True])
async def test_a_certificate_of_an_unknown_authority_names_the_setting(
    until, authority, sends_authority, tmp_path: Path
) -> None:
    leaf = authority.issue_cert("localhost")
    # heplify-server sends the certificate of its authority too.
    sent = [*leaf.cert_chain_pems, *([authority.cert_pem] if sends_authority else [])]
    file = tmp_path / "chain.pem"
    file.write_bytes(leaf.private_key_pem.bytes() + b"".join(each.bytes() for each in sent))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    async with serving(read_on, context) as port:
        sender = sender_to(port, "tls")
        await until(lambda: sender.failures)
        await sender.aclose(0)
    assert sender.last_error is not None
    assert sender.last_error.startswith("its certificate is not trusted: ")
    assert sender.last_error.endswith(
        "; set hep_tls_ca (for the command hep: SSL_CERT_FILE) to the certificate of the authority"
        " that issued it"
    )


async def test_a_network_that_fails_is_not_a_hint(packet, until) -> None:
    async with serving(read_on) as port, sender_to(port, "tcp", "127.0.0.1") as sender:
        sender.send(packet)
        await until(lambda: sender.counters.sent)
        # As the system reports that nothing is acknowledged any more.
        sender._link._break(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        await until(lambda: sender.failures)
        assert sender.last_error == os.strerror(errno.ETIMEDOUT)
