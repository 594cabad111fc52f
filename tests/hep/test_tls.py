"""HEP over TLS: certificates are verified unless told otherwise."""

import asyncio
import ssl
from dataclasses import replace

import pytest
import trustme

import hep


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def collector_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_packets_arrive_over_tls(
    packet, collect, inbox, authority, collector_context
) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    async with hep.open_sender(destination, hep.SenderSettings(tls=trusting)) as sender:
        for number in range(20):
            sender.send(hep.encode(replace(packet, payload=b"%d" % number)))
        packets = await inbox.wait_for(20)
    assert [int(each.payload) for each in packets] == list(range(20))
    assert inbox.sources[0].transport == "tls"


async def test_packets_go_on_arriving_over_tls_write_after_write(
    packet, collect, inbox, authority, collector_context
) -> None:
    collector = await collect(tls="127.0.0.1:0", tls_context=collector_context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    destination = hep.HepId("localhost", collector.tls_address[1], "tls")
    async with hep.open_sender(destination, hep.SenderSettings(tls=trusting)) as sender:
        for number, size in enumerate((10, 60_000, 10, 60_000, 10), 1):
            sender.send(hep.encode(replace(packet, payload=bytes(size))))
            await inbox.wait_for(number)
    assert sender.counters.sent == 5


async def test_a_collector_that_nobody_vouches_for_gets_nothing(
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


async def test_a_collector_may_ask_who_sends(
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
