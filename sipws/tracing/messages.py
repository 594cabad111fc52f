"""Which SIP messages are traced, and what they are found by in Homer. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from hep.correlation import identifier
from sipws.sip import call_id, end_of_head, unfolded

STATUS: Final = b"SIP/2.0 "
"""The first bytes of a response."""

REQUEST: Final = b" SIP/2.0\r\n"
"""The last bytes of a request's first line."""

_LINE_ENDS: Final = b"\r\n"
_LWS: Final = rb"[ \t]*+(?:\r?\n[ \t]++)?+"
"""White space, which may go over the end of a line (RFC 3261 section 25.1); none is given back, or
a header of blanks would be tried in every way."""

_METHOD: Final = re.compile(rb"([A-Z]+) ")
_CSEQ: Final = re.compile(rb"\ncseq[ \t]*:" + _LWS + rb"\d+" + _LWS + rb"([A-Z]+)", re.IGNORECASE)
_USER: Final = re.compile(rb"sips?:([^@>;\s]+)(?:@([^>;\s]+))?", re.IGNORECASE)
_FROM: Final = re.compile(rb"\n(?:from|f)[ \t]*:([^\r\n]*)", re.IGNORECASE)
_TO: Final = re.compile(rb"\n(?:to|t)[ \t]*:([^\r\n]*)", re.IGNORECASE)

_HASHES: Final = 1 << 32


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


Select = Callable[[bytes, bytes | None], bool]
"""Whether a message is traced, by its bytes and the id of its call (`identifier`)."""

Correlate = Callable[[bytes, bytes | None], bytes | None]
"""The correlation id of a message, by its bytes and the id of its call."""


def is_keep_alive(message: bytes) -> bool:
    """Whether a message is nothing but line ends (RFC 5626 section 3.5.1)."""
    return not message.strip(_LINE_ENDS)


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
    if not rules.correlation_headers:
        return None
    patterns = [
        re.compile(
            rb"\n" + re.escape(name.encode()) + rb"[ \t]*:" + _LWS + rb"([^\r\n]*[^\r\n \t])",
            re.IGNORECASE,
        )
        for name in rules.correlation_headers
    ]

    def correlate(message: bytes, found: bytes | None) -> bytes | None:
        for pattern in patterns:
            match = pattern.search(message)
            if match is not None and match.start() <= end_of_head(message):
                return identifier(match[1])
        return found

    return correlate


def _sampled(share: float) -> Select:
    limit = int(share * _HASHES)

    def select(message: bytes, found: bytes | None) -> bool:
        # What has no Call-ID is no SIP that anybody counts; it is rare, and worth a look.
        return found is None or crc32(found) < limit

    return select


def _of_methods(methods: frozenset[str]) -> Select:
    names = frozenset(name.upper().encode() for name in methods)

    def select(message: bytes, found: bytes | None) -> bool:
        match = _METHOD.match(message) or _CSEQ.search(message)
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
        if found is None and (value := call_id(message)) is not None:
            found = identifier(value)
        if found in self._calls:
            return True
        head = unfolded(message[: end_of_head(message)])
        if not (_names(self._callers, _FROM, head) and _names(self._callees, _TO, head)):
            return False
        if found is not None:
            self._calls[found] = None
            if len(self._calls) > MOST_CALLS:
                del self._calls[next(iter(self._calls))]
        return True


def _names(parties: tuple[Party, ...], header: re.Pattern[bytes], head: bytes) -> bool:
    if not parties:
        return True
    match = header.search(head)
    return match is not None and any(party.is_in(match[1]) for party in parties)
