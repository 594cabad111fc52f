"""The built-in responder: enough SIP to see a phone register, and no more.

It answers REGISTER and OPTIONS with 200 and everything else with 501, keeps no state, and gives
a retransmission the same answer (RFC 3261 section 8.2.7). It is no registrar: nothing that it
answers is remembered.
"""

import re
import secrets
from binascii import hexlify
from functools import lru_cache
from typing import Final
from zlib import crc32

from sipws import __version__
from sipws.address import Address
from sipws.sip import Message, split_values
from sipws.transport.flow import Flow

DEFAULT_EXPIRES: Final = 3600
"""Seconds of a registration that asks for no time (RFC 3261 section 10.2.1.1)."""

_MANDATORY: Final = {"via", "from", "to", "call-id", "cseq"}
"""What a response copies from its request (RFC 3261 section 8.2.6.2)."""

_ALLOW: Final = "Allow: OPTIONS, REGISTER\r\n"
_BAD_CSEQ: Final = 'Warning: 399 sipws "CSeq does not match"\r\n'
_BAD_STAR: Final = 'Warning: 399 sipws "Contact: * goes alone and with Expires: 0"\r\n'
_END: Final = f"Server: sipws/{__version__}\r\nContent-Length: 0\r\n\r\n"
_USUAL_END: Final = f"\r\n{_ALLOW}{_END}".encode()
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

_USUAL_START: Final = re.compile(
    rb"OPTIONS [!-~]+ SIP/2\.0\r\n"
    rb"Via: (SIP/2\.0/WSS? [0-9A-Za-z.:\[\]-]+;branch=[0-9A-Za-z.-]+)(;rport)?\r\n"
    rb"(?:Max-Forwards: [0-9]+\r\n)?"
    rb"To: (<.*>)\r\n"
    rb"From: ([!-~].*[!-~])\r\n"
    rb"(?:Call-ID: ([!-~]+)\r\nCSeq: ([0-9]+ OPTIONS)\r\n"
    rb"|CSeq: ([0-9]+ OPTIONS)\r\nCall-ID: ([!-~]+)\r\n)"
)
"""How JsSIP begins a request, and SIP.js, which has CSeq first."""

_USUAL_REST: Final = re.compile(rb"(?:(?![ vftiVFTI]|[Cc][AaSs])[ -~]+\r\n)*\r\n")
"""Whole lines, none of which may be a mandatory header or go on with one, and no body."""

_REMEMBERED: Final = 1024
"""Ends of requests that are remembered: each phone sends the same one again and again."""

_LONGEST: Final = 2048
"""Bytes of a request whose end may be remembered."""

_TAG_START: Final = secrets.token_hex(4).encode()
_OPTIONS_SEED: Final = crc32(b"OPTIONS")


def answer(flow: Flow, message: bytes) -> None:
    """Answer a message on the flow that it came in on: a `sipws.transport.flow.Handler`."""
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

    It says what the long way says, which is a property test, in a quarter of the time: phones that
    ask whether their server is there are most of what an answering server hears.
    """
    start = _USUAL_START.match(message) if len(message) <= _LONGEST else None
    if start is None or not _is_usual_rest(message[start.end() :]):
        return None
    via, rport, to, caller, call_id, cseq, cseq_first, call_id_second = start.groups()
    if call_id is None:
        cseq, call_id = cseq_first, call_id_second
    received = b";received=" if rport is None else b";rport=%d;received=" % source.port
    # Joined, as a format takes twice as long.
    return b"".join(
        (
            b"SIP/2.0 200 OK\r\nVia: ", via, received, source.ip.encode(), b"\r\nFrom: ", caller,
            b"\r\nTo: ", to, b";tag=", _tag(call_id, caller, _OPTIONS_SEED),
            b"\r\nCall-ID: ", call_id, b"\r\nCSeq: ", cseq, _USUAL_END,
        )
    )  # fmt: skip


@lru_cache(_REMEMBERED)
def _is_usual_rest(rest: bytes) -> bool:
    return _USUAL_REST.fullmatch(rest) is not None


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
        seed = crc32(_encoded(request.method))
        to = f"{to};tag={_tag(_encoded(call_id), _encoded(caller), seed).decode()}"
    response = (
        f"SIP/2.0 {status} {_REASONS[status]}\r\nVia: {via}\r\nFrom: {caller}\r\nTo: {to}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {headers['cseq'][0]}\r\n{extra}{_END}"
    )
    return _encoded(response)


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


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _tag(call_id: bytes, caller: bytes, seed: int) -> bytes:
    # The same for a retransmission, another for another request and in another process. It begins
    # at random (RFC 3261 section 19.3); no dialog comes of what is answered here.
    return _TAG_START + hexlify(crc32(caller, crc32(call_id, seed)).to_bytes(4))
