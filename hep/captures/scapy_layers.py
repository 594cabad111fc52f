"""HEP 1, 2 and 3 as scapy layers on UDP and TCP port 9060.

Importing this module binds the layers to the port. Show a packet of a capture::

    from hep.scapy_layers import HEP3
    from scapy.utils import rdpcap

    rdpcap("hep.pcap")[0][HEP3].show()

Convert a `hep.Packet` to a layer with ``HEP3(hep.encode(packet))``, and back with
``hep.decode(bytes(layer))``. Build a layer from a list of chunks, whose classes are in `CHUNKS`::

    HEP3(chunks=[CHUNKS[0x03](src_ip="192.0.2.5"), CHUNKS[0x0F](data=b"OPTIONS ...")])

A field has the name of the attribute of `hep.Packet`. If there is no attribute, it has the name of
the chunk. The field of the payload is ``data``, because ``payload`` has another meaning in scapy.
"""

import re
import struct
from typing import Any, Final

from hep.captures.extra import require_scapy
from hep.errors import HepError

try:
    require_scapy("hep.scapy_layers", "scapy")
except HepError as exc:
    raise ImportError(str(exc)) from None

from scapy.config import conf
from scapy.fields import (
    ByteEnumField,
    ByteField,
    Field,
    FieldLenField,
    IntField,
    IP6Field,
    IPField,
    LEIntField,
    LEShortField,
    MultipleTypeField,
    PacketListField,
    ShortEnumField,
    ShortField,
    StrFixedLenField,
    StrLenField,
    XLongField,
    XShortEnumField,
    XShortField,
)
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet, bind_bottom_up, bind_top_down

from hep.codec import v1v2, v3
from hep.codec.any_version import decode
from hep.codec.chunks import (
    BYTES,
    COMPRESSED,
    GENERIC,
    GENERIC_VENDOR,
    IPV4,
    IPV6,
    U8,
    U16,
    U32,
    U64,
    VENDORS,
    Form,
    ProtocolType,
    Row,
    protocol_name,
)
from hep.codec.packet import INET, INET6
from hep.errors import HepDecodeError
from hep.hep_id import PORT

_FAMILIES: Final = {INET: "IPv4", INET6: "IPv6"}
_PROTOCOL_TYPES: Final = {each.value: each.name for each in ProtocolType}
_VENDORS: Final = {GENERIC_VENDOR: "generic", **VENDORS}
_CHUNK_NAMES: Final = {chunk_type: row.name for chunk_type, row in GENERIC.items()}
_ADDRESS_SIZE: Final = {INET: 4, INET6: 16}


class HEP3Chunk(Packet):
    """A chunk with a type or a length that is not in the table of chunks.

    Fields: ``vendor``, ``type`` (0 to 65535), ``length`` (bytes, header included) and ``data``.
    """

    name = "HEP3 chunk"
    fields_desc = [
        ShortEnumField("vendor", GENERIC_VENDOR, _VENDORS),
        XShortField("type", 0),
        FieldLenField("length", None, length_of="data", adjust=lambda _, size: size + 6),
        StrLenField("data", b"", length_from=lambda chunk: max(0, chunk.length - 6)),
    ]

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """Treat the bytes after the chunk as the next chunk (scapy hook)."""
        return b"", s


_FIELDS: Final[dict[Form, type[Field[Any, Any]]]] = {
    U8: ByteField,
    U16: ShortField,
    U32: IntField,
    U64: XLongField,
    IPV4: IPField,
    IPV6: IP6Field,
}
_DEFAULTS: Final[dict[Form, Any]] = {IPV4: "0.0.0.0", IPV6: "::"}
_NAMED_VALUES: Final[dict[str, dict[int, str]]] = {
    "ip_family": _FAMILIES,
    "ip_protocol": {6: "TCP", 17: "UDP", 132: "SCTP"},
    "protocol_type": _PROTOCOL_TYPES,
}
_RENAMED: Final = {0x0F: "data", 0x10: "compressed"}


def field_name(chunk_type: int) -> str:
    """The name of the scapy field that holds the value of a chunk.

    Args:
        chunk_type: a type in `CHUNKS`.

    Raises:
        KeyError: the type is not in `CHUNKS`.
    """
    row = GENERIC[chunk_type]
    return _RENAMED.get(chunk_type) or row.field or "_".join(_words(row.name)).lower()


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9]+", name.replace("'", ""))


def _chunk_class(chunk_type: int, row: Row) -> type[HEP3Chunk]:
    """Make the layer class of a chunk in the table."""
    name = field_name(chunk_type)
    length: Field[Any, Any]
    value: Field[Any, Any]
    if row.form in (BYTES, COMPRESSED):
        length = FieldLenField("length", None, length_of=name, adjust=lambda _, size: size + 6)
        value = StrLenField(name, b"", length_from=lambda chunk: max(0, chunk.length - 6))
    else:
        length = ShortField("length", 6 + (row.form.size or 0))
        if name in _NAMED_VALUES:
            value = ByteEnumField(name, 0, _NAMED_VALUES[name])
        else:
            value = _FIELDS[row.form](name, _DEFAULTS.get(row.form, 0))
    words = "".join(word[0].upper() + word[1:] for word in _words(row.name))
    attributes = {
        "__module__": __name__,
        "__doc__": f"The chunk 0x{chunk_type:04x}: {row.name}.",
        "name": row.name,
        "fields_desc": [
            ShortEnumField("vendor", GENERIC_VENDOR, _VENDORS),
            XShortEnumField("type", chunk_type, _CHUNK_NAMES),
            length,
            value,
        ],
    }
    return type(f"HEP3{words}", (HEP3Chunk,), attributes)


CHUNKS: Final = {chunk_type: _chunk_class(chunk_type, row) for chunk_type, row in GENERIC.items()}
"""Layer class of each generic chunk, by chunk type. Each class is also an attribute of this module,
such as ``HEP3IPv4SourceAddress``."""
globals().update({layer.__name__: layer for layer in CHUNKS.values()})


def _chunk(data: bytes, **_: Any) -> Packet:
    """Dissect the first chunk of the bytes."""
    if len(data) < v3.CHUNK.size:
        return conf.raw_layer(data)
    vendor, chunk_type, length = v3.CHUNK.unpack_from(data)
    row = GENERIC.get(chunk_type) if vendor == GENERIC_VENDOR else None
    if row is None or row.form.size not in (None, length - v3.CHUNK.size):
        return HEP3Chunk(data)
    return CHUNKS[chunk_type](data)


class HEP(Packet):
    """Any HEP packet; dissects as `HEP1`, `HEP2`, `HEP2BigEndian` or `HEP3` by the first bytes."""

    name = "HEP"

    @classmethod
    def dispatch_hook(cls, _pkt: bytes | None = None, *_: Any, **__: Any) -> type[Packet]:
        """Choose the layer class for the bytes (scapy hook); Raw if they are no HEP."""
        data = _pkt or b""
        if data[:4] in v3.MAGICS:
            return HEP3
        if len(data) < v1v2.HEADER.size or data[2] not in _FAMILIES:
            return conf.raw_layer
        if data[0] == 1:
            return HEP1
        if data[0] == 2:
            return HEP2 if _is_little_endian(data) else HEP2BigEndian
        return conf.raw_layer

    @classmethod
    def tcp_reassemble(cls, data: bytes, *_: Any) -> Packet | None:
        """Dissect the packets at the start of a TCP stream (scapy hook).

        Returns:
            the packets; None while the first one is incomplete.
        """
        if data[:4] in v3.MAGICS and _stated_length(data) > len(data):
            return None
        return cls(data)


def _stated_length(data: bytes) -> int:
    return int.from_bytes(data[4:6]) if len(data) >= v3.HEADER.size else v3.LONGEST


def _is_little_endian(data: bytes) -> bool:
    try:
        seconds = decode(data).seconds
    except HepDecodeError:
        return True
    offset = v1v2.HEADER.size + 2 * _ADDRESS_SIZE[data[2]]
    return int.from_bytes(data[offset : offset + 4], "little") == seconds


def _address(name: str) -> MultipleTypeField:
    forms: list[Any] = [(IP6Field(name, "::"), lambda packet: packet.ip_family == INET6)]
    return MultipleTypeField(forms, IPField(name, "0.0.0.0"))


def _header(version: int) -> list[Any]:
    """The fields of the common header of versions 1 and 2."""
    return [
        ByteField("version", version),
        ByteField("header_length", None),
        ByteEnumField("ip_family", INET, _FAMILIES),
        ByteEnumField("ip_protocol", 17, _NAMED_VALUES["ip_protocol"]),
        ShortField("src_port", 0),
        ShortField("dst_port", 0),
        _address("src_ip"),
        _address("dst_ip"),
    ]


class HEP1(Packet):
    """HEP version 1: a fixed header with addresses and ports, then the payload (SIP)."""

    name = "HEP1"
    fields_desc = _header(1)

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Set the header length if it is None (scapy hook).

        Version 2 states the length of a version 1 header too, as most implementations do.
        """
        if self.header_length is None:
            length = v1v2.HEADER.size + 2 * _ADDRESS_SIZE.get(self.ip_family, 4)
            pkt = pkt[:1] + bytes([length]) + pkt[2:]
        return pkt + pay

    def mysummary(self) -> str:
        """One line with version, addresses and ports (scapy hook)."""
        return self.sprintf(f"{self.name} %src_ip%:%src_port% > %dst_ip%:%dst_port%")


class HEP2(HEP1):
    """HEP version 2 with the time in little-endian, as nearly all senders write it."""

    name = "HEP2"
    fields_desc = [
        *_header(2),
        LEIntField("seconds", 0),
        LEIntField("microseconds", 0),
        LEShortField("capture_id", 0),
        XShortField("padding", 0),
    ]


class _Padding(StrFixedLenField):
    """Two zero bytes, which some senders omit."""

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        size = 2 if s.startswith(b"\0\0") else 0
        return s[size:], s[:size]

    def addfield(self, pkt: Packet, s: bytes, val: bytes | None) -> bytes:
        return s + (val or b"")


class HEP2BigEndian(HEP2):
    """HEP version 2 with the time in big-endian; ``packet[HEP2]`` also finds it."""

    name = "HEP2"
    match_subclass = True
    fields_desc = [
        *_header(2),
        IntField("seconds", 0),
        IntField("microseconds", 0),
        ShortField("capture_id", 0),
        _Padding("padding", b"\0\0", 2),
    ]


class HEP3(Packet):
    """HEP version 3: ``magic``, ``length`` (bytes, header included) and ``chunks``."""

    name = "HEP3"
    fields_desc = [
        StrFixedLenField("magic", b"HEP3", 4),
        ShortField("length", None),
        PacketListField(
            "chunks", [], _chunk, length_from=lambda packet: max(0, packet.length - v3.HEADER.size)
        ),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Set the length if it is None (scapy hook)."""
        if self.length is None:
            pkt = pkt[:4] + struct.pack("!H", len(pkt)) + pkt[6:]
        return pkt + pay

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """Choose the layer class after this one (scapy hook): the next packet of a TCP stream."""
        if payload[:4] in v3.MAGICS and _stated_length(payload) <= len(payload):
            return HEP3
        return conf.padding_layer

    def mysummary(self) -> str:
        """One line with version, protocol, addresses and ports (scapy hook)."""
        try:
            packet = decode(bytes(self))
        except HepDecodeError:
            return self.name
        return (
            f"{self.name} {protocol_name(packet.protocol_type)} {packet.src_ip}:{packet.src_port}"
            f" > {packet.dst_ip}:{packet.dst_port}"
        )


for _lower in (UDP, TCP):
    bind_bottom_up(_lower, HEP, sport=PORT)
    bind_bottom_up(_lower, HEP, dport=PORT)
    for _layer in (HEP1, HEP2, HEP2BigEndian, HEP3):
        bind_top_down(_lower, _layer, dport=PORT)
