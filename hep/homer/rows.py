"""The row that heplify-server writes for a packet, and what PostgreSQL refuses of it. Pure.

heplify-server writes rows with COPY, many at a time. A row that PostgreSQL refuses takes the whole
batch of its table with it.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from hep.homer import index_rows, jsonb
from hep.homer.decoding import Decoded
from hep.homer.reasons import Reason, shown

EVENTS_TABLE: Final = "hep_proto_35_default"
"""The table of every protocol type that has none of its own."""

TABLES: Final = {
    5: "hep_proto_5_default",
    53: "hep_proto_53_default",
    54: "hep_proto_54_default",
    100: "hep_proto_100_default",
}
"""The table of each protocol type other than SIP."""

MISSING_TABLE: Final = TABLES[53]
"""heplify-server writes to this table and does not create it."""

ISUP: Final = 54
"""The protocol type whose payload gives the ``sid``."""

_NAMES: Final = {5: "rtcp", 34: "rtpagent", 35: "rtcpxr", 38: "horaclifix", 53: "dns", 100: "log"}
"""The names of protocol types in ``data_header``; others are numbers."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row as heplify-server passes it to PostgreSQL."""

    table: str
    """The table, such as ``hep_proto_1_call``."""
    sid: bytes
    """Column ``sid``: Call-ID or correlation id."""
    time: float
    """Column ``create_date`` in seconds since the epoch."""
    protocol_header: bytes
    """Column ``protocol_header``, of type ``jsonb``."""
    data_header: bytes | None
    """Column ``data_header``, of type ``jsonb``; None for SIP, where it is always valid."""
    raw: bytes
    """Column ``raw``."""
    indexed: tuple[tuple[str, bytes], ...] = ()
    """Further values of ``data_header`` that have an index, with what they are."""


def table_of(protocol_type: int) -> str:
    """The table of a protocol type other than SIP."""
    return TABLES.get(protocol_type, EVENTS_TABLE)


def protocol_header(packet: Decoded, correlation_id: bytes, time: float) -> bytes:
    """The column ``protocol_header``. Key and node name are copied without escapes."""
    node = packet.node_name or b"%d" % packet.capture_id
    key = b'","capturePass":"' + packet.auth_key if packet.auth_key else b""
    numbers = {
        "protocolFamily": packet.family,
        "protocol": packet.ip_protocol,
        "srcIp": packet.src_ip,
        "dstIp": packet.dst_ip,
        "srcPort": packet.src_port,
        "dstPort": packet.dst_port,
        "timeSeconds": int(time),
        "timeUseconds": packet.microseconds,
        "payloadType": packet.protocol_type,
    }
    start = json.dumps(numbers, separators=(",", ":"))[:-1].encode()
    ending = b'","correlation_id":"' + _escaped(correlation_id) + b'"}'
    return start + b',"captureId":"' + node + key + ending


def data_header(packet: Decoded) -> bytes:
    """The column ``data_header`` of what is neither SIP nor ISUP."""
    node = packet.node_name or b"%d" % packet.capture_id
    name = _NAMES.get(packet.protocol_type, str(packet.protocol_type)).encode()
    return b'{"node":"' + node + b'","proto":"' + name + b'"}'


def isup_headers(payload: bytes) -> tuple[bytes, bytes]:
    """The columns ``sid`` and ``data_header`` of ISUP; its texts are copied without escapes."""
    members: Any = None
    if jsonb.members(text := payload.decode()) is not None:
        try:
            members = json.loads(text)
        except (ValueError, RecursionError):
            # Python limits the depth, and the digits of a number.
            members = None
    if not isinstance(members, dict):
        members = {}
    cic, dpc, opc = (_number(members.get(name)) for name in ("cic", "dpc", "opc"))
    sid = f"{min(opc, dpc)}:{max(dpc, opc)}:{cic}"
    texts = {
        "msg_name": _text(members.get("msg_name")),
        "called_number": _number_text(members.get("called_number")),
        "calling_number": _number_text(members.get("calling_number")),
        "callid": sid,
    }
    copied = "".join(f',"{name}":"{text}"' for name, text in texts.items())
    header = f'{{"cic":{cic},"dpc":{dpc},"opc":{opc}{copied}}}'
    return sid.encode(), header.encode(errors="replace")


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else 0
    return 0


def _number_text(value: object) -> str:
    return _text(value.get("num")) if isinstance(value, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _escaped(value: bytes) -> bytes:
    """A value as heplify-server writes it into JSON, which NUL and invalid UTF-8 survive."""
    out = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    for code in range(0x20):
        out = out.replace(bytes([code]), b"\\u%04x" % code)
    return out


def refusals(row: Row, packet: Decoded, correlation_id: bytes) -> list[Reason]:
    """Find what PostgreSQL refuses of a row, its time and the JSON of its payload apart.

    Args:
        row: the row.
        packet: the packet, whose chunks are named in the reasons.
        correlation_id: the correlation id in the row.

    Returns:
        a reason for each refused chunk; empty if PostgreSQL takes the row.
    """
    found = [reason for reason in (_correlation_id(correlation_id, packet),) if reason]
    # Key and node name may complete each other to JSON, so the columns decide.
    columns = [row.protocol_header]
    if row.data_header == data_header(packet):
        columns.append(row.data_header)
    if any(map(is_refused, columns)):
        found += [
            Reason(
                rule,
                f"the {name} (chunk 0x{number:04x}) {why}, and heplify-server copies it into JSON"
                " as it is",
                f"use letters and digits in the {name}",
            )
            for name, number, value, rule in (
                ("authenticate key", 0x0E, packet.auth_key, "auth-key"),
                ("node name", 0x13, packet.node_name, "node-name"),
            )
            if (why := _unescaped_fault(value)) is not None
        ]
    return found + _too_long(row, correlation_id)


def _too_long(row: Row, correlation_id: bytes) -> list[Reason]:
    """Values that do not fit into an index."""
    is_sip = row.data_header is None
    values = {"Call-ID" if is_sip else "correlation id": row.sid}
    if is_sip and correlation_id != row.sid:
        values["correlation id"] = correlation_id
    values.update(row.indexed)
    return [
        Reason(
            "index-row",
            f"the {name} has {len(value):,} bytes: PostgreSQL refuses more than about"
            f" {index_rows.LONGEST:,} in an index, unless they repeat themselves",
            f"limit the length of the {name} at the sender",
        )
        for name, value in values.items()
        if index_rows.is_too_long(value)
    ]


def payload_refusal(payload: bytes) -> Reason | None:
    """Find what ``jsonb`` refuses of a payload that goes into ``data_header``."""
    fault = jsonb.fault(payload.decode())
    if fault is None:
        return None
    what = f"jsonb refuses the payload at character {fault.offset}: {fault.what}"
    return Reason(f"json-{fault.kind}", what, _REMEDIES[fault.kind])


_REMEDIES: Final = {
    jsonb.Kind.NUL: r"write U+FFFD, or the two characters \0, for NUL",
    jsonb.Kind.SURROGATE: "write U+FFFD for half of a surrogate pair",
    jsonb.Kind.CONTROL: "escape control characters",
    jsonb.Kind.NUMBER: "write the number as a string",
    jsonb.Kind.DEPTH: "nest less",
    jsonb.Kind.SYNTAX: "send valid JSON (homer5_on = false in sipws and OpenSIPS), or take the"
    " protocol type out of ForceHEPPayload",
}


def _correlation_id(value: bytes, packet: Decoded) -> Reason | None:
    why = _encoding_fault(value)
    if why is None:
        return None
    if packet.version == 2:
        return Reason(
            "v2-capture-id",
            "heplify-server takes two bytes of the capture id of version 2 as the correlation id:"
            f" {shown(value)} {why}",
            "send version 3",
        )
    what = f"the correlation id (chunk 0x0011) {why}, and heplify-server does not remove it"
    return Reason("correlation-id", what, "send a correlation id of valid UTF-8 without NUL")


def _encoding_fault(value: bytes) -> str | None:
    if b"\0" in value:
        return "contains NUL"
    try:
        value.decode()
    except UnicodeDecodeError:
        return "is not valid UTF-8"
    return None


def _unescaped_fault(value: bytes) -> str | None:
    """Why a value that is copied between two quotes is refused."""
    if (why := _encoding_fault(value)) is not None:
        return why
    if _json_fault(b'{"a":"' + value + b'"}') is None:
        return None
    for char, name in ((b'"', 'a "'), (b"\\", "a backslash"), (b"\n", "a line break")):
        if char in value:
            return f"contains {name}"
    return "contains a control character"


def is_refused(data: bytes) -> bool:
    """Whether ``jsonb`` refuses the bytes."""
    return _json_fault(data) is not None


def _json_fault(data: bytes) -> jsonb.Fault | None:
    """The first fault of JSON that must be valid UTF-8."""
    try:
        return jsonb.fault(data.decode())
    except UnicodeDecodeError:
        return jsonb.Fault(jsonb.Kind.SYNTAX, 0, "not valid UTF-8")
