"""A client's upgrade request as the server behind us gets it: where to, and who is asking. Pure."""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from sipws.events import Connection
from sipws.request import UpgradeRequest
from sipws.ws.client_handshake import Offer
from sipws.ws.destination import Destination

PASSED_ON: Final = ("Authorization", "Cookie", "User-Agent")
"""Headers that go on as they came. Others do not: who believes ``X-Real-IP`` or the like is not to
get one that a client made up."""

_NO_NAMES: Final = UpgradeRequest(b"")
_HOST: Final = re.compile(r"[A-Za-z0-9._~-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#")


def destination_for(upstream: Destination, connection: Connection) -> Destination:
    """Where a connection is relayed to.

    An upstream without a path gets the client's, one with a path keeps its own. The client's query
    goes on either way, unless the upstream has a query too.

    Args:
        upstream: as configured.
        connection: the client's, its request known.
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
    """What our upgrade request holds for a client's connection.

    What the client says itself about who it is (``X-Forwarded-For`` and the like) does not go on:
    `Connection.peer` is whom a trusted proxy named, and anything else may be made up.

    Args:
        connection: the client's, its request known.
        subprotocols: what was agreed on with the client.
    """
    request = connection.request or _NO_NAMES
    headers = [(name, text) for name in PASSED_ON for text in request.header(name)]
    proto = "https" if connection.listener.proto == "wss" else "http"
    headers.append(("X-Forwarded-For", connection.peer.ip))
    headers.append(("X-Forwarded-Proto", proto))
    peer = connection.peer
    # Port 0 is one that the proxy in front of us did not tell.
    node = str(peer) if peer.port else str(peer).rpartition(":")[0]
    # RFC 7239 section 4: what holds a colon is quoted.
    element = f'for="{node}";proto={proto}'
    host = next(iter(request.header("host")), "")
    if _HOST.fullmatch(host):
        headers.append(("X-Forwarded-Host", host))
        element += f';host="{host}"'
    headers.append(("Forwarded", element))
    origins = request.header("origin")
    return Offer(subprotocols, origins[0] if origins else None, tuple(headers))
