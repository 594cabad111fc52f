"""Which SIP messages are traced, what they are found by in Homer, and which it loses. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from zlib import crc32

from hep.codec.correlation import call_of, identifier
from hep.homer import sip_rules
from hep.homer.reasons import Reason
from hep.sip import COMPACT_FORMS, LINE_ENDS, end_of_head, first, is_sip

_METHOD: Final = re.compile(rb"([A-Z]+) ")
_METHOD_OF_CSEQ: Final = re.compile(rb"[0-9]+[ \t]+([A-Za-z]+)")
_cseq: Final = first("cseq")
_USER: Final = re.compile(rb"sips?:([^@>;\s]+)(?:@([^>;\s]+))?", re.IGNORECASE)
_from: Final = first("from")
_to: Final = first("to")

_HASHES: Final = 1 << 32


CorrelateBy = Literal["call", "connection"]
"""Whose id SIP messages carry as correlation id. heplify-server finds the call of a message by the
Call-ID in it, so that the correlation id is free to name the connection."""


@dataclass(frozen=True, slots=True)
class MessageRules:
    """Which messages are traced."""

    sample: float = 1.0
    """Share of calls, 0 to 1. The Call-ID decides, by the same hash everywhere, so that of a call
    all messages are traced or none, on every server of a site."""

    methods: frozenset[str] = frozenset()
    """Methods whose requests and responses are traced; empty for all."""

    correlation_headers: tuple[str, ...] = ()
    """Headers whose value is the correlation id in place of the Call-ID, in order of preference,
    such as ``X-CID`` (Kamailio and heplify call it so), which ties the legs of a call together."""

    correlate_by: CorrelateBy = "call"
    """What the correlation id of a message is: the id of its call, or of its connection."""


STATUS: Final = b"SIP/2.0 "
"""The first bytes of a response."""

VERSION: Final = b" SIP/2.0"
"""The last bytes of a request's first line."""

SECOND: Final = b"\r\nCall-ID:"
"""What is not to come behind the first Call-ID."""

usual: Final = re.compile(
    # The first Call-ID with a CSeq next to it, as in RFC 3261's examples: group 1 or 2 as nearly
    # all write it, group 3 or 4 in another spelling that heplify-server reads. Without a group:
    # another Call-ID, or no more head. Each alternative begins with its own letter, so that the
    # matcher chooses at once. Collectors read lines that end in CRLF.
    rb"\r\n(?:C(?:all-ID: ([!-~]+)\r\nCSeq: [0-9]+ [A-Z]{3,}+(?=\r\n)"
    rb"|Seq: [0-9]+ [A-Z]{3,}+\r\nCall-ID: ([!-~]+)(?=\r\n[^ \t]))"
    rb"|(?:CALL-ID|Call-Id|[cC]all-id|Call-ID)[ \t]*+:(?:[ \t]*+([!-~]+)\r\n%b)?"
    rb"|[iI][ \t]*+:(?:[ \t]*+([!-~]+)\r\n%b)?|[cC][aA][lL][lL]-[iI][dD][ \t]*+:|[\r\n])"
    % ((rb"(?:C[sS]eq|CSEQ|cseq)[ \t]*+:[ \t]*+[0-9]+[ \t]++[A-Z]{3,}+(?=\r\n)",) * 2)
).search
"""Finds Call-ID and CSeq of a message at one look; see `has_second` for what it does not see."""

LONGEST_INDEXED: Final = 2_600
"""Bytes of a value by which Homer 7 finds a message. An index (B-tree) of PostgreSQL takes rows of
at most 2,704 bytes. A longer one is refused, together with all others of its batch."""

_BOM: Final = b"\xef\xbb\xbf"
_PREFIX: Final = re.compile(rb"[^!-~]{1,16}")
_LONGEST_START: Final = 8 * 1024
"""Bytes in which a start line is looked for behind the bytes in front of it."""
_QUOTED: Final = 40
"""Bytes of a header's value that are quoted."""

_REQUEST_WITH_BLANKS: Final = re.compile(
    rb"[A-Za-z0-9.!%*_+`'~-]{1,64} [^\r\n]{1,4096} SIP/2\.0\r?\n"
)
"""A request whose URI has blanks in it, which collectors take."""
_CALL_IDS: Final = re.compile(
    rb"\r\n(?:call-id|i)[ \t]*+:[ \t]*+([^\r\n]*+)(\r?\n[ \t]++[^ \t\r\n])?", re.IGNORECASE
)
_CSEQS: Final = re.compile(
    rb"\r\ncseq[ \t]*+:[ \t]*+([^\r\n]*+)(\r?\n[ \t]++[^ \t\r\n])?", re.IGNORECASE
)
_CSEQ_VALUE: Final = re.compile(rb"[0-9]+[ \t]+[!-~]{3}")

Select = Callable[[bytes, bytes | None], bool]
"""Whether a message is traced, by its bytes and the id of its call (`identifier`)."""

Correlate = Callable[[bytes, bytes | None, bytes], bytes | None]
"""The correlation id of a message, by its bytes, the id of its call, and that of its connection."""


def has_second(message: bytes, first: re.Match[bytes]) -> bool:
    """Whether another Call-ID, in an unusual spelling, follows the one that `usual` found.

    Only the spelling of the first one is looked for.
    """
    name = first[0][: first[0].index(b":") + 1]
    return message.find(name, first.end()) >= 0


def is_message(sip: bytes) -> bool:
    """Whether this is SIP, in any spelling. Leading line ends must be removed already."""
    return is_sip(sip) or _REQUEST_WITH_BLANKS.match(sip) is not None


def what_stands_in_front(message: bytes) -> str:
    """What keeps a message from being SIP, in words; empty where it is not what it starts with."""
    message = message.lstrip(LINE_ENDS)
    match = _PREFIX.match(message)
    if match is None:
        return ""
    prefix = match[0]
    shown = prefix.hex(" ").upper()
    if prefix.startswith(_BOM):
        return f"it starts with a byte order mark ({shown})"
    if not is_message(message[match.end() : _LONGEST_START]):
        return ""
    if not prefix.strip(b" \t"):
        return f"it starts with {'a blank' if len(prefix) == 1 else 'blanks'} ({shown})"
    return f"the bytes {shown} stand in front of its start line"


def what_is_broken(sip: bytes) -> str:
    """Why a collector drops a SIP message, or files it under another Call-ID; empty if it does not.

    The rules are those of heplify-server 1.60 that one message can break.

    Args:
        sip: a message that begins with its start line.
    """
    found = []
    if len(sip) < sip_rules.SHORTEST:
        found.append(f"it has {len(sip)} bytes, and at least {sip_rules.SHORTEST} are needed")
    head = sip[: end_of_head(sip) + 2]
    call_ids, problem = _values("Call-ID", _CALL_IDS, head)
    if problem:
        found.append(problem)
    elif any(each != call_ids[0] for each in call_ids):
        first, last = (_quoted(each) for each in (call_ids[0], call_ids[-1]))
        found.append(f"{len(call_ids)} Call-IDs, the first {first}, the last {last}")
    cseqs, problem = _values("CSeq", _CSEQS, head)
    if problem:
        found.append(problem)
    elif not _CSEQ_VALUE.match(cseqs[0]):
        found.append(f"CSeq {_quoted(cseqs[0])} is not a number with a method of 3 letters or more")
    if found and head.count(b"\n") != head.count(b"\r\n"):
        found = ["lines end in LF alone"]
    if not found and isinstance(reason := sip_rules.read(sip_rules.cleaned(sip)), Reason):
        found.append(reason.what)
    return "; ".join(found)


def what_loses_others(sip: bytes) -> str:
    """What of a SIP message makes a collector lose those of others; empty if nothing does.

    Args:
        sip: a message that begins with its start line.
    """
    found = sip_rules.too_long_for_index(sip_rules.cleaned(sip), LONGEST_INDEXED)
    if found is None:
        return ""
    what, size = found
    return (
        f"the {what} has {size} bytes; a database's index takes {LONGEST_INDEXED}, and refuses the"
        " messages of others with it"
    )


def _values(name: str, header: re.Pattern[bytes], head: bytes) -> tuple[list[bytes], str]:
    """The values of a header as a collector reads them, and what is wrong where it reads none."""
    matches = list(header.finditer(head))
    values = [value for match in matches if (value := match[1].rstrip(b" \t"))]
    if len(values) == len(matches):
        return values, "" if values else f"no {name}"
    # What stands on the next line is not read.
    folded = any(match[2] and not match[1].strip(b" \t") for match in matches)
    return values, f"the {name} {'is folded onto the next line' if folded else 'is empty'}"


def _quoted(value: bytes) -> str:
    return repr(value[:_QUOTED].decode("latin-1"))


def selector(rules: MessageRules) -> Select | None:
    """The function that the rules amount to; None where all messages are traced."""
    tests: list[Select] = []
    if rules.sample < 1:
        tests.append(_sampled(rules.sample))
    if rules.methods:
        tests.append(_of_methods(rules.methods))
    if not tests:
        return None
    return lambda message, found: all(test(message, found) for test in tests)


def correlator(rules: MessageRules) -> Correlate | None:
    """The function that finds a message's correlation id; None where that is its Call-ID."""
    if rules.correlate_by == "connection":
        return lambda message, found, connection: connection
    if not rules.correlation_headers:
        return None
    finds = [
        first(COMPACT_FORMS.get(name.lower(), name.lower())) for name in rules.correlation_headers
    ]

    def correlate(message: bytes, found: bytes | None, connection: bytes) -> bytes | None:
        for find in finds:
            if value := find(message):
                return identifier(value)
        return found

    return correlate


def _sampled(share: float) -> Select:
    limit = int(share * _HASHES)

    def select(message: bytes, found: bytes | None) -> bool:
        # A message without a Call-ID belongs to no call; it is rare, and worth a trace.
        return found is None or crc32(found) < limit

    return select


def _of_methods(methods: frozenset[str]) -> Select:
    names = frozenset(name.upper().encode() for name in methods)

    def select(message: bytes, found: bytes | None) -> bool:
        match = _METHOD.match(message) or _METHOD_OF_CSEQ.match(_cseq(message))
        return match is None or match[1].upper() in names

    return select


class Party:
    """A caller or a callee to look for, as ``alice``, ``alice@example.com`` or ``+4989…``."""

    __slots__ = ("_host", "_user")

    def __init__(self, text: str) -> None:
        user, _, host = text.removeprefix("sips:").removeprefix("sip:").partition("@")
        self._user, self._host = user.encode(), host.lower().encode()

    def is_in(self, header: bytes) -> bool:
        """Whether a From or To header names them."""
        match = _USER.search(header)
        if match is None or match[1] != self._user:
            return False
        host = (match[2] or b"").lower()
        return not self._host or host == self._host or host.rpartition(b":")[0] == self._host


MOST_CALLS: Final = 1024
"""Calls that a filter by party remembers."""


class CallsOf:
    """Selects the calls of a caller, or to a callee: all messages of each, in both directions.

    In the middle of a call, requests come from either side; so the Call-ID of a message that
    matched is remembered.
    """

    def __init__(self, callers: Sequence[Party] = (), callees: Sequence[Party] = ()) -> None:
        self._callers = tuple(callers)
        self._callees = tuple(callees)
        self._calls: dict[bytes, None] = {}

    def __call__(self, message: bytes, found: bytes | None) -> bool:
        """Whether a message belongs to one of the calls."""
        if found is None:
            found = call_of(message)
        if found in self._calls:
            return True
        if not (_names(self._callers, _from, message) and _names(self._callees, _to, message)):
            return False
        if found is not None:
            self._calls[found] = None
            if len(self._calls) > MOST_CALLS:
                del self._calls[next(iter(self._calls))]
        return True


def _names(parties: tuple[Party, ...], find: Callable[[bytes], bytes], message: bytes) -> bool:
    if not parties:
        return True
    header = find(message)
    return any(party.is_in(header) for party in parties)
