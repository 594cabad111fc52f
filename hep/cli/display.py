"""Formats packets as lines, as text of several lines, and as JSON."""

import base64
import json
from datetime import datetime
from typing import Any, Final
from unicodedata import category, east_asian_width

from hep.codec.chunks import GENERIC, GENERIC_VENDOR, Chunk, ProtocolType, protocol_name
from hep.codec.compression import InflateError
from hep.codec.packet import Packet
from hep.codec.v3 import chunks
from hep.errors import HepEncodeError

_COLOURS: Final = {ProtocolType.SIP: "36", ProtocolType.NET: "33", ProtocolType.LOG: "35"}
_FAILURE: Final = "31"
_DIM: Final = "2"


def line(
    packet: Packet, *, colour: bool = False, columns: int | None = None, encoding: str = "utf-8"
) -> str:
    """Format a packet as one line: time, protocol, addresses, payload, correlation id.

    Control characters from the network are replaced, so that they cannot control the terminal.

    Args:
        packet: the packet.
        colour: whether to add ANSI colours.
        columns: width of the terminal in columns, from 1; a longer line ends in an ellipsis. None:
            the whole line.
        encoding: that of the terminal. Characters that it does not have are escaped.
    """
    when = "--:--:--.------"
    if packet.timestamp is not None:
        when = f"{datetime.fromtimestamp(packet.timestamp):%H:%M:%S.%f}"
    name = protocol_name(packet.protocol_type)
    source = _address(packet.src_ip, packet.src_port)
    destination = _address(packet.dst_ip, packet.dst_port)
    said = _printable(_gist(packet))
    paint = _COLOURS.get(packet.protocol_type, "0")  # type: ignore[call-overload]
    paint = _FAILURE if " FAILURE " in f" {said} " else paint
    parts = [
        (when, _DIM), ("  ", ""), (f"{name:<4}", paint), (f" {source} > {destination}  ", ""),
        (said, paint),
    ]  # fmt: skip
    if packet.correlation_id:
        parts += [("  ", ""), (f"#{_printable(_text(packet.correlation_id))}", _DIM)]
    if columns is not None:
        parts = _fitted(parts, columns, encoding)
    if not colour:
        return "".join(text for text, _ in parts).rstrip()
    return "".join(f"\x1b[{paint}m{text}\x1b[0m" if paint else text for text, paint in parts)


def _fitted(parts: list[tuple[str, str]], columns: int, encoding: str) -> list[tuple[str, str]]:
    """The first parts, as many as there are columns for."""
    ellipsis = "…"
    if not _has(encoding, ellipsis):
        ellipsis = "..."
    parts = [(_escaped(text, encoding), paint) for text, paint in parts]
    if sum(width_of(text) for text, _ in parts) <= columns:
        return parts
    fitted, left = [], columns - len(ellipsis)
    for text, paint in parts:
        kept, width = "", 0
        # A character is no narrower than nothing, so that few of a long text are looked at.
        for char in text[: 2 * columns]:
            width += width_of(char)
            if width > left:
                break
            kept += char
        fitted.append((kept, paint))
        if kept != text:
            break
        left -= width
    return [*fitted, (ellipsis[:columns], "")]


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _escaped(text: str, encoding: str) -> str:
    return text if _has(encoding, text) else text.encode("ascii", "backslashreplace").decode()


def width_of(text: str) -> int:
    """Columns of a text in a terminal: East Asian characters have two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if category(char) in ("Mn", "Me", "Cf") else 2 if east_asian_width(char) in "WF" else 1
        for char in text
    )


def as_json(packet: Packet) -> dict[str, Any]:
    """Convert a packet to an object for `json.dumps`.

    A payload that is not UTF-8 is in ``payload_base64``, and ``payload`` is None.
    """
    try:
        payload: dict[str, Any] = {"payload": packet.payload.decode()}
    except UnicodeDecodeError:
        encoded = base64.b64encode(packet.payload).decode()
        payload = {"payload": None, "payload_base64": encoded}
    correlation_id = packet.correlation_id
    return {
        "version": packet.version,
        "ip_family": 6 if packet.family == 10 else 4,
        "ip_protocol": packet.ip_protocol,
        "src_ip": packet.src_ip,
        "dst_ip": packet.dst_ip,
        "src_port": packet.src_port,
        "dst_port": packet.dst_port,
        "timestamp": packet.timestamp,
        "protocol_type": packet.protocol_type,
        "capture_id": packet.capture_id,
        "correlation_id": None if correlation_id is None else _text(correlation_id),
        **payload,
        **({"chunks": list(map(_chunk, found))} if (found := _chunks(packet)) else {}),
    }


def _chunks(packet: Packet) -> list[Chunk]:
    """The chunks of a packet; none in versions 1 and 2, and of SIP that is too long for HEP."""
    try:
        return list(chunks(packet)) if packet.version == 3 else []
    except HepEncodeError:
        return []


def as_json_line(packet: Packet) -> str:
    """Format a packet as a JSON object on one line of printable ASCII."""
    # `json.dumps` escapes all control characters except DEL.
    return json.dumps(as_json(packet)).replace("\x7f", r"\u007f")


def describe(packet: Packet) -> str:
    """Format a packet with all of its chunks over several lines."""
    lines = [line(packet)]
    if found := _chunks(packet):
        lines += [f"  {chunk.name}:{_value(chunk)}" for chunk in found]
    elif packet.version == 3:
        lines.append(f"  payload:{_lines(packet.payload)}")
    else:
        lines.append(f"  HEPv{packet.version}, capture agent id {packet.capture_id}")
        lines.append(f"  payload:{_lines(packet.payload)}")
    return "\n".join(lines)


_NOT_REPEATED: Final = (
    "Protocol", "Event", "Status", "Message", "Ws-Request", "Ws-Reply",
    "event", "Resource", "Host", "Origin", "User_Agent", "Reply_Code",
)  # fmt: skip
"""Members that a line shows in another way: the second row holds parts of the first."""


def _gist(packet: Packet) -> str:
    """The payload in one line: its first line, or a summary of an OpenSIPS event."""
    if packet.payload.startswith(b"{"):
        try:
            members = json.loads(packet.payload)
        except (ValueError, RecursionError):
            members = {}
        parts = {str(name): str(text) for name, text in members.items()}
        if "Event" in parts:
            return _network_event(parts)
        if "payload" in parts:
            # OpenSIPS wraps SIP messages like this with homer5_on=0.
            return _first_line(parts["payload"])
    return _first_line(_text(packet.payload))


def _network_event(parts: dict[str, str]) -> str:
    """A network event of OpenSIPS in one line, with members that other senders add."""
    said = parts.get("Message", "")
    if "Ws-Request" in parts or "Ws-Reply" in parts:
        exchange = (_first_line(parts.get(name, "")) for name in ("Ws-Request", "Ws-Reply"))
        said = " -> ".join(text or "nothing" for text in exchange)
    more = (
        f"{name}={text}"
        for name, text in parts.items()
        if name not in _NOT_REPEATED and text not in ("", said)
    )
    return "  ".join((f"{parts['Event']} {parts.get('Status', '')}", said, " ".join(more))).rstrip()


def _first_line(text: str) -> str:
    return text.lstrip("\r\n").partition("\n")[0].rstrip()


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _printable(text: str) -> str:
    """Replace non-printable characters, which could move the cursor or change colours."""
    return "".join(c if c.isprintable() else "·" for c in text)


def _address(ip: str | None, port: int) -> str:
    host = "?" if ip is None else f"[{ip}]" if ":" in ip else ip
    return f"{host}:{port}"


def _chunk(chunk: Chunk) -> list[Any]:
    return [chunk.vendor, chunk.type, chunk.data.hex()]


def _value(chunk: Chunk) -> str:
    row = GENERIC.get(chunk.type) if chunk.vendor == GENERIC_VENDOR else None
    if row is None:
        return f" {chunk.data.hex()}"
    if not chunk.fits:
        return f" {chunk.data.hex()} (not read: {len(chunk.data)} bytes, not {chunk.expected_size})"
    try:
        value = row.form.unpack(chunk.data)
    except InflateError as exc:
        # A packet that also has a plain payload (0x000f) decodes without inflating this chunk.
        return f" {chunk.data.hex()} ({exc})"
    return _lines(value) if isinstance(value, bytes) else f" {value}"


def _lines(data: bytes) -> str:
    """Text after a chunk's name; text of several lines is indented below it."""
    lines = [_printable(each.expandtabs(4)) for each in _text(data).splitlines()]
    return f" {''.join(lines)}" if len(lines) <= 1 else "".join(f"\n    {each}" for each in lines)
