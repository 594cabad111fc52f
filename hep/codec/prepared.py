"""An encoder for one flow, which encodes the constant parts of its packets once. Pure."""

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, NamedTuple, Self

from hep.codec import v3
from hep.codec.chunks import GENERIC_VENDOR, Chunk
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
"""Chunk headers of a correlation id, by the id's length in bytes. Nearly all ids are shorter than
300 bytes; the header of a longer one is packed for each packet."""
_LONGER: Final = 6 + len(_CORRELATION)


class _Parts(NamedTuple):
    """The constant bytes around the ports and the addresses of a flow."""

    start: bytes
    """Chunks of family and IP protocol."""
    src_port: bytes
    """Header of the source port's chunk."""
    dst_port: bytes
    """Header of the destination port's chunk."""
    seconds: bytes
    """Header of the chunk of the seconds."""
    before_source: bytes
    """Chunks of protocol type and capture id, then the header of the source address."""
    source: int
    """Size of the source address in bytes: 4 or 16."""
    before_destination: bytes
    """Header of the destination address."""
    destination: int
    """Size of the destination address in bytes: 4 or 16."""
    end: bytes
    """The rest, up to the length of the payload's chunk."""


class PreparedEncoder:
    """Encodes version 3 packets between two addresses to the same bytes as `hep.encode`.

    Args:
        flow: a packet with the values that all packets of the flow share: addresses, ports, ids.
            Its payload, time, correlation id, extra chunks and layout are ignored.

    Raises:
        HepEncodeError: a value does not fit its chunk, or an address is missing.
    """

    __slots__ = ("_after_time", "_before_time", "_flow", "_length", "_pack", "_parts")

    def __init__(self, flow: Packet) -> None:
        if flow.src_ip is None or flow.dst_ip is None:
            raise HepEncodeError(
                f"a flow needs both addresses: src_ip = {flow.src_ip!r}, dst_ip = {flow.dst_ip!r}"
            )
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
        # The general encoder writes the packet. Its bytes are split around the two numbers of the
        # time and before the length of the payload, which comes last.
        seconds = written.index(_SECONDS) + len(_SECONDS)
        self._before_time = written[v3.HEADER.size : seconds]
        self._after_time = written[seconds + 4 + len(_MICROSECONDS) + 4 : -2]
        before, after = len(self._before_time), len(self._after_time)
        self._pack = struct.Struct(f"!4sH{before}sI{len(_MICROSECONDS)}sI{after}sH").pack
        self._length = len(written) - _CHUNK.size
        self._flow = flow
        self._parts = _parts(self._before_time, self._after_time, flow.src_ip, flow.dst_ip)

    def between(self, src_ip: str, src_port: int, dst_ip: str, dst_port: int) -> Self:
        """Make an encoder with the same ids for two other addresses, faster than the constructor.

        Args:
            src_ip: source address as text, IPv4 or IPv6.
            src_port: source port, 0 to 65535.
            dst_ip: destination address as text, IPv4 or IPv6.
            dst_port: destination port, 0 to 65535.

        Returns:
            a new encoder; this one stays as it is.

        Raises:
            HepEncodeError: an address or a port is invalid.
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
            # Addresses of the other family have other chunk types and another length.
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
        """Encode a packet of this flow.

        Args:
            seconds: capture time in whole seconds since the epoch, 0 to 2³²-1.
            microseconds: microseconds of the capture time, 0 to 999999.
            payload: the captured message, at most about 65400 bytes.
            correlation_id: correlation id, such as a Call-ID (chunk 0x0011); None writes no chunk.

        Returns:
            the bytes of the packet.

        Raises:
            HepEncodeError: the packet is longer than 65535 bytes, or a time does not fit.
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
            raise _does_not_fit(total, seconds, microseconds) from exc

    def with_extra(self, extra: Iterable[Chunk]) -> "Encode":
        """Make an encoder of packets that all have further chunks, as ``Packet.extra`` has them.

        Args:
            extra: the chunks; they follow the payload.

        Returns:
            a function with the parameters of `encode`.

        Raises:
            HepEncodeError: a chunk is too long.
        """
        chunks = b"".join(v3.chunk_bytes(*chunk) for chunk in extra)

        def encode(
            seconds: int, microseconds: int, payload: bytes, correlation_id: bytes | None = None
        ) -> bytes:
            size = len(payload) + 6
            behind = 0 if correlation_id is None else len(correlation_id) + 6
            total = self._length + size + len(chunks) + behind
            try:
                before = self._pack(
                    b"HEP3", total, self._before_time, seconds, _MICROSECONDS, microseconds,
                    self._after_time, size,
                )  # fmt: skip
                if correlation_id is None:
                    return b"".join((before, payload, chunks))
                header = _pack_header(GENERIC_VENDOR, 0x11, behind)
                return b"".join((before, payload, chunks, header, correlation_id))
            except struct.error as exc:
                raise _does_not_fit(total, seconds, microseconds) from exc

        return encode


Encode = Callable[[int, int, bytes, bytes | None], bytes]
"""Encodes a packet from seconds, microseconds, a payload and a correlation id."""


def _does_not_fit(total: int, seconds: int, microseconds: int) -> HepEncodeError:
    return HepEncodeError(
        f"a packet of {total} bytes with the time {seconds}.{microseconds:06} does not fit:"
        f" HEPv3 allows {v3.LONGEST} bytes; shorten the payload or correct the time"
    )


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
