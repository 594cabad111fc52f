"""HEP packets written to a capture file, as the traffic that they tell of."""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from hep.captures import wire
from hep.codec.chunks import IPV4, IPV6
from hep.codec.packet import Packet
from hep.errors import HepEncodeError, HepError

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC: Final = 0xA1B2C3D4
_SNAP_LENGTH: Final = 262_144
"""What the file says of the longest frame: tcpdump's number."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv4 address has in front of it as an IPv6 one (RFC 4291 section 2.5.5.2)."""


def record(packet: Packet, received: float) -> bytes:
    """A packet as a record of a capture file: an Ethernet frame with IP, UDP and the payload.

    It is UDP whatever the packet says, because a message has to be a packet of its own: every SIP
    tool reads that, and no TCP connection can be made up for it. A payload of over 65,507 bytes is
    cut there, and the record says how long the frame would have been.

    Args:
        packet: of any version. A missing address is all zeros; an IPv4 address facing an IPv6 one
            is mapped into IPv6.
        received: seconds since the epoch, for a packet that does not say when it was captured.

    Raises:
        HepEncodeError: an address or a port is none.
    """
    payload = packet.payload[: wire.LONGEST_UDP]
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
    """Writes packets to a capture file that any SIP tool opens; see `record`.

    Each packet is with the system when `write` returns. One that did not fit on the disk is not in
    the file: it stays readable, and what comes when there is room again is written.

    Args:
        path: the file; one that is there is overwritten.

    Raises:
        HepError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.written = 0
        """Packets in the file."""
        self.cut = 0
        """Those among them whose payload was too long and is cut."""
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
        """Add a packet.

        Args:
            packet: of any version.
            received: as in `record`.

        Raises:
            HepError: it cannot be written, or has no addresses that a frame can have.
        """
        self._write(record(packet, received))
        self.written += 1
        self.cut += len(packet.payload) > wire.LONGEST_UDP

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
            # Half a record would make all behind it unreadable. (A pipe cannot be cut.)
            with suppress(OSError):
                os.ftruncate(self._fd, self._end)
                os.lseek(self._fd, self._end, os.SEEK_SET)
            raise HepError(f"{self._path}: cannot be written: {exc.strerror}") from exc
        self._end += len(data)
