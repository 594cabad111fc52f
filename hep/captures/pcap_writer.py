"""Writes the messages that HEP packets carry to a capture file."""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from hep.captures import wire
from hep.codec.chunks import IPV4, IPV6
from hep.codec.packet import LONGEST_DATAGRAM, Packet
from hep.errors import HepEncodeError, HepError

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC: Final = 0xA1B2C3D4
_SNAP_LENGTH: Final = 262_144
"""Maximum frame length stated in the file header, in bytes: the value of tcpdump."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""Prefix of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2)."""


def record(packet: Packet, received: float) -> bytes:
    """Encode a packet as a pcap record: an Ethernet frame with IP, UDP and the payload.

    The frame is UDP even if the message came over TCP. Each message is one datagram, which every
    SIP tool reads. A payload of more than 65,507 bytes is truncated. The record then states the
    length of the whole frame.

    Args:
        packet: a packet of any version. A missing address is written as zeros. If only one address
            is IPv6, the other is written as an IPv4-mapped IPv6 address.
        received: time of reception in seconds since the epoch, used if the packet has no time.

    Returns:
        the record: pcap record header and frame.

    Raises:
        HepEncodeError: an address or a port is invalid.
    """
    payload = packet.payload[:LONGEST_DATAGRAM]
    try:
        src, dst = _addresses(packet.src_ip, packet.dst_ip)
        frame = wire.udp_frame(src, dst, packet.src_port, packet.dst_port, payload)
    except (OSError, struct.error) as exc:
        raise HepEncodeError(f"a packet cannot be written to a capture: {exc}") from exc
    if packet.seconds is None:
        seconds, microseconds = divmod(int(received * 1_000_000), 1_000_000)
    else:
        carried, microseconds = divmod(packet.microseconds or 0, 1_000_000)
        seconds = packet.seconds + carried
    length = len(frame)
    original = length + len(packet.payload) - len(payload)
    return _RECORD.pack(seconds & 0xFFFFFFFF, microseconds, length, original) + frame


def _addresses(src: str | None, dst: str | None) -> tuple[bytes, bytes]:
    if ":" in (src or "") or ":" in (dst or ""):
        return _ipv6(src), _ipv6(dst)
    return IPV4.pack(src or "0.0.0.0"), IPV4.pack(dst or "0.0.0.0")


def _ipv6(address: str | None) -> bytes:
    if address is None:
        return bytes(16)
    return IPV6.pack(address) if ":" in address else _MAPPED + IPV4.pack(address)


class PcapWriter:
    """Writes packets to a pcap file that any SIP tool reads; see `record`.

    Interface: `write` adds a packet, `close` closes the file; ``with`` calls `close`. ``written``
    and ``cut`` count packets.

    `write` does not buffer. A packet that does not fit on the disk is not in the file. The file
    stays valid, and later packets are written when the disk has room again.

    Args:
        path: the file. An existing file is overwritten.

    Raises:
        HepError: the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.written = 0
        """Packets in the file."""
        self.cut = 0
        """Packets in the file with a truncated payload."""
        self._path = path
        self._end = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as exc:
            raise HepError(f"{path}: cannot be written: {exc.strerror}") from exc
        try:
            self._write(_FILE_HEADER.pack(_MAGIC, 2, 4, 0, 0, _SNAP_LENGTH, wire.ETHERNET))
        except HepError:
            os.close(self._fd)
            raise

    def write(self, packet: Packet, received: float) -> None:
        """Write a packet to the file.

        Args:
            packet: a packet of any version.
            received: time of reception in seconds since the epoch, used if the packet has no time.

        Raises:
            HepEncodeError: an address or a port of the packet is invalid.
            HepError: the file cannot be written.
        """
        self._write(record(packet, received))
        self.written += 1
        self.cut += len(packet.payload) > LONGEST_DATAGRAM

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as exc:
            # A partial record makes all later records unreadable. (A pipe cannot be truncated.)
            with suppress(OSError):
                os.ftruncate(self._fd, self._end)
                os.lseek(self._fd, self._end, os.SEEK_SET)
            raise HepError(f"{self._path}: cannot be written: {exc.strerror}") from exc
        self._end += len(data)
