"""Shortening of packets that are longer than their destination accepts. Pure."""

from dataclasses import replace
from typing import Final, Literal

from hep.codec.any_version import encode
from hep.codec.packet import LONGEST_DATAGRAM, Packet
from hep.codec.v3 import compress
from hep.errors import HepEncodeError

WhenTooLong = Literal["drop", "truncate", "compress"]
"""How to handle a packet that is too long; see `fit`."""

LONGEST: Final = LONGEST_DATAGRAM
"""Maximum length of a packet in bytes. A UDP datagram over IPv4 carries no more, and heplify-server
closes a TCP connection that announces a longer packet."""


def fit(packet: Packet, longest: int, rule: WhenTooLong) -> bytes | None:
    """Encode a packet that is too long in at most ``longest`` bytes.

    Args:
        packet: a packet that encodes to more than ``longest`` bytes.
        longest: maximum length in bytes, from 1.
        rule: ``truncate`` cuts off the end of the payload, ``compress`` compresses the payload with
            zlib, ``drop`` gives no packet.

    Returns:
        the encoded packet; None if it cannot be shortened enough, or with ``drop``.
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
