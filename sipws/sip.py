"""SIP messages for handlers: requests and responses with typed headers, and answers. Pure.

The transport carries messages whole and unread; this is for handlers that need a header of one, or
answer it::

    request = Request.parse(message)
    if request is not None and request.method == "OPTIONS":
        flow.send(response(request, 200, source=flow.connection.peer))

`hep.sip` reads the messages.
"""

import re
import secrets
from binascii import hexlify
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Self, cast
from zlib import crc32

from hep.sip import (
    COMPACT_FORMS,
    LINE_ENDS,
    ROWS,
    call_id,
    end_of_head,
    fields,
    finder,
    first,
    head_of,
    start_line,
    unfolded,
)
from sipws.address import Address
from sipws.sip_values import CSeq, Headers, NameAddress, split_value, split_values

__all__ = [
    "COMPACT_FORMS",
    "LINE_ENDS",
    "CSeq",
    "Headers",
    "Message",
    "NameAddress",
    "Request",
    "RequestHead",
    "Response",
    "call_id",
    "end_of_head",
    "flow_timer",
    "parse",
    "response",
    "split_value",
    "split_values",
    "unfolded",
]

_is_start_line: Final = re.compile(
    rb"(?:[!-~]+ [!-~]+ SIP/[0-9]\.[0-9]|SIP/[0-9]\.[0-9] [0-9]{3} .*)"
).fullmatch
_is_timer: Final = re.compile(rb"[1-9][0-9]{0,8}").fullmatch
_flow_timer: Final = first("flow-timer")


def flow_timer(message: bytes) -> int | None:
    """The ``Flow-Timer`` of a 2xx response, in seconds (RFC 5626 section 4.4.1), or None."""
    if message[:9] != b"SIP/2.0 2" and message.lstrip(LINE_ENDS)[:9] != b"SIP/2.0 2":
        return None
    value = _flow_timer(message)
    return int(value) if _is_timer(value) else None


class Message:
    """Start line and headers of a SIP message, as text.

    SIP is UTF-8 (RFC 3261 section 7.3.1). Bytes that are none become surrogates, as of
    `os.fsdecode`.

    Args:
        start_line: without its line end.
        headers: the values of each header, by its name in lower case and in its long form.
    """

    __slots__ = ("_data", "_headers", "start_line")

    def __init__(self, start_line: str, headers: dict[str, list[str]]) -> None:
        self.start_line = start_line
        self._headers: dict[str, list[str]] | None = headers
        self._data: bytes | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Read the head of a message; None where there is no SIP start line.

        Empty lines before the start line are ignored (RFC 3261 section 7.5).
        """
        line = start_line(data)
        if line is None or not _is_start_line(line):
            return None
        message = cls.__new__(cls)
        message.start_line = line.decode("utf-8", "surrogateescape")
        message._headers = None
        message._data = data
        return message

    @property
    def headers(self) -> dict[str, list[str]]:
        """The values of each header in order, by its name in lower case and in its long form."""
        if self._headers is None:
            # Headers are read when one is needed.
            self._headers = {
                name.decode("utf-8", "surrogateescape"): [
                    value.decode("utf-8", "surrogateescape") for value in values
                ]
                for name, values in fields(head_of(self._data or b"")).items()
            }
        return self._headers

    @property
    def data(self) -> bytes:
        """The message as it came; of one that was made of headers, its head."""
        if self._data is None:
            lines = [f"{name}: {each}" for name, values in self.headers.items() for each in values]
            head = "\r\n".join([self.start_line, *lines, "", ""])
            self._data = head.encode("utf-8", "surrogateescape")
        return self._data

    @property
    def is_request(self) -> bool:
        """Whether this is a request rather than a response."""
        return not self.start_line.startswith("SIP/")

    @property
    def method(self) -> str:
        """The request's method (upper case matters: RFC 3261 section 7.1)."""
        return self.start_line.partition(" ")[0]

    def get(self, name: str) -> str | None:
        """The first value of a header, by its long name in lower case."""
        values = self.headers.get(name)
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return self.headers.get(name, [])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.start_line == other.start_line and self.headers == other.headers

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Message(start_line={self.start_line!r}, headers={self.headers!r})"


class RequestHead(NamedTuple):
    """What a response repeats of a request (RFC 3261 section 8.2.6.2), and registrations; bytes.

    `Request.read` returns it: the fastest way to read a request.
    """

    method: bytes
    version: bytes
    """``SIP/2.0``, mostly."""
    via: bytes
    """The values of all lines, separated by `hep.sip.ROWS`."""
    caller: bytes
    """From."""
    to: bytes
    call_id: bytes
    cseq: bytes
    contact: bytes
    """Of a REGISTER, as Via; empty where there is none."""
    expires: bytes
    """Of a REGISTER; empty where there is none."""


REGISTER: Final = b"REGISTER "
"""How a registration begins."""

_NO_REGISTRATION: Final = (b"", b"")
_last: tuple[bytes | None, RequestHead | None] = (None, None)
"""The message that was read last, and what it was read as."""

_new: Final = tuple.__new__
_find_request: Final = finder("via", "from", "to", "call-id", "cseq", every=("via",), request=True)
_find_registration: Final = finder(
    "via", "from", "to", "call-id", "cseq", "contact", "expires",
    every=("via", "contact"), request=True,
)  # fmt: skip
_find_response: Final = finder("via", "from", "to", "call-id", "cseq")
_is_status_line: Final = re.compile(r"SIP/[0-9]\.[0-9] [1-6][0-9]{2} .*", re.DOTALL).fullmatch
_is_body: Final = re.compile(rb"\r?\n\r?\n").match
_is_size: Final = re.compile(r"[0-9]{1,10}").fullmatch
_FINAL: Final = 200


def _read_request(message: bytes) -> RequestHead | None:
    """Read what a response repeats, in bytes and in one pass; see `Request.parse` for all else.

    Returns:
        None for a response, for what is not SIP, and for a request that lacks a header without
        which no response finds its way.
    """
    # All that handle a message read it one after another, and it is looked at once.
    global _last
    last, read = _last
    if message is last:
        return read
    start = message.lstrip(LINE_ENDS)
    if start[:9] == REGISTER:
        found = _find_registration(start)
    elif found := _find_request(start):
        found += _NO_REGISTRATION
    # Contact and Expires need not be there.
    if found and found[2] and found[3] and found[4] and found[5] and found[6]:
        read = _new(RequestHead, found)
    else:
        read = None
    _last = message, read
    return read


class _Parsed:
    """What requests and responses have in common. Headers are read when one is needed."""

    __slots__ = ("_headers", "_message", "call_id", "cseq")

    def __init__(self, message: Message, call_id: bytes, cseq: CSeq) -> None:
        self._message = message
        self._headers: Headers | None = None
        self.call_id: Final = _text(call_id)
        self.cseq: Final = cseq
        """Number and method."""

    @property
    def headers(self) -> Headers:
        """All headers by name, in any case and form."""
        if self._headers is None:
            self._headers = Headers(self._message.headers)
        return self._headers

    @property
    def from_(self) -> NameAddress:
        """From: who sent the request, with `NameAddress.tag`."""
        return NameAddress.parse(self.headers["from"])

    @property
    def to(self) -> NameAddress:
        """To: whom the request is for, with `NameAddress.tag`."""
        return NameAddress.parse(self.headers["to"])

    @property
    def contact(self) -> NameAddress | None:
        """The first Contact; None where there is none."""
        return next(iter(self.contacts), None)

    @property
    def contacts(self) -> list[NameAddress]:
        """All Contacts, those of several lines and those between commas."""
        return [NameAddress.parse(each) for each in self.headers.get_list("contact")]

    @property
    def body(self) -> bytes:
        """What follows the head, as far as Content-Length says (RFC 3261 section 18.3)."""
        data = self.data
        match = _is_body(data, end_of_head(data))
        if match is None:
            return b""
        body = data[match.end() :]
        size = self.headers.get("content-length", "")
        return body[: int(size)] if _is_size(size) else body

    @property
    def start_line(self) -> str:
        """The request line or the status line, without its line end."""
        return self._message.start_line

    @property
    def data(self) -> bytes:
        """The message as it came."""
        return self._message.data

    def __eq__(self, other: object) -> bool:
        return self.data == other.data if isinstance(other, _Parsed) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._message.start_line!r} {self.call_id!r}>"


class Request(_Parsed):
    """A SIP request: method, URI and typed headers as text, read when they are needed.

    `Request.parse` makes one. It has Via, From, To, Call-ID and a CSeq that can be read, so that it
    can be answered with `response`.
    """

    __slots__ = ("head", "method", "uri", "version")

    def __init__(self, message: Message, head: RequestHead, cseq: CSeq) -> None:
        super().__init__(message, head.call_id, cseq)
        self.head: Final = head
        """What a response repeats, in bytes."""
        self.method, self.uri, self.version = message.start_line.split(" ")
        """In upper case, as upper case matters (RFC 3261 section 7.1)."""

    @classmethod
    def parse(cls, data: bytes) -> "Request | None":
        """Read a message.

        Returns:
            None for a response, for what is not SIP, and for a request that lacks one of Via, From,
            To, Call-ID and CSeq or whose CSeq is not a number and a method.
        """
        head = _read_request(data)
        if head is None or (cseq := CSeq.parse(_text(head.cseq))) is None:
            return None
        message = Message.parse(data)
        if message is None or not message.is_request:
            return None
        return cls(message, head, cseq)

    read = staticmethod(_read_request)


class Response(_Parsed):
    """A SIP response: status, reason and typed headers as text; `Response.parse` makes one."""

    __slots__ = ("reason", "status", "version")

    def __init__(self, message: Message, call_id: bytes, cseq: CSeq) -> None:
        super().__init__(message, call_id, cseq)
        self.version, status, self.reason = message.start_line.split(" ", 2)
        self.status: Final = int(status)

    @classmethod
    def parse(cls, data: bytes) -> "Response | None":
        """Read a message.

        Returns:
            None for a request, for what is not SIP, and for a response that lacks one of Via, From,
            To, Call-ID and CSeq or whose CSeq is not a number and a method.
        """
        message = Message.parse(data)
        if message is None or not _is_status_line(message.start_line):
            return None
        found = _find_response(data)
        if found is None or not all(found) or (cseq := CSeq.parse(_text(found[4]))) is None:
            return None
        return cls(message, found[3], cseq)

    @property
    def is_final(self) -> bool:
        """Whether this ends the transaction: 2xx to 6xx (RFC 3261 section 7.2)."""
        return self.status >= _FINAL


def parse(data: bytes) -> Request | Response | None:
    """Read a message as a `Request` or a `Response`; None where it is neither."""
    return Request.parse(data) or Response.parse(data)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


REASONS: Final = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    420: "Bad Extension",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    600: "Busy Everywhere",
    603: "Decline",
}
"""Reason phrases (RFC 3261 section 21)."""

_STARTS: Final = {
    status: f"SIP/2.0 {status} {reason}\r\nVia: ".encode() for status, reason in REASONS.items()
}
_EMPTY: Final = b"Content-Length: 0\r\n\r\n"
_WRITTEN: Final = frozenset({"via", "from", "to", "call-id", "cseq", "content-length"})
"""Headers that every response gets from its request or from its body."""

_TRYING: Final = 100
_COMMA: Final = ord(",")
_ROW_END: Final = ord(ROWS)
_CLOSES: Final = ord(">")
_source: Final = re.compile(
    rb";\s*+(?:[rR][eE][cC][eE][iI][vV][eE][dD]\s*+=[^;]*+"
    rb"|([rR][pP][oO][rR][tT])\s*+(?=;|\Z))"
).search
"""Finds a ``received`` that the client made up, or (a group) an ``rport`` that asks for a port."""
_has_tag: Final = re.compile(rb";\s*tag\s*=", re.IGNORECASE).search
_breaks: Final = re.compile(r"[\r\n\0]").search
_is_name: Final = re.compile(r"[-!%*.+`'~_0-9A-Za-z]+").fullmatch

_TAG: Final = b";tag=" + secrets.token_hex(4).encode()


def response(
    request: Request | RequestHead | Message | bytes,
    status: int,
    reason: str | None = None,
    *,
    headers: bytes | Mapping[str, str] | Iterable[tuple[str, str]] = b"",
    body: bytes = b"",
    source: Address | None = None,
) -> bytes:
    """Write the response to a request (RFC 3261 section 8.2.6).

    Via, From, To, Call-ID and CSeq are the request's, Content-Length is that of the body. To gets
    a tag where it has none and the status is not 100; a retransmission gets the same tag.

    Args:
        request: the request. A handler that has read it already hands over what it has.
        status: 100 to 699.
        reason: the reason phrase; that of RFC 3261 by default.
        headers: further headers by name, without those named above; or whole lines, each with its
            CRLF, as bytes, which are written as they are.
        body: what follows; ``headers`` then names its Content-Type.
        source: where the request came from, for ``received`` and ``rport`` of the topmost Via
            (section 18.2.1, RFC 3581); None leaves that as it is.

    Raises:
        ValueError: this is not a request, it lacks a header that a response repeats, or a status, a
            reason or a header cannot be written.
    """
    if type(request) is not RequestHead:
        request = _read(cast("Request | Message | bytes", request))
    _, _, via, caller, to, call_id, cseq, _, _ = request
    if source is None:
        received = ip = b""
    elif _ROW_END in via or _COMMA in via:
        via, received, ip = _marked(via, source), b"", b""
    else:
        # RFC 7118 section 5.3 lets clients write an ``.invalid`` host, so it is always needed.
        received, ip = b";received=", source.ip.encode()
        if (match := _source(via)) is not None:
            via = _with_port(via, match, source.port)
    if _ROW_END in via:
        via = via.replace(ROWS, b"\r\nVia: ")
    # Nothing stands behind the address of most that have no tag.
    if (to[-1] != _CLOSES and _has_tag(to.rpartition(b">")[2])) or status == _TRYING:
        name = tag = b""
    else:
        # The same for a retransmission, another for another request and in another process. It
        # begins at random (RFC 3261 section 19.3).
        name = _TAG
        tag = hexlify(crc32(cseq, crc32(caller, crc32(call_id))).to_bytes(4))
    start = _STARTS.get(status) if reason is None else None
    if start is None:
        start = _start(status, reason)
    if type(headers) is not bytes:
        headers = _lines(cast("Mapping[str, str] | Iterable[tuple[str, str]]", headers))
    # Joined, as a format takes twice as long.
    return b"".join(
        (
            start, via, received, ip, b"\r\nFrom: ", caller, b"\r\nTo: ", to, name, tag,
            b"\r\nCall-ID: ", call_id, b"\r\nCSeq: ", cseq, b"\r\n", headers,
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if body else _EMPTY,
        )
    )  # fmt: skip


def _read(request: Request | Message | bytes) -> RequestHead:
    if isinstance(request, Request):
        return request.head
    data = request.data if isinstance(request, Message) else request
    read = _read_request(data)
    if read is None:
        raise ValueError(
            f"no response can be written to {data[:40]!r}: it is not a SIP request, or lacks one of"
            " Via, From, To, Call-ID and CSeq; look for None of Request.read before"
        )
    return read


def _start(status: int, reason: str | None) -> bytes:
    if not 100 <= status <= 699:
        raise ValueError(f"{status} is not a status of SIP: 100 to 699")
    reason = reason if reason is not None else ""
    if _breaks(reason):
        raise ValueError(f"the reason {reason!r} has a line end; a reason is one line")
    return f"SIP/2.0 {status} {reason}\r\nVia: ".encode("utf-8", "surrogateescape")


def _lines(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    lines = []
    for name, text in headers.items() if isinstance(headers, Mapping) else headers:
        if not _is_name(name):
            raise ValueError(f"{name!r} is not a header's name (RFC 3261 section 25.1, token)")
        if COMPACT_FORMS.get(low := name.lower(), low) in _WRITTEN:
            raise ValueError(f"the header {name} is written by response() itself; leave it out")
        if _breaks(text):
            raise ValueError(f"the value {text!r} of {name} has a line end; a header is one line")
        lines.append(f"{name}: {text}\r\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _marked(via: bytes, source: Address) -> bytes:
    """The values of Via, the topmost with where the request really came from."""
    others = b""
    if _ROW_END in via:
        via, _, others = via.partition(ROWS)
        others = ROWS + others
    if _COMMA in via:
        via, *rest = split_value(via) or [b""]
        others = b"".join(b", " + value for value in rest) + others
    if (match := _source(via)) is not None:
        via = _with_port(via, match, source.port)
    return b"".join((via, b";received=", source.ip.encode(), others))


def _with_port(via: bytes, match: re.Match[bytes] | None, port: int) -> bytes:
    """A Via without ``received``, its first ``rport`` filled in.

    Args:
        via: of one hop.
        match: what `_source` found first.
        port: that the request came from.
    """
    if match is not None and match.lastindex and _source(via, match.end()) is None:
        # Nearly all that have one ask for a port, and say nothing of where they are.
        return b"%b;rport=%d%b" % (via[: match.start()], port, via[match.end() :])
    kept, done, asked = [], 0, True
    while match is not None:
        kept.append(via[done : match.start()])
        done = match.end()
        if match.lastindex:
            kept.append(b";rport=%d" % port if asked else match[0])
            asked = False
        match = _source(via, done)
    kept.append(via[done:])
    return b"".join(kept)


def __dir__() -> list[str]:
    return sorted(__all__)
