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


def _register(request: Message, source: Address) -> bytes:
    contacts = [c for header in request.get_all("contact") for c in split_values(header)]
    asked = request.get("expires")
    expires = int(asked) if asked and asked.isdecimal() else DEFAULT_EXPIRES
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
        if (int(match[1]) if match else expires) > 0:
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
        to = f"{to};tag={_tag(call_id, caller, request.method)}"
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


def _tag(call_id: str, caller: str, method: str) -> str:
    # The same for a retransmission, another for another request, and nothing to guess.
    seed = f"{call_id}\n{caller}\n{method}".encode("utf-8", "surrogateescape")
    keyed = _KEYED.copy()
    keyed.update(seed)
    return keyed.hexdigest()
