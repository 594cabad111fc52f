"""sngrep collects our packets and writes what is in them."""

import ipaddress
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.e2e

PCAP_HEADER = 24
RECORD = struct.Struct("<IIII")
HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP: sngrep writes everything as UDP


class Frame(NamedTuple):
    """What a capture file says of a message."""

    seconds: int
    microseconds: int
    source: tuple[str, int]
    destination: tuple[str, int]
    payload: bytes


def frames(capture: Path) -> list[Frame]:
    if not capture.exists():
        return []  # it listens before it opens the file
    data, offset, found = capture.read_bytes(), PCAP_HEADER, []
    while len(data) >= offset + RECORD.size:
        seconds, microseconds, size, _ = RECORD.unpack_from(data, offset)
        frame = data[offset + RECORD.size :][:size]
        offset += RECORD.size + size
        if len(frame) == size:
            ip = frame[14:]
            ports = struct.unpack_from("!HH", ip, 20)
            source, destination = (str(ipaddress.ip_address(ip[at : at + 4])) for at in (12, 16))
            ends = (source, ports[0]), (destination, ports[1])
            found.append(Frame(seconds, microseconds, *ends, frame[HEADERS:]))
    return found


@pytest.fixture
async def sngrep(find, start, tmp_path):
    """Start sngrep as a collector: ``port, capture = await sngrep(setting, …)``."""
    program = find.program("sngrep", remedy="install Debian's package sngrep")

    async def run(*settings: str) -> tuple[int, Path]:
        (tmp_path / "sngreprc").write_text("".join(f"set {each}\n" for each in settings))
        capture = tmp_path / "sngrep.pcap"
        peer = await start(
            lambda port: f"{program} -f sngreprc -N -q -L udp:127.0.0.1:{port} -O sngrep.pcap"
        )
        return peer.port, capture

    return run


@pytest.mark.parametrize(
    ("ip_protocol", "correlated"), [(6, True), (17, True), (50, True), (6, False)]
)
async def test_sngrep_writes_what_our_packets_carry(
    sngrep, send, packet, until, ip_protocol, correlated
) -> None:
    port, capture = await sngrep()
    changes = {} if correlated else {"correlation_id": None}
    sent = packet("call-1", ip_protocol=ip_protocol, **changes)
    await send(port, sent, packet("call-2"))
    first, second = await until(lambda: len(found := frames(capture)) == 2 and found)
    assert first == Frame(
        1_700_000_000, 123_456, ("192.0.2.5", 50123), ("192.0.2.1", 8080), sent.payload
    )
    assert b"\r\nCall-ID: call-2\r\n" in second.payload


async def test_sngrep_writes_the_sip_of_ipv6_packets(sngrep, send, packet, until) -> None:
    port, capture = await sngrep()
    sent = packet("call-1", src_ip="2001:db8::5", dst_ip="2001:db8::1")
    await send(port, sent)
    [frame] = await until(lambda: frames(capture))
    # Its files have IPv4 headers only, so the addresses are lost.
    assert frame.payload == sent.payload
    assert (frame.source[1], frame.destination[1]) == (50123, 8080)


async def test_sngrep_reads_version_2(sngrep, send, packet, until) -> None:
    port, capture = await sngrep("eep.listen.version 2")
    sent = packet("call-1", version=2, correlation_id=None, ip_protocol=17)
    await send(port, sent)
    [frame] = await until(lambda: frames(capture))
    # It miscounts the headers of this version and writes some zero bytes more.
    assert frame.payload.rstrip(b"\0") == sent.payload
    assert (frame.source, frame.destination) == (("192.0.2.5", 50123), ("192.0.2.1", 8080))


async def test_sngrep_drops_a_packet_without_the_right_authenticate_key(
    sngrep, send, packet, until
) -> None:
    port, capture = await sngrep("eep.listen.pass secret")
    await send(
        port,
        packet("call-1"),
        packet("call-2", auth_key=b"wrong!"),
        packet("call-3", auth_key=b"secret"),
    )
    # They come in order: when the third is there, the others have been looked at.
    [frame] = await until(lambda: frames(capture))
    assert b"\r\nCall-ID: call-3\r\n" in frame.payload
