"""Correlation ids that any collector takes: bounded, and text. Pure.

A correlation id is mostly a Call-ID, and so whatever a peer wrote. RFC 3261 bounds no Call-ID and
allows any UTF-8 in a header; a collector stores the id in a database that takes neither NUL nor
what is not UTF-8, and may lose other packets together with it.
"""

from hashlib import blake2b
from typing import Final

from hep.sip import call_id

LONGEST_ID: Final = 256
"""Bytes of a correlation id. The Call-IDs of phones have 10 to 100."""

_DIGEST_SIZE: Final = 16
_BEGINNING: Final = LONGEST_ID - 1 - 2 * _DIGEST_SIZE


def identifier(value: bytes) -> bytes:
    """A correlation id for a value of any length and any bytes.

    Args:
        value: such as a Call-ID.

    Returns:
        the value itself where it is UTF-8 without NUL and has at most `LONGEST_ID` bytes.
        Otherwise its beginning, in which such bytes are escaped, and a hash of the whole: two
        different values never become one.
    """
    if len(value) <= LONGEST_ID and value.isascii() and b"\0" not in value:
        return value
    beginning = value[:LONGEST_ID]
    try:
        text = beginning.decode()
    except UnicodeDecodeError:
        text = beginning.decode("ascii", "backslashreplace")
    escaped = text.replace("\0", r"\x00").encode()
    if escaped == value:
        return value
    digest = blake2b(value, digest_size=_DIGEST_SIZE).hexdigest().encode()
    # A character that the cut falls into goes whole.
    return escaped[:_BEGINNING].decode(errors="ignore").encode() + b"~" + digest


def call_of(message: bytes) -> bytes | None:
    """The correlation id of a SIP message: its Call-ID; None where it has none."""
    found = call_id(message)
    return identifier(found) if found is not None else None
