"""Which packets a filter lets through."""

import argparse
import json
from dataclasses import replace

import pytest

import hep
from hep.cli import filters
from hep.cli.usage import WrongInputError


def made(*options: str, replay: bool = False) -> filters.Filter:
    parser = argparse.ArgumentParser()
    filters.add_arguments(parser, replay=replay)
    return filters.from_arguments(parser.parse_args(options))


ANSWER = b"SIP/2.0 200 OK\r\nCall-ID: call-1\r\nCSeq: 5  Invite\r\n\r\n"
EVENT = json.dumps({"Event": "CLOSED", "Call_IDs": "a@b, c@d"}).encode()


@pytest.mark.parametrize(
    ("options", "matches"),
    [
        ([], True),
        (["--call-id", "call-1"], True),
        (["--call-id", "call"], False),
        (["--call-id", "x", "--call-id", "call-1"], True),
        (["--ip", "192.0.2.5"], True),
        (["--ip", "192.0.2.1"], True),
        (["--ip", "192.0.2.0/28"], True),
        (["--ip", "192.0.3.0/24", "--ip", "2001:db8::/32"], False),
        (["--type", "sip"], True),
        (["--type", "0x59", "--type", "LOG"], False),
        (["--type", "1"], True),
        (["--grep", "^OPTIONS .*@?example"], True),
        (["--grep", "INVITE"], False),
        (["--type", "sip", "--ip", "192.0.2.5", "--grep", "nothing"], False),
    ],
)
def test_a_packet_meets_all_conditions(packet: hep.Packet, options: list, matches: bool) -> None:
    assert made(*options).matches(packet) is matches


def test_a_response_has_the_method_of_its_request(packet: hep.Packet) -> None:
    invite = made("--method", "invite", replay=True)
    assert invite.matches(replace(packet, payload=ANSWER))
    assert invite.matches(replace(packet, payload=b"\r\nINVITE sip:a SIP/2.0\r\n\r\n"))
    assert not invite.matches(packet)
    assert not invite.matches(replace(packet, payload=b"INVITE no sip"))
    assert not invite.matches(replace(packet, payload=b"SIP/2.0 200 OK\r\n\r\n"))


@pytest.mark.parametrize("payload", [EVENT, b'{"Call_ID": "a@b"}', b'{"Call-IDs": ["a@b"]}'])
def test_a_network_event_is_found_by_the_calls_of_its_connection(packet, payload) -> None:
    event = replace(packet, payload=payload, protocol_type=0x59, correlation_id=b"4711")
    assert made("--call-id", "a@b").matches(event)
    assert made("--call-id", "4711").matches(event)
    assert not made("--call-id", "b@a").matches(event)


def test_an_ipv4_address_in_an_ipv6_address_is_found(packet: hep.Packet) -> None:
    mapped = replace(packet, src_ip="::ffff:198.51.100.7", dst_ip="2001:db8::1")
    assert made("--ip", "198.51.100.0/24").matches(mapped)
    assert made("--ip", "[2001:db8::1]").matches(mapped)
    assert not made("--ip", "::1").matches(replace(packet, src_ip=None, dst_ip=None))


@pytest.mark.parametrize("payload", [b"{" * 5000, b'{"Call_ID": 5}', b'{"Call_IDs": {}}', b"\xff"])
def test_no_payload_is_too_much_for_a_filter(packet: hep.Packet, payload: bytes) -> None:
    assert not made("--call-id", "x").matches(replace(packet, payload=payload))
    assert not made("--method", "x", replay=True).matches(replace(packet, payload=payload))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ip", "192.0.2"], "--ip 192.0.2: give an IP address, or a network such as"),
        (["--type", "what"], "--type what: give a number from 0 to 255, or one of sip, "),
        (["--type", "256"], "--type 256: give a number from 0 to 255"),
        (["--grep", "("], "--grep '[(]': not a regular expression: missing"),
    ],
)
def test_a_wrong_value_is_named(options: list[str], message: str) -> None:
    with pytest.raises(WrongInputError, match=message):
        made(*options)
