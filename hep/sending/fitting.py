"""Packets that are too long for where they go. Pure."""

from dataclasses import replace
from typing import Final, Literal

from hep.codec.any_version import encode
from hep.codec.packet import Packet
from hep.codec.v3 import compress
from hep.errors import HepEncodeError

WhenTooLong = Literal["drop", "truncate", "compress"]

LONGEST: Final = 65_507
"""Bytes of the longest packet: no UDP datagram over IPv4 carries more, and heplify-server closes
a TCP connection that announces more."""


def fit(packet: Packet, longest: int, rule: WhenTooLong) -> bytes | None:
    """Encode a packet, made short enough by a rule.

    Args:
        packet: one that encodes to more than ``longest`` bytes.
        longest: bytes.
        rule: ``truncate`` cuts the end of the payload off, ``compress`` compresses it with zlib.

    Returns:
        the packet, or None where it cannot be made short enough; with ``drop`` always.
    """
    if rule == "drop":
        return None
    try:
        if rule == "compress":
            shorter = encode(compress(packet))
        else:
            room = longest - len(encode(replace(packet, payload=b"", compressed=None)))
            if room < 0:
                return None
            shorter = encode(replace(packet, payload=packet.payload[:room], compressed=None))
    except HepEncodeError:
        return None
    return shorter if len(shorter) <= longest else None
