"""What one end of a relayed connection is told when the other has ended: close codes. Pure.

Codes go on as they came, and so do reasons, but for credentials that they quote. Some codes may
not be sent (RFC 6455 section 7.4.1), and some blame whom they are sent to: a client that broke the
protocol is no reason to tell the server so.
"""

import math
from http import HTTPStatus
from typing import Final, NamedTuple

from websockets.frames import CloseCode

from sipws.errors import ConnectError
from sipws.events import NO_STATUS, ErrorKind

BLAMES: Final = frozenset((1002, 1003, 1007, 1008, 1009, 1010))
"""Codes that say that whoever gets them did something wrong."""

LONGEST_REASON: Final = 123
"""Bytes of a reason: a control frame has 125, and the code takes two (RFC 6455 section 5.5)."""

_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""Refusals of the 4xx kind that another try may not get."""


class Farewell(NamedTuple):
    """A close code that may be sent, and its reason."""

    code: int
    reason: str


class End(NamedTuple):
    """How a connection ended, seen from here."""

    code: int | None
    """The code of the first close frame; None where the connection ended without one."""

    reason: str
    by_peer: bool
    """Whether the peer ended it, not we."""


def to_upstream(end: End) -> Farewell:
    """What the server is told when the client's connection has ended."""
    if end.code is None:
        return Farewell(CloseCode.GOING_AWAY, shortened(f"the client is gone: {end.reason}"))
    if end.code in BLAMES and not end.by_peer:
        return Farewell(CloseCode.GOING_AWAY, shortened(f"closed with {end.code}: {end.reason}"))
    return _as_it_came(end)


def to_client(end: End) -> Farewell:
    """What the client is told when the server's connection has ended.

    A client may be anybody: it does not hear what only concerns whoever runs the server.
    """
    if end.code is None:
        return Farewell(CloseCode.INTERNAL_ERROR, "upstream lost")
    if end.code in BLAMES and not end.by_peer:
        return Farewell(CloseCode.INTERNAL_ERROR, "upstream failed")
    return _as_it_came(end)


def of_failure(exc: ConnectError) -> Farewell:
    """What the client is told when there is no connection to the server.

    A refusal that names the client's own request (403 and most of 4xx) would be the same again:
    1008. What may be different in a while is 1013.
    """
    status = exc.status
    if exc.kind is ErrorKind.HANDSHAKE_REFUSED and status is not None:
        told = f"upstream refused with {status}"
        if exc.retry_after:
            told += f"; retry after {math.ceil(exc.retry_after)} s"
        if 400 <= status < 500 and status not in _AGAIN:
            return Farewell(CloseCode.POLICY_VIOLATION, told)
        return Farewell(CloseCode.TRY_AGAIN_LATER, told)
    if exc.kind is ErrorKind.OUT_OF_RESOURCES:
        return Farewell(CloseCode.TRY_AGAIN_LATER, "out of resources")
    if exc.kind is ErrorKind.BAD_REPLY:
        return Farewell(CloseCode.INTERNAL_ERROR, "upstream failed")
    return Farewell(CloseCode.TRY_AGAIN_LATER, "upstream unreachable")


def shortened(reason: str) -> str:
    """A reason cut to what a close frame has room for."""
    return reason.encode("utf-8", "replace")[:LONGEST_REASON].decode("utf-8", "ignore")


def _as_it_came(end: End) -> Farewell:
    if end.code is None or end.code == NO_STATUS:
        return Farewell(CloseCode.NORMAL_CLOSURE, "")
    return Farewell(end.code, shortened(end.reason))
