"""What known collectors lose, rule by rule, and of packets recorded from others."""

from dataclasses import replace
from pathlib import Path

import pytest

import hep
from hep.cli.lint import PROFILES, Profile, lint
from hep.codec.chunks import ProtocolType

OPENSIPS = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "hep"


def rules(packet: hep.Packet | bytes, profile: Profile, transport: str = "udp") -> list[str]:
    data = packet if isinstance(packet, bytes) else hep.encode(packet)
    return [finding.rule for finding in lint(data, profile, transport)]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_plain_sip_packet_has_no_findings(packet, profile) -> None:
    assert rules(packet, profile) == []


def test_homer_7_loses_an_event_without_a_correlation_id(packet) -> None:
    event = replace(packet, protocol_type=ProtocolType.NET, correlation_id=None)
    assert rules(event, "homer7") == ["no-correlation-id", "unmapped"]
    assert rules(event, "homer11") == ["unmapped"]


@pytest.mark.parametrize("profile", ["homer7", "homer11", "kamailio"])
def test_a_compressed_payload_is_lost_by_most(packet, profile) -> None:
    assert rules(hep.compress(packet), profile) == ["compressed"]
    assert rules(hep.compress(packet), "opensips") == []


@pytest.mark.parametrize(
    ("size", "losers"),
    [(16_385, {"kamailio"}), (65_508, {"homer7", "kamailio"})],
)
def test_a_long_packet_over_tcp_is_lost_by_some(packet, size, losers) -> None:
    missing = size - len(hep.encode(packet))
    long = replace(packet, payload=packet.payload + b"x" * missing)
    assert {name for name in PROFILES if rules(long, name, "tcp")} == losers


def test_ip_protocol_50_is_altered_by_homer_7_and_kamailio(packet) -> None:
    websocket = replace(packet, ip_protocol=50)
    assert [name for name in PROFILES if rules(websocket, name)] == ["homer7", "kamailio"]


def test_the_byte_order_of_version_2_matters(packet) -> None:
    little = hep.encode(replace(packet, version=2))
    assert {name for name in PROFILES if rules(little, name)} == {"homer7", "homer11"}
    big = little[:16] + little[16:20][::-1] + little[20:24][::-1] + little[24:]
    assert {name for name in PROFILES if rules(big, name)} == {"opensips", "kamailio"}


def test_json_instead_of_sip_is_lost_by_homer_7(packet) -> None:
    wrapped = replace(packet, payload=b'{"message":"OPTIONS sip:example.com SIP/2.0"}')
    assert rules(wrapped, "homer7") == ["no-sip"]


def test_a_datagram_is_one_packet_to_homer_7(packet) -> None:
    assert rules(hep.encode(packet) + b"\0", "homer7") == ["bytes-behind"]


def test_a_few_chunks_are_not_enough_for_kamailio_over_tcp(packet) -> None:
    whole = hep.decode(hep.encode(packet))
    few = hep.encode(replace(whole, layout=whole.layout[:8]))
    assert "few-chunks" in rules(few, "kamailio", "tcp")
    assert "few-chunks" not in rules(few, "kamailio")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"seconds": 0}, "no-time"),
        ({"microseconds": 1_000_000}, "no-time"),
        ({"dst_ip": "192.0.2.5", "dst_port": 50123}, "same-ends"),
        ({"extra": (hep.Chunk(7, 0x0F, b"x"),)}, "vendor-chunk"),
        ({"payload": b""}, "no-payload"),
    ],
)
def test_an_unusual_property_of_a_packet_is_reported(packet, change, rule) -> None:
    assert rules(replace(packet, **change), "homer7") == [rule]


def test_bytes_that_are_no_hep_are_lost_by_all() -> None:
    assert [rules(b"OPTIONS sip:a SIP/2.0", name) for name in PROFILES] == [["not-hep"]] * 4


def test_opensips_events_are_hidden_in_homer_and_their_ip_protocol_is_altered() -> None:
    packets = sorted(OPENSIPS.glob("*.bin"))
    assert packets
    for path in packets:
        data = path.read_bytes()
        if hep.decode(data).version == 3:
            assert "ip-protocol" in rules(data, "homer7")
