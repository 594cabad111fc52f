"""What known collectors lose, rule by rule, and of packets recorded from others."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.cli.lint import PROFILES, Profile, lint
from hep.cli.lint_finding import Finding, Severity, worst_first
from hep.codec.chunks import ProtocolType

SIP = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: call-1\r\nCSeq: 1 OPTIONS\r\n\r\n"
OPENSIPS = Path(__file__).parents[2] / "data" / "opensips-3.6.8" / "hep"


@pytest.fixture
def packet(packet: hep.Packet) -> hep.Packet:
    """A packet that every collector stores."""
    return replace(packet, payload=SIP)


def rules(packet: hep.Packet | bytes, profile: Profile, transport: str = "udp") -> list[str]:
    data = packet if isinstance(packet, bytes) else hep.encode(packet)
    return [finding.rule for finding in lint(data, profile, transport)]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_plain_sip_packet_has_no_findings(packet, profile) -> None:
    assert rules(packet, profile) == []


def test_homer_7_loses_an_event_without_a_correlation_id(packet) -> None:
    event = replace(packet, protocol_type=ProtocolType.NET, correlation_id=None)
    assert rules(event, "homer7") == ["no-correlation-id"]
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
    # Homer 7 takes the capture id for a correlation id, so it must be text.
    little = hep.encode(replace(packet, version=2, capture_id=0x4142))
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
    few = hep.encode(replace(whole, src_ip=None, dst_ip=None, seconds=None, microseconds=None))
    assert "few-chunks" in rules(few, "kamailio", "tcp")
    assert "few-chunks" not in rules(few, "kamailio")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"seconds": 0, "microseconds": 0}, ["no-time"]),
        ({"seconds": 0}, ["time"]),
        ({"microseconds": 1_000_000}, ["no-time"]),
        ({"dst_ip": "192.0.2.5", "dst_port": 50123}, ["same-ends"]),
        ({"extra": (hep.Chunk(7, 0x0C, b"\0\0\0\1"),)}, ["vendor-chunk"]),
        ({"extra": (hep.Chunk(7, 0x0F, b"x"),)}, ["short-sip", "vendor-chunk"]),
        ({"extra": (hep.Chunk(0, 0x13, b"edge-1"),)}, ["capture-id-replaced"]),
        ({"auth_key": b"secret"}, ["auth-key-stored"]),
        ({"payload": b"\r\n" + SIP}, ["crlf-before-sip"]),
        ({"payload": SIP.replace(b"CSeq", b"i: 2\r\nCSeq")}, ["call-id-twice"]),
        ({"payload": b""}, ["no-payload"]),
    ],
)
def test_an_unusual_property_of_a_packet_is_reported(packet, change, found) -> None:
    assert rules(replace(packet, **change), "homer7") == found


def test_bytes_that_are_no_hep_are_lost_by_all() -> None:
    assert [rules(b"OPTIONS sip:a SIP/2.0", name) for name in PROFILES] == [["not-hep"]] * 4


def test_opensips_events_are_hidden_in_homer_and_their_ip_protocol_is_altered() -> None:
    packets = sorted(OPENSIPS.glob("*.bin"))
    assert packets
    stored = 0
    for path in packets:
        data = path.read_bytes()
        found = lint(data, "homer7", forced=False)
        if hep.decode(data).version == 3 and found[0].severity is not Severity.LOST:
            stored += 1
            assert "ip-protocol" in [each.rule for each in found]
    assert stored


EVENT = b'{"Event":"CLOSED","event":"WS CLOSED 1006","Close_Code":"1006","Ws-Request":"GET /"}'


def event(packet: hep.Packet, payload: bytes = EVENT) -> hep.Packet:
    return replace(packet, protocol_type=ProtocolType.NET, payload=payload)


def test_an_event_that_homer_7_can_show_and_search_lacks_a_mapping_only(packet) -> None:
    assert rules(event(packet), "homer7") == ["unmapped"]


@pytest.mark.parametrize(
    ("packet_of", "rule", "batch"),
    [
        (lambda p: replace(p, correlation_id=b"a\0"), "correlation-id", "hep_proto_1_default"),
        (lambda p: replace(p, auth_key=b'"'), "auth-key", "hep_proto_1_default"),
        (
            lambda p: replace(p, extra=(hep.Chunk(0, 0x13, b'"'),)),
            "node-name",
            "hep_proto_1_default",
        ),
        (lambda p: replace(p, version=2), "v2-byte-order", "hep_proto_1_default"),
        (lambda p: replace(p, payload=p.payload.replace(b"CSeq", b"CS")), "sip-no-cseq", None),
        (lambda p: replace(p, payload=p.payload.replace(b"\r", b"")), "sip-line-ends", None),
    ],
)
def test_a_loss_names_the_batch_that_is_lost_with_it(packet, packet_of, rule, batch) -> None:
    found = next(
        each for each in lint(hep.encode(packet_of(packet)), "homer7") if each.rule == rule
    )
    assert (found.severity, found.batch, found.setting) == (Severity.LOST, batch, None)
    assert found.what
    assert found.remedy


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        (rb'{"event":"\u0000"}', "json-nul"),
        (rb'{"event":"\ude00"}', "json-surrogate"),
        (b'{"event":"\1"}', "json-control"),
        (b"WSS:CLOSED:Connection closed:SUCCESS", "json-syntax"),
    ],
)
def test_a_loss_names_the_setting_it_depends_on(packet, payload, rule) -> None:
    data = hep.encode(event(packet, payload))
    worst = lint(data, "homer7")[0]
    assert (worst.rule, worst.severity, worst.batch) == (
        rule,
        Severity.LOST,
        "hep_proto_35_default",
    )
    assert worst.setting == "ForceHEPPayload = [89]"
    assert worst.in_words.startswith("with ForceHEPPayload = [89]: ")
    # With a known setting there is nothing to tell apart.
    [known, *_] = lint(data, "homer7", forced=True)
    assert (known.rule, known.setting) == (rule, None)
    assert all(each.severity is Severity.HIDDEN for each in lint(data, "homer7", forced=False))


def test_what_is_stored_with_one_setting_is_examined_further(packet) -> None:
    text = replace(event(packet, b"text"), ip_protocol=50)
    found = [each.rule for each in lint(hep.encode(text), "homer7")]
    assert found == ["json-syntax", "ip-protocol", "unmapped"]


def test_what_loses_a_batch_comes_first() -> None:
    alone = Finding("a", Severity.LOST, "", "")
    batch = Finding("b", Severity.LOST, "", "", "hep_proto_1_call")
    hidden = Finding("c", Severity.HIDDEN, "", "", "hep_proto_1_call")
    assert worst_first([hidden, alone, batch]) == [batch, alone, hidden]


def test_a_loss_with_every_setting_names_none(packet) -> None:
    found = lint(hep.encode(replace(event(packet), correlation_id=b"\0")), "homer7")
    assert [(each.rule, each.setting) for each in found] == [("correlation-id", None)]


@pytest.mark.parametrize(
    ("payload", "keys"),
    [
        (b'{"event":"x","Close-Code":"1","Duration":"2"}', "Close-Code"),
        (b'{"event":"x","1st":"1","a b":"2","":"3","_a1":"4"}', "1st, a b, "),
        (b'{"event":"x","' + b"-" * 60_000 + b'":1}', "keys " + "-" * 40 + ":"),
        ('{"event":"x","ü":1}'.encode(), r"\xfc"),
        (b'{"event":"x","a-":1,"b-":1,"c-":1,"d-":1,"e-":1,"f-":1}', "e- and 1 more"),
    ],
)
def test_keys_that_homer_cannot_search_are_hidden(packet, payload, keys) -> None:
    [found] = [
        each
        for each in lint(hep.encode(event(packet, payload)), "homer7")
        if each.rule == "json-keys"
    ]
    assert found.severity is Severity.HIDDEN
    assert found.setting == "ForceHEPPayload = [89]"
    assert keys in found.what


@pytest.mark.parametrize("payload", [b'{"Event":"x"}', b'{"event":1}', b'{"event":""}', b"{}"])
def test_an_event_without_a_label_is_shown_as_generic(packet, payload) -> None:
    found = {each.rule: each for each in lint(hep.encode(event(packet, payload)), "homer7")}
    assert found["event-label"].setting == "ForceHEPPayload unset"


def test_a_time_is_compared_with_the_arrival_if_that_is_known(packet) -> None:
    data = hep.encode(packet)
    assert lint(data, "homer7") == []
    assert lint(data, "homer7", now=packet.seconds + 3600.0) == []
    [found] = lint(data, "homer7", now=packet.seconds + 864_000.0)
    assert (found.rule, found.batch) == ("time", "hep_proto_1_default")
    assert "10.0 days before its arrival" in found.what


@given(st.binary(), st.sampled_from([b"", b"HEP3", b"\1", b"\2"]))
def test_no_bytes_raise(data: bytes, start: bytes) -> None:
    for profile in PROFILES:
        for finding in lint(start + data, profile):
            assert finding.what
            assert finding.remedy
