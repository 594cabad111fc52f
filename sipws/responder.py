"""The built-in responder: enough SIP to see a phone register, and no more.

It answers REGISTER and OPTIONS with 200 and everything else with 501, keeps no state, and gives
a retransmission the same answer (RFC 3261 section 8.2.7). It is no registrar: nothing that it
answers is remembered.
"""

import hashlib
import re
import secrets
from typing import Final

from sipws import __version__
from sipws.address import Address
from sipws.flow import Flow
from sipws.sip import Message, split_values

DEFAULT_EXPIRES: Final = 3600
"""Seconds of a registration that asks for no time (RFC 3261 section 10.2.1.1)."""

_MANDATORY: Final = {"via", "from", "to", "call-id", "cseq"}
"""What a response copies from its request (RFC 3261 section 8.2.6.2)."""

_ALLOW: Final = "Allow: OPTIONS, REGISTER\r\n"
_BAD_CSEQ: Final = 'Warning: 399 sipws "CSeq does not match"\r\n'
_BAD_STAR: Final = 'Warning: 399 sipws "Contact: * goes alone and with Expires: 0"\r\n'
_END: Final = f"Server: sipws/{__version__}\r\nContent-Length: 0\r\n\r\n"
_USUAL_END: Final = f"{_ALLOW}{_END}".encode()
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    501: "Not Implemented",
    505: "Version Not Supported",
}
_EXPIRES: Final = re.compile(r";\s*expires\s*=\s*(\d+)", re.IGNORECASE)
_RECEIVED: Final = re.compile(r";\s*received\s*=[^;]*", re.IGNORECASE)
_RPORT: Final = re.compile(r";\s*rport\s*(?=;|$)", re.IGNORECASE)
_TAG: Final = re.compile(r";\s*tag\s*=", re.IGNORECASE)
_DIGITS: Final = 11
"""Digits of a time that are looked at: one more than any can have."""

_USUAL_LINE: Final = re.compile(rb"OPTIONS [!-~]+ SIP/2\.0\r\n")
_USUAL_HEADERS: Final = re.compile(
    rb"\n(?:(Via|From|To|Call-ID|CSeq): ([!-~].*[!-~])\r(?=\n)|(?=[ \t\r\nvftiVFTI]|[Cc][AaSs]))"
)
"""The mandatory headers as nearly everybody writes them, and with an empty name every other line
that might be one of them, go on with one, or end the head."""
_USUAL_VIA: Final = re.compile(rb"SIP/2\.0/WSS? [\w.:\[\]-]+;branch=[\w.-]+(;rport)?")
_KEYED: Final = hashlib.blake2s(digest_size=8, key=secrets.token_bytes(16))


def answer(flow: Flow, message: bytes) -> None:
    """Answer a message on the flow that it came in on: a `sipws.flow.Handler`."""
    if response := respond(message, flow.connection.peer):
        flow.send(response)


def respond(message: bytes, source: Address) -> bytes | None:
    """The response to a message.

    Args:
        message: what came in.
        source: where it came from, for ``received`` and ``rport``.

    Returns:
        the response; None for what gets none: a response, an ACK, what is no SIP, and a request
        without the headers that a response needs to find its way.
    """
    if response := _usual(message, source):
        return response
    request = Message.parse(message)
    if request is None or not request.is_request:
        return None
    method, headers = request.method, request.headers
    if method == "ACK" or not headers.keys() >= _MANDATORY:
        return None
    if not request.start_line.endswith(" SIP/2.0"):
        return _response(505, request, source)
    number, _, named = headers["cseq"][0].partition(" ")
    if not number.isdecimal() or named.strip() != method:
        return _response(400, request, source, _BAD_CSEQ)
    if method == "OPTIONS":
        return _response(200, request, source, _ALLOW)
    if method == "REGISTER":
        return _register(request, source)
    return _response(501, request, source, _ALLOW)


def _usual(message: bytes, source: Address) -> bytes | None:
    """The answer to an OPTIONS written as nearly all are; None for anything else.

    It says what the long way says, which is a property test, in half the time: phones that ask
    whether their server is there are most of what an answering server hears.
    """
    if not (_USUAL_LINE.match(message) and message.endswith(b"\r\n\r\n") and message.isascii()):
        return None
    found = _USUAL_HEADERS.findall(message)
    headers: dict[bytes, bytes] = dict(found)
    if not len(found) == len(headers) == len(_MANDATORY) + 1:
        # One is missing, is there twice, or may be written in another way.
        return None
    via, caller, to = headers[b"Via"], headers[b"From"], headers[b"To"]
    call_id, cseq = headers[b"Call-ID"], headers[b"CSeq"]
    usual_via = _USUAL_VIA.fullmatch(via)
    if not (usual_via and to.endswith(b">") and cseq.endswith(b" OPTIONS") and cseq[:-8].isdigit()):
        return None
    if usual_via[1]:
        via = b"%b=%d" % (via, source.port)
    return (
        b"SIP/2.0 200 OK\r\nVia: %b;received=%b\r\nFrom: %b\r\nTo: %b;tag=%b\r\n"
        b"Call-ID: %b\r\nCSeq: %b\r\n%b"
    ) % (
        via,
        source.ip.encode(),
        caller,
        to,
        _tag(b"%b\n%b\nOPTIONS" % (call_id, caller)),
        call_id,
        cseq,
        _USUAL_END,
    )


def _register(request: Message, source: Address) -> bytes:
    contacts = [c for header in request.get_all("contact") for c in split_values(header)]
    asked = request.get("expires")
    expires = _seconds(asked) if asked and asked.isdecimal() else DEFAULT_EXPIRES
    if "*" in contacts:
        # RFC 3261 section 10.3 step 6: a star stands alone, and only with Expires: 0.
        if contacts != ["*"] or asked != "0":
            return _response(400, request, source, _BAD_STAR)
        return _response(200, request, source, "Expires: 0\r\n")
    extra = ""
    for contact in contacts:
        match = _EXPIRES.search(contact.rpartition(">")[2])
        if match is None:
            contact = f"{contact};expires={expires}"
        if (_seconds(match[1]) if match else expires) > 0:
            extra += f"Contact: {contact}\r\n"
    if asked is not None:
        extra += f"Expires: {expires}\r\n"
    return _response(200, request, source, extra)


def _response(status: int, request: Message, source: Address, extra: str = "") -> bytes:
    """A response with these header lines besides those that every response has."""
    headers = request.headers
    vias = headers["via"]
    via = _mark(vias[0], source)
    if len(vias) > 1:
        via = "\r\nVia: ".join([via, *vias[1:]])
    to, caller, call_id = headers["to"][0], headers["from"][0], headers["call-id"][0]
    parameters = to.rpartition(">")[2]
    if not parameters or not _TAG.search(parameters):
        seed = f"{call_id}\n{caller}\n{request.method}"
        to = f"{to};tag={_tag(seed.encode('utf-8', 'surrogateescape')).decode()}"
    response = (
        f"SIP/2.0 {status} {_REASONS[status]}\r\nVia: {via}\r\nFrom: {caller}\r\nTo: {to}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {headers['cseq'][0]}\r\n{extra}{_END}"
    )
    return response.encode("utf-8", "surrogateescape")


def _mark(via: str, source: Address) -> str:
    """The topmost Via with where the request really came from.

    RFC 7118 section 5.3 lets clients write an ``.invalid`` host, so ``received`` is always
    needed (RFC 3261 section 18.2.1); ``rport`` is filled in where it is asked for (RFC 3581).
    """
    others = ""
    if "," in via:
        via, *rest = split_values(via) or [""]
        others = "".join(f", {value}" for value in rest)
    # Nearly all clients write it like this; the patterns cost more than the rest of this.
    before, asked, behind = via.partition(";rport")
    lower = via.lower()
    if "received" in lower or lower.count("rport") != bool(asked):
        via = _RPORT.sub(f";rport={source.port}", _RECEIVED.sub("", via), count=1)
    elif asked and behind[:1] in ("", ";"):
        via = f"{before};rport={source.port}{behind}"
    return f"{via};received={source.ip}{others}"


def _seconds(digits: str) -> int:
    # RFC 3261 section 20.19 ends at 2**32-1; Python itself refuses thousands of digits.
    return min(int(digits[:_DIGITS]), 2**32 - 1)


def _tag(seed: bytes) -> bytes:
    # The same for a retransmission, another for another request, and nothing to guess.
    keyed = _KEYED.copy()
    keyed.update(seed)
    return keyed.hexdigest().encode()
