r"""The reader of events: what a server that traces says of a connection. Pure.

sipws and OpenSIPS write one JSON object for each event (HEP protocol type 0x59). The keys of
OpenSIPS are ``Protocol``, ``Event``, ``Ws-Request``, ``Status``, ``Ws-Reply`` and ``Message``;
sipws adds more, with an underscore or a hyphen between the words of a name. With ``homer5_on`` both
write the values of OpenSIPS' keys alone, joined by ``homer5_delim``::

    WS:CLOSED:SUCCESS:EOF received

Nothing here trusts what it reads: numbers stay text until they are asked for, nesting is bounded,
and what is no UTF-8 is written as ``\xNN``.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from hep.codec.packet import value
from hep.view.model.record import LONGEST_TEXT

LONGEST_DETAIL: Final = 4_096
"""Characters of a text of an event. Longer ones are cut."""

LONGEST_EXCHANGE: Final = 65_536
"""Characters of an upgrade request or of the answer to it: a HEP packet holds no more bytes."""

MOST_CALLS: Final = 64
"""Call-IDs of an event that are read. sipws names 16."""

LARGEST: Final = 2**63 - 1
"""The largest number that is read; SQLite stores no larger one."""

FAILURE: Final = "FAILURE"
"""Status of an event that tells of a fault."""


@value
class Event:
    """An event of a connection. A text is empty, and a number 0, if the event does not have it."""

    protocol: str = ""
    """``WS``, ``WSS``, ``TCP`` …, in capitals."""
    event: str = ""
    """``ACCEPTED``, ``CONNECTING``, ``CONNECTED``, ``ERROR``, ``MESSAGE``, ``SUPERSEDED``,
    ``CLOSED`` or another word, in capitals."""
    status: str = ""
    """``SUCCESS`` or `FAILURE`."""
    message: str = ""
    """What it says, for a person to read."""
    label: str = ""
    """The key ``event`` of sipws, such as ``WS CLOSED 1006``."""
    error: str = ""
    """Kind of the error, such as ``no-subprotocol`` or ``ping-timeout``."""
    error_detail: str = ""
    """What the error says."""
    request: str = ""
    """``Ws-Request``, the upgrade request."""
    reply: str = ""
    """``Ws-Reply``, the answer to it."""
    user_agent: str = ""
    """User-Agent of the upgrade request."""
    origin: str = ""
    """Origin of the upgrade request."""
    host: str = ""
    """Host of the upgrade request."""
    resource: str = ""
    """Target of the upgrade request."""
    reply_code: int = 0
    """HTTP status of the answer."""
    close_code: int = 0
    """WebSocket close code."""
    close_reason: str = ""
    """Reason in the close frame."""
    closed_by: str = ""
    """``peer`` or ``local``; empty if another word stands there."""
    duration: float = 0.0
    """Seconds that the connection lasted."""
    messages_in: int = 0
    """Messages from the peer."""
    messages_out: int = 0
    """Messages to the peer."""
    bytes_in: int = 0
    """Bytes from the peer."""
    bytes_out: int = 0
    """Bytes to the peer."""
    relayed_with: str = ""
    """Id of the other leg of a relayed connection."""
    client: str = ""
    """Address of the client, in events of the connection to the upstream."""
    destination: str = ""
    """URL that a connection is opened to."""
    call_id: str = ""
    """Call-ID of the message that an error concerns."""
    call_ids: tuple[str, ...] = ()
    """Call-IDs that used the connection, the latest at the end."""
    instance: str = ""
    """Instance id (``+sip.instance``) of the phone that registered again."""
    superseded_by: str = ""
    """Id of the connection that the phone registered on."""
    quoted: str = ""
    """``Ws_Message``, the beginning of the message that an error concerns."""

    @property
    def failed(self) -> bool:
        """Whether it tells of a fault."""
        return self.status == FAILURE

    @property
    def refused(self) -> bool:
        """Whether a handshake was answered with an error, by this side or by the other one."""
        return self.failed and self.event in ("ACCEPTED", "CONNECTED")

    @property
    def closed(self) -> bool:
        """Whether it ends a connection that was open."""
        return self.event == "CLOSED"


def read_event(payload: bytes) -> Event | None:
    """Read an event. Never raises, and reads each byte a bounded number of times.

    Args:
        payload: of a packet with HEP protocol type 0x59.

    Returns:
        what it says; None if it is neither a JSON object with a known key nor such a text.
    """
    text = payload.decode("utf-8", "surrogateescape").strip("\0 \t\r\n")
    members = _of_json(text) if text.startswith("{") else _of_homer5(text)
    return _event(members) if members else None


def _of_json(text: str) -> dict[str, str]:
    try:
        read = json.loads(text, parse_int=str, parse_float=str, parse_constant=str, strict=False)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    members: dict[str, str] = {}
    for name, member in read.items():
        key = _LABEL if name == "event" else name.replace("-", "_").lower()
        if key in _KEYS and (said := _text(key, member)):
            members[key] = said
    return members


def _text(key: str, member: Any) -> str:
    if isinstance(member, str):
        return member
    if isinstance(member, list) and key == _CALLS:
        return " ".join(each for each in member[:MOST_CALLS] if isinstance(each, str))
    return ""


_LABEL: Final = "label"
_CALLS: Final = "call_ids"
_KEYS: Final = frozenset(
    {_LABEL, _CALLS, "protocol", "event", "status", "message", "error", "error_detail"}
    | {"ws_request", "ws_reply", "user_agent", "origin", "host", "resource", "reply_code"}
    | {"close_code", "close_reason", "closed_by", "duration", "messages_in", "messages_out"}
    | {"bytes_in", "bytes_out", "relayed_with", "client", "destination", "call_id", "instance"}
    | {"superseded_by", "ws_message"}
)

_read_homer5: Final = re.compile(r"([A-Za-z0-9]{1,16})([^A-Za-z0-9\s]{1,8})([A-Z_]{1,32})\2")
_HANDSHAKES: Final = ("ACCEPTED", "CONNECTED")


def _of_homer5(text: str) -> dict[str, str]:
    start = _read_homer5.match(text)
    if start is None:
        return {}
    delimiter = start[2]
    members = {"protocol": start[1], "event": start[3]}
    rest = text[start.end() :]
    handshake = start[3] in _HANDSHAKES
    # A handshake may hold the delimiter, and one of these words between two of them.
    for status in ("SUCCESS", FAILURE):
        head, found, tail = f"{delimiter}{rest}".partition(f"{delimiter}{status}{delimiter}")
        if not found or (head and not handshake):
            continue
        members["status"] = status
        if handshake:
            reply, end, tail = f"\n{tail}".rpartition(f"\n{delimiter}")
            members["ws_request"] = head[len(delimiter) :]
            members["ws_reply"] = f"{reply[1:]}\n" if end and reply else ""
        members["message"] = tail.strip("\n")
        return members
    members["message"] = rest
    return members


def _event(members: Mapping[str, str]) -> Event:
    def text(key: str, longest: int = LONGEST_TEXT) -> str:
        return clean(members.get(key, "")[:longest])

    def number(key: str) -> int:
        found = _NUMBER.match(members.get(key, ""))
        return min(int(found[1]), LARGEST) if found else 0

    request, reply = text("ws_request", LONGEST_EXCHANGE), text("ws_reply", LONGEST_EXCHANGE)
    headers = {name.lower(): said.strip() for name, said in _HEADER.findall(request)}
    target, status = _TARGET.match(request), _STATUS.match(reply)
    closed_by = text("closed_by").lower()
    return Event(
        protocol=text("protocol").upper(),
        event=text("event").upper(),
        status=text("status").upper(),
        message=text("message", LONGEST_DETAIL),
        label=text(_LABEL),
        error=text("error"),
        error_detail=text("error_detail", LONGEST_DETAIL),
        request=request,
        reply=reply,
        user_agent=text("user_agent") or headers.get("user-agent", "")[:LONGEST_TEXT],
        origin=text("origin") or headers.get("origin", "")[:LONGEST_TEXT],
        host=text("host") or headers.get("host", "")[:LONGEST_TEXT],
        resource=text("resource", LONGEST_DETAIL) or (target[1][:LONGEST_DETAIL] if target else ""),
        reply_code=number("reply_code") or (int(status[1]) if status else 0),
        close_code=number("close_code"),
        close_reason=text("close_reason"),
        closed_by=closed_by if closed_by in ("peer", "local") else "",
        duration=_seconds(members.get("duration", "")),
        messages_in=number("messages_in"),
        messages_out=number("messages_out"),
        bytes_in=number("bytes_in"),
        bytes_out=number("bytes_out"),
        relayed_with=text("relayed_with"),
        client=text("client"),
        destination=text("destination", LONGEST_DETAIL),
        call_id=text("call_id"),
        call_ids=tuple(text(_CALLS, MOST_CALLS * LONGEST_TEXT).split()[-MOST_CALLS:]),
        instance=text("instance"),
        superseded_by=text("superseded_by"),
        quoted=text("ws_message", LONGEST_DETAIL),
    )


_NUMBER: Final = re.compile(r"\s*\+?([0-9]{1,19})(?:\.|\s|\Z)")
_DURATION: Final = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,9})?)")
_HEADER: Final = re.compile(r"\n(host|origin|user-agent):[ \t]*+([^\r\n]*+)", re.IGNORECASE)
_TARGET: Final = re.compile(r"[!-~]{1,20} +([^\s]+)")
_STATUS: Final = re.compile(r"HTTP/[0-9.]{1,5} +([1-9][0-9]{2})\b")


def _seconds(text: str) -> float:
    found = _DURATION.match(text)
    return float(found[1]) if found else 0.0


_NO_TEXT: Final = re.compile("[\ud800-\udfff]")
_ESCAPED_FROM: Final = 0xDC80


def clean(text: str) -> str:
    r"""A text that any encoder takes: halves of surrogate pairs are written as escapes.

    Args:
        text: as JSON or ``surrogateescape`` gives it.

    Returns:
        the text; a byte that is no UTF-8 as ``\xNN``, another half as ``\uNNNN``.
    """
    return text if text.isascii() else _NO_TEXT.sub(_escape, text)


def _escape(half: re.Match[str]) -> str:
    code = ord(half[0])
    return f"\\x{code - 0xDC00:02x}" if _ESCAPED_FROM <= code <= 0xDCFF else f"\\u{code:04x}"
