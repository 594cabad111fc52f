"""HEP, the Homer Encapsulation Protocol: packets, senders and collectors.

Encode and decode a packet::

    >>> import hep
    >>> packet = hep.Packet(
    ...     src_ip="192.0.2.5",
    ...     src_port=50123,
    ...     dst_ip="192.0.2.1",
    ...     dst_port=8080,
    ...     seconds=1700000000,
    ...     microseconds=0,
    ...     payload=b"OPTIONS sip:example.com SIP/2.0",
    ...     correlation_id=b"call-1",
    ... )
    >>> hep.decode(hep.encode(packet)).correlation_id
    b'call-1'

To send packets, use `open_sender`; for several destinations use `Duplicate`, `Failover` or
`Balanced`. Programs without asyncio use `SyncSender`. To receive packets, use `receive` or
`Collector`.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hep.codec.any_version import decode, encode
    from hep.codec.chunks import Chunk, ProtocolType
    from hep.codec.framing import Splitter
    from hep.codec.packet import Packet
    from hep.codec.prepared import PreparedEncoder
    from hep.codec.v3 import compress
    from hep.errors import HepDecodeError, HepEncodeError, HepError, HepIdError, HepSpoolError
    from hep.hep_id import HepId
    from hep.receiving.collector import Collector, Source
    from hep.receiving.receiver import Receiver, receive
    from hep.sending.counts import Counts
    from hep.sending.groups import Balanced, Duplicate, Failover
    from hep.sending.outbox import Outbox
    from hep.sending.senders import Sender, open_sender
    from hep.sending.settings import SenderSettings
    from hep.sending.sync import SyncSender

__all__ = [
    "Balanced",
    "Chunk",
    "Collector",
    "Counts",
    "Duplicate",
    "Failover",
    "HepDecodeError",
    "HepEncodeError",
    "HepError",
    "HepId",
    "HepIdError",
    "HepSpoolError",
    "Outbox",
    "Packet",
    "PreparedEncoder",
    "ProtocolType",
    "Receiver",
    "Sender",
    "SenderSettings",
    "Source",
    "Splitter",
    "SyncSender",
    "compress",
    "decode",
    "encode",
    "open_sender",
    "receive",
]

__distribution__ = "sipws"
"""The distribution that this package comes with: PyPI has another one with a package ``hep``."""

# A library logs nothing until the program configures logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_PLACES = {
    "Balanced": "hep.sending.groups",
    "Chunk": "hep.codec.chunks",
    "Collector": "hep.receiving.collector",
    "Counts": "hep.sending.counts",
    "Duplicate": "hep.sending.groups",
    "Failover": "hep.sending.groups",
    "HepDecodeError": "hep.errors",
    "HepEncodeError": "hep.errors",
    "HepError": "hep.errors",
    "HepId": "hep.hep_id",
    "HepIdError": "hep.errors",
    "HepSpoolError": "hep.errors",
    "Outbox": "hep.sending.outbox",
    "Packet": "hep.codec.packet",
    "PreparedEncoder": "hep.codec.prepared",
    "ProtocolType": "hep.codec.chunks",
    "Receiver": "hep.receiving.receiver",
    "Sender": "hep.sending.senders",
    "SenderSettings": "hep.sending.settings",
    "Source": "hep.receiving.collector",
    "Splitter": "hep.codec.framing",
    "SyncSender": "hep.sending.sync",
    "compress": "hep.codec.v3",
    "decode": "hep.codec.any_version",
    "encode": "hep.codec.any_version",
    "open_sender": "hep.sending.senders",
    "receive": "hep.receiving.receiver",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used: `hep.sip` alone needs no senders."""
        if (place := _PLACES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(place), name)
        return found

    def __dir__() -> list[str]:
        """The public names alone, those that are not imported yet too."""
        return sorted(__all__)
