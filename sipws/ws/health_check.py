"""Health checks over HTTP: how they are recognised and answered. Pure.

A load balancer sends a plain HTTP request to see whether the server is up. This is no attempt to
open a WebSocket, so it is not reported as a failed handshake.
"""

import re
from typing import Final, NamedTuple

from sipws.request import UpgradeRequest

CHECKERS: Final = ("ELB-HealthChecker/", "GoogleHC/", "kube-probe/")
"""Beginnings of the ``User-Agent`` of health checks: AWS and Google load balancers, Kubernetes."""

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
"""The answer to a ``HEAD``, which has no body (RFC 9110 section 9.3.2)."""


class HealthCheck(NamedTuple):
    """A request that checks whether the server is up."""

    is_served: bool
    """Whether the request names the health path. A check of another path gets the answer of any
    request that is not an upgrade."""

    wants_body: bool
    """False for ``HEAD``."""


def health_check(raw: bytes, path: str | None) -> HealthCheck | None:
    """Recognise a health check.

    A health check is a GET, HEAD or OPTIONS with neither ``Upgrade`` nor ``Sec-WebSocket-Key``. (A
    proxy that removes the first from a client's request leaves the second.) Additionally one of
    these holds: the request names the health path; its ``User-Agent`` is one of `CHECKERS`; it is
    an OPTIONS without a ``User-Agent``, the default of HAProxy's ``option httpchk``.

    Args:
        raw: the request, up to and including its blank line.
        path: the health path; None for none.

    Returns:
        the check; None for any other request.
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
