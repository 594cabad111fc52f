"""How heplify-server reads SIP. Pure.

heplify-server stores a SIP message only if its parser accepts the start line and every header that
the parser reads. The parser stops at the first error. It differs from RFC 3261 in many places: a
name is known in some spellings only, a folded line is a header of its own, and an empty From is an
error. The reading here is linear in the message.
"""

from dataclasses import dataclass
from typing import Final

from hep.homer.reasons import Reason, shown

SHORTEST: Final = 33
"""heplify-server takes a shorter payload of type SIP for a keep-alive and drops it, in bytes."""

SHORTEST_METHOD: Final = 3
"""Letters of the shortest method that heplify-server accepts."""

TABLES: Final = {
    **dict.fromkeys(
        (b"INVITE", b"ACK", b"BYE", b"CANCEL", b"UPDATE", b"PRACK", b"REFER", b"INFO", b"NOTIFY"),
        "hep_proto_1_call",
    ),
    b"REGISTER": "hep_proto_1_registration",
}
"""The table of each method of the CSeq."""

OTHER_TABLE: Final = "hep_proto_1_default"
"""The table of all other methods."""

_CALL_ID: Final = (b"Call-ID", b"CALL-ID", b"Call-Id", b"Call-id", b"call-id", b"i", b"I")
_CSEQ: Final = (b"CSeq", b"CSEQ", b"Cseq", b"cseq")
_FROM: Final = (b"From", b"FROM", b"from", b"f", b"F")
_TO: Final = (b"t", b"T")
_CONTACT: Final = (b"Contact", b"CONTACT", b"contact", b"m", b"M")
_AUTHORIZATION: Final = (
    b"Authorization",
    b"authorization",
    b"Proxy-Authorization",
    b"proxy-authorization",
)
_WHITESPACE: Final = b" \t"


@dataclass(frozen=True, slots=True)
class Sip:
    """What heplify-server takes from a SIP message that it accepts."""

    call_id: bytes
    """The value of the last Call-ID header."""
    cseq_method: bytes
    """The method of the last CSeq header."""
    call_ids: int
    """Call-ID headers with different values."""
    indexed: tuple[tuple[str, bytes], ...] = ()
    """Further values that get an index by default, with what they are."""

    @property
    def table(self) -> str:
        """The table of the message."""
        return TABLES.get(self.cseq_method, OTHER_TABLE)


def cleaned(payload: bytes) -> bytes:
    """A payload as heplify-server stores it: without NUL and without bytes that are not UTF-8."""
    return payload.decode(errors="ignore").replace("\0", "").encode()


def read(payload: bytes) -> Sip | Reason:
    """Read a SIP message as heplify-server does.

    Args:
        payload: what `cleaned` returns, `SHORTEST` bytes or more.

    Returns:
        what heplify-server takes from it, or why it is refused.
    """
    message = payload.lstrip(b"\r\n")
    found = _read(message)
    if isinstance(found, Reason) and not _looks_like_sip(first := _line(_first_line(message))):
        return Reason(
            "no-sip",
            f"the protocol type is SIP, but {shown(first)} is not a start line of SIP"
            " (the payload may be SIP wrapped in JSON)",
            "send plain SIP (OpenSIPS: homer5_on=1), or another protocol type",
        )
    return found


def too_long_for_index(payload: bytes, longest: int) -> tuple[str, int] | None:
    """Find a line whose value heplify-server writes into a column with an index.

    The values are those of all versions: users of From, To and Request-URI, Call-ID, method, and
    with ``SIPHeader`` or before that setting those of P-Asserted-Identity and Authorization.

    Args:
        payload: what `cleaned` returns.
        longest: bytes that a line may have.

    Returns:
        what the line is and its bytes; None if no such line is longer.
    """
    message = payload.lstrip(b"\r\n")
    end = _end(message)
    if end < 0:
        # It is not stored.
        return None
    lines = message[:end].split(b"\n")
    for number, line in enumerate(lines):
        if len(line) <= longest:
            continue
        what = _indexed(_line(line)) if number else "start line"
        if what is None and not _line(lines[number - 1]):
            # heplify-server skips a byte behind an empty line, where other readers skip none.
            what = _indexed(_line(line[1:]))
        if what is not None:
            return what, len(line)
    return None


def _indexed(line: bytes) -> str | None:
    """The header of a line whose value has an index; None if it has none."""
    spelling = line.partition(b":")[0].strip(_WHITESPACE)
    if len(spelling) == 2:
        return "To"
    # Older versions know a name in any case.
    name = spelling.strip().lower()
    if name in (b"authorization", b"proxy-authorization") and b"username" not in line:
        # The index is on the user name, which a token does not have.
        return None
    return _INDEXED.get(name)


_INDEXED: Final = {
    b"call-id": "Call-ID",
    b"i": "Call-ID",
    b"from": "From",
    b"f": "From",
    b"to": "To",
    b"t": "To",
    b"cseq": "CSeq",
    b"p-asserted-identity": "P-Asserted-Identity",
    b"authorization": "Authorization",
    b"proxy-authorization": "Proxy-Authorization",
}
"""Headers whose values have an index; every name of two letters is read as To."""


def _end(message: bytes) -> int:
    """Where the head ends for heplify-server; negative if it finds no end."""
    end = message.find(b"\r\n\r\n")
    return end if end >= 0 else message.rfind(b"\r\n")


def _read(message: bytes) -> Sip | Reason:
    end = _end(message)
    if end < 0:
        return Reason(
            "sip-line-ends",
            "SIP without an end of line of CR and LF",
            "end each line with CRLF (RFC 3261 section 7)",
        )
    reading = _Reading()
    refusal = reading.read(message, end + 2)
    return refusal or reading.result()


class _Reading:
    def __init__(self) -> None:
        self._call_id: bytes | None = None
        self._call_ids: set[bytes] = set()
        self._folded = False
        """Whether the line after an empty Call-ID starts with a blank."""
        self._cseq_method: bytes | None = None
        self._indexed: dict[str, bytes] = {}
        self._unknown: list[bytes] = []
        """Names that are Call-ID or CSeq in a spelling that heplify-server does not know."""

    def read(self, message: bytes, end: int) -> Reason | None:
        """Read the lines before ``end``, where an end of line ends."""
        at = message.index(b"\n", 0, end) + 1
        line = _line(message[: at - 1])
        refusal = _start_line(line)
        if refusal is None and not line.startswith(b"SIP"):
            method, uri, _ = line.split(b" ", 2)
            user, domain = _user_and_domain(uri)
            self._indexed = {
                "method": method,
                "user of the Request-URI": user,
                "domain of the Request-URI": domain,
            }
        while refusal is None and at < end:
            feed = message.index(b"\n", at, end)
            if feed == at:
                # The parser of heplify-server reads the line before again, and skips a byte.
                at += 2
            else:
                self._folded |= message[at] in _WHITESPACE and line[:-1].strip() in _CALL_ID
                line = _line(message[at:feed])
                at = feed + 1
                refusal = self._header(line)
        return refusal

    def result(self) -> Sip | Reason:
        if self._cseq_method is None:
            return self._missing("CSeq")
        if len(self._cseq_method) < SHORTEST_METHOD:
            return Reason(
                "sip-short-method",
                f"SIP whose CSeq has the method {shown(self._cseq_method)}: methods of less than"
                f" {SHORTEST_METHOD} letters are refused",
                f"use a method of {SHORTEST_METHOD} letters or more",
            )
        if not self._call_id:
            return self._without_call_id()
        indexed = tuple(self._indexed.items())
        return Sip(self._call_id, self._cseq_method, len(self._call_ids), indexed)

    def _without_call_id(self) -> Reason:
        if self._call_id is None:
            return self._missing("Call-ID")
        if self._folded:
            what = "SIP whose Call-ID is folded onto the next line, which counts as missing"
            return Reason("sip-call-id-folded", what, "write the Call-ID on one line")
        return Reason("sip-call-id-empty", "SIP with an empty Call-ID", "write a Call-ID")

    def _missing(self, name: str) -> Reason:
        for spelling in self._unknown:
            if spelling.lower() == name.lower().encode():
                return Reason(
                    f"sip-no-{name.lower()}",
                    f"SIP whose {name} is written {shown(spelling)}, which is not recognised",
                    f"write {name}",
                )
        return Reason(
            f"sip-no-{name.lower()}",
            f"SIP without {name}",
            f"send the whole message: {name} is mandatory (RFC 3261 section 8.1.1)",
        )

    def _header(self, line: bytes) -> Reason | None:
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        name, value = name.strip(_WHITESPACE), value.strip(_WHITESPACE)
        if name in _CALL_ID:
            self._call_id = value
            self._call_ids.add(value)
        elif name in _CSEQ:
            return self._cseq(value)
        elif name in _FROM:
            self._indexed["user of From"] = _user_and_domain(_uri_of(value))[0]
            return _uri(name, value)
        elif name in _TO or len(name) == 2:
            # heplify-server reads every name of two letters as To.
            self._indexed["user of To"] = _user_and_domain(_uri_of(value))[0]
            return _uri(name, value)
        elif name in _CONTACT:
            return _uri(name, line)
        elif name in _AUTHORIZATION:
            return _authorization(name, value)
        elif name.lower() in (b"call-id", b"cseq"):
            self._unknown.append(name)
        return None

    def _cseq(self, value: bytes) -> Reason | None:
        # Value and parts are not empty if there is a blank: it is stripped.
        _, blank, method = value.partition(b" ")
        if blank:
            self._cseq_method = method.strip(_WHITESPACE) if method[:1] == b" " else method
            return None
        return Reason(
            "sip-cseq",
            f"SIP whose CSeq is {shown(value)}: a number, a blank and a method are needed",
            "write CSeq: 1 INVITE on one line",
        )


def _line(line: bytes) -> bytes:
    return line.removesuffix(b"\r").strip(_WHITESPACE)


def _start_line(line: bytes) -> Reason | None:
    parts = line.split(b" ", 2)
    if line.startswith(b"SIP"):
        good = len(parts) >= 2 and b"/" in parts[0][:-1]
    else:
        good = len(line) >= 3 and len(parts) == 3 and parts[1] != b"" and b"/" in parts[2][:-1]
    if good:
        return None
    return Reason(
        "sip-start-line",
        f"SIP whose start line is {shown(line)}: a method, a URI and a version are needed",
        "write the start line with single blanks (RFC 3261 section 7)",
    )


def _first_line(message: bytes) -> bytes:
    return message.partition(b"\n")[0].partition(b"\r")[0]


def _looks_like_sip(line: bytes) -> bool:
    return line.startswith(b"SIP/") or b" SIP/" in line[-8:]


def _uri(name: bytes, value: bytes) -> Reason | None:
    """A From, To or Contact without a URI is an error to heplify-server."""
    if _uri_of(value):
        return None
    return Reason(
        "sip-no-uri",
        f"SIP whose header {shown(name)} has no URI",
        "write a URI, or leave the header out",
    )


def _uri_of(value: bytes) -> bytes:
    left, right = value.find(b"<"), value.find(b">")
    return value[left + 1 : right] if 0 <= left <= right else value


def _user_and_domain(uri: bytes) -> tuple[bytes, bytes]:
    scheme = next((each for each in (b"sip:", b"tel:", b"sips:") if uri.startswith(each)), b"")
    user, at, rest = uri.removeprefix(scheme).partition(b"@")
    user, rest = user.partition(b";")[0], (rest if at else user).partition(b";")[0]
    return user if at or scheme == b"tel:" else b"", rest.partition(b":")[0]


def _authorization(name: bytes, value: bytes) -> Reason | None:
    _, blank, rest = value.partition(b" ")
    if blank and rest:
        return None
    return Reason(
        "sip-authorization",
        f"SIP whose header {shown(name)} has no blank and credentials on the same line",
        "write the scheme and the credentials on one line",
    )
