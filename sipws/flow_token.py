"""Flow tokens: names for connections that others can hand back, but not make up.

An edge proxy writes one into a Record-Route or Path header to find the flow again that a request
is to go out on (RFC 5626 section 5.2). The token holds the connection's id and a keyed hash over
it, so that nobody can reach a flow whose token he was not given.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

_KEY: Final = secrets.token_bytes(32)
"""Drawn anew by each process: a token does not outlive the connections it can name."""

_ID_SIZE: Final = 8

_TAG_SIZE: Final = 10
"""Bytes of the hash that are kept: the 80 bits that RFC 5626's own example keeps."""


def make(connection_id: int) -> str:
    """The token of a connection: 24 characters that may stand unquoted in a SIP URI's user part."""
    name = connection_id.to_bytes(_ID_SIZE, "big")
    return urlsafe_b64encode(name + _tag(name)).decode()


def read(token: str) -> int | None:
    """The id that a token holds; None for what is no token of this process."""
    try:
        data = urlsafe_b64decode(token)
    except ValueError:
        return None
    connection_id = int.from_bytes(data[:_ID_SIZE], "big")
    # Made anew and compared whole: a decoder lets characters pass that are none of base64's. The
    # comparison tells nothing of where the first difference is by the time it takes.
    right = hmac.compare_digest(make(connection_id).encode(), token.encode())
    return connection_id if right else None


def _tag(name: bytes) -> bytes:
    return hmac.digest(_KEY, name, "sha256")[:_TAG_SIZE]
