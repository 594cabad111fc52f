"""An encoder for one flow: what is the same in all of its packets is worked out once. Pure."""

import struct
from dataclasses import replace
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple, Self

from hep.codec import v3
from hep.codec.chunks import GENERIC_VENDOR
from hep.codec.packet import Packet
from hep.errors import HepEncodeError

_CHUNK: Final = v3.CHUNK
_pack_header: Final = _CHUNK.pack
_SECONDS: Final = _CHUNK.pack(GENERIC_VENDOR, 0x09, 10)
_MICROSECONDS: Final = _CHUNK.pack(GENERIC_VENDOR, 0x0A, 10)

# Family and protocol come before the ports, protocol type and capture id before the addresses.
_BEFORE_TIME: Final = struct.Struct("!14s 6sH 6sH 6s")
_ADDRESSES: Final = 17

_CORRELATION: Final = tuple(_pack_header(GENERIC_VENDOR, 0x11, 6 + size) for size in range(300))
"""The header of a correlation id's chunk by the id's bytes: nearly all have fewer."""
_LONGER: Final = 6 + len(_CORRELATION)


class _Parts(NamedTuple):
    """What stands around the ports and the addresses of a flow."""

    start: bytes
    src_port: bytes
    dst_port: bytes
    seconds: bytes
    before_source: bytes
    source: int
    """Bytes of the address: 4 or 16."""
    before_destination: bytes
    destination: int
    end: bytes


class PreparedEncoder:
    """Writes version 3 packets between two addresses, byte for byte as `hep.encode` does.

    Args:
        flow: a packet with all that its packets share: addresses, ports, ids. Its payload, time,
            correlation id, extra chunks and layout are not looked at.

    Raises:
        HepEncodeError: a value does not fit its chunk, or an address is missing.
    """

    __slots__ = ("_after_time", "_before_time", "_flow", "_length", "_pack", "_parts")

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
        self._flow = flow
        self._parts = _parts(self._before_time, self._after_time, flow.src_ip, flow.dst_ip)

    def between(self, src_ip: str, src_port: int, dst_ip: str, dst_port: int) -> Self:
        """The encoder of the same flow between two other addresses, for a fraction of the price.

        Raises:
            HepEncodeError: one of them is no address, or no port.
        """
        parts = self._parts
        try:
            source = inet_pton(AF_INET6 if ":" in src_ip else AF_INET, src_ip)
            destination = inet_pton(AF_INET6 if ":" in dst_ip else AF_INET, dst_ip)
            before_time = _BEFORE_TIME.pack(
                parts.start, parts.src_port, src_port, parts.dst_port, dst_port, parts.seconds
            )
        except (struct.error, OSError, TypeError) as exc:
            raise HepEncodeError(
                f"from {src_ip!r}, port {src_port!r}, to {dst_ip!r}, port {dst_port!r}: {exc}"
            ) from exc
        if len(source) != parts.source or len(destination) != parts.destination:
            # Addresses of another family have other chunks, and a length of their own.
            return type(self)(
                replace(
                    self._flow, src_ip=src_ip, src_port=src_port, dst_ip=dst_ip, dst_port=dst_port
                )
            )
        other = object.__new__(type(self))
        other._flow = self._flow
        other._length = self._length
        other._pack = self._pack
        other._parts = parts
        other._before_time = before_time
        other._after_time = b"".join(
            (parts.before_source, source, parts.before_destination, destination, parts.end)
        )
        return other

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
            header = (
                _CORRELATION[behind - 6]
                if behind < _LONGER
                else _pack_header(GENERIC_VENDOR, 0x11, behind)
            )
            return b"".join((before, payload, header, correlation_id))
        except struct.error as exc:
            raise HepEncodeError(
                f"a packet of {total} bytes at {seconds}.{microseconds:06} does not fit: HEPv3 ends"
                f" at {v3.LONGEST} bytes"
            ) from exc


def _parts(before_time: bytes, after_time: bytes, src_ip: str, dst_ip: str) -> _Parts:
    start, src_port, _, dst_port, _, seconds = _BEFORE_TIME.unpack(before_time)
    source, destination = (16 if ":" in ip else 4 for ip in (src_ip, dst_ip))
    first = _ADDRESSES + _CHUNK.size
    second = first + source + _CHUNK.size
    return _Parts(
        start,
        src_port,
        dst_port,
        seconds,
        after_time[:first],
        source,
        after_time[second - _CHUNK.size : second],
        destination,
        after_time[second + destination :],
    )
