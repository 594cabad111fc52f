"""The opening handshake of clients that do nothing unusual, answered without the engine. Pure.

To read an upgrade request line by line and to build its answer header by header is half of what a
connection costs that comes and goes. `short_answer` takes a request that is right at first sight
and leaves everything that is in the least different to `sipws.ws.handshake` and websockets' engine,
every refusal included. It is equal to that way, which is a property test.
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
"""Bytes of a request that is looked at: those of browsers have 500, and longer ones, which are no
two alike, would only push others out of what is remembered."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST: Final = re.compile(
    rb"GET /[!\"$-~]* HTTP/1\.1\r\n(?:" + _TOKEN + rb":[\t -~]*\r\n)+\r\n"
)  # fmt: skip
_TOKENS: Final = re.compile(_TOKEN + rb"(?:[\t ]*,[\t ]*" + _TOKEN + rb")*")
_USUAL_KEY: Final = re.compile(rb"\r\nSec-WebSocket-Key: ([A-Za-z0-9+/]{22}==)\r\n")
"""As nearly all write it, which is found in a third of the time."""
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
"""Headers that matter to the engine's answer."""


REMEMBERED: Final = 256
"""Requests that are remembered, each without its key: a browser sends the same one to a server
again and again, and all of one version send the same one. They take 2 MB at most."""

_ANY_KEY: Final = b"A" * 22 + b"=="


def short_answer(
    request: bytes,
    subprotocols: Sequence[str],
    now: float,
    limits: Limits = _USUAL_LIMITS,
    *,
    extensions: bool = False,
) -> bytes | None:
    """The 101 to an upgrade request; None where the engine is to be asked.

    Args:
        request: the upgrade request, up to and including its blank line. Anything else gets None.
        subprotocols: of which one must be offered, in order of preference; empty asks for none.
        now: the time, in seconds since the epoch.
        limits: what its lines may have.
        extensions: whether the engine may accept an extension that is offered.
    """
    if len(request) > LONGEST or not request.endswith(b"\r\n\r\n"):
        return None
    if (key := _USUAL_KEY.search(request) or _KEY.search(request)) is None:
        return None
    # Another key changes nothing but the answer's.
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
    """The header line with a request's subprotocol; None where the engine is to be asked."""
    if not _REQUEST.fullmatch(request):
        return None
    lines = request.split(b"\r\n")
    # The request line and what stands behind the last CRLF are no headers, nor is the blank line.
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
    # No body, nothing missing.
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
    # A second sees many handshakes.
    return formatdate(second, usegmt=True).encode()
