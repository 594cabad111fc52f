"""What a picture needs of a SIP message beyond `Sip`: hops, sender, details. Pure."""

import re
from hashlib import blake2b
from typing import Final

from hep.codec.packet import value
from hep.sip import end_of_head, finder
from hep.view.model.record import Record, Sip, text_of

MOST_VIAS: Final = 70
"""Hops of a message that are read: Max-Forwards begins with 70 (RFC 3261 section 8.1.1.6)."""

LONGEST_HEADER: Final = 8_192
"""Bytes of Via, Contact and Record-Route that are read."""

LONGEST_SHOWN: Final = 120
"""Characters of a value in a second line."""


@value
class Hop:
    """A Via."""

    transport: str
    """``UDP``, ``WSS`` …, in capitals."""
    sent_by: str
    """Host and port as they stand there."""
    branch: str
    """The branch; empty if it has none."""


@value
class Head:
    """What a picture needs of a message."""

    hops: tuple[Hop, ...]
    """The Vias, the topmost first."""
    contacts: int
    """Contacts that it has."""
    contact: str
    """URI of the first Contact, without parameters."""
    instance: str
    """``+sip.instance`` of the first Contact."""
    server: str
    """Server header."""
    user_agent: str
    """User-Agent header."""
    routed: bool
    """Whether it has a Record-Route."""
    body: bytes
    """A digest of its body; empty if it has none."""
    has_sdp: bool
    """Whether its body is SDP, or has such a part."""
    detail: str
    """The second line in a picture."""


_find: Final = finder(
    "via",
    "contact",
    "server",
    "user-agent",
    "record-route",
    "content-type",
    "expires",
    "refer-to",
    "reason",
    "event",
    "subscription-state",
    every=("via", "contact"),
)
_VIA: Final = re.compile(
    rb"(?:\A|(?<=[,\n]))\s*+SIP\s*+/\s*+2\.0\s*+/\s*+([A-Za-z0-9-]{1,16})\s++([^;,\s]{1,255})([^,\n]*+)",
    re.IGNORECASE,
)
_BRANCH: Final = re.compile(rb";\s*+branch\s*+=\s*+([^;,\s]++)", re.IGNORECASE)
_CONTACT: Final = re.compile(
    rb'(?:[^"<]*+"(?:[^"\\]|\\.)*+")?[^<]*?<?((?:sips?|tel):[^;>?\s,]++)', re.I
)
_INSTANCE: Final = re.compile(rb'\+sip\.instance\s*+=\s*+"?<?([^">;,\s]++)', re.IGNORECASE)
_URI: Final = re.compile(rb"(?:sips?|tel):[^>\s;?]++", re.IGNORECASE)
_EXPIRES: Final = re.compile(rb";\s*+expires\s*+=\s*+\"?([0-9]{1,10})", re.IGNORECASE)
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|<[^>]*+>')
_SDP: Final = b"v=0"
_DIGEST_SIZE: Final = 16


def head_of(record: Record, sip: Sip) -> Head:
    """Read what a picture needs of a message. Never raises; reads each byte a few times.

    Args:
        record: a packet.
        sip: its SIP message.
    """
    message = record.payload
    found = _find(message) or [b""] * 11
    via, contact, server, agent, routed, kind, expires, refer, reason, event, state = found
    end = end_of_head(message)
    body = message[end:].lstrip(b"\r\n")
    contact = contact[:LONGEST_HEADER]
    uri, instance = _CONTACT.match(contact), _INSTANCE.search(contact)
    has_sdp = bool(body) and (
        kind[:64].lower().startswith(b"application/sdp")
        or body.startswith(_SDP)
        or (kind[:10].lower() == b"multipart/" and b"application/sdp" in body.lower())
    )
    contacts = _count(contact)
    details = []
    if not sip.is_request:
        details.append(f"CSeq {sip.cseq} {sip.method}" if sip.cseq >= 0 else "")
    if has_sdp:
        details.append("SDP")
    if refer and (target := _URI.search(refer[:LONGEST_HEADER])):
        details.append(f"refer to {_shown(target[0])}")
    if sip.method == "REGISTER":
        details.append(_registered(sip, contact, contacts, expires))
    if sip.is_request and sip.method in ("SUBSCRIBE", "NOTIFY", "PUBLISH"):
        details.append(f"event {_shown(event.partition(b';')[0])}" if event else "")
        details.append(_shown(state.partition(b";")[0]))
        if kind[:32].lower().startswith(b"message/sipfrag"):
            details.append(_shown(body[:LONGEST_SHOWN].split(b"\n", 1)[0].strip()))
    if reason:
        details.append(f"reason {_shown(reason)}")
    return Head(
        hops=tuple(_hops(via)),
        contacts=contacts,
        contact=text_of(uri[1]) if uri else "",
        instance=text_of(instance[1]) if instance else "",
        server=text_of(server),
        user_agent=text_of(agent),
        routed=bool(routed),
        body=blake2b(body, digest_size=_DIGEST_SIZE).digest() if body else b"",
        has_sdp=has_sdp,
        detail=", ".join(filter(None, details)),
    )


def _hops(via: bytes) -> list[Hop]:
    hops = []
    for found in _VIA.finditer(via[:LONGEST_HEADER]):
        branch = _BRANCH.search(found[3])
        hops.append(
            Hop(
                found[1].decode().upper(),
                text_of(found[2]),
                text_of(branch[1]) if branch else "",
            )
        )
        if len(hops) == MOST_VIAS:
            break
    return hops


def _count(contact: bytes) -> int:
    if not contact:
        return 0
    plain = _QUOTED.sub(b"", contact)
    return plain.count(b",") + plain.count(b"\n") + 1


def _registered(sip: Sip, contact: bytes, contacts: int, expires: bytes) -> str:
    """What a REGISTER asks for, or what its 2xx grants."""
    if not sip.is_request and not 200 <= sip.status <= 299:
        return ""
    if contact == b"*":
        return "removes all contacts"
    asked = _EXPIRES.search(contact)
    seconds = asked[1] if asked else expires[:10]
    texts = [f"{contacts} contacts" if contacts > 1 else ""]
    if seconds.isdigit():
        texts.append(f"expires {int(seconds)}")
    if not contacts:
        texts.append("no contact")
    return ", ".join(filter(None, texts))


def _shown(raw: bytes) -> str:
    text = text_of(raw, LONGEST_SHOWN)
    return text + "…" if len(raw) > LONGEST_SHOWN else text
