"""A received packet as the viewer keeps it, and the reader of its SIP message. Pure."""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from hep.codec.chunks import ProtocolType
from hep.codec.correlation import LONGEST_ID, identifier
from hep.codec.packet import Packet, value
from hep.sip import finder, is_sip

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
    rb"[\r\n]*+(?:SIP/2\.0 +([1-6][0-9]{2})(?: +([^\r\n]*+))?|([!-~]{1,64}) +([^ \r\n]*+))",
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
    if not is_sip(message):
        return None
    start = _read_start(message)
    if start is None:
        return None
    found = _find(message)
    if found is None:
        return None
    call_id, cseq, from_, to, via, contact, user_agent, server = found
    number = _read_cseq(cseq)
    caller, callee = _read_party(from_[:_LONGEST_PARTY]), _read_party(to[:_LONGEST_PARTY])
    branch = _read_branch(via[:_LONGEST_PARTY])
    method = start[3] or (number[2] if number else b"")
    return Sip(
        call_id=text_of(identifier(call_id), LONGEST_ID),
        method=text_of(method).upper() if method[:1].islower() else text_of(method),
        status=int(start[1] or 0),
        reason=text_of(start[2] or b""),
        target=text_of(start[4] or b""),
        cseq=int(number[1]) if number else -1,
        from_user=text_of((caller and caller[1]) or b""),
        from_host=text_of((caller and caller[2]) or b""),
        from_tag=_tag(from_),
        to_user=text_of((callee and callee[1]) or b""),
        to_host=text_of((callee and callee[2]) or b""),
        to_tag=_tag(to),
        branch=text_of(branch[1]) if branch else "",
        user_agent=text_of(user_agent or server),
        contact=text_of(contact),
    )


_LONGEST_PARTY: Final = 4096
"""Bytes of From, To and Via that are read."""


def _tag(party: bytes) -> str:
    # A URI in angle brackets may have a parameter of that name too.
    found = _read_tag(party, party.rfind(b">") + 1, _LONGEST_PARTY)
    return text_of(found[1]) if found else ""


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
        _one_line(text_of(identifier(correlation), LONGEST_ID)) if correlation else "",
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
