"""Rules for what known collectors lose, alter or hide of a packet. Pure.

Collectors report none of this. Each rule describes what collectors do with one property of a
packet, as observed in their source code and with real packets. A new rule is a function and an
entry in `RULES`.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from hep.cli import lint_homer7
from hep.cli.lint_finding import Finding, Severity, worst_first
from hep.codec.any_version import decode
from hep.codec.chunks import GENERIC, GENERIC_VENDOR, protocol_name
from hep.codec.packet import INET6, Packet
from hep.errors import HepDecodeError

Profile = Literal["homer7", "homer11", "opensips", "kamailio"]
"""Name of a collector; see `PROFILES`."""

PROFILES: Final[dict[Profile, str]] = {
    "homer7": "Homer 7 (heplify-server and homer-app)",
    "homer11": "Homer 11",
    "opensips": "OpenSIPS with proto_hep and sipcapture",
    "kamailio": "Kamailio with sipcapture",
}
"""The collectors that have rules, with their names for users."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A packet as it is sent."""

    data: bytes
    packet: Packet
    transport: str

    def has(self, chunk_type: int) -> bool:
        return (GENERIC_VENDOR, chunk_type) in self.packet.layout


_Rule = Callable[[_Sent], Finding | None]
"""A rule: returns a finding, or None if the packet is stored unchanged."""


def lint(
    data: bytes,
    profile: Profile,
    transport: str = "udp",
    *,
    now: float | None = None,
    forced: bool | None = None,
) -> list[Finding]:
    """Find what a collector loses, alters or hides of a packet.

    Args:
        data: the packet as sent: a datagram, or one packet of a stream.
        profile: the collector.
        transport: ``udp``, ``tcp`` or ``tls``.
        now: time of arrival in seconds since the epoch. None: the time of the packet is not
            compared with its arrival.
        forced: whether heplify-server has ``ForceHEPPayload = [89]``; None examines both.

    Returns:
        the findings, worst first; empty if the packet is stored unchanged.
    """
    if profile == "homer7":
        return lint_fates(data, lint_homer7.fates(data, transport, now), transport, forced)
    return _by_rules(data, profile, transport)


def lint_fates(
    data: bytes, fates: lint_homer7.Fates, transport: str, forced: bool | None
) -> list[Finding]:
    """As `lint` for Homer 7, for a packet whose fates are known."""
    found = lint_homer7.findings(fates, forced)
    if any(each.stored for _, each in fates.by_setting(forced)):
        # heplify-server reads some packets that break the specification.
        with suppress(HepDecodeError):
            found += _apply(RULES["homer7"], _Sent(data, decode(data), transport))
    return worst_first(found)


def _by_rules(data: bytes, profile: Profile, transport: str) -> list[Finding]:
    try:
        packet = decode(data)
    except HepDecodeError as exc:
        remedy = "correct the sender: no collector can read this"
        return [Finding("not-hep", Severity.LOST, f"this is not a HEP packet: {exc}", remedy)]
    return worst_first(_apply(RULES[profile], _Sent(data, packet, transport)))


def _apply(rules: tuple[_Rule, ...], sent: _Sent) -> list[Finding]:
    return [finding for rule in rules if (finding := rule(sent)) is not None]


def _compressed(sent: _Sent) -> Finding | None:
    if not sent.has(0x10):
        return None
    return Finding(
        "compressed",
        Severity.LOST,
        "a compressed payload (chunk 0x0010) is ignored: the packet has none then",
        "turn compression off in the sender",
    )


def _longer_than(longest: int, consequence: str, over: tuple[str, ...]) -> _Rule:
    def rule(sent: _Sent) -> Finding | None:
        if len(sent.data) <= longest or sent.transport not in over:
            return None
        return Finding(
            "too-long",
            Severity.LOST,
            f"a packet of {len(sent.data)} bytes exceeds {longest}: {consequence}",
            "truncate the payload in the sender",
        )

    return rule


def _unmapped(known: tuple[int, ...], remedy: str) -> _Rule:
    def rule(sent: _Sent) -> Finding | None:
        if sent.packet.protocol_type in known:
            return None
        name = protocol_name(sent.packet.protocol_type)
        return Finding("unmapped", Severity.HIDDEN, f"{name} has no mapping", remedy)

    return rule


def _ip_protocol(shown: tuple[int, ...], what: str) -> _Rule:
    def rule(sent: _Sent) -> Finding | None:
        if sent.packet.ip_protocol in shown:
            return None
        return Finding(
            "ip-protocol",
            Severity.ALTERED,
            f"IP protocol {sent.packet.ip_protocol} {what}",
            "send 6 for TCP, TLS and WebSocket",
        )

    return rule


def _v2_read(byte_order: Literal["little", "big"]) -> _Rule:
    """A rule for a collector that always reads the time of version 2 in this byte order."""

    def rule(sent: _Sent) -> Finding | None:
        packet = sent.packet
        if packet.version != 2:
            return None
        start = 8 + (32 if packet.family == INET6 else 8)
        seconds = int.from_bytes(sent.data[start : start + 4], byte_order)
        if seconds == packet.seconds:
            return None
        return Finding(
            "v2-byte-order",
            Severity.ALTERED,
            f"the collector reads the time of version 2 {byte_order}-endian, but this sender uses"
            " the other byte order: the packet is stored with a wrong date",
            "send version 3",
        )

    return rule


def _few_chunks(sent: _Sent) -> Finding | None:
    known = sum(vendor == GENERIC_VENDOR and kind in GENERIC for vendor, kind in sent.packet.layout)
    if sent.packet.version != 3 or sent.transport == "udp" or known >= 9:
        return None
    return Finding(
        "few-chunks",
        Severity.LOST,
        f"{known} chunks: over TCP a packet with fewer than 9 is dropped as broken",
        "send addresses, ports, time, both protocols and the capture id with each packet",
    )


def _no_time(sent: _Sent) -> Finding | None:
    packet = sent.packet
    if packet.seconds and (packet.microseconds or 0) < 1_000_000:
        return None
    if packet.seconds:
        what = f"{packet.microseconds} microseconds exceed one second"
    else:
        what = "no time: the packet is stored under the year 1970 or the time of arrival"
    return Finding("no-time", Severity.ALTERED, what, "send chunks 0x0009 and 0x000a")


def _no_addresses(sent: _Sent) -> Finding | None:
    if sent.packet.src_ip is not None and sent.packet.dst_ip is not None:
        return None
    return Finding(
        "no-addresses",
        Severity.ALTERED,
        "no source or no destination address",
        "send chunks 0x0003 and 0x0004, or 0x0005 and 0x0006",
    )


def _same_ends(sent: _Sent) -> Finding | None:
    packet = sent.packet
    if (packet.src_ip, packet.src_port) != (packet.dst_ip, packet.dst_port):
        return None
    return Finding(
        "same-ends",
        Severity.ALTERED,
        f"source and destination are the same ({packet.src_ip}:{packet.src_port}): a call flow"
        " cannot show the direction",
        "send the addresses of both ends of the connection",
    )


def _vendor_chunk(sent: _Sent) -> Finding | None:
    for vendor, kind in sent.packet.layout:
        if vendor != GENERIC_VENDOR and kind in GENERIC:
            return Finding(
                "vendor-chunk",
                Severity.ALTERED,
                f"chunk 0x{kind:04x} of vendor {vendor} is read as the generic"
                f" {GENERIC[kind].name}",
                "use chunk types from 0x0100 for vendor chunks",
            )
    return None


_EVERYWHERE: Final = (_no_time, _no_addresses, _same_ends)

RULES: Final[dict[Profile, tuple[_Rule, ...]]] = {
    # The rest comes from `hep.cli.lint_homer7`.
    "homer7": (_ip_protocol((6, 17, 132), "is shown as UDP"), *_EVERYWHERE),
    "homer11": (
        _compressed,
        _longer_than(0xFFFF, "it is rejected", ("udp", "tcp", "tls")),
        _unmapped((1, 5, 53, 100, 200, 201, 202), "load a mapping for this type"),
        _v2_read("big"),
        _vendor_chunk,
        *_EVERYWHERE,
    ),
    "opensips": (
        _longer_than(0xFFFF, "the connection is closed", ("tcp", "tls")),
        _v2_read("little"),
        *_EVERYWHERE,
    ),
    "kamailio": (
        _compressed,
        _longer_than(16_384, "tcp_rd_buf_size holds no more by default", ("tcp", "tls")),
        _few_chunks,
        _ip_protocol((6, 17), "is unknown: the value of the packet before is stored"),
        _v2_read("little"),
        *_EVERYWHERE,
    ),
}
"""The rules of each collector."""
