"""Compressed payloads (chunk 0x0010): zlib from captagent, gzip from OpenSIPS. Pure.

heplify-server, Homer 11 and Kamailio ignore the chunk and store no payload. Therefore compression
is off by default.
"""

import zlib
from typing import Final, Literal

from hep.errors import HepError

Container = Literal["zlib", "gzip"]

LONGEST_INFLATED: Final = 1 << 20
"""Maximum size of an inflated payload in bytes. Senders compress messages of at most 64 KiB. The
limit stops a compression bomb: a chunk of 64 KiB can inflate to 64 MiB."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_WINDOW: Final = {"zlib": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}
_EITHER: Final = zlib.MAX_WBITS | 32


class InflateError(HepError):
    """Bytes are no compressed payload; the codec raises it as `hep.HepDecodeError`."""


def inflate(data: bytes) -> bytes:
    """Decompress the value of chunk 0x0010, zlib (RFC 1950) or gzip (RFC 1952).

    Returns:
        the payload, at most `LONGEST_INFLATED` bytes.

    Raises:
        InflateError: the data is neither zlib nor gzip, is incomplete, or inflates to more than
            `LONGEST_INFLATED` bytes.
    """
    inflater = zlib.decompressobj(_EITHER)
    try:
        payload = inflater.decompress(data, LONGEST_INFLATED)
    except zlib.error as exc:
        raise InflateError(f"neither zlib nor gzip: {exc}") from exc
    if inflater.unconsumed_tail:
        raise InflateError(f"inflates to more than {LONGEST_INFLATED} bytes")
    if not inflater.eof:
        raise InflateError(f"incomplete after {len(data)} bytes")
    return payload


def deflate(payload: bytes, container: Container) -> bytes:
    """Compress a payload for chunk 0x0010."""
    deflater = zlib.compressobj(wbits=_WINDOW[container])
    return deflater.compress(payload) + deflater.flush()


def container_of(data: bytes) -> Container:
    """The format of a compressed payload: ``gzip`` if it starts with 1f 8b, otherwise ``zlib``."""
    return "gzip" if data.startswith(_GZIP_MAGIC) else "zlib"
