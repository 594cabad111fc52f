"""A received packet as the viewer keeps it, and the reader of its SIP message. Pure."""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

from hep.codec.chunks import ProtocolType
from hep.codec.correlation import LONGEST_ID, identifier
from hep.codec.packet import Packet, value
from hep.sip import finder

LONGEST_TEXT: Final = 256
"""Characters of a text that a list shows, such as a user or a User-Agent. Longer ones are cut. The
message itself is kept whole."""

MICROSECONDS: Final = 1_000_000


class Kind(IntEnum):
    """What the payload of a packet is."""

    SIP = 0
    """A SIP message."""
    EVENT = 1
    """An event of a connection (HEP protocol type 0x59), as OpenSIPS and sipws send them."""
    LOG = 2
    """A line of a log (protocol type 0x64)."""
    OTHER = 3
    """Anything else, such as RTCP reports."""


@value
class Sip:
    """What the viewer needs of a SIP message. Texts are cut to `LONGEST_TEXT` characters."""

    call_id: str
    """The Call-ID, as `identifier` bounds it; empty if there is none."""
    method: str
    """The method; of a response that of its CSeq; empty if it has none."""
    status: int
    """Status code of a response, 100 to 699; 0 for a request."""
    reason: str
    """Reason phrase of a response."""
    target: str
    """Request-URI of a request."""
    cseq: int
    """Number of the CSeq; -1 if it has none."""
    from_user: str
    """User of the From URI; empty if it has none."""
    from_host: str
    """Host of the From URI."""
    from_tag: str
    """Tag of From."""
    to_user: str
    """User of the To URI."""
    to_host: str
    """Host of the To URI."""
    to_tag: str
    """Tag of To; empty in a request that opens a dialog."""
    branch: str
    """Branch of the topmost Via."""
    user_agent: str
    """User-Agent, or Server."""
    contact: str
    """The first Contact, whole."""

    @property
    def is_request(self) -> bool:
        """Whether it is a request."""
        return self.status == 0


@dataclass(slots=True)
class Record:
    """A packet as the viewer keeps it. The store sets its connection and its id."""

    at: int
    """Capture time in microseconds since the epoch."""
    kind: Kind
    """What the payload is."""
    src: str
    """Source as ``IP:PORT``, IPv6 in brackets; empty if the packet has no address."""
    dst: str
    """Destination, as ``src``."""
    payload: bytes
    """The payload, inflated."""
    protocol_type: int = ProtocolType.SIP
    """HEP protocol type, chunk 0x000b."""
    ip_protocol: int = 6
    """IP protocol number, chunk 0x0002. OpenSIPS sends 50 for WebSocket."""
    capture_id: int = 0
    """Capture agent id, chunk 0x000c."""
    node: str = ""
    """Name of the capture agent, chunk 0x0013."""
    correlation: str = ""
    """Correlation id, chunk 0x0011, as `identifier` bounds it."""
    connection: str = ""
    """Id of the WebSocket connection that it belongs to; empty if it is not known."""
    sip: Sip | None = None
    """The SIP message; None unless ``kind`` is SIP."""
    id: int = 0
    """Its number in the store, from 1; 0 if it is not stored."""


_find: Final = finder("call-id", "cseq", "from", "to", "via", "contact", "user-agent", "server")
_read_start: Final = re.compile(
    # As `hep.sip.is_sip`, with the parts.
    rb"[\r\n]*+(?:SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n]*+)|(?=[\r\n]))"
    rb"|([A-Za-z0-9.!%*_+`'~-]{1,64}) ([^\s\x00-\x1f]{1,4096}) SIP/2\.0)",
    re.IGNORECASE,
).match
_read_party: Final = re.compile(
    # The display name may hold what looks like a URI, so it is passed over first.
    rb'(?:[^"<]*+"(?:[^"\\]|\\.)*+")?[^<]*?<?(?:sips?|tel):(?:([^@;>?\s]*+)@)?([^;>?\s,]*+)',
    re.IGNORECASE,
).match
_read_tag: Final = re.compile(rb";\s*tag\s*=\s*([^;,\s>]+)", re.IGNORECASE).search
_read_branch: Final = re.compile(rb";\s*branch\s*=\s*([^;,\s]+)", re.IGNORECASE).search
_read_cseq: Final = re.compile(rb"(\d{1,10})\s+([!-~]{1,64})").match


def text_of(raw: bytes, longest: int = LONGEST_TEXT) -> str:
    r"""Bytes of a peer as text; what is no UTF-8 is written as ``\xNN``.

    Args:
        raw: the bytes.
        longest: bytes that are read, 0 or more.
    """
    return raw[:longest].decode("utf-8", "backslashreplace")


def read_sip(message: bytes) -> Sip | None:
    """Read a SIP message. Never raises, and reads each byte a bounded number of times.

    Args:
        message: the bytes of a packet.

    Returns:
        what it says; None if it does not begin as a SIP message does.
    """
    start = _read_start(message)
    if start is None:
        return None
    found = _find(message)
    if found is None:
        return None
    call_id, cseq, from_, to, via, contact, user_agent, server = found
    status, reason, method, target = start.groups()
    number = _read_cseq(cseq)
    if method is None and number is not None:
        method = number[2]
    branch = _read_branch(via, 0, LONGEST_PARTY)
    from_user, from_host, from_tag = _party(from_[:LONGEST_PARTY])
    to_user, to_host, to_tag = _party(to[:LONGEST_PARTY])
    return Sip(
        _id(call_id) if call_id else "",
        _short(method).upper() if method else "",
        int(status) if status else 0,
        _short(reason[:LONGEST_TEXT]) if reason else "",
        text_of(target) if target else "",
        int(number[1]) if number else -1,
        from_user,
        from_host,
        from_tag,
        to_user,
        to_host,
        to_tag,
        text_of(branch[1]) if branch else "",
        _short((user_agent or server)[:LONGEST_TEXT]) if user_agent or server else "",
        text_of(contact) if contact else "",
    )


LONGEST_PARTY: Final = 1024
"""Bytes of From, To and Via that are read."""

# The messages of a call, and the calls of a phone, say the same.
_short: Final = lru_cache(2048)(text_of)


@lru_cache(4096)
def _id(raw: bytes) -> str:
    return _one_line(text_of(identifier(raw), LONGEST_ID))


@lru_cache(4096)
def _party(raw: bytes) -> tuple[str, str, str]:
    """User, host and tag of From or To; empty if it has none."""
    # A URI in angle brackets may have a parameter of that name too.
    tag = _read_tag(raw, raw.rfind(b">") + 1)
    tag_text = text_of(tag[1]) if tag else ""
    party = _read_party(raw)
    if party is None:
        return "", "", tag_text
    user, host = party.groups(b"")
    return text_of(user), text_of(host), tag_text


def record_of(packet: Packet, now: float) -> Record:
    """Read a packet.

    Args:
        packet: a received packet.
        now: seconds since the epoch; the time of a packet that has none.
    """
    payload = packet.payload
    protocol = packet.protocol_type
    sip = read_sip(payload) if protocol == ProtocolType.SIP else None
    if packet.seconds is None:
        at = int(now * MICROSECONDS)
    else:
        at = packet.seconds * MICROSECONDS + (packet.microseconds or 0)
    kind = Kind.SIP if sip is not None else _KINDS.get(protocol, Kind.OTHER)
    correlation, node = packet.correlation_id, packet.node_name
    return Record(
        at,
        kind,
        _address(packet.src_ip, packet.src_port),
        _address(packet.dst_ip, packet.dst_port),
        payload,
        protocol,
        packet.ip_protocol,
        packet.capture_id,
        text_of(node) if node else "",
        _id(correlation) if correlation else "",
        "",
        sip,
    )


_KINDS: Final = {int(ProtocolType.NET): Kind.EVENT, int(ProtocolType.LOG): Kind.LOG}


def _one_line(text: str) -> str:
    return text.replace("\n", " ") if "\n" in text else text


def _address(ip: str | None, port: int) -> str:
    if ip is None:
        return ""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
