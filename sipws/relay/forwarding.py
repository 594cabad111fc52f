"""The upgrade request to the upstream, made from a client's: destination and headers. Pure."""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from sipws.events import Connection
from sipws.request import UpgradeRequest
from sipws.ws.client_handshake import Offer
from sipws.ws.destination import Destination

PASSED_ON: Final = ("Authorization", "Cookie", "User-Agent")
"""Headers that are forwarded unchanged. Others are not: a server may trust ``X-Real-IP`` or the
like, which a client can forge."""

_NO_NAMES: Final = UpgradeRequest(b"")
_HOST: Final = re.compile(r"[A-Za-z0-9._~-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


def destination_for(upstream: Destination, connection: Connection) -> Destination:
    """The destination that a connection is relayed to.

    An upstream without a path gets the client's path, one with a path keeps its own. The client's
    query is forwarded either way, unless the upstream has a query too.

    Args:
        upstream: as configured.
        connection: the client's, with its request.
    """
    request = connection.request or _NO_NAMES
    path, _, own_query = upstream.resource.partition("?")
    if own_query:
        return upstream
    if path == "/":
        path = request.path if request.path.startswith("/") else "/"
    query = request.target.partition("?")[2]
    resource = f"{path}?{query}" if query else path
    return replace(upstream, resource=quote(resource, safe=_SAFE, encoding="latin-1"))


def offer_for(connection: Connection, subprotocols: tuple[str, ...]) -> Offer:
    """The contents of the upgrade request for a client's connection.

    Headers of the client with addresses (``X-Forwarded-For`` and the like) are not forwarded,
    because they can be forged. `Connection.peer` is the address that a trusted proxy named.

    Args:
        connection: the client's, with its request.
        subprotocols: the subprotocols that were agreed on with the client.
    """
    request = connection.request or _NO_NAMES
    headers = [(name, text) for name in PASSED_ON for text in request.header(name)]
    proto = "https" if connection.listener.proto == "wss" else "http"
    headers.append(("X-Forwarded-For", connection.peer.ip))
    headers.append(("X-Forwarded-Proto", proto))
    peer = connection.peer
    # Port 0 is unknown: the trusted proxy did not send it.
    node = str(peer) if peer.port else str(peer).rpartition(":")[0]
    # RFC 7239 section 4: values with a colon are quoted.
    element = f'for="{node}";proto={proto}'
    host = next(iter(request.header("host")), "")
    if _HOST.fullmatch(host):
        headers.append(("X-Forwarded-Host", host))
        element += f';host="{host}"'
    headers.append(("Forwarded", element))
    origins = request.header("origin")
    return Offer(subprotocols, origins[0] if origins else None, tuple(headers))
