"""Counts of SIP messages by their start line: requests by method, responses by status. Pure.

Every message that arrives is counted, so the count must cost little. Some bytes of a message are
indices into tables that are complete from the start: a peer cannot make them grow. `count_odd`
reads the few messages that the tables do not have. A flow counts as follows::

    try:
        if message[0] == S:
            counts.statuses[message[8]][message[9]][message[10]] += 1
        else:
            counts.methods[message[:8]][0] += 1
    except LookupError:
        counts.count_odd(message)
"""

import re
from collections import Counter
from typing import Final

METHODS: Final = (
    "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH",
    "REFER", "REGISTER", "SUBSCRIBE", "UPDATE",
)  # fmt: skip
"""The registered methods (IANA, SIP parameters). All others count as `OTHER`: a client may invent
any number of them, and each would be a time series."""

OTHER: Final = "other"

STATUSES: Final = (
    100, 180, 181, 182, 183, 199, 200, 202, 204, 300, 301, 302, 305, 380, 400, 401, 402, 403, 404,
    405, 406, 407, 408, 410, 412, 413, 414, 415, 416, 417, 420, 421, 422, 423, 424, 425, 428, 429,
    430, 433, 436, 437, 438, 439, 440, 469, 470, 480, 481, 482, 483, 484, 485, 486, 487, 488, 489,
    491, 493, 494, 500, 501, 502, 503, 504, 505, 513, 555, 580, 600, 603, 604, 606, 607, 608,
)  # fmt: skip
"""The registered status codes (IANA, SIP parameters). All others count by class, as ``4xx``."""

S: Final = ord("S")
"""The first byte of all responses, and of one registered request, SUBSCRIBE."""

_WITH_SCHEME: Final = len("BYE sip:")
"""A key of this length has no byte of a user, also with the shortest method. It cuts REGISTER
before the blank: a method that begins with REGISTER counts as REGISTER."""

_SCHEMES: Final = ("sip:", "sips:", "tel:", "urn:")
_ODD: Final = b"other method"
"""The key of methods that are not registered; longer than the keys of messages."""

_ZERO: Final = ord("0")

_response: Final = re.compile(rb"SIP/[0-9]\.[0-9] ([1-6])([0-9])([0-9])(?![!-~])", re.I).match
_request: Final = re.compile(rb"([!-~]++) [!-~]++ SIP/[0-9]\.[0-9]\r?\n", re.I).match


def _method_of() -> dict[bytes, str]:
    lines = {f"{method} {scheme}": method for method in METHODS for scheme in _SCHEMES}
    return {_ODD: OTHER} | {line[:_WITH_SCHEME].encode(): name for line, name in lines.items()}


_METHOD_OF: Final = _method_of()
"""The method that the first bytes of a request name."""


class SipCounts:
    """The SIP messages that arrived on all connections of one kind, since the start."""

    __slots__ = ("_subscribes", "methods", "statuses")

    def __init__(self) -> None:
        self.methods: dict[bytes, list[int]] = {key: [0] for key in _METHOD_OF}
        """Requests by their first eight bytes. A number is in a list of its own, so that counting
        searches the table once."""
        self.statuses: list[list[list[int]]] = [[] for _ in range(S)]
        """Responses by the three digits of the status, each as a byte."""
        for status_class in range(1, 7):
            rows: list[list[int]] = [[] for _ in range(_ZERO)]
            self.statuses[_ZERO + status_class] = rows + [[0] * (_ZERO + 10) for _ in range(10)]
        # SUBSCRIBE begins with S too, and has these bytes where a response has its status.
        self._subscribes = [0] * 256
        self.statuses[ord("E")] = [*([] for _ in range(ord(" "))), self._subscribes]

    def count_odd(self, message: bytes) -> None:
        """Count a message that the tables do not have; what is not SIP is not counted.

        Such messages have a method that is not registered, a URI of another scheme, or another
        version of SIP.

        Args:
            message: from its start line on.
        """
        if response := _response(message):
            first, second, third = (_ZERO + int(digit) for digit in response.groups())
            self.statuses[first][second][third] += 1
        elif request := _request(message):
            # RFC 3261 section 7.1: methods are case-sensitive.
            method = request[1].decode()
            key = f"{method} sip:"[:_WITH_SCHEME].encode()
            self.methods[key if _METHOD_OF.get(key) == method else _ODD][0] += 1

    @property
    def requests(self) -> Counter[str]:
        """Requests by method; those with a method that is not registered as `OTHER`."""
        counted = Counter({"SUBSCRIBE": sum(self._subscribes)})
        for key, method in _METHOD_OF.items():
            counted[method] += self.methods[key][0]
        return counted

    @property
    def responses(self) -> Counter[str]:
        """Responses by status code; those with a code that is not registered as ``4xx``."""
        counted: Counter[str] = Counter()
        for status in range(100, 700):
            first, second, third = (_ZERO + int(digit) for digit in str(status))
            name = str(status) if status in STATUSES else f"{status // 100}xx"
            counted[name] += self.statuses[first][second][third]
        return counted
