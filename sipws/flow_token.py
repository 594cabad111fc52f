"""Flow tokens: names of connections that other elements can return, but not forge.

An edge proxy writes one into a Record-Route or Path header, and finds the flow for a later request
by it (RFC 5626 section 5.2). The token holds the connection's id and a keyed hash over it: only a
token that was issued reaches a flow.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

_KEY: Final = secrets.token_bytes(32)
"""Random in each process: a token does not outlive the connections that it can name."""

_ID_SIZE: Final = 8

_TAG_SIZE: Final = 10
"""Bytes of the hash that are kept: 80 bits, as in the example of RFC 5626."""


def make(connection_id: int) -> str:
    """Return the token of a connection: 24 characters that a SIP URI's user part takes unquoted."""
    name = connection_id.to_bytes(_ID_SIZE, "big")
    return urlsafe_b64encode(name + _tag(name)).decode()


def read(token: str) -> int | None:
    """Return the id in a token; None if this process did not issue it."""
    try:
        data = urlsafe_b64decode(token)
    except ValueError:
        return None
    connection_id = int.from_bytes(data[:_ID_SIZE], "big")
    # The whole token is made again and compared: the decoder skips characters outside base64. The
    # time of the comparison does not depend on the place of the first difference.
    right = hmac.compare_digest(make(connection_id).encode(), token.encode())
    return connection_id if right else None


def _tag(name: bytes) -> bytes:
    return hmac.digest(_KEY, name, "sha256")[:_TAG_SIZE]
