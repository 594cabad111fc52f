"""The packets that ``hep doctor --postgres`` sends, and what is expected of each. Pure.

Each probe has a correlation id of its own, by which its row is found. Payloads differ too, but for
the two log lines that show whether the collector drops repeated payloads.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import shake_256
from typing import Final

from hep.codec.any_version import decode, encode
from hep.codec.chunks import Chunk, ProtocolType
from hep.codec.packet import Packet
from hep.codec.v3 import compress

CALL: Final = "hep_proto_1_call"
REGISTRATION: Final = "hep_proto_1_registration"
DEFAULT: Final = "hep_proto_1_default"
EVENTS: Final = "hep_proto_35_default"
LOGS: Final = "hep_proto_100_default"

TABLES: Final = (CALL, REGISTRATION, DEFAULT, EVENTS, LOGS)
"""The tables that packets of sipws go to."""

DAY: Final = 86_400

VENDOR: Final = 0xEB
"""Vendor of the chunks whose types are those of other chunks."""

VENDOR_SECONDS: Final = 30
"""Seconds by which the time in a vendor's chunk differs from that of its packet."""

AUTH_KEY: Final = b"hep-doctor"

NODE: Final = 0x13
"""Type of the chunk with the capture agent's name."""


@dataclass(frozen=True, slots=True)
class HomerProbe:
    """A packet, and what is expected of it."""

    name: str
    """The property in a few words, for users."""
    key: str
    """The property as a word, for `diagnose`."""
    packet: Packet
    table: str
    """Where Homer 7 stores such packets."""
    sids: tuple[str, ...] = ()
    """The values of ``sid`` under which it may be found; the first is the right one."""
    usual: bool = False
    """Whether sipws sends such packets, so that it is a fault if they are lost."""
    if_lost: str = ""
    """The reason why it is known to be lost, and the remedy."""
    risk: str = ""
    """Why it may take other packets along; empty for a harmless packet."""

    @property
    def data(self) -> bytes:
        """The encoded packet."""
        return encode(self.packet)

    @property
    def seconds(self) -> float:
        """Its capture time in seconds since the epoch."""
        return self.packet.timestamp or 0.0


class _Maker:
    """Makes probes with consecutive ids."""

    def __init__(self, marker: str, now: float) -> None:
        self._marker = marker
        self._now = now
        self._number = 0

    def _next(self) -> str:
        self._number += 1
        return f"{self._marker}-{self._number}"

    def packet(self, sid: str, payload: bytes, protocol_type: int) -> Packet:
        return Packet(
            src_ip="192.0.2.1", src_port=5060, dst_ip="192.0.2.2", dst_port=8080,
            seconds=int(self._now), microseconds=int(self._now % 1 * 1_000_000), capture_id=1,
            payload=payload, protocol_type=protocol_type, correlation_id=sid.encode(),
        )  # fmt: skip

    def sip(self, name: str, key: str, method: str, table: str, agent: bytes = b"") -> HomerProbe:
        sid = self._next()
        message = (
            f"{method} sip:hep-doctor@example.invalid SIP/2.0\r\n"
            "Via: SIP/2.0/WS 192.0.2.1:5060;branch=z9hG4bK-hep-doctor\r\n"
            f"From: <sip:hep-doctor@example.invalid>;tag={sid}\r\n"
            "To: <sip:hep-doctor@example.invalid>\r\n"
            f"Call-ID: {sid}\r\n"
            f"CSeq: 1 {method}\r\n"
        ).encode()
        if agent:
            message += b"User-Agent: " + agent + b"\r\n"
        message += b"Max-Forwards: 0\r\nContent-Length: 0\r\n\r\n"
        return HomerProbe(name, key, self.packet(sid, message, ProtocolType.SIP), table, (sid,))

    def event(self, name: str, key: str, payload: bytes | dict[str, str]) -> HomerProbe:
        sid = self._next()
        if isinstance(payload, dict):
            payload = json.dumps({**payload, "Message": sid}).encode()
        payload = payload.replace(b"%SID%", sid.encode())
        return HomerProbe(name, key, self.packet(sid, payload, ProtocolType.NET), EVENTS, (sid,))

    def log(self, name: str, key: str, payload: bytes | None = None) -> HomerProbe:
        sid = self._next()
        line = payload or f"hep doctor {sid}".encode()
        return HomerProbe(name, key, self.packet(sid, line, ProtocolType.LOG), LOGS, (sid,))


def _with(probe: HomerProbe, chunk: Chunk) -> HomerProbe:
    """The probe with a chunk behind all others, where its type may count in the place of theirs."""
    usual = decode(encode(probe.packet))
    layout = *usual.layout, (chunk.vendor, chunk.type)
    return replace(probe, packet=replace(usual, extra=(chunk,), layout=layout))


def safe_probes(marker: str, now: float) -> list[HomerProbe]:
    """Make the packets that harm no other, whatever the settings of the collector are.

    Args:
        marker: beginning of their correlation ids.
        now: their capture time in seconds since the epoch.
    """
    make = _Maker(marker, now)
    usual = [
        make.sip("SIP: INVITE", "call", "INVITE", CALL),
        make.sip("SIP: REGISTER", "registration", "REGISTER", REGISTRATION),
        make.sip("SIP: OPTIONS", "options", "OPTIONS", DEFAULT),
        make.event(
            "event with the keys of OpenSIPS", "event",
            {"Protocol": "WS", "Event": "CLOSED", "Status": "SUCCESS"},
        ),
        make.event(
            "event with the keys of sipws", "event-ours",
            {"Protocol": "WS", "Event": "CLOSED", "event": "WS CLOSED 1006",
             "Close_Code": "1006", "Closed_By": "peer"},
        ),
        make.log("log line", "log"),
        make.log(
            "the same log line for another call", "log-again",
            f"hep doctor {marker}, repeated".encode(),
        ),
    ]  # fmt: skip
    # The line before the repeated one is the one that it repeats.
    repeated = usual[-1].packet.payload
    usual[-2] = replace(usual[-2], packet=replace(usual[-2].packet, payload=repeated))
    probes = [replace(probe, usual=True) for probe in usual]

    connection = make.sip("SIP with another correlation id", "connection-id", "INVITE", CALL)
    probes.append(
        replace(
            connection, packet=replace(connection.packet, correlation_id=f"{marker}-c".encode())
        )
    )
    other = make.event("event from IP protocol 50", "ip-protocol", {"Event": "IP 50"})
    probes.append(replace(other, packet=replace(other.packet, ip_protocol=50)))
    spaced = make.sip("line end before the start line", "sip-crlf", "OPTIONS", DEFAULT)
    packet = replace(spaced.packet, payload=b"\r\n" + spaced.packet.payload)
    known = "older versions of heplify-server drop it: begin with the start line"
    probes.append(replace(spaced, packet=packet, if_lost=known))
    ended = make.sip("SIP whose lines end in LF alone", "sip-lf", "OPTIONS", DEFAULT)
    packet = replace(ended.packet, payload=ended.packet.payload.replace(b"\r\n", b"\n"))
    known = "heplify-server drops it: end lines with CRLF"
    probes.append(replace(ended, packet=packet, if_lost=known))
    squeezed = make.sip("compressed payload", "compressed", "OPTIONS", DEFAULT)
    known = "heplify-server ignores it: turn compression off in the sender"
    probes.append(replace(squeezed, packet=compress(squeezed.packet), if_lost=known))
    named = make.sip("capture agent name", "node", "OPTIONS", DEFAULT)
    probes.append(_with(named, Chunk(0, NODE, b"hep-doctor")))
    keyed = make.sip("authenticate key", "key", "OPTIONS", DEFAULT)
    probes.append(replace(keyed, packet=replace(keyed.packet, auth_key=AUTH_KEY)))

    paid = make.log("chunk of a vendor, type 15 (payload)", "vendor-15")
    probes.append(_with(paid, Chunk(VENDOR, 15, f"of a vendor {marker}".encode())))
    filed = make.log("chunk of a vendor, type 17 (correlation id)", "vendor-17")
    elsewhere = f"{marker}-vendor"
    filed = replace(filed, sids=(*filed.sids, elsewhere))
    probes.append(_with(filed, Chunk(VENDOR, 17, elsewhere.encode())))

    nameless = make.event("event without a correlation id", "no-id", {"Event": "NO ID"})
    probes.append(
        replace(
            nameless,
            packet=replace(nameless.packet, correlation_id=None),
            sids=(),
            if_lost="heplify-server drops it: send chunk 0x0011 with each packet that is not SIP",
        )
    )
    return probes


def risky_probes(
    marker: str, now: float, *, forced: bool | None, udp: bool, days: Sequence[int]
) -> Iterator[HomerProbe]:
    """Make the packets that may take others of their table along, if PostgreSQL refuses them.

    Args:
        marker: beginning of their correlation ids, another one than that of the safe ones.
        now: their capture time in seconds since the epoch, except for those about the time.
        forced: whether the collector writes events as ``jsonb``; None if that is not known.
        udp: whether they are sent over UDP, as version 2 must be.
        days: the days from today that each table has a partition for.
    """
    make = _Maker(marker, now)
    # Payloads are cleaned, by all versions that were seen; so apart from the others.
    yield make.sip("NUL in SIP", "nul", "OPTIONS", DEFAULT, b"a\0b")
    yield make.log("invalid UTF-8 in a log line", "utf-8", f"{marker} a".encode() + b"\xff\xfeb")
    yield make.event("NUL in an event", "event-nul", b'{"Event":"a\0b","Message":"%SID%"}')
    timed = make.log("chunk of a vendor, type 9 (time)", "vendor-9")
    earlier = int(now) - VENDOR_SECONDS
    # Shortly after midnight this may be a time without a partition.
    if earlier // DAY == int(now) // DAY or -1 in days:
        yield _with(timed, Chunk(VENDOR, 9, earlier.to_bytes(4)))
    jsonb = {True: "ForceHEPPayload holds 89", None: "ForceHEPPayload may hold 89"}.get(forced, "")
    text = make.event("event as text (homer5_on)", "event-text", b"WS:CLOSED:SUCCESS:%SID%")
    yield replace(text, risk=jsonb)
    escaped = make.event(
        "NUL as an escape in an event", "event-escape", b'{"Event":"a\\u0000b","Message":"%SID%"}'
    )
    yield replace(escaped, risk=jsonb)
    for day in (-2, -1, 1, 2):
        probe = make.log(f"time {day:+} day{'s' * (abs(day) > 1)}", f"day{day:+}")
        packet = replace(probe.packet, seconds=int(now) + day * DAY)
        risk = "" if day in days else "there is no partition for this time"
        yield replace(probe, packet=packet, risk=risk)

    probe = make.event("correlation id with NUL", "id-nul", {"Event": "NUL"})
    yield _risky(probe, replace(probe.packet, correlation_id=probe.sids[0].encode() + b"\0"))
    probe = make.log("correlation id with invalid UTF-8", "id-utf-8")
    yield _risky(probe, replace(probe.packet, correlation_id=probe.sids[0].encode() + b"\xff"))
    probe = make.sip("capture agent name with a quote", "node-quote", "REGISTER", REGISTRATION)
    yield _risky(probe, replace(probe.packet, extra=(Chunk(0, NODE, b'hep"doctor'),)))
    probe = make.sip("authenticate key with a quote", "key-quote", "INVITE", CALL)
    yield _risky(probe, replace(probe.packet, auth_key=b'hep"doctor'))
    probe = make.sip("Call-ID of 4,000 bytes", "long-id", "INVITE", CALL)
    # One that does not compress, as its index would allow.
    long_id = shake_256(marker.encode()).hexdigest(2_000)
    payload = probe.packet.payload.replace(probe.sids[0].encode(), long_id.encode())
    probe = replace(probe, packet=replace(probe.packet, payload=payload), sids=(long_id,))
    yield replace(probe, risk="the index of sid takes some 2,700 bytes")
    if udp:
        probe = make.sip("HEP version 2", "version-2", "OPTIONS", DEFAULT)
        yield _risky(probe, replace(probe.packet, version=2, correlation_id=None))


def _risky(probe: HomerProbe, packet: Packet) -> HomerProbe:
    return replace(probe, packet=packet, risk="heplify-server does not clean it")


def in_rounds(probes: Sequence[HomerProbe]) -> Iterator[list[HomerProbe]]:
    """Spread probes over rounds, each with at most one probe of a table.

    One that is refused then takes no other probe along.
    """
    waiting = list(probes)
    while waiting:
        taken: dict[str, HomerProbe] = {}
        for probe in waiting:
            taken.setdefault(probe.table, probe)
        yield list(taken.values())
        waiting = [probe for probe in waiting if taken[probe.table] is not probe]
