"""Compressed payloads (chunk 0x0010): zlib from captagent, gzip from OpenSIPS. Pure.

heplify-server, Homer 11 and Kamailio pass the chunk over and lose the payload, so nothing is
compressed unless asked for.
"""

import zlib
from typing import Final, Literal

from hep.errors import HepError

Container = Literal["zlib", "gzip"]

LONGEST_INFLATED: Final = 1 << 20
"""Bytes that a compressed payload may become. What senders compress was a message of at most 64
KiB; 64 KiB of zeros, compressed, would become 64 MiB."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_WINDOW: Final = {"zlib": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}
_EITHER: Final = zlib.MAX_WBITS | 32


class InflateError(HepError):
    """Bytes are no compressed payload; the codec turns it into a `hep.HepDecodeError`."""


def inflate(data: bytes) -> bytes:
    """The payload in a chunk.

    Raises:
        InflateError: it is neither zlib nor gzip, or incomplete, or becomes too long.
    """
    inflater = zlib.decompressobj(_EITHER)
    try:
        payload = inflater.decompress(data, LONGEST_INFLATED)
    except zlib.error as exc:
        raise InflateError(f"neither zlib nor gzip: {exc}") from exc
    if inflater.unconsumed_tail:
        raise InflateError(f"inflates to over {LONGEST_INFLATED} bytes")
    if not inflater.eof:
        raise InflateError(f"ends after {len(data)} bytes in the middle")
    return payload


def deflate(payload: bytes, container: Container) -> bytes:
    """A payload as a chunk holds it."""
    deflater = zlib.compressobj(wbits=_WINDOW[container])
    return deflater.compress(payload) + deflater.flush()


def container_of(data: bytes) -> Container:
    """How a compressed payload is packed up."""
    return "gzip" if data.startswith(_GZIP_MAGIC) else "zlib"
