"""Packets for a person, and for a program."""

import json
import re
from dataclasses import replace

import hep
from hep.cli import display


def network_event(packet: hep.Packet, **parts: str) -> hep.Packet:
    return replace(packet, protocol_type=0x59, payload=json.dumps(parts).encode())


def said(packet: hep.Packet) -> str:
    return display.line(packet).split("8080  ")[1]


def test_a_line_has_time_protocol_addresses_first_line_and_correlation(packet: hep.Packet) -> None:
    line = display.line(packet)
    assert line[8:] == (
        ".123456  SIP  192.0.2.5:50123 > 192.0.2.1:8080  OPTIONS sip:example.com SIP/2.0  #call-1"
    )
    assert line[2] == line[5] == ":"


def test_ipv6_is_in_brackets_and_a_missing_time_is_shown_as_such(packet: hep.Packet) -> None:
    line = display.line(replace(packet, src_ip="2001:db8::1", dst_ip=None, seconds=None))
    assert line.startswith("--:--:--.------  SIP  [2001:db8::1]:50123 > ?:8080  ")


def test_a_network_event_says_what_happened(packet: hep.Packet) -> None:
    accepted = network_event(
        packet,
        Protocol="WS",
        Event="ACCEPTED",
        **{"Ws-Request": "GET / HTTP/1.1\r\nHost: x", "Status": "SUCCESS"},
        **{"Ws-Reply": "HTTP/1.1 101 Switching Protocols\r\n", "Message": "…"},
    )
    assert said(accepted) == (
        "ACCEPTED SUCCESS  GET / HTTP/1.1 -> HTTP/1.1 101 Switching Protocols  #call-1"
    )
    closed = network_event(
        packet, Event="CLOSED", Status="FAILURE", Message="lost", Reason="lost", Code="1006"
    )
    assert said(closed) == "CLOSED FAILURE  lost  Code=1006  #call-1"


def test_wrapped_sip_is_unwrapped(packet: hep.Packet) -> None:
    wrapped = replace(packet, payload=b'{"payload": "SIP/2.0 200 OK\\r\\nVia: x"}')
    assert said(wrapped) == "SIP/2.0 200 OK  #call-1"


def test_json_that_is_none_or_something_else_is_shown_as_it_is(packet: hep.Packet) -> None:
    for payload in (b"{", b'{"a": 1}', b"{" * 5000):
        assert said(replace(packet, payload=payload)).startswith(payload[:10].decode())


def test_nothing_from_the_network_moves_the_terminal(packet: hep.Packet) -> None:
    hostile = b"INVITE \x1b[2J\x1b]0;owned\x07\xc2\x9b31m \xff"
    for colour in (False, True):
        line = display.line(replace(packet, payload=hostile, correlation_id=hostile), colour=colour)
        assert "\x1b[2J" not in line
        assert "\x07" not in line
        assert "\x9b" not in line


def test_a_failure_stands_out_in_colour(packet: hep.Packet) -> None:
    failed = network_event(packet, Event="CLOSED", Status="FAILURE", Message="lost")
    assert "\x1b[31m" in display.line(failed, colour=True)


def test_the_json_object_has_the_keys_that_programs_rely_on(packet: hep.Packet) -> None:
    shown = display.as_json(hep.decode(hep.encode(packet)))
    assert {key: value for key, value in shown.items() if key != "chunks"} == {
        "version": 3,
        "ip_family": 4,
        "ip_protocol": 6,
        "src_ip": "192.0.2.5",
        "dst_ip": "192.0.2.1",
        "src_port": 50123,
        "dst_port": 8080,
        "timestamp": 1_700_000_000.123456,
        "protocol_type": 1,
        "capture_id": 2001,
        "correlation_id": "call-1",
        "payload": packet.payload.decode(),
    }
    assert shown["chunks"][0] == [0, 1, "02"]
    assert shown["chunks"][-1] == [0, 17, b"call-1".hex()]


def test_a_payload_that_is_not_utf8_is_base64(packet: hep.Packet) -> None:
    shown = display.as_json(replace(packet, payload=b"\xff\x00"))
    assert (shown["payload"], shown["payload_base64"]) == (None, "/wA=")


def test_old_versions_have_no_chunks(packet: hep.Packet) -> None:
    shown = display.as_json(replace(packet, version=1, seconds=None, correlation_id=None))
    assert "chunks" not in shown
    assert (shown["timestamp"], shown["correlation_id"]) == (None, None)


def test_a_compressed_payload_beside_another_may_be_garbage(packet: hep.Packet) -> None:
    both = replace(packet, extra=(hep.Chunk(0, 0x10, b"garbage"),))
    assert "compressed payload: 67617262616765 (neither zlib nor gzip" in display.describe(both)


def test_a_chunk_of_an_unexpected_size_is_shown_as_its_bytes(packet: hep.Packet) -> None:
    odd = (hep.Chunk(0, 0x0C, b"\x07\xd1"), hep.Chunk(0, 0x03, bytes(16)), hep.Chunk(0, 0x12, b""))
    lines = display.describe(hep.decode(hep.encode(replace(packet, extra=odd)))).splitlines()
    assert "  capture agent id: 2001" in lines
    assert "  capture agent id: 07d1 (not read: 2 bytes, not 4)" in lines
    assert f"  IPv4 source address: {'00' * 16} (not read: 16 bytes, not 4)" in lines
    assert "  VLAN id:  (not read: 0 bytes, not 2)" in lines


def test_a_line_fits_the_terminal_and_ends_in_an_ellipsis(packet: hep.Packet) -> None:
    whole = display.line(packet)
    for columns in range(1, len(whole) + 5):
        line = display.line(packet, columns=columns)
        assert len(line) <= columns
        assert line == (whole if columns >= len(whole) else whole[: columns - 1] + "…")
        coloured = display.line(packet, columns=columns, colour=True)
        assert re.sub(r"\x1b\[[0-9]*m", "", coloured) == line


def test_wide_characters_have_two_columns_and_combining_ones_none(packet: hep.Packet) -> None:
    wide = replace(packet, payload="INVITE sip:中文字中文字 SIP/2.0\r\n\r\n".encode())
    start = display.line(wide).index("中")
    for more, kept in ((1, ""), (2, ""), (3, "中"), (4, "中"), (5, "中文")):
        assert display.line(wide, columns=start + more)[start:] == kept + "…"
    accents = replace(packet, payload=("INVITE sip:" + "e\u0301" * 9 + "\r\n").encode())
    start = display.line(accents).index("e\u0301")
    assert display.line(accents, columns=start + 7)[start:] == "e\u0301" * 6 + "…"


def test_a_terminal_without_an_ellipsis_gets_dots_and_escapes(packet: hep.Packet) -> None:
    accent = replace(packet, payload="INVITE sip:é@b SIP/2.0\r\n\r\n".encode())
    line = display.line(accent, columns=80, encoding="ascii")
    assert line.isascii()
    assert len(line) == 80
    assert line.endswith(r"INVITE sip:\xe9@b SIP...")


def test_a_line_for_a_file_is_whole(packet: hep.Packet) -> None:
    long = replace(packet, payload=b"INVITE sip:" + b"a" * 5000 + b" SIP/2.0\r\n\r\n")
    assert "a" * 5000 + " SIP/2.0  #call-1" in display.line(long)
