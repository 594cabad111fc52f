"""Tracing to a collector over TLS: the name, the authority, and what each error says."""

import asyncio
import datetime
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep
from sipws.config.resolved import ResolvedConfig
from sipws.config.settings import Config
from sipws.service.app import Application
from sipws.service.trace_commands import trace_commands

OPTIONS = (
    "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1\r\n"
    "CSeq: 1 OPTIONS\r\n\r\n"
)
Run = Callable[..., Awaitable[Application]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    async with AsyncExitStack() as stack:

        async def start(hep_id: str, **section: Any) -> Application:
            table = {
                "transport": {"listen": "ws:127.0.0.1:0"},
                "hep": {"hep_id": f"[homer]{hep_id}", "hep_retry_first": 10, **section},
                "tracing": {"trace_destination": "homer", "trace_on": True, "trace_sip": True},
            }
            resolved = ResolvedConfig.of(Config.of(table, "test"))
            assert resolved.warnings == ()
            return await stack.enter_async_context(Application(resolved))

        yield start


class Collecting:
    """A TLS collector for the name localhost."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.packets: list[hep.Packet] = []
        self.collector = hep.Collector(
            lambda packet, _: self.packets.append(packet),
            tls="127.0.0.1:0",
            tls_context=context,
        )

    @property
    def port(self) -> int:
        return self.collector.tls_address[1]


def issued(folder: Path) -> ssl.SSLContext:
    """A certificate of an authority, which is in ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate that is signed by itself, as collectors often have; it is in ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "both.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


@pytest.fixture(params=[issued, self_signed])
async def collecting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Collecting]:
    collecting = Collecting(request.param(tmp_path))
    async with collecting.collector:
        yield collecting


async def call(application: Application) -> None:
    url = f"ws://127.0.0.1:{application.server.listeners[0].port}/"
    origin = Origin("https://phone.example.com")
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=origin) as client:
        await client.send(OPTIONS)
        await client.recv()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def last_error(application: Application) -> str | None:
    [listed] = trace_commands(application)["trace_list"]()["Traces"]
    return listed.get("Last error")


async def test_packets_arrive_with_the_name_and_the_authority(collecting, run, tmp_path) -> None:
    application = await run(
        f"localhost:{collecting.port};transport=tls", hep_tls_ca=tmp_path / "ca.pem"
    )
    await call(application)
    await until(lambda: len(collecting.packets) == 5)
    events = [
        json.loads(packet.payload)["Event"]
        for packet in collecting.packets
        if packet.protocol_type == hep.ProtocolType.NET
    ]
    assert events == ["ACCEPTED", "CLOSED"]
    calls = [packet for packet in collecting.packets if packet.correlation_id == b"c1"]
    assert len(calls) == 3
    assert last_error(application) is None


async def test_the_address_in_the_place_of_the_name_says_what_is_wrong(
    collecting, run, tmp_path, caplog
) -> None:
    application = await run(
        f"127.0.0.1:{collecting.port};transport=tls", hep_tls_ca=tmp_path / "ca.pem"
    )
    [sender] = application.traces.senders
    await call(application)
    await until(lambda: sender.failures > 1)
    reason = (
        "its certificate is not valid for the IP address '127.0.0.1', and most certificates have"
        " names only; write a host name of the certificate instead of the address"
    )
    assert last_error(application) == f"{sender.destination}: {reason}"
    logged = [each.getMessage() for each in caplog.records if each.name == "hep.sending.senders"]
    assert logged == [f"no connection to {sender.destination}: {reason}; retrying"]
    assert collecting.packets == []


async def test_a_certificate_that_is_not_trusted_names_hep_tls_ca(collecting, run) -> None:
    application = await run(f"localhost:{collecting.port};transport=tls")
    [sender] = application.traces.senders
    await until(lambda: sender.failures)
    assert "; set hep_tls_ca (for the command hep: SSL_CERT_FILE) to " in (
        last_error(application) or ""
    )


async def test_plain_tcp_to_it_says_that_it_may_expect_tls(collecting, run, caplog) -> None:
    caplog.set_level(logging.WARNING, "hep.sending")
    application = await run(f"localhost:{collecting.port};transport=tcp")
    [sender] = application.traces.senders
    for calls in range(1, 4):
        await call(application)
        await until(lambda calls=calls: sender.failures >= calls)
    hint = "the collector may expect TLS (transport=tls)"
    assert (last_error(application) or "").endswith(hint)
    logged = [each.getMessage() for each in caplog.records if each.name == "hep.sending.senders"]
    assert len(logged) == 1
    assert logged[0].endswith(hint)
