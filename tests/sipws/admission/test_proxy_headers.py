"""PROXY headers and forwarding headers: who really connected."""

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipws.address import Address
from sipws.admission.proxy_headers import (
    LONGEST_V1,
    LONGEST_V2,
    SIGNATURE_V2,
    NeedMore,
    Networks,
    ProxyError,
    ProxyHeader,
    parse_node,
    read_proxy_header,
    real_peer,
)
from sipws.errors import AddressError

PEER = Address("203.0.113.7", 50123)
OURS = Address("10.0.0.1", 443)
PEER6 = Address("2001:db8::7", 50123)
OURS6 = Address("2001:db8::1", 443)


def v2(
    source: Address = PEER,
    destination: Address = OURS,
    tlvs: bytes = b"",
    *,
    version_command: int = 0x21,
    family: int | None = None,
) -> bytes:
    packed = [ipaddress.ip_address(address.ip).packed for address in (source, destination)]
    if family is None:
        family = 0x11 if len(packed[0]) == 4 else 0x21
    body = b"".join(packed) + struct.pack("!HH", source.port, destination.port) + tlvs
    return SIGNATURE_V2 + struct.pack("!BBH", version_command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


WRITTEN = [
    pytest.param(b"PROXY TCP4 203.0.113.7 10.0.0.1 50123 443\r\n", PEER, OURS, id="v1 IPv4"),
    pytest.param(b"PROXY TCP6 2001:db8::7 2001:db8::1 50123 443\r\n", PEER6, OURS6, id="v1 IPv6"),
    pytest.param(b"PROXY TCP6 ::ffff:203.0.113.7 ::1 50123 443\r\n", PEER, None, id="v1 mapped"),
    pytest.param(b"PROXY UNKNOWN\r\n", None, None, id="v1 unknown"),
    pytest.param(b"PROXY UNKNOWN ffff:f::1 ffff:f::2 1 2\r\n", None, None, id="v1 unknown, more"),
    pytest.param(v2(), PEER, OURS, id="v2 IPv4"),
    pytest.param(v2(PEER6, OURS6), PEER6, OURS6, id="v2 IPv6"),
    pytest.param(v2(tlvs=tlv(2, b"sip.example.com") + tlv(4, b"")), PEER, OURS, id="v2 TLVs"),
    pytest.param(v2(version_command=0x20), None, None, id="v2 LOCAL"),
    pytest.param(SIGNATURE_V2 + b"\x20\x00\x00\x00", None, None, id="v2 LOCAL, empty"),
    pytest.param(SIGNATURE_V2 + b"\x21\x00\x00\x00", None, None, id="v2 UNSPEC"),
    pytest.param(SIGNATURE_V2 + b"\x21\x31\x00\xd8" + bytes(216), None, None, id="v2 UNIX"),
]


@pytest.mark.parametrize(("header", "source", "destination"), WRITTEN)
def test_a_header_tells_both_ends_and_where_it_ends(
    header: bytes, source: Address | None, destination: Address | None
) -> None:
    read = read_proxy_header(header + b"GET / HTTP/1.1\r\n")
    assert isinstance(read, ProxyHeader)
    assert (read.source, read.length) == (source, len(header))
    if destination is not None:
        assert read.destination == destination


@pytest.mark.parametrize("header", [param.values[0] for param in WRITTEN])
def test_reading_only_what_is_missing_never_reads_past_the_end(header: bytes) -> None:
    stream, received = header + b"\x16\x03\x01", b""
    while isinstance(read := read_proxy_header(received), NeedMore):
        assert read.at_least > 0
        received = stream[: len(received) + read.at_least]
    assert isinstance(read, ProxyHeader)
    assert received == header


@pytest.mark.parametrize("header", [param.values[0] for param in WRITTEN])
def test_every_part_of_a_header_needs_more(header: bytes) -> None:
    for end in range(len(header)):
        assert isinstance(read_proxy_header(header[:end]), NeedMore)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "does not start with"),
        (b"\x16\x03\x01", "does not start with"),
        (b"PROXX", "does not start with"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 50123\r\n", "not a PROXY line"),
        (b"PROXY TCP5 203.0.113.7 10.0.0.1 50123 443\r\n", "not a PROXY line"),
        (b"PROXY \r\n", "not a PROXY line"),
        (b"PROXY TCP4 2001:db8::7 10.0.0.1 50123 443\r\n", "an invalid address"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 050123 443\r\n", "or port"),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 65536 443\r\n", "or port"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n", "an invalid address"),
        (b"PROXY TCP4 " + b"1" * LONGEST_V1, "more than 107 bytes"),
        (v2(version_command=0x11), "version 1"),
        (v2(version_command=0x22), "command 2"),
        (SIGNATURE_V2 + b"\x21\x41\x00\x00", "family 4"),
        (SIGNATURE_V2 + b"\x21\x13\x00\x0c" + bytes(12), "transport 3"),
        (SIGNATURE_V2 + b"\x21\x11\x00\x04" + bytes(4), "4 bytes of addresses"),
        (SIGNATURE_V2 + b"\x21\x11" + struct.pack("!H", LONGEST_V2), "more than 4096"),
        (v2(tlvs=b"\x02\x00"), "do not fit"),
        (v2(tlvs=b"\x02\x00\x05abc"), "do not fit"),
        (v2(tlvs=tlv(3, b"\x00\x00\x00\x01")), "checksum"),
        (v2(tlvs=tlv(3, b"\x00")), "checksum"),
    ],
)
def test_garbage_is_named(received: bytes, reason: str) -> None:
    read = read_proxy_header(received)
    assert isinstance(read, ProxyError)
    assert reason in read.reason


def test_a_right_checksum_is_taken() -> None:
    header = v2(tlvs=tlv(3, bytes(4)))
    whole = header[:-4] + crc32c(header).to_bytes(4, "big")
    assert isinstance(read_proxy_header(whole), ProxyHeader)
    assert crc32c(b"123456789") == 0xE3069283


@given(
    st.ip_addresses(v=4) | st.ip_addresses(v=6),
    st.integers(0, 65535),
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 5, 0x20, 0xE0]), st.binary(max_size=20))),
    st.binary(max_size=20),
)
def test_what_is_written_is_read(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    tlvs: list[tuple[int, bytes]],
    behind: bytes,
) -> None:
    other = "192.0.2.1" if ip.version == 4 else "2001:db8::1"
    mapped = getattr(ip, "ipv4_mapped", None)
    source = Address(str(mapped or ip), port)
    binary = v2(Address(str(ip), port), Address(other, 443), b"".join(tlv(*x) for x in tlvs))
    line = f"PROXY TCP{ip.version} {ip} {other} {port} 443\r\n".encode()
    for header in (binary, line):
        read = read_proxy_header(header + behind)
        assert isinstance(read, ProxyHeader)
        assert (read.source, read.destination) == (source, Address(other, 443))
        assert read.length == len(header)
    assert read_proxy_header(binary).tlvs == tuple(tlvs)  # type: ignore[union-attr]


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE_V2]))
def test_nothing_that_comes_in_raises(data: bytes, start: bytes) -> None:
    read_proxy_header(start + data)


# Forwarding headers.

TRUSTED = Networks(["10.0.0.0/8", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("header", "lines", "expected"),
    [
        ("x-forwarded-for", ["203.0.113.7"], Address("203.0.113.7", 0)),
        ("x-forwarded-for", ["203.0.113.7:50123"], PEER),
        ("x-forwarded-for", ["6.6.6.6, 203.0.113.7, 10.0.0.9"], Address("203.0.113.7", 0)),
        ("x-forwarded-for", ["6.6.6.6", "203.0.113.7,10.0.0.9"], Address("203.0.113.7", 0)),
        ("x-forwarded-for", ["2001:db8::7"], Address("2001:db8::7", 0)),
        ("x-forwarded-for", ["[2001:db8::7]:50123"], PEER6),
        ("x-forwarded-for", ["10.0.0.1, 10.0.0.2"], Address("10.0.0.1", 0)),
        ("x-forwarded-for", ["6.6.6.6, unknown"], None),
        ("x-forwarded-for", ["6.6.6.6, unknown, 10.0.0.9"], Address("10.0.0.9", 0)),
        ("x-forwarded-for", ["203.0.113.7, "], Address("203.0.113.7", 0)),
        ("x-forwarded-for", ["6.6.6.6, 203.0.113.7,,\t, 10.0.0.9", ""], Address("203.0.113.7", 0)),
        ("x-forwarded-for", ["6.6.6.6, _hidden,"], None),
        ("x-real-ip", ["203.0.113.7"], Address("203.0.113.7", 0)),
        ("x-forwarded-for", [""], None),
        ("x-forwarded-for", [], None),
        ("forwarded", ["for=203.0.113.7"], Address("203.0.113.7", 0)),
        ("forwarded", ['For="203.0.113.7:50123";proto=https;by=10.0.0.9'], PEER),
        ("forwarded", ['for="[2001:db8::7]:50123"'], PEER6),
        ("forwarded", ['for="[2001:db8::7]"'], Address("2001:db8::7", 0)),
        ("forwarded", ["for=6.6.6.6, for=203.0.113.7;by=_x, for=10.0.0.2"], PEER._replace(port=0)),
        ("forwarded", ["for=6.6.6.6", "for=203.0.113.7"], PEER._replace(port=0)),
        ("forwarded", ['for="203.0.113.7:_obfuscated"'], PEER._replace(port=0)),
        ("forwarded", ["for=unknown, for=10.0.0.2"], Address("10.0.0.2", 0)),
        ("Forwarded", ["for=203.0.113.7;by=_x"], PEER._replace(port=0)),
        ("forwarded", ["for=203.0.113.7, ,"], PEER._replace(port=0)),
        ("forwarded", ["for=6.6.6.6, for=203.0.113.7", ""], PEER._replace(port=0)),
        ("forwarded", ["for=6.6.6.6, ;"], None),
        ("forwarded", ['for=6.6.6.6, for=""'], None),
        ("forwarded", ["for=6.6.6.6, for=_hidden"], None),
        ("forwarded", ["for=6.6.6.6, proto=https"], None),
        ("forwarded", ['for=203.0.113.7;host="a, for=6.6.6.6"'], PEER._replace(port=0)),
        ("forwarded", ['for="6.6.6.6, for="203.0.113.7:50123"'], PEER),
        ("forwarded", ['for=203.0.113.7;host="a, for=\\"6.6.6.6"'], PEER._replace(port=0)),
        ("forwarded", ["garbage in front (, for=203.0.113.7"], PEER._replace(port=0)),
        ("forwarded", ["for=6.6.6.6, garbage behind ("], None),
    ],
)
def test_the_nearest_untrusted_address_is_the_peer(
    header: str, lines: list[str], expected: Address | None
) -> None:
    assert real_peer(header, lines, TRUSTED) == expected


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
@given(forged=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=80))
@example(forged='for="')
@example(forged='for="\\')
@example(forged='for=1.2.3.4;by="x, for=6.6.6.6')
def test_what_a_client_forges_never_hides_its_address(header: str, forged: str) -> None:
    appended = "203.0.113.7" if header == "x-forwarded-for" else 'for="203.0.113.7:50123"'
    found = real_peer(header, [f"{forged}, {appended}"], TRUSTED)
    assert found is not None
    assert found.ip == "203.0.113.7"


@given(st.text(max_size=60))
def test_no_node_raises(text: str) -> None:
    parse_node(text)


def test_a_header_of_thousands_of_commas_is_no_work() -> None:
    assert real_peer("forwarded", ['for="' + ",a=" * 5000], TRUSTED) is None


# Trusted networks.


@pytest.mark.parametrize("text", ["; " * 8_000 + "!", "for=a ;\t" * 2_000 + "!", "a" * 16_000])
def test_an_element_that_is_none_is_read_once(text: str) -> None:
    # Its blanks could be taken in more ways than there is time.
    assert real_peer("forwarded", [text], Networks(["0.0.0.0/0"])) is None


def test_networks_hold_addresses_of_both_families() -> None:
    networks = Networks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])
    assert all(ip in networks for ip in ("10.1.2.3", "2001:db8::1", "192.0.2.1"))
    assert not any(ip in networks for ip in ("11.0.0.1", "2001:db9::1", "192.0.2.2", "name", ""))
    assert "10.0.0.1" not in Networks()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example.com", ""])
def test_what_is_no_network_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(AddressError, match=r"is not a network.*write it as"):
        Networks([text])
