"""The table of HEPv3 chunks (HEP3 specification, rev. 37, section "Generic chunk types").

A new chunk is one row of `GENERIC`. ``field`` names the attribute of `hep.Packet` that holds the
value. A chunk without ``field``, or with a value of another size than its type has, is kept in
``Packet.extra`` and encoded again unchanged.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Any, Final, NamedTuple

from hep.codec.compression import deflate, inflate

GENERIC_VENDOR: Final = 0
"""The vendor id of the chunks in `GENERIC`."""

VENDORS: Final = {
    1: "FreeSWITCH",
    2: "Kamailio",
    3: "OpenSIPS",
    4: "Asterisk",
    5: "Homer",
    6: "sipXecs",
    7: "Yeti",
    8: "Genesys",
}
"""The vendor of each vendor id. Several receivers ignore the vendor id and read the chunk as a
generic one. Therefore chunk types of our own are opt-in and start at 0x0100."""


class Chunk(NamedTuple):
    """A chunk as it is on the wire."""

    vendor: int
    """Vendor id, 0 to 65535; 0 for a generic chunk."""
    type: int
    """Chunk type, 0 to 65535."""
    data: bytes
    """The value without the chunk header, at most 65529 bytes."""

    @property
    def name(self) -> str:
        """The name in the specification; for an unknown chunk the vendor and the type number."""
        row = GENERIC.get(self.type) if self.vendor == GENERIC_VENDOR else None
        if row:
            return row.name
        return f"{VENDORS.get(self.vendor, f'vendor {self.vendor}')} chunk 0x{self.type:04x}"

    @property
    def expected_size(self) -> int | None:
        """The size of a value of this type in bytes; None if it varies or the type is unknown."""
        row = GENERIC.get(self.type) if self.vendor == GENERIC_VENDOR else None
        return row.form.size if row else None

    @property
    def fits(self) -> bool:
        """Whether the value has the size that its type has.

        `hep.decode` does not read a chunk that does not fit. It keeps it in ``Packet.extra``.
        """
        return self.expected_size in (None, len(self.data))


class Form(NamedTuple):
    """The encoding of one type of value."""

    size: int | None
    """Size in bytes; None if the size varies."""
    pack: Callable[[Any], bytes]
    """Encodes a value. Raises struct.error, OSError or TypeError if it does not fit."""
    unpack: Callable[[bytes], Any]
    """Decodes a value of ``size`` bytes. `COMPRESSED` raises InflateError if the bytes are no
    compressed payload; the others never raise."""


# These are C functions for speed: decoding one packet calls a dozen of them.
U8, U16, U32, U64 = (
    Form(Struct(code).size, Struct(code).pack, int.from_bytes) for code in ("!B", "!H", "!I", "!Q")
)
IPV4 = Form(4, partial(inet_pton, AF_INET), partial(inet_ntop, AF_INET))
IPV6 = Form(16, partial(inet_pton, AF_INET6), partial(inet_ntop, AF_INET6))
BYTES = Form(None, partial(bytes.__add__, b""), bytes)
COMPRESSED = Form(None, partial(deflate, container="zlib"), inflate)


class Row(NamedTuple):
    """A row of the table: one generic chunk type."""

    name: str
    """The name in the specification."""
    form: Form
    field: str | None = None
    """The attribute of `hep.Packet` that holds the value."""


GENERIC: Final[dict[int, Row]] = {
    0x0001: Row("IP protocol family", U8, "ip_family"),
    0x0002: Row("IP protocol", U8, "ip_protocol"),
    0x0003: Row("IPv4 source address", IPV4, "src_ip"),
    0x0004: Row("IPv4 destination address", IPV4, "dst_ip"),
    0x0005: Row("IPv6 source address", IPV6, "src_ip"),
    0x0006: Row("IPv6 destination address", IPV6, "dst_ip"),
    0x0007: Row("source port", U16, "src_port"),
    0x0008: Row("destination port", U16, "dst_port"),
    0x0009: Row("timestamp, seconds", U32, "seconds"),
    0x000A: Row("timestamp, microseconds", U32, "microseconds"),
    0x000B: Row("protocol type", U8, "protocol_type"),
    0x000C: Row("capture agent id", U32, "capture_id"),
    0x000D: Row("keep-alive timer", U16),
    0x000E: Row("authenticate key", BYTES, "auth_key"),
    0x000F: Row("payload", BYTES, "payload"),
    0x0010: Row("compressed payload", COMPRESSED, "payload"),
    0x0011: Row("correlation id", BYTES, "correlation_id"),
    0x0012: Row("VLAN id", U16),
    0x0013: Row("capture agent name", BYTES, "node_name"),
    0x0014: Row("source MAC", U64),
    0x0015: Row("destination MAC", U64),
    0x0016: Row("Ethernet type", U16),
    0x0017: Row("TCP flags", U8),
    0x0018: Row("IP type of service", U8),
    0x0020: Row("MOS", U16),
    0x0021: Row("R-factor", U16),
    0x0022: Row("geo location", BYTES),
    0x0023: Row("jitter", U32),
    0x0024: Row("transaction type", BYTES),
    0x0025: Row("payload JSON keys", BYTES),
    0x0026: Row("tags' values", BYTES),
    0x0027: Row("tag type", U16),
    0x0028: Row("event type", U16),
    0x0029: Row("group id", BYTES),
    0x0065: Row("extra correlation (OpenSIPS)", BYTES),
}


class ProtocolType(IntEnum):
    """The protocol of a payload (chunk 0x000b)."""

    SIP = 0x01
    XMPP = 0x02
    SDP = 0x03
    RTP = 0x04
    RTCP = 0x05
    MGCP = 0x06
    MEGACO = 0x07
    M2UA = 0x08
    M3UA = 0x09
    IAX = 0x0A
    H322 = 0x0B
    H321 = 0x0C
    M2PA = 0x0D
    MOS_FULL = 0x22
    MOS_SHORT = 0x23
    SIP_JSON = 0x32
    DNS = 0x35
    ISUP = 0x36
    RTSP = 0x37
    DIAMETER = 0x38
    GSM_MAP = 0x39
    RTCP_PION = 0x3A
    CDR = 0x3C
    VERTO = 0x3D
    MI = 0x57
    """OpenSIPS: management interface."""
    REST = 0x58
    """OpenSIPS: REST client."""
    NET = 0x59
    """OpenSIPS: network events, such as those of its WebSocket transport."""
    CONTROL = 0x60
    """OpenSIPS: control events."""
    LOG = 0x64


def protocol_name(protocol_type: int) -> str:
    """The name of a protocol type, such as ``SIP``; ``0x2A`` for an unknown number."""
    try:
        return ProtocolType(protocol_type).name
    except ValueError:
        return f"0x{protocol_type:02X}"
