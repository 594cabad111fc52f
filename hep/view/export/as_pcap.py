"""A call as a capture that any SIP tool reads. Pure."""

import struct
from ipaddress import ip_address
from typing import Final

from hep.captures import pcap_writer, wire
from hep.codec.packet import Packet
from hep.errors import HepEncodeError
from hep.view.export.content import Content, is_message
from hep.view.model.record import MICROSECONDS, Record

_FILE_HEADER: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, wire.ETHERNET)
"""Magic number of microseconds, version 2.4, UTC, the longest frame of tcpdump, Ethernet."""


def as_pcap(content: Content) -> bytes:
    """Write the messages of a call as a pcap file; events and log lines are no messages."""
    parts = [_FILE_HEADER]
    for record in content.records:
        if is_message(record):
            try:
                parts.append(pcap_writer.record(_packet(record), 0.0))
            except HepEncodeError:
                continue
    return b"".join(parts)


def _packet(record: Record) -> Packet:
    src, src_port = _split(record.src)
    dst, dst_port = _split(record.dst)
    seconds, microseconds = divmod(max(record.at, 0), MICROSECONDS)
    return Packet(
        src_ip=src,
        dst_ip=dst,
        src_port=src_port,
        dst_port=dst_port,
        payload=record.payload,
        seconds=seconds,
        microseconds=microseconds,
    )


def _split(address: str) -> tuple[str | None, int]:
    ip, _, port = address.rpartition(":")
    ip = ip.strip("[]")
    try:
        # A zone has no place in a packet.
        ip = str(ip_address(ip.partition("%")[0]))
    except ValueError:
        return None, 0
    number = int(port) if port.isascii() and port.isdigit() else 0
    return ip, number if number <= 0xFFFF else 0
