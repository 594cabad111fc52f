"""An encoder for one flow: what is the same in all of its packets is worked out once. Pure."""

import struct
from dataclasses import replace
from typing import Final

from hep import v3
from hep.chunks import GENERIC_VENDOR
from hep.errors import HepEncodeError
from hep.packet import Packet

_CHUNK: Final = v3.CHUNK
_pack_header: Final = _CHUNK.pack
_SECONDS: Final = _CHUNK.pack(GENERIC_VENDOR, 0x09, 10)
_MICROSECONDS: Final = _CHUNK.pack(GENERIC_VENDOR, 0x0A, 10)


class PreparedEncoder:
    """Writes version 3 packets between two addresses, byte for byte as `hep.encode` does.

    Args:
        flow: a packet with all that its packets share: addresses, ports, ids. Its payload, time,
            correlation id, extra chunks and layout are not looked at.

    Raises:
        HepEncodeError: a value does not fit its chunk, or an address is missing.
    """

    __slots__ = ("_after_time", "_before_time", "_length", "_pack")

    def __init__(self, flow: Packet) -> None:
        if flow.src_ip is None or flow.dst_ip is None:
            raise HepEncodeError("a flow has two addresses, src_ip and dst_ip")
        written = v3.encode(
            replace(
                flow,
                payload=b"",
                compressed=None,
                seconds=0,
                microseconds=0,
                correlation_id=None,
                extra=(),
                layout=(),
                magic=b"HEP3",
            )
        )
        # The general encoder has the last word on what a packet looks like: its work is cut
        # around the two numbers of the time, and before the length of the payload, which is last.
        seconds = written.index(_SECONDS) + len(_SECONDS)
        self._before_time = written[v3.HEADER.size : seconds]
        self._after_time = written[seconds + 4 + len(_MICROSECONDS) + 4 : -2]
        before, after = len(self._before_time), len(self._after_time)
        self._pack = struct.Struct(f"!4sH{before}sI{len(_MICROSECONDS)}sI{after}sH").pack
        self._length = len(written) - _CHUNK.size

    def encode(
        self,
        seconds: int,
        microseconds: int,
        payload: bytes,
        correlation_id: bytes | None = None,
    ) -> bytes:
        """Write a packet of this flow.

        Args:
            seconds: when it was captured, in whole seconds since the epoch.
            microseconds: the rest of that time, 0 to 999999.
            payload: at most about 65400 bytes.
            correlation_id: what belongs together in Homer, such as a Call-ID.

        Raises:
            HepEncodeError: the packet would be longer than 65535 bytes, or a time does not fit.
        """
        size = len(payload) + 6
        behind = 0 if correlation_id is None else len(correlation_id) + 6
        total = self._length + size + behind
        try:
            before = self._pack(
                b"HEP3",
                total,
                self._before_time,
                seconds,
                _MICROSECONDS,
                microseconds,
                self._after_time,
                size,
            )
            if correlation_id is None:
                return before + payload
            return b"".join((before, payload, _pack_header(0, 0x11, behind), correlation_id))
        except struct.error as exc:
            raise HepEncodeError(
                f"a packet of {total} bytes at {seconds}.{microseconds:06} does not fit: HEPv3 ends"
                f" at {v3.LONGEST} bytes"
            ) from exc
