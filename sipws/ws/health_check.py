"""Health checks over HTTP: which requests are one, and what they are answered. Pure.

A load balancer asks a listener with a plain HTTP request whether the server is there. That is no
attempt to open a WebSocket, and so no handshake that failed.
"""

import re
from typing import Final, NamedTuple

from sipws.request import UpgradeRequest

CHECKERS: Final = ("ELB-HealthChecker/", "GoogleHC/", "kube-probe/")
"""How the ``User-Agent`` of health checks begins: of AWS' balancers, of Google's, of Kubernetes."""

_REQUEST_LINE: Final = re.compile(rb"(GET|HEAD|OPTIONS) (\S+) HTTP/1\.[01]\r?\n")

_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 3\r\n"
    b"Cache-Control: no-store\r\n"
    b"Connection: close\r\n"
    b"\r\n"
)
HEALTHY: Final = _ANSWER + b"ok\n"
"""The answer to a request for the health path."""
HEALTHY_HEAD: Final = _ANSWER
"""The same to a ``HEAD``, whose answer has no body (RFC 9110 section 9.3.2)."""


class HealthCheck(NamedTuple):
    """A request that looks whether the server is there."""

    is_served: bool
    """Whether it asks for the health path; a check of another one has the answer of any request
    that is no upgrade."""

    wants_body: bool
    """False for ``HEAD``."""


def health_check(raw: bytes, path: str | None) -> HealthCheck | None:
    """Tell a health check from an attempt to connect.

    It is a GET, a HEAD or an OPTIONS with neither ``Upgrade`` nor ``Sec-WebSocket-Key`` (a proxy
    that takes the one off a client's request leaves the other) which asks for the health path, has
    the ``User-Agent`` of a checker, or is HAProxy's ``option httpchk`` as it is by default: an
    OPTIONS without a ``User-Agent``.

    Args:
        raw: the request, up to and including its blank line.
        path: the health path; None for none.

    Returns:
        None for any other request.
    """
    line = _REQUEST_LINE.match(raw)
    if line is None:
        return None
    request = UpgradeRequest(raw)
    if request.header("upgrade") or request.header("sec-websocket-key"):
        return None
    method = line[1]
    if path is not None and request.path == path:
        return HealthCheck(is_served=True, wants_body=method != b"HEAD")
    agents = request.header("user-agent")
    is_known = agents[0].startswith(CHECKERS) if agents else method == b"OPTIONS"
    return HealthCheck(is_served=False, wants_body=method != b"HEAD") if is_known else None
