"""Answers usual upgrade requests without websockets' engine. Pure.

Reading an upgrade request line by line and building its answer header by header is half of the cost
of a short connection. `short_answer` takes only usual, correct requests. `sipws.ws.handshake` and
the engine take all others, and make every refusal. A property test compares both ways.
"""

import re
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from websockets.utils import accept_key

from sipws.address import is_authority
from sipws.limits import Limits

_USUAL_LIMITS: Final = Limits()

LONGEST: Final = 8192
"""Maximum bytes of a request for the fast path. Browsers send 500. Long requests seldom repeat and
would only displace others from the cache."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST: Final = re.compile(
    rb"GET /[!\"$-~]* HTTP/1\.1\r\n(?:" + _TOKEN + rb":[\t -~]*\r\n)+\r\n"
)  # fmt: skip
_TOKENS: Final = re.compile(_TOKEN + rb"(?:[\t ]*,[\t ]*" + _TOKEN + rb")*")
_USUAL_KEY: Final = re.compile(rb"\r\nSec-WebSocket-Key: ([A-Za-z0-9+/]{22}==)\r\n")
"""The usual spelling, which is found in a third of the time."""
_KEY: Final = re.compile(
    rb"\r\nsec-websocket-key:[\t ]*([A-Za-z0-9+/]{22}==)[\t ]*\r\n", re.IGNORECASE
)

_NEEDED: Final = {
    b"host",
    b"upgrade",
    b"connection",
    b"sec-websocket-key",
    b"sec-websocket-version",
}
_OPTIONAL: Final = {b"origin", b"sec-websocket-protocol", b"sec-websocket-extensions"}
_READ: Final = _NEEDED | _OPTIONAL | {b"content-length", b"transfer-encoding"}
"""Headers that affect the engine's answer."""


REMEMBERED: Final = 256
"""Requests in the cache, each without its key. A browser repeats the same request, and all browsers
of one version send the same one. The cache takes 2 MB at most."""

_ANY_KEY: Final = b"A" * 22 + b"=="


def short_answer(
    request: bytes,
    subprotocols: Sequence[str],
    now: float,
    limits: Limits = _USUAL_LIMITS,
    *,
    extensions: bool = False,
) -> bytes | None:
    """The 101 to a usual upgrade request.

    Args:
        request: the upgrade request, up to and including its blank line. Anything else gets None.
        subprotocols: the client must offer one of them, in order of preference; empty for none.
        now: the time, in seconds since the epoch.
        limits: bounds for its lines.
        extensions: whether the engine may accept an offered extension.

    Returns:
        the bytes of the answer; None for a request that the engine must answer.
    """
    if len(request) > LONGEST or not request.endswith(b"\r\n\r\n"):
        return None
    if (key := _USUAL_KEY.search(request) or _KEY.search(request)) is None:
        return None
    # The key affects only the answer's key.
    start, end = key.span(1)
    shape = request[:start] + _ANY_KEY + request[end:]
    chosen = _chosen_for(
        shape, tuple(subprotocols), extensions, limits.most_headers, limits.longest_line
    )
    if chosen is None:
        return None
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nDate: %b\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
    ) % (_date(int(now)), accept_key(key[1].decode()).encode(), chosen)


@lru_cache(REMEMBERED)
def _chosen_for(
    request: bytes,
    subprotocols: tuple[str, ...],
    extensions: bool,
    most_headers: int,
    longest_line: int,
) -> bytes | None:
    """The header line with the chosen subprotocol, or b""; None if the engine must answer.

    Args:
        request: the upgrade request with `_ANY_KEY` for its key.
        subprotocols: see `short_answer`.
        extensions: see `short_answer`.
        most_headers: maximum header lines.
        longest_line: maximum bytes of a line.
    """
    if not _REQUEST.fullmatch(request):
        return None
    lines = request.split(b"\r\n")
    # Not counted: the request line, the blank line, and the empty text behind the last CRLF.
    if len(lines) - 3 > most_headers or max(map(len, lines)) > longest_line:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in _READ:
            if name in headers:
                return None
            headers[name] = value.strip(b"\t ")
    # All needed headers, and none of a body.
    if not _NEEDED <= headers.keys() <= _NEEDED | _OPTIONAL:
        return None
    if not is_authority(headers[b"host"].decode()):
        return None
    connection = headers[b"connection"]
    if not (
        headers[b"upgrade"].lower() == b"websocket"
        and headers[b"sec-websocket-version"] == b"13"
        and _TOKENS.fullmatch(connection)
        and b"upgrade" in _listed(connection.lower())
    ):
        return None
    if extensions and b"sec-websocket-extensions" in headers:
        return None
    chosen = b""
    offered = headers.get(b"sec-websocket-protocol")
    if offered is not None and not _TOKENS.fullmatch(offered):
        return None
    if subprotocols:
        among = _listed(offered or b"")
        for subprotocol in subprotocols:
            if (wanted := subprotocol.encode()) in among:
                chosen = b"Sec-WebSocket-Protocol: %b\r\n" % wanted
                break
        else:
            return None
    return chosen


def _listed(value: bytes) -> list[bytes]:
    return [each.strip(b"\t ") for each in value.split(b",")]


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    # Many handshakes happen within one second.
    return formatdate(second, usegmt=True).encode()
