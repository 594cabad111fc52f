"""What a Homer 7 does with one packet. Pure.

The model follows heplify-server 1.60 with its default settings and PostgreSQL 15. Tests compare it
with what both did with recorded packets.
"""

from dataclasses import dataclass
from typing import Final

from hep.codec.chunks import GENERIC, protocol_name
from hep.homer import rows, sip_rules
from hep.homer.decoding import CAPTURE_ID, PAYLOAD, Decoded, decode
from hep.homer.reasons import Reason, shown
from hep.homer.rows import Row

DAY: Final = 86_400
"""Seconds of a day."""

SIP: Final = 1
EVENT: Final = 89
"""Protocol type of network events, the one for which ``ForceHEPPayload`` is set."""

_COMPRESSED: Final = 0x10

NANOSECONDS_LIMIT: Final = 2**32
"""heplify-server computes the nanoseconds of a time in 32 bits."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a packet."""

    row: Row | None
    """The row that heplify-server passes to PostgreSQL; None if it drops the packet before."""
    lost: tuple[Reason, ...] = ()
    """Why the packet is not stored; empty if it is stored."""
    poisons: bool = False
    """Whether the batch of the table is lost with the packet."""
    altered: tuple[Reason, ...] = ()
    """What Homer stores otherwise than it was sent."""
    protocol_type: int = 0
    """Protocol type as heplify-server reads it; 0 if it does not read the packet."""

    @property
    def stored(self) -> bool:
        """Whether the packet is stored."""
        return self.row is not None and not self.lost

    @property
    def table(self) -> str | None:
        """The table that has the packet; None if it is lost."""
        return self.row.table if self.row is not None and self.stored else None

    @property
    def sid(self) -> str | None:
        """The value of the column ``sid``; None if the packet is lost."""
        return self.row.sid.decode() if self.row is not None and self.stored else None

    @property
    def poisoned_tables(self) -> tuple[str, ...]:
        """The tables whose current batch is lost with the packet."""
        return (self.row.table,) if self.row is not None and self.poisons else ()


def whole_days(now: float) -> tuple[float, float]:
    """The partitions of yesterday, today and tomorrow in UTC.

    Returns:
        start and end in seconds relative to ``now``.
    """
    midnight = now // DAY * DAY
    return midnight - DAY - now, midnight + 2 * DAY - now


def fate(
    data: bytes,
    transport: str = "udp",
    *,
    now: float,
    events_as_json: bool = False,
    partitions: tuple[float, float] | None = None,
) -> Fate:
    """Predict what a Homer 7 does with a packet.

    Args:
        data: a datagram, or one packet of a stream (`hep.homer.decoding.packets_of`).
        transport: ``udp``, ``tcp`` or ``tls``.
        now: time of arrival in seconds since the epoch.
        events_as_json: whether heplify-server has ``ForceHEPPayload = [89]``, so that the payload
            of network events must be JSON.
        partitions: start and end of the times for which the tables have partitions, in seconds
            relative to ``now``; None for `whole_days`.

    Returns:
        what becomes of it.
    """
    packet = decode(data, transport)
    if isinstance(packet, Reason):
        return Fate(None, (packet,))
    payload = sip_rules.cleaned(packet.payload)
    kind, time = packet.protocol_type, _time(packet, now)
    changes = _alterations(packet, payload)
    if kind == SIP:
        row = _sip_row(packet, payload, time, changes)
    else:
        row = _other_row(packet, payload, time, events_as_json)
    altered = tuple(changes)
    if isinstance(row, tuple):
        return Fate(None, row, False, altered, kind)
    if row.table == rows.MISSING_TABLE:
        what = f"heplify-server creates no table {row.table}"
        reason = Reason("no-table", what, "send another protocol type")
        return Fate(row, (reason,), False, altered, kind)
    lost = rows.refusals(row, packet, _correlation_id(packet, row))
    if events_as_json and kind == EVENT:
        refusal = rows.payload_refusal(payload)
        lost += [refusal] if refusal is not None else []
    elif row.data_header is not None and not lost and rows.is_refused(row.data_header):
        lost.append(_ISUP_TEXT)
    start, end = partitions if partitions is not None else whole_days(now)
    if not start <= time - now < end:
        lost.append(_outside(packet, time - now, (start, end), now))
    return Fate(row, tuple(lost), bool(lost), altered, kind)


_ISUP_TEXT: Final = Reason(
    "isup-text",
    "a text of the ISUP message is copied into JSON as it is, and does not make JSON",
    'send names and numbers without ", backslash and control characters',
)


def _time(packet: Decoded, now: float) -> float:
    if not packet.seconds and not packet.microseconds:
        return now
    return packet.seconds + packet.microseconds * 1000 % NANOSECONDS_LIMIT / 1e9


def _sip_row(
    packet: Decoded, payload: bytes, time: float, changes: list[Reason]
) -> Row | tuple[Reason, ...]:
    """The row of a SIP message, or why it is dropped; adds what is altered to ``changes``."""
    if not packet.payload:
        return (_no_payload(packet),)
    if len(payload) < sip_rules.SHORTEST:
        what = (
            f"a payload of type SIP of {len(payload)} bytes is taken for a keep-alive; SIP has"
            f" {sip_rules.SHORTEST} or more"
        )
        return (Reason("short-sip", what, "do not send keep-alives as SIP"),)
    sip = sip_rules.read(payload)
    if isinstance(sip, Reason):
        return (sip,)
    if sip.call_ids > 1:
        what = f"SIP with {sip.call_ids} Call-IDs is stored under the last, {shown(sip.call_id)}"
        changes.append(Reason("call-id-twice", what, "send one Call-ID"))
    correlation_id = packet.correlation_id or sip.call_id
    header = rows.protocol_header(packet, correlation_id, time)
    return Row(sip.table, sip.call_id, time, header, None, payload, sip.indexed)


def _other_row(
    packet: Decoded, payload: bytes, time: float, events_as_json: bool
) -> Row | tuple[Reason, ...]:
    kind = packet.protocol_type
    lost = []
    if kind == 0:
        what = "a packet without a protocol type (chunk 0x000b), or with 0, is dropped"
        lost.append(Reason("protocol-type", what, "send the protocol type"))
    if not payload:
        lost.append(_no_payload(packet))
    if kind not in (0, rows.ISUP) and not packet.correlation_id:
        lost.append(
            Reason(
                "no-correlation-id",
                f"{protocol_name(kind)} without a correlation id is not stored",
                "send chunk 0x0011 with each packet that is not SIP (versions 1 and 2 have none)",
            )
        )
    if lost:
        return tuple(lost)
    header = rows.protocol_header(packet, packet.correlation_id, time)
    if kind == rows.ISUP:
        sid, data_header = rows.isup_headers(payload)
        return Row(rows.table_of(kind), sid, time, header, data_header, payload)
    columns = rows.data_header(packet), payload
    if events_as_json and kind == EVENT:
        columns = columns[::-1]
    return Row(rows.table_of(kind), packet.correlation_id, time, header, *columns)


def _correlation_id(packet: Decoded, row: Row) -> bytes:
    return packet.correlation_id or row.sid


def _no_payload(packet: Decoded) -> Reason:
    if PAYLOAD not in packet.types and _COMPRESSED in packet.types:
        what = "a compressed payload (chunk 0x0010) is ignored: the packet has none then"
        return Reason("compressed", what, "turn compression off in the sender")
    return Reason("no-payload", "a packet without a payload is not stored", "send a payload")


def _outside(packet: Decoded, offset: float, partitions: tuple[float, float], now: float) -> Reason:
    if packet.version == 2:
        swapped = int.from_bytes(packet.seconds.to_bytes(4), "little") - now
        if partitions[0] <= swapped < partitions[1]:
            return Reason(
                "v2-byte-order",
                "the collector reads the time of version 2 big-endian, but this sender uses the"
                " other byte order: no partition has the time that is read",
                "send version 3",
            )
    if not packet.seconds:
        what = "the time has microseconds and no seconds: it is read as 1970, without a partition"
        return Reason("time", what, "send both chunks of the time, 0x0009 and 0x000a")
    direction = "before" if offset < 0 else "after"
    return Reason(
        "time",
        f"the time of the packet is {_duration(abs(offset))} {direction} its arrival: the tables"
        " have partitions from yesterday to tomorrow",
        "set the sender's clock; replay a capture with the current time",
    )


def _duration(seconds: float) -> str:
    return f"{seconds / DAY:,.1f} days" if seconds >= DAY else f"{seconds / 3600:.1f} h"


def _alterations(packet: Decoded, payload: bytes) -> list[Reason]:
    found = []
    for kind, vendor in packet.vendors.items():
        found.append(
            Reason(
                "vendor-chunk",
                f"chunk 0x{kind:04x} of vendor {vendor} is read as the generic"
                f" {GENERIC[kind].name}",
                "use chunk types from 0x0100 for vendor chunks",
            )
        )
    for kind in packet.repeated - packet.vendors.keys():
        what = f"chunk 0x{kind:04x} ({GENERIC[kind].name}) comes more than once: the last counts"
        found.append(Reason("chunk-twice", what, "send each chunk once"))
    # Versions 1 and 2 are padded with zeros, which heplify-server takes for payload.
    sent = packet.payload if packet.version == 3 else packet.payload.strip(b"\0")
    if gone := len(sent) - len(payload):
        size = f"{gone} byte{'s' * (gone != 1)}"
        what = f"NUL and bytes that are not UTF-8 are removed from the payload ({size})"
        found.append(Reason("payload-bytes", what, "send UTF-8 without NUL"))
    if packet.node_name and CAPTURE_ID in packet.types:
        found.append(
            Reason(
                "capture-id-replaced",
                f"the node name {shown(packet.node_name)} (chunk 0x0013) takes the place of the"
                f" capture id {packet.capture_id}",
                "send one of both",
            )
        )
    if packet.auth_key:
        found.append(
            Reason(
                "auth-key-stored",
                "the authenticate key is stored in clear in every row (capturePass), and searches"
                " show it",
                "send no key to Homer 7, which does not check it; restrict the port instead",
            )
        )
    return found
