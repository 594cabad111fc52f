"""Messages of SCTP (RFC 9260), which carry one SIP message each (RFC 4168). Pure."""

import struct
from collections import deque
from typing import Final, NamedTuple

from hep.sip import is_sip

MOST_WAITING: Final = 256
"""Maximum number of fragments that are kept for an association, and of messages that are
remembered as seen."""

LONGEST_WAIT: Final = 1 << 20
"""Maximum number of bytes of fragments that are kept for an association."""

_CHUNK: Final = struct.Struct("!BBH")
_DATA: Final = 0
_I_DATA: Final = 64
"""Data that may be interleaved (RFC 8260)."""
_HEADERS: Final = {_DATA: 16, _I_DATA: 20}
_BEGIN: Final = 2
_END: Final = 1


class Received(NamedTuple):
    """A message."""

    data: bytes
    missing: int
    """Bytes at the end that the capture truncated."""


class Association:
    """One direction of an association: joins fragments, and ignores retransmissions."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=MOST_WAITING)
        self._waiting: dict[int, tuple[int, bytes]] = {}
        self.size = 0
        """Bytes of fragments that wait for others."""

    @property
    def is_within_sip(self) -> bool:
        """Whether a SIP message has begun whose other fragments are missing."""
        return any(flags & _BEGIN and is_sip(part) for flags, part in self._waiting.values())

    def feed(self, data: bytes) -> list[Received]:
        """Take the chunks of a packet; returns the messages that are complete now."""
        found, at = [], 0
        while at + _CHUNK.size <= len(data):
            kind, flags, length = _CHUNK.unpack_from(data, at)
            header = _HEADERS.get(kind)
            if header is not None and length >= header and at + 8 <= len(data):
                sequence = int.from_bytes(data[at + 4 : at + 8])
                payload = data[at + header : at + length]
                missing = length - header - len(payload)
                if (message := self._add(sequence, flags, payload, missing)) is not None:
                    found.append(message)
            at += max(_CHUNK.size, (length + 3) & ~3)
        return found

    def _add(self, sequence: int, flags: int, payload: bytes, missing: int) -> Received | None:
        if sequence in self._seen:
            return None
        self._seen.append(sequence)
        if missing or flags & (_BEGIN | _END) == (_BEGIN | _END):
            return Received(payload, missing)
        self._waiting[sequence] = flags, payload
        self.size += len(payload)
        message = self._joined(sequence)
        while len(self._waiting) > MOST_WAITING or self.size > LONGEST_WAIT:
            self.size -= len(self._waiting.pop(next(iter(self._waiting)))[1])
        return message

    def _joined(self, sequence: int) -> Received | None:
        """The message with this fragment: sequence numbers without a hole, from begin to end."""
        first = last = sequence
        while first in self._waiting and not self._waiting[first][0] & _BEGIN:
            first = (first - 1) % 2**32
        while last in self._waiting and not self._waiting[last][0] & _END:
            last = (last + 1) % 2**32
        if first not in self._waiting or last not in self._waiting:
            return None
        count = (last - first) % 2**32 + 1
        parts = [self._waiting.pop((first + each) % 2**32)[1] for each in range(count)]
        self.size -= sum(map(len, parts))
        return Received(b"".join(parts), 0)
