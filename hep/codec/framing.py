"""HEP packets out of a byte stream (HEP over TCP and TLS). Pure.

A stream is packets of version 3, one right behind the other. Any split and any coalescing will do.
What does not start with a packet's header is garbage: the splitter skips to the next place where
a header could stand, and counts what it skipped.
"""

from hep.codec import v3


class Splitter:
    """Cuts a stream into packets.

    It holds at most one incomplete packet, so no stream makes it hold more than 65535 bytes and
    what was fed last.
    """

    def __init__(self) -> None:
        self.skipped = 0
        """Bytes of garbage so far."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; returns each packet that is complete now, undecoded."""
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
        """Where the next header could stand, at the end even a part of one."""
        found = [at for magic in v3.MAGICS if (at := self._buffer.find(magic, start)) >= 0]
        if found:
            return min(found)
        return max(start, len(self._buffer) - v3.HEADER.size + 1)
