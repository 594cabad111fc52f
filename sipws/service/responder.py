"""The built-in responder: enough SIP to see a phone register, and no more.

It answers REGISTER and OPTIONS with 200 and everything else with 501, keeps no state, and gives
a retransmission the same answer (RFC 3261 section 8.2.7). It is not a registrar: nothing that it
answers is remembered.
"""

import re
from typing import Final

from hep.sip import ROWS
from sipws import __version__
from sipws.address import Address
from sipws.sip import Request, RequestHead, response, split_value
from sipws.transport.flow import Flow

DEFAULT_EXPIRES: Final = 3600
"""Seconds of a registration that asks for no time (RFC 3261 section 10.2.1.1)."""

_SERVER: Final = f"Server: sipws/{__version__}\r\n".encode()
_ALLOW: Final = b"Allow: OPTIONS, REGISTER\r\n" + _SERVER
_BAD_CSEQ: Final = b'Warning: 399 sipws "CSeq does not match"\r\n' + _SERVER
_BAD_STAR: Final = b'Warning: 399 sipws "Contact: * goes alone and with Expires: 0"\r\n' + _SERVER
_EXPIRES: Final = re.compile(rb";\s*expires\s*=\s*(\d+)", re.IGNORECASE)
_COMMA: Final = ord(",")
_ROW_END: Final = ord(ROWS)
_DIGITS: Final = 11
"""Digits of a time that are looked at: one more than any can have."""


def answer(flow: Flow, message: bytes) -> None:
    """Answer a message on the flow that it came in on: a `sipws.transport.flow.Handler`."""
    if answered := respond(message, flow.connection.peer):
        flow.send(answered)


def respond(message: bytes, source: Address) -> bytes | None:
    """The response to a message.

    Args:
        message: what came in.
        source: where it came from, for ``received`` and ``rport``.

    Returns:
        the response; None for what gets none: a response, an ACK, what is not SIP, and a request
        without the headers that a response needs to find its way.
    """
    request = Request.read(message)
    if request is None:
        return None
    method = request.method
    if method == b"ACK":
        return None
    if request.version != b"SIP/2.0":
        return response(request, 505, headers=_SERVER, source=source)
    number, _, named = request.cseq.partition(b" ")
    if not number.isdigit() or (named != method and named.strip() != method):
        return response(request, 400, headers=_BAD_CSEQ, source=source)
    if method == b"OPTIONS":
        return response(request, 200, headers=_ALLOW, source=source)
    if method == b"REGISTER":
        return _register(request, source)
    return response(request, 501, headers=_ALLOW, source=source)


def _register(request: RequestHead, source: Address) -> bytes:
    asked = request.expires
    expires = _seconds(asked) if asked.isdigit() else DEFAULT_EXPIRES
    contacts = _contacts(request.contact)
    if b"*" in contacts:
        # RFC 3261 section 10.3 step 6: a star stands alone, and only with Expires: 0.
        if contacts != [b"*"] or asked != b"0":
            return response(request, 400, headers=_BAD_STAR, source=source)
        return response(request, 200, headers=b"Expires: 0\r\n" + _SERVER, source=source)
    lines: list[bytes] = []
    for contact in contacts:
        match = _EXPIRES.search(contact.rpartition(b">")[2])
        if (_seconds(match[1]) if match else expires) > 0:
            if match is None:
                contact = b"%b;expires=%d" % (contact, expires)
            lines += b"Contact: ", contact, b"\r\n"
    if asked:
        lines.append(b"Expires: %d\r\n" % expires)
    lines.append(_SERVER)
    return response(request, 200, headers=b"".join(lines), source=source)


def _contacts(contact: bytes) -> list[bytes]:
    """The addresses of all Contact headers."""
    if _COMMA not in contact and _ROW_END not in contact:
        return [contact] if contact else []
    return [each for row in contact.split(ROWS) for each in split_value(row)]


def _seconds(digits: bytes) -> int:
    # RFC 3261 section 20.19 ends at 2**32-1; Python itself refuses thousands of digits.
    return min(int(digits[:_DIGITS]), 2**32 - 1)
