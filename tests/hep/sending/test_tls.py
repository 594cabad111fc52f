"""HEP over TLS: certificates are verified unless told otherwise."""

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from dataclasses import replace

import pytest
import trustme

import hep
from hep.hep_id import Transport


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def collector_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_packets_arrive_over_tls(packet, collect, inbox, trusting, collector_context) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    async with hep.open_sender(destination, hep.SenderSettings(tls=trusting)) as sender:
        for number in range(20):
            sender.send(hep.encode(replace(packet, payload=b"%d" % number)))
        packets = await inbox.wait_for(20)
    assert [int(each.payload) for each in packets] == list(range(20))
    assert inbox.sources[0].transport == "tls"


async def test_packets_keep_arriving_over_tls(
    packet, collect, inbox, trusting, collector_context
) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    async with hep.open_sender(destination, hep.SenderSettings(tls=trusting)) as sender:
        for number, size in enumerate((10, 60_000, 10, 60_000, 10), 1):
            sender.send(hep.encode(replace(packet, payload=bytes(size))))
            await inbox.wait_for(number)
    assert sender.counters.sent == 5


async def test_a_packet_directly_after_the_handshake_has_its_source(
    packet, collect, inbox, trusting, collector_context
) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(received, sent, server_hostname="localhost")
    reader, writer = await asyncio.open_connection(*collector.tls_address)
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            writer.write(sent.read())
            received.write(await reader.read(1 << 16))
    # The end of the handshake and the packet are one write.
    client.write(hep.encode(packet))
    writer.write(sent.read())
    await inbox.wait_for(1)
    assert inbox.sources == [("tls", *writer.get_extra_info("sockname"))]
    writer.close()


async def test_a_collector_with_an_untrusted_certificate_gets_nothing(
    packet, collect, inbox, collector_context
) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    sender = hep.open_sender(destination, hep.SenderSettings(retry_first=0.01))
    sender.send(hep.encode(packet))
    async with asyncio.timeout(5):
        while sender.failures < 2:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
    await sender.aclose(timeout=0)
    assert inbox.packets == []
    assert sender.counters.dropped == {"shutdown": 1}


async def test_a_collector_can_require_a_client_certificate(
    packet, collect, inbox, authority, collector_context, until
) -> None:
    collector_context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(collector_context)
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    quick = hep.SenderSettings(retry_first=0.01, retry_longest=0.02)

    nobody = ssl.create_default_context()
    authority.configure_trust(nobody)
    stranger = hep.open_sender(destination, replace(quick, tls=nobody))
    await until(lambda: stranger.failures > 1)
    await stranger.aclose(timeout=0)

    known = ssl.create_default_context()
    authority.configure_trust(known)
    authority.issue_cert("sender.example").configure_cert(known)
    async with hep.open_sender(destination, replace(quick, tls=known)) as sender:
        sender.send(packet)
        await inbox.wait_for(1)
    assert len(inbox.packets) == 1


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"HEP3\0\6", b"\x16\3\1", b""])
async def test_garbage_instead_of_tls_is_counted_and_logged_once(
    packet, collect, inbox, trusting, collector_context, until, caplog, garbage: bytes
) -> None:
    # Its own TLS servers have asyncio tell of each, with a traceback.
    asyncio.get_running_loop().set_debug(True)
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*collector.tls_address)
            writer.write(garbage)
            writer.write_eof()
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
        await until(lambda: collector.counters["tls_failed"] == 2)
    # On a busy machine the debug mode of asyncio also warns of slow callbacks.
    [told] = [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING and not record.getMessage().startswith("Executing ")
    ]
    assert told.getMessage().startswith("TLS handshake with 127.0.0.1:")
    assert told.exc_info is None
    assert collector.counters["accepted"] == 0
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    async with hep.open_sender(destination, hep.SenderSettings(tls=trusting)) as sender:
        sender.send(packet)
        await inbox.wait_for(1)
    assert collector.counters["accepted"] == 1


async def test_closing_a_collector_does_not_wait_for_handshakes(collector_context) -> None:
    before = asyncio.all_tasks()
    collector = hep.Collector(print, tls="127.0.0.1:0", tls_context=collector_context)
    async with collector:
        reader, writer = await asyncio.open_connection(*collector.tls_address)
        writer.write(b"\x16")
        while asyncio.all_tasks() == before:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


class Mute:
    """A collector that does TLS and reads, but never ends a connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.received = b""
        self.was_told = False
        """Whether TLS said that there comes no more, and then TCP."""

    def run(self) -> None:
        with self.listening, self.listening.accept()[0] as accepted:
            accepted.settimeout(10)
            with self.context.wrap_socket(
                accepted, server_side=True, suppress_ragged_eofs=False
            ) as connected:
                while data := connected.recv(4096):
                    self.received += data
                # Below TLS.
                with suppress(ConnectionResetError):
                    assert socket.socket.recv(connected, 1) == b""
                self.was_told = True


async def test_closing_does_not_wait_for_a_close_notify(
    trusting: ssl.SSLContext, collector_context: ssl.SSLContext, packet: hep.Packet
) -> None:
    mute = Mute(collector_context)
    reading = asyncio.create_task(asyncio.to_thread(mute.run))
    sender = hep.open_sender(
        hep.HepId("localhost", mute.port, "tls"), hep.SenderSettings(tls=trusting)
    )
    sender.send(packet)
    async with asyncio.timeout(10):
        await sender.aclose(5)
        await reading
    assert mute.received == hep.encode(packet)
    assert mute.was_told


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_closing_does_not_wait_for_a_silent_collector(
    packet: hep.Packet, transport: Transport
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        sender = hep.open_sender(hep.HepId("127.0.0.1", port, transport))
        for _ in range(20_000):
            sender.send(packet)
        accepted, _ = await asyncio.to_thread(listening.accept)
        with accepted:
            async with asyncio.timeout(5):
                await sender.aclose(0.05)
    counters = sender.counters
    assert counters.offered == counters.sent + counters.dropped.total()
