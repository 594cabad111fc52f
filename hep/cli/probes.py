"""Probes a collector with packets.

A collector never answers. Two things are visible: whether it can be reached, and whether it closes
the connection after a packet. `hep.cli.lint` lists what it does with a packet that it accepts.
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
from hep.sending.links import REFUSED
from hep.sending.reasons import EXPECTS_TCP, EXPECTS_TLS, HandshakeError, why
from hep.sending.senders import Sender, SenderSettings, open_sender

PATIENCE: Final = 5.0
"""Time limit for connecting and sending in seconds."""

VERDICT: Final = 0.3
"""Seconds to wait for a close by the collector or an ICMP error after a packet was sent."""

POLL: Final = 0.01
"""Seconds between two checks of a sender, which has no event for a failure."""

OPENSIPS_WEBSOCKET: Final = 50
"""The IP protocol number that OpenSIPS sends for ws and wss."""

PLAIN: Final = "SIP, as it should be"
"""Property of the first probe. Every collector takes it over the right transport."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A packet with one property that some collectors do not support."""

    property: str
    """The property in a few words, for users."""
    data: bytes
    """The encoded packet."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Reaction of the collector to a probe."""

    probe: Probe
    """The packet that was sent."""
    taken: bool
    """Whether the packet was sent and the connection stayed open."""
    remark: str
    """The reaction in a few words, for users."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A successful connection to the collector."""

    remark: str
    """Address, connect time and certificate, for users."""


class UnreachableError(Exception):
    """The collector cannot be reached; the message has the reason."""


def new_marker() -> str:
    """Make a random correlation id to search for in Homer."""
    return f"hep-doctor-{secrets.token_hex(4)}"


def probes(destination: HepId, marker: str, now: float) -> Iterator[Probe]:
    """Make the packets to send, the plain one first.

    Args:
        destination: the collector; its version and transport select the packets.
        marker: correlation id and Call-ID of the packets.
        now: capture time of the packets in seconds since the epoch.
    """
    plain = _packet(destination.version, marker, now)
    yield Probe(PLAIN, encode(plain))
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
    """Connect to a collector as a sender does, and close the connection.

    Args:
        destination: the collector. For UDP only its name is resolved.
        tls: TLS context for transport tls. Default: the CA certificates of the system.

    Returns:
        details of the connection.

    Raises:
        UnreachableError: the collector cannot be reached within `PATIENCE` seconds.
    """
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    writer = None
    try:
        async with asyncio.timeout(PATIENCE):
            if destination.transport == "udp":
                found = await loop.getaddrinfo(destination.host, destination.port)
                return Reached(f"{found[0][4][0]} over UDP, which cannot show whether it receives")
            _, writer = await asyncio.open_connection(destination.host, destination.port)
            if destination.transport == "tls":
                context = tls or ssl.create_default_context()
                await writer.start_tls(context, server_hostname=destination.host)
    except (OSError, ValueError) as exc:
        if writer is not None:
            writer.close()
        raise UnreachableError(_why_unreachable(exc, connected=writer is not None)) from exc
    took = (time.monotonic() - started) * 1000
    ip, port = writer.get_extra_info("peername")[:2]
    remark = f"{ip}:{port} connected in {took:.1f} ms"
    if certificate := writer.get_extra_info("peercert"):
        ends = ssl.cert_time_to_seconds(certificate["notAfter"])
        days = (ends - time.time()) / 86_400
        until = datetime.fromtimestamp(ends, UTC)
        remark += f", certificate valid until {until:%Y-%m-%d} ({days:.0f} days)"
    writer.close()
    return Reached(remark)


def _why_unreachable(exc: OSError | ValueError, connected: bool) -> str:
    if connected and isinstance(exc, OSError) and (failure := HandshakeError.of(exc)) is not None:
        return f"{failure}; {EXPECTS_TCP}"
    if isinstance(exc, TimeoutError):
        return f"no connection within {PATIENCE:g} s"
    return why(exc)


async def try_probe(destination: HepId, probe: Probe, tls: ssl.SSLContext | None = None) -> Outcome:
    """Send one packet over a new connection and observe the reaction of the collector.

    Args:
        destination: the collector.
        probe: the packet.
        tls: TLS context for transport tls. Default: the CA certificates of the system.

    Returns:
        the reaction within `VERDICT` seconds.
    """
    settings = SenderSettings(
        connect_timeout=PATIENCE, retry_first=PATIENCE, tls=tls, longest=0xFFFF
    )
    sender = open_sender(destination, settings)
    try:
        sender.send(probe.data)
        if not await was_tried(sender):
            return Outcome(probe, False, f"not accepted within {PATIENCE:g} s")
        started = time.monotonic()
        while not sender.failures and time.monotonic() - started < VERDICT:  # noqa: ASYNC110
            await asyncio.sleep(POLL)
        hung_up = sender.failures > 0
    finally:
        await sender.aclose(0)
    if sender.counters.dropped[REFUSED]:
        return Outcome(probe, False, "the UDP port is closed")
    if not sender.counters.sent:
        return Outcome(probe, False, sender.last_error or "not sent")
    if hung_up:
        remark = "the collector closed the connection after this packet"
        if probe.property == PLAIN and EXPECTS_TLS in (sender.last_error or ""):
            remark += f"; {EXPECTS_TLS}"
        return Outcome(probe, False, remark)
    return Outcome(probe, True, "taken")


async def was_tried(sender: Sender) -> bool:
    """Wait until a sender has sent all queued packets or has failed.

    Returns:
        False if neither happened within `PATIENCE` seconds.
    """
    started = time.monotonic()
    while sender.counters.queued and not sender.failures:
        if time.monotonic() - started > PATIENCE:
            return False
        await asyncio.sleep(POLL)
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
    """The packet with a Subject header that makes it encode to ``size`` bytes."""
    head, _, tail = packet.payload.partition(b"Content-Length")
    missing = size - len(encode(packet)) - len(b"Subject: \r\n")
    header = b"Subject: " + b"x" * missing + b"\r\n"
    return replace(packet, payload=head + header + b"Content-Length" + tail)
