"""Splits a byte stream into HEP packets (HEP over TCP and TLS). Pure.

A stream is a sequence of version 3 packets without separators. TCP may split and merge them at
any byte. Bytes that start no packet header are garbage. The splitter skips them up to the next
byte where a header can start, and counts them.
"""

from hep.codec import v3


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
        packets = []
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= v3.HEADER.size:
            magic, total = v3.HEADER.unpack_from(buffer, start)
            if magic not in v3.MAGICS or total < v3.HEADER.size:
                found = self._next_start(start + 1)
                self.skipped += found - start
                start = found
            elif len(buffer) - start >= total:
                packets.append(bytes(buffer[start : start + total]))
                start += total
            else:
                break
        del buffer[:start]
        return packets

    def _next_start(self, start: int) -> int:
        """The offset where the next header can start; the end may hold a part of one."""
        found = [at for magic in v3.MAGICS if (at := self._buffer.find(magic, start)) >= 0]
        if found:
            return min(found)
        return max(start, len(self._buffer) - v3.HEADER.size + 1)
