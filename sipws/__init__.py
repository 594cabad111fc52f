"""SIP over WebSocket (RFC 7118) with every connection traced to Homer.

A server in a few lines::

    import asyncio
    import sipws

    def answer(flow: sipws.Flow, message: bytes) -> None:
        print(flow.connection.peer, message[:40])

    async def main() -> None:
        async with sipws.Server(["ws:127.0.0.1:8080"], answer) as server:
            server.bus.closed.subscribe(print)
            await server.serve_forever()

    asyncio.run(main())

and a client in fewer::

    async with sipws.Client(answered) as client:
        await client.send("wss://sip.example.com/ws", b"OPTIONS sip:example.com SIP/2.0…")

What happens on their connections is published on their ``bus`` as the events of `sipws.events`.
`sipws.sip` reads SIP messages and writes responses.
The tracing plugin is in `sipws.tracing`.
"""

__version__ = "0.1.0"

from sipws import own_hep

# Before anything of `hep` is used: its errors would not say why.
own_hep.check()

from sipws import events, sip
from sipws.address import Address, Listener
from sipws.admission.admission import Rules
from sipws.bus import Bus, EventStream
from sipws.errors import (
    AddressError,
    ConfigurationError,
    ConnectError,
    ConnectionClosedError,
    FilterRouteError,
    SipwsError,
    TransportError,
)
from sipws.limits import Limits
from sipws.relay.relay import Relay
from sipws.request import UpgradeRequest
from sipws.transport.client import Client
from sipws.transport.client_flow import ClientFlow
from sipws.transport.flow import Flow
from sipws.transport.reconnect import Backoff, KeptConnection
from sipws.transport.server import Server
from sipws.transport.tls import Certificate, Certificates
from sipws.ws.destination import Destination

__all__ = [
    "Address",
    "AddressError",
    "Backoff",
    "Bus",
    "Certificate",
    "Certificates",
    "Client",
    "ClientFlow",
    "ConfigurationError",
    "ConnectError",
    "ConnectionClosedError",
    "Destination",
    "EventStream",
    "FilterRouteError",
    "Flow",
    "KeptConnection",
    "Limits",
    "Listener",
    "Relay",
    "Rules",
    "Server",
    "SipwsError",
    "TransportError",
    "UpgradeRequest",
    "__version__",
    "events",
    "sip",
]


def __dir__() -> list[str]:
    """The public names alone: other modules of the package are internal."""
    return sorted(__all__)
