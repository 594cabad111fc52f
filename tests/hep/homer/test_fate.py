"""What becomes of a packet, rule by rule."""

import json
from base64 import b64encode
from dataclasses import replace
from random import Random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hep
from hep.codec.chunks import Chunk
from hep.homer.decoding import packets_of
from hep.homer.fate import Fate, fate, whole_days

NOW = 1_700_000_000.0
CALL = "hep_proto_1_default"
EVENTS = "hep_proto_35_default"


def becomes(packet: hep.Packet | bytes, transport: str = "udp", **arguments) -> Fate:
    data = packet if isinstance(packet, bytes) else hep.encode(packet)
    return fate(data, transport, now=NOW, **arguments)


def rules(found: Fate) -> list[str]:
    return [each.rule for each in found.lost]


def altered(found: Fate) -> list[str]:
    return [each.rule for each in found.altered]


def event(packet: hep.Packet, payload: bytes = b"{}") -> hep.Packet:
    return replace(packet, protocol_type=89, payload=payload)


def chunk(vendor: int, kind: int, data: bytes) -> bytes:
    return pack("!HHH", vendor, kind, 6 + len(data)) + data


def with_chunks(packet: hep.Packet, *chunks: bytes) -> bytes:
    """The packet with more chunks at its end."""
    data = hep.encode(packet) + b"".join(chunks)
    return data[:4] + pack("!H", len(data)) + data[6:]


def test_sip_is_stored_under_its_call_id(packet) -> None:
    found = becomes(replace(packet, correlation_id=b"connection-1"))
    assert (found.stored, found.table, found.sid) == (True, CALL, "call-1")
    assert (found.poisons, found.poisoned_tables, found.altered) == (False, (), ())
    assert found.row is not None
    header = json.loads(found.row.protocol_header)
    assert header["correlation_id"] == "connection-1"
    assert (header["captureId"], header["timeSeconds"]) == ("7", 1_700_000_000)


@pytest.mark.parametrize(
    ("kind", "table"),
    [(2, EVENTS), (5, "hep_proto_5_default"), (100, "hep_proto_100_default"), (255, EVENTS)],
)
def test_the_protocol_type_chooses_the_table(packet, kind, table) -> None:
    found = becomes(replace(packet, protocol_type=kind, correlation_id=b"x"))
    assert (found.table, found.sid) == (table, "x")


def test_dns_has_no_table_and_loses_no_batch(packet) -> None:
    found = becomes(replace(packet, protocol_type=53))
    assert (rules(found), found.stored, found.poisons) == (["no-table"], False, False)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"protocol_type": 0}, "protocol-type"),
        ({"payload": b""}, "no-payload"),
        ({"payload": b"\r\n\r\n"}, "short-sip"),
        ({"payload": b"\0\0\0\0"}, "short-sip"),
        ({"payload": b"x" * 32}, "short-sip"),
        ({"payload": b"x" * 33}, "no-sip"),
        ({"protocol_type": 100, "payload": b"\0"}, "no-payload"),
        ({"protocol_type": 89, "correlation_id": None}, "no-correlation-id"),
        ({"protocol_type": 89, "correlation_id": b""}, "no-correlation-id"),
        ({"magic": b"EEP1"}, "eep1"),
    ],
)
def test_what_heplify_server_drops_loses_no_batch(packet, change, rule) -> None:
    found = becomes(replace(packet, **change))
    assert (rules(found), found.stored, found.poisons) == ([rule], False, False)


def test_a_compressed_payload_is_ignored(packet) -> None:
    assert rules(becomes(hep.compress(packet))) == ["compressed"]


REFUSED = [
    ("correlation_id", b"a\0b"),
    ("correlation_id", b"\0"),
    ("correlation_id", b"\xff"),
    ("correlation_id", b"\xed\xa0\x80"),
    ("auth_key", b"\0"),
    ("auth_key", b"se\xe9"),
    ("auth_key", b'a"b'),
    ("auth_key", b"a\\b\\"),
    ("auth_key", b"a\nb"),
    ("auth_key", b"a\x01b"),
    ("auth_key", b"\\x"),
    ("auth_key", rb"\u0000"),
]
RULES = {"correlation_id": "correlation-id", "auth_key": "auth-key"}


@pytest.mark.parametrize(("field", "value"), REFUSED)
@pytest.mark.parametrize("kind", [1, 89, 100])
def test_chunks_that_are_not_cleaned_lose_their_batch(packet, field, value, kind) -> None:
    found = becomes(replace(packet, protocol_type=kind, **{field: value}))
    assert rules(found) == [RULES[field]]
    assert found.poisons
    assert found.table is None
    assert len(found.poisoned_tables) == 1
    if b"\0" in value:
        assert "contains NUL" in found.lost[0].what
    elif not value.isascii():
        assert "is not valid UTF-8" in found.lost[0].what


@pytest.mark.parametrize("value", [b'n"', b"\0", b"\xff", b"a\\", b"a\tb"])
def test_a_node_name_that_is_no_json_loses_its_batch(packet, value) -> None:
    named = replace(packet, extra=(Chunk(0, 0x13, value),))
    assert rules(becomes(named)) == ["node-name"]
    assert becomes(named).poisoned_tables == (CALL,)


@pytest.mark.parametrize("value", [b'"', b"\\", b"\n", b"\x01", "ü".encode(), b"c" * 5000])
def test_other_correlation_ids_are_stored(packet, value) -> None:
    found = becomes(replace(event(packet), correlation_id=value))
    assert found.sid == value.decode()


RANDOM = Random(1).randbytes(6_000).hex().encode()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (RANDOM[:2_692], True),
        (RANDOM[:2_800], False),
        (RANDOM, False),
        (RANDOM[:1_100] + b"c" * 3_000, True),
        (b64encode(bytes.fromhex(RANDOM.decode()))[:1_100] + b"c" * 3_000, False),
        (b"c" * 60_000, True),
        (RANDOM[:100] * 50, True),
    ],
)
@pytest.mark.parametrize("kind", [1, 89])
def test_a_long_id_must_fit_into_an_index(packet, kind, value, stored) -> None:
    # The answers are those of PostgreSQL 15 with an index on a column with these texts.
    sip = packet.payload.replace(b"call-1", value)
    ids = {"payload": sip} if kind == 1 else {"correlation_id": value}
    found = becomes(replace(packet, protocol_type=kind, **ids))
    assert found.stored is stored
    assert rules(found) == ([] if stored else ["index-row"])
    assert found.poisons is not stored


def test_a_long_correlation_id_of_sip_must_fit_into_an_index_too(packet) -> None:
    assert rules(becomes(replace(packet, correlation_id=RANDOM))) == ["index-row"]


@pytest.mark.parametrize(
    "sip",
    [
        b"INVITE sip:%b@a SIP/2.0\r\nX: 1",
        b"INVITE tel:%b;a=b SIP/2.0\r\nX: 1",
        b"INVITE sip:b@%b:5060;a=b SIP/2.0\r\nX: 1",
        b"INVITE sips:%b SIP/2.0\r\nX: 1",
        b"%b sip:b@a SIP/2.0\r\nX: 1",
        b"SIP/2.0 200 OK\r\nFrom: A <sip:%b@a>;tag=1",
        b"INVITE sip:b@a SIP/2.0\r\nf: sip:%b;a@b",
        b"INVITE sip:b@a SIP/2.0\r\n To: <sip:%b@a>",
        b"INVITE sip:b@a SIP/2.0\r\nX: 1\nt: <sips:%b@a>",
        b"INVITE sip:b@a SIP/2.0\r\nXx: <sip:%b@a>",
        b"INVITE sip:b@a SIP/2.0\r\nT\0o: <sip:%b@a>",
    ],
)
def test_long_users_domains_and_methods_must_fit_into_an_index_too(packet, sip) -> None:
    end = b"\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\r\n"
    found = becomes(replace(packet, payload=sip % RANDOM + end))
    assert set(rules(found)) == {"index-row"}
    assert found.poisons
    assert becomes(replace(packet, payload=sip % RANDOM[:2_600] + end)).stored


@pytest.mark.parametrize(
    "line",
    [
        b"From: %b <sip:a@b>",
        b"From: <sip:a@%b>",
        b"To: <sip:a@b;%b>",
        b"Contact: <sip:%b@a>",
        b"Subject: sip:%b@a",
    ],
)
def test_other_long_parts_of_sip_have_no_index(packet, line) -> None:
    sip = (
        b"INVITE sip:b@a SIP/2.0\r\n" + line % RANDOM + b"\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\r\n"
    )
    assert becomes(replace(packet, payload=sip)).stored


def test_every_control_character_of_a_correlation_id_is_escaped(packet) -> None:
    value = bytes(range(1, 0x20))
    found = becomes(replace(event(packet), correlation_id=value))
    assert found.row is not None
    assert json.loads(found.row.protocol_header)["correlation_id"].encode() == value


@pytest.mark.parametrize(("kind", "stored"), [(1, True), (100, False), (89, False)])
def test_key_and_node_name_may_make_json_together(packet, kind, stored) -> None:
    # The node name opens an object that the key closes; data_header has the node name alone.
    opens = (Chunk(0, 0x13, b'a","b":{"c":"d'),)
    closes = replace(packet, protocol_type=kind, auth_key=b'e"},"f":"g', extra=opens)
    found = becomes(closes)
    assert found.stored is stored
    assert rules(found) == ([] if stored else ["auth-key", "node-name"])
    # As JSON of the event, the payload takes the place of data_header.
    assert becomes(replace(closes, protocol_type=89, payload=b"{}"), events_as_json=True).stored


def test_key_and_node_name_that_make_json_are_stored(packet) -> None:
    # heplify-server copies both between quotes: a value may add members.
    found = becomes(replace(packet, auth_key=b'a","x":"y', extra=(Chunk(0, 0x13, b"edge-1"),)))
    assert found.stored
    assert found.row is not None
    header = json.loads(found.row.protocol_header)
    assert (header["capturePass"], header["x"], header["captureId"]) == ("a", "y", "edge-1")
    assert altered(found) == ["capture-id-replaced", "auth-key-stored"]


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        (rb'{"a":"\u0000"}', "json-nul"),
        (rb'{"\u0000":1}', "json-nul"),
        (rb'{"a":"\ud83d"}', "json-surrogate"),
        (b'{"a":"\x01"}', "json-control"),
        (b'{"a":1e200000}', "json-number"),
        (b"[" * 20_000 + b"]" * 20_000, "json-depth"),
        (b"WSS:CLOSED:Connection closed:SUCCESS", "json-syntax"),
        (b"\xef\xbb\xbf{}", "json-syntax"),
        (b" ", "json-syntax"),
    ],
)
def test_an_event_as_json_must_be_valid(packet, payload, rule) -> None:
    found = becomes(event(packet, payload), events_as_json=True)
    assert (rules(found), found.poisoned_tables) == ([rule], (EVENTS,))
    assert becomes(event(packet, payload)).stored


@pytest.mark.parametrize("kind", [100, 86, 5])
def test_other_types_need_no_json(packet, kind) -> None:
    assert becomes(replace(packet, protocol_type=kind), events_as_json=True).stored


def test_an_event_as_json_changes_places_with_its_header(packet) -> None:
    found = becomes(event(packet, b'{"event":"x"}'), events_as_json=True)
    assert found.row is not None
    assert (found.row.data_header, found.row.raw) == (
        b'{"event":"x"}',
        b'{"node":"7","proto":"89"}',
    )


def test_bytes_are_removed_before_json_is_read(packet) -> None:
    found = becomes(event(packet, b'{"a":"x\0\xffy"}'), events_as_json=True)
    assert found.stored
    assert altered(found) == ["payload-bytes"]


@pytest.mark.parametrize(
    ("offset", "stored"),
    [
        (-200_000, False),
        (-172_800, False),
        (-86_400, True),
        (-80_000, True),
        (3_600, True),
        (80_000, True),
        (172_800, False),
        (200_000, False),
    ],
)
def test_a_time_needs_a_partition(packet, offset, stored) -> None:
    found = becomes(replace(packet, seconds=int(NOW) + offset))
    assert found.stored is stored
    assert rules(found) == ([] if stored else ["time"])
    assert found.poisons is not stored


def test_partitions_can_be_given(packet) -> None:
    late = replace(packet, seconds=int(NOW) - 10, microseconds=0)
    assert becomes(late, partitions=(-10, 5)).stored
    assert not becomes(late, partitions=(-9, 5)).stored
    assert not becomes(late, partitions=(-20, -10)).stored


@given(st.integers(10**9, 2 * 10**9))
def test_partitions_are_the_days_from_yesterday_to_tomorrow(now: int) -> None:
    start, end = whole_days(now)
    assert (now + start) % 86_400 == 0
    assert -172_800 < start <= -86_400
    assert end - start == 3 * 86_400


def test_no_time_is_the_time_of_arrival(packet) -> None:
    found = becomes(replace(packet, seconds=None, microseconds=None))
    assert found.row is not None
    assert found.row.time == NOW
    [reason] = becomes(replace(packet, seconds=0)).lost
    assert (reason.rule, "microseconds and no seconds" in reason.what) == ("time", True)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (0x01, b""),
        (0x03, b"\1\2\3"),
        (0x05, bytes(4)),
        (0x07, b"\1"),
        (0x09, bytes(8)),
        (0x0B, b"\0\1"),
        (0x0C, b"\1"),
        (0x12, b"\1"),
    ],
)
@pytest.mark.parametrize("vendor", [0, 3])
def test_a_chunk_of_the_wrong_size_loses_the_packet(packet, kind, data, vendor) -> None:
    found = becomes(with_chunks(packet, chunk(vendor, kind, data)))
    assert (rules(found), found.poisons) == (["chunk-size"], False)


@pytest.mark.parametrize("kind", [0x0D, 0x14, 0x17, 0x20, 0x65, 0x0100])
def test_other_chunks_may_have_any_size(packet, kind) -> None:
    found = becomes(with_chunks(packet, chunk(0, kind, b"abc")))
    assert found.stored
    assert found.altered == ()


def test_a_vendors_chunk_replaces_the_generic_one(packet) -> None:
    log = replace(packet, protocol_type=100, payload=b"text")
    found = becomes(with_chunks(log, chunk(5, 0x11, b"theirs"), chunk(5, 0x0F, b"other")))
    assert found.row is not None
    assert (found.sid, found.row.raw) == ("theirs", b"other")
    assert altered(found) == ["vendor-chunk", "vendor-chunk"]
    late = becomes(with_chunks(log, chunk(5, 0x09, bytes(4))))
    assert rules(late) == ["time"]
    # A later generic chunk wins again.
    again = becomes(with_chunks(log, chunk(5, 0x11, b"theirs"), chunk(0, 0x11, b"ours")))
    assert (again.sid, altered(again)) == ("ours", ["chunk-twice"])


def test_a_vendors_chunk_of_another_type_is_ignored(packet) -> None:
    assert becomes(with_chunks(packet, chunk(5, 0x0100, b"x"))).altered == ()


def test_a_datagram_is_exactly_one_packet(packet) -> None:
    data = hep.encode(packet)
    assert rules(becomes(data + b"\0")) == ["bytes-behind"]
    assert rules(becomes(data * 2)) == ["bytes-behind"]
    assert rules(becomes(data[:-1])) == ["packet-cut"]
    assert rules(becomes(b"OPTIONS sip:a SIP/2.0")) == ["not-hep"]
    assert rules(becomes(b"")) == ["not-hep"]


def test_a_stream_is_split_by_the_stated_lengths(packet) -> None:
    data = hep.encode(packet)
    assert packets_of(data * 3 + data[:5], "tcp") == [data, data, data, data[:5]]
    assert packets_of(data * 2, "udp") == [data * 2]
    for size in (b"\0\0", b"\0\5", b"\xff\xff"):
        bad = b"HEP3" + size + data
        assert packets_of(data + bad, "tls") == [data, bad]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_the_longest_packet(packet, transport) -> None:
    log = replace(packet, protocol_type=100, payload=b"")
    room = 65_507 - len(hep.encode(log))
    assert becomes(replace(log, payload=b"x" * room), transport).stored
    assert rules(becomes(replace(log, payload=b"x" * (room + 1)), transport)) == ["too-long"]


@pytest.mark.parametrize(
    "broken", [b"\0\0\0\x0f\0", b"\0\0\0\x0f\0\0", b"\0\0\0\x0f\0\5", b"\0\0\0\x0f\0\x09ab"]
)
def test_a_broken_chunk_loses_the_packet(packet, broken) -> None:
    assert rules(becomes(with_chunks(packet, broken))) == ["chunk-cut"]


def test_version_1_is_stored_over_udp_only(packet) -> None:
    old = replace(packet, version=1)
    assert becomes(old).sid == "call-1"
    assert becomes(replace(old, src_ip="2001:db8::1", dst_ip="2001:db8::2")).stored
    assert rules(becomes(old, "tcp")) == ["v1v2-stream"]
    assert rules(becomes(hep.encode(old)[:12])) == ["packet-cut"]
    assert rules(becomes(b"\1")) == ["packet-cut"]


def test_version_2_is_read_big_endian(packet) -> None:
    little = hep.encode(replace(packet, version=2, capture_id=0x4142))
    assert rules(becomes(little)) == ["v2-byte-order"]
    big = little[:16] + little[16:20][::-1] + little[20:24][::-1] + little[24:]
    assert becomes(big).stored
    # What should be padding is payload to heplify-server.
    padded = becomes(big[:26] + b"ab" + big[28:])
    assert padded.row is not None
    assert padded.row.raw == b"ab" + packet.payload
    small = hep.encode(replace(packet, version=2, capture_id=77))
    assert rules(becomes(small)) == ["v2-capture-id", "v2-byte-order"]
    assert becomes(small).poisoned_tables == (CALL,)


def test_isup_gets_its_sid_from_the_payload(packet) -> None:
    isup = replace(packet, protocol_type=54, correlation_id=None)
    payload = b'{"cic":1,"dpc":2,"opc":3,"msg_name":"IAM","called_number":{"num":"12"}}'
    found = becomes(replace(isup, payload=payload))
    assert (found.table, found.sid) == ("hep_proto_54_default", "2:3:1")
    assert becomes(replace(isup, payload=b"no json")).sid == "0:0:0"
    quoted = becomes(replace(isup, payload=rb'{"msg_name":"a\"b"}'))
    assert (rules(quoted), quoted.poisons) == (["isup-text"], True)


@given(st.binary(), st.sampled_from(["udp", "tcp"]), st.booleans())
def test_no_bytes_raise(data: bytes, transport: str, events_as_json: bool) -> None:
    for start in (b"", b"HEP3" + pack("!H", 6 + len(data)), b"\1\2\2\6", b"\2\2\x0a\6"):
        found = fate(start + data, transport, now=NOW, events_as_json=events_as_json)
        assert found.stored or found.lost
        assert found.stored is (found.table is not None)


PARTS = st.lists(
    st.tuples(
        st.sampled_from([0, 3]),
        st.sampled_from([1, 2, 3, 5, 9, 10, 11, 12, 14, 15, 16, 17, 19, 99]),
        st.binary(max_size=40) | st.sampled_from([b"\x36", b"\x59", b"\1", bytes(4), b"{}"]),
    )
)


@given(PARTS, st.booleans())
def test_no_chunks_raise(parts, events_as_json) -> None:
    body = b"".join(chunk(*part) for part in parts)
    data = b"HEP3" + pack("!H", 6 + len(body)) + body
    found = fate(data, "udp", now=NOW, events_as_json=events_as_json)
    if found.stored:
        assert found.sid is not None
        assert found.row is not None
        json.loads(found.row.protocol_header)
