"""The close code for one end of a relayed connection when the other has ended. Pure.

Codes and reasons are relayed as they arrived; credentials in reasons are masked. Some codes must
not be sent (RFC 6455 section 7.4.1). Some blame their receiver: if a client broke the protocol, its
server must not get 1002.
"""

import math
from http import HTTPStatus
from typing import Final, NamedTuple

from websockets.frames import CloseCode

from sipws.errors import ConnectError
from sipws.events import NO_STATUS, ErrorKind

BLAMES: Final = frozenset((1002, 1003, 1007, 1008, 1009, 1010))
"""Codes that blame their receiver."""

LONGEST_REASON: Final = 123
"""Bytes of a reason: a control frame has 125, and the code takes two (RFC 6455 section 5.5)."""

_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
"""Refusals with 4xx that another try may not get."""


class CloseReason(NamedTuple):
    """A close code that may be sent, with its reason."""

    code: int
    reason: str


class End(NamedTuple):
    """How a connection ended."""

    code: int | None
    """The code of the first close frame; None if the connection ended without one."""

    reason: str
    by_peer: bool
    """Whether the peer ended the connection."""


def to_upstream(end: End) -> CloseReason:
    """The close code for the server when the client's connection has ended."""
    if end.code is None:
        return CloseReason(CloseCode.GOING_AWAY, shortened(f"the client is gone: {end.reason}"))
    if end.code in BLAMES and not end.by_peer:
        return CloseReason(CloseCode.GOING_AWAY, shortened(f"closed with {end.code}: {end.reason}"))
    return _as_it_came(end)


def to_client(end: End) -> CloseReason:
    """The close code for the client when the server's connection has ended.

    A client is not trusted: it gets no details that only concern the operator of the server.
    """
    if end.code is None:
        return CloseReason(CloseCode.INTERNAL_ERROR, "upstream lost")
    if end.code in BLAMES and not end.by_peer:
        return CloseReason(CloseCode.INTERNAL_ERROR, "upstream failed")
    return _as_it_came(end)


def of_failure(exc: ConnectError) -> CloseReason:
    """The close code for the client when there is no connection to the server.

    1008: the server refused the client's request itself (403 and most of 4xx), and would refuse it
    again. 1013: another try may succeed later.
    """
    status = exc.status
    if exc.kind is ErrorKind.HANDSHAKE_REFUSED and status is not None:
        reason = f"upstream refused with {status}"
        if exc.retry_after:
            reason += f"; retry after {math.ceil(exc.retry_after)} s"
        if 400 <= status < 500 and status not in _AGAIN:
            return CloseReason(CloseCode.POLICY_VIOLATION, reason)
        return CloseReason(CloseCode.TRY_AGAIN_LATER, reason)
    if exc.kind is ErrorKind.OUT_OF_RESOURCES:
        return CloseReason(CloseCode.TRY_AGAIN_LATER, "out of resources")
    if exc.kind is ErrorKind.BAD_REPLY:
        return CloseReason(CloseCode.INTERNAL_ERROR, "upstream failed")
    return CloseReason(CloseCode.TRY_AGAIN_LATER, "upstream unreachable")


def shortened(reason: str) -> str:
    """A reason, cut to the size that a close frame can carry."""
    return reason.encode("utf-8", "replace")[:LONGEST_REASON].decode("utf-8", "ignore")


def _as_it_came(end: End) -> CloseReason:
    if end.code is None or end.code == NO_STATUS:
        return CloseReason(CloseCode.NORMAL_CLOSURE, "")
    return CloseReason(end.code, shortened(end.reason))
