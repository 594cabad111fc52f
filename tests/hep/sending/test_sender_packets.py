"""Senders encode what they are given, for where it goes."""

from dataclasses import replace

import pytest

import hep
from hep.sending.senders import TOO_LONG


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_a_packet_goes_out_in_the_version_of_the_destination(
    packet, collect, inbox, version
) -> None:
    collector = await collect(udp="127.0.0.1:0")
    destination = hep.HepId(*collector.udp_address, "udp", version)
    async with hep.open_sender(destination) as sender:
        sender.send(packet)
        [received] = await inbox.wait_for(1)
    assert received.version == version
    assert received.payload == packet.payload
    assert received.src_ip == packet.src_ip


async def test_the_authenticate_key_is_added_to_packets_without_one(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    settings = hep.SenderSettings(auth_key=b"secret")
    async with hep.open_sender(hep.HepId(*collector.tcp_address), settings) as sender:
        sender.send(packet)
        sender.send(replace(packet, auth_key=b"own"))
        received = await inbox.wait_for(2)
    assert [each.auth_key for each in received] == [b"secret", b"own"]


async def test_a_relayed_packet_keeps_its_chunks_and_gets_the_key(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    vendor = hep.Chunk(0xEB, 0x0100, b"kept")
    relayed = hep.decode(hep.encode(replace(packet, extra=(vendor,))))
    settings = hep.SenderSettings(auth_key=b"secret")
    async with hep.open_sender(hep.HepId(*collector.tcp_address), settings) as sender:
        sender.send(relayed)
        [received] = await inbox.wait_for(1)
    assert received.extra == (vendor,)
    assert received.auth_key == b"secret"


async def test_a_compressed_packet_is_as_long_as_its_bytes(packet, collect, inbox) -> None:
    collector = await collect(tcp="127.0.0.1:0")
    relayed = hep.compress(replace(packet, payload=b"x" * 100_000))
    async with hep.open_sender(hep.HepId(*collector.tcp_address)) as sender:
        sender.send(relayed)
        [received] = await inbox.wait_for(1)
    assert received.payload == relayed.payload


@pytest.mark.parametrize("size", [64_600, 65_000, 65_507, 65_600, 200_000])
@pytest.mark.parametrize("rule", ["drop", "truncate"])
async def test_a_payload_near_the_maximum_length_follows_when_too_long(
    packet, collect, inbox, size, rule
) -> None:
    collector = await collect(udp="127.0.0.1:0")
    settings = hep.SenderSettings(when_too_long=rule)
    empty = len(hep.encode(replace(packet, payload=b"")))
    fits = empty + size <= 65_507
    async with hep.open_sender(hep.HepId(*collector.udp_address, "udp"), settings) as sender:
        sender.send(replace(packet, payload=b"x" * size))
        if fits or rule == "truncate":
            [received] = await inbox.wait_for(1)
            assert len(received.payload) == min(size, 65_507 - empty)
    assert sender.shortened == (rule == "truncate" and not fits)
    assert sender.counters.dropped[TOO_LONG] == (rule == "drop" and not fits)


async def test_sending_a_value_that_does_not_fit_raises(packet) -> None:
    async with hep.open_sender(hep.HepId("127.0.0.1", 1, "udp")) as sender:
        with pytest.raises(hep.HepEncodeError, match="src_port"):
            sender.send(replace(packet, src_port=70_000))
