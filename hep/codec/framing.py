"""Splits a byte stream into HEP packets (HEP over TCP and TLS). Pure.

A stream is a sequence of version 3 packets without separators. TCP may split and merge them at
any byte. Bytes that start no packet header are garbage. The splitter skips them up to the next
byte where a header can start, and counts them. Its work is proportional to the bytes it is fed.
"""

import re
from collections.abc import Iterator
from typing import Final

from hep.codec import v3

_HEADER: Final = re.compile(
    b"(?:%b)(?:\\x00[\\x%02x-\\xff]|[\\x01-\\xff].)" % (b"|".join(v3.MAGICS), v3.HEADER.size),
    re.DOTALL,
)
"""A packet header: a magic and a total length that includes the header."""


class Splitter:
    """Splits a stream into version 3 packets.

    It buffers at most one incomplete packet: after `feed`, at most 65535 bytes.
    """

    def __init__(self) -> None:
        self.skipped = 0
        """Bytes of garbage skipped so far."""
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        """Bytes of the incomplete packet at the end, 0 to 65535."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes of the stream.

        Args:
            data: the next bytes of the stream, any number.

        Returns:
            the packets that are complete now, undecoded.
        """
        return list(self.split(data))

    def split(self, data: bytes) -> Iterator[bytes]:
        """Add bytes of the stream; as `feed`, one packet at a time.

        When a packet is yielded, ``skipped`` counts the garbage before it and none after it. The
        iterator must be exhausted before more bytes are added.

        Args:
            data: the next bytes of the stream, any number.

        Yields:
            the packets that are complete now, undecoded.
        """
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= v3.HEADER.size:
            magic, total = v3.HEADER.unpack_from(buffer, start)
            if magic not in v3.MAGICS or total < v3.HEADER.size:
                # The search ends at the next header, so no byte is searched twice.
                found = _HEADER.search(buffer, start)
                # The last bytes may hold a part of a header.
                following = found.start() if found else end - v3.HEADER.size + 1
                self.skipped += following - start
                start = following
            elif end - start >= total:
                packet = bytes(buffer[start : start + total])
                start += total
                yield packet
            else:
                break
        del buffer[:start]
