"""Probing a collector: it never answers, but it can be reached or not, and hang up or not.

`hep.cli.lint` knows what becomes of a packet that was taken.
"""

import asyncio
import secrets
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from hep.codec.any_version import encode
from hep.codec.chunks import Chunk, ProtocolType
from hep.codec.packet import Packet
from hep.codec.v3 import compress
from hep.hep_id import HepId
from hep.sending.fitting import LONGEST
from hep.sending.links import REFUSED, why
from hep.sending.senders import Sender, SenderSettings, open_sender

PATIENCE: Final = 5.0
"""Seconds that a connection may take."""

VERDICT: Final = 0.3
"""Seconds that a collector gets to hang up on a packet, or a system to refuse a datagram."""

_POLL: Final = 0.01
"""Seconds between two looks at a sender, which tells nobody when it fails."""

OPENSIPS_WEBSOCKET: Final = 50
"""The IP protocol number that OpenSIPS sends for ws and wss."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A packet with one property that some collectors do not bear."""

    property: str
    """What it is, in a few words."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen of the collector when a probe was sent."""

    probe: Probe
    taken: bool
    remark: str
    """For a person to read."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How the collector was reached."""

    remark: str
    """For a person to read: addresses, round trip, certificate."""


class UnreachableError(Exception):
    """The collector cannot be reached; the message says why."""


def new_marker() -> str:
    """A correlation id to look for in Homer."""
    return f"hep-doctor-{secrets.token_hex(4)}"


def probes(destination: HepId, marker: str, now: float) -> Iterator[Probe]:
    """The packets to try.

    Args:
        destination: whose version and transport they suit.
        marker: their correlation id, and their Call-ID.
        now: their time, in seconds since the epoch.
    """
    plain = _packet(destination.version, marker, now)
    yield Probe("SIP, as it should be", encode(plain))
    if destination.version != 3:
        return
    event = replace(
        plain,
        protocol_type=ProtocolType.NET,
        payload=b'{"protocol":"WS","event":"ACCEPTED","status":"SUCCESS"}',
    )
    yield Probe("network event with a correlation id", encode(event))
    yield Probe("network event without one", encode(replace(event, correlation_id=None)))
    yield Probe("SIP from IP protocol 50", encode(replace(plain, ip_protocol=OPENSIPS_WEBSOCKET)))
    yield Probe("compressed payload", encode(compress(plain)))
    yield Probe("chunk of a vendor", encode(replace(plain, extra=(Chunk(0xEB, 0x0100, b"x"),))))
    if destination.transport != "udp":
        yield Probe("17 KiB", encode(_padded(plain, 17 * 1024)))
        yield Probe(f"{LONGEST + 1} bytes", encode(_padded(plain, LONGEST + 1)))


async def reach(destination: HepId, tls: ssl.SSLContext | None = None) -> Reached:
    """Connect to a collector as a sender does.

    Raises:
        UnreachableError: it cannot be reached.
    """
    loop = asyncio.get_running_loop()
    begun = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            if destination.transport == "udp":
                found = await loop.getaddrinfo(destination.host, destination.port)
                return Reached(f"{found[0][4][0]} over UDP, where nobody answers")
            context = None
            if destination.transport == "tls":
                context = tls or ssl.create_default_context()
            _, writer = await asyncio.open_connection(
                destination.host, destination.port, ssl=context
            )
    except TimeoutError as exc:
        raise UnreachableError(f"no connection within {PATIENCE:g} s") from exc
    except (OSError, ValueError) as exc:
        raise UnreachableError(why(exc)) from exc
    took = (time.monotonic() - begun) * 1000
    ip, port = writer.get_extra_info("peername")[:2]
    remark = f"{ip}:{port} connected in {took:.1f} ms"
    if certificate := writer.get_extra_info("peercert"):
        ends = ssl.cert_time_to_seconds(certificate["notAfter"])
        days = (ends - time.time()) / 86_400
        until = datetime.fromtimestamp(ends, UTC)
        remark += f", certificate valid until {until:%Y-%m-%d} ({days:.0f} days)"
    writer.close()
    return Reached(remark)


async def try_probe(destination: HepId, probe: Probe, tls: ssl.SSLContext | None = None) -> Outcome:
    """Send one packet over a connection of its own, and see whether the collector minds."""
    settings = SenderSettings(
        connect_timeout=PATIENCE, retry_first=PATIENCE, tls=tls, longest=0xFFFF
    )
    sender = open_sender(destination, settings)
    try:
        sender.send(probe.data)
        if not await was_tried(sender):
            return Outcome(probe, False, f"not taken within {PATIENCE:g} s")
        begun = time.monotonic()
        while not sender.failures and time.monotonic() - begun < VERDICT:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        hung_up = sender.failures > 0
    finally:
        await sender.aclose(0)
    if sender.counters.dropped[REFUSED]:
        return Outcome(probe, False, "nobody listens there")
    if not sender.counters.sent:
        return Outcome(probe, False, sender.last_error or "not sent")
    if hung_up:
        return Outcome(probe, False, "it hung up on this packet")
    return Outcome(probe, True, "taken")


async def was_tried(sender: Sender) -> bool:
    """Wait until a sender has sent all that it has, or has failed; False after `PATIENCE`."""
    begun = time.monotonic()
    while sender.counters.queued and not sender.failures:
        if time.monotonic() - begun > PATIENCE:
            return False
        await asyncio.sleep(_POLL)
    return True


def _packet(version: int, marker: str, now: float) -> Packet:
    sip = (
        "OPTIONS sip:hep-doctor@example.invalid SIP/2.0\r\n"
        "Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK-hep-doctor\r\n"
        f"From: <sip:hep-doctor@example.invalid>;tag={marker}\r\n"
        "To: <sip:hep-doctor@example.invalid>\r\n"
        f"Call-ID: {marker}\r\n"
        "CSeq: 1 OPTIONS\r\n"
        "Max-Forwards: 0\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    return Packet(
        version=version,
        src_ip="192.0.2.1",
        src_port=5060,
        dst_ip="192.0.2.2",
        dst_port=5060,
        seconds=int(now),
        microseconds=int(now % 1 * 1_000_000),
        payload=sip.encode(),
        correlation_id=marker.encode(),
    )


def _padded(packet: Packet, size: int) -> Packet:
    """The packet with a header that makes it encode to so many bytes."""
    head, _, tail = packet.payload.partition(b"Content-Length")
    missing = size - len(encode(packet)) - len(b"Subject: \r\n")
    header = b"Subject: " + b"x" * missing + b"\r\n"
    return replace(packet, payload=head + header + b"Content-Length" + tail)
