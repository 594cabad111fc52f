"""HEP 1, 2 and 3 as scapy layers: the public names of `hep.captures.scapy_layers`."""

from hep.captures.scapy_layers import (
    CHUNKS,
    HEP,
    HEP1,
    HEP2,
    HEP3,
    HEP2BigEndian,
    HEP3Chunk,
    field_name,
)

__all__ = ["CHUNKS", "HEP", "HEP1", "HEP2", "HEP3", "HEP2BigEndian", "HEP3Chunk", "field_name"]
