"""An encoder for one flow: what is the same in all of its packets is worked out once. Pure."""

import struct
from dataclasses import replace
from typing import Final

from hep import v3
from hep.chunks import GENERIC_VENDOR
from hep.errors import HepEncodeError
from hep.packet import Packet

_TIME: Final = struct.Struct("!HHHIHHHI")
_CHUNK: Final = v3.CHUNK


class PreparedEncoder:
    """Writes version 3 packets between two addresses, byte for byte as `hep.encode` does.

    Args:
        flow: a packet with all that its packets share: addresses, ports, ids. Its payload, time,
            correlation id, extra chunks and layout are not looked at.

    Raises:
        HepEncodeError: a value does not fit its chunk, or an address is missing.
    """

    __slots__ = ("_after_time", "_before_time", "_length")

    def __init__(self, flow: Packet) -> None:
        if flow.src_ip is None or flow.dst_ip is None:
            raise HepEncodeError("a flow has two addresses, src_ip and dst_ip")
        written = v3.encode(
            replace(
                flow,
                payload=b"",
                seconds=0,
                microseconds=0,
                correlation_id=None,
                extra=(),
                layout=(),
                magic=b"HEP3",
            )
        )
        # The general encoder has the last word on what a packet looks like: its work is cut
        # where the time stands, and before the payload's header, which is the last chunk.
        time = written.index(_CHUNK.pack(GENERIC_VENDOR, 0x09, 10))
        self._before_time = written[v3.HEADER.size : time]
        self._after_time = written[time + _TIME.size : -_CHUNK.size]
        self._length = len(written)

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
        size = len(payload)
        total = self._length + size
        if correlation_id is not None:
            total += _CHUNK.size + len(correlation_id)
        try:
            parts = [
                v3.HEADER.pack(b"HEP3", total),
                self._before_time,
                _TIME.pack(0, 0x09, 10, seconds, 0, 0x0A, 10, microseconds),
                self._after_time,
                _CHUNK.pack(0, 0x0F, _CHUNK.size + size),
                payload,
            ]
            if correlation_id is not None:
                parts.append(_CHUNK.pack(0, 0x11, _CHUNK.size + len(correlation_id)))
                parts.append(correlation_id)
        except struct.error as exc:
            raise HepEncodeError(
                f"a packet of {total} bytes at {seconds}.{microseconds:06} does not fit: HEPv3 ends"
                f" at {v3.LONGEST} bytes"
            ) from exc
        return b"".join(parts)
