"""Relaying of clients to a server that speaks SIP over WebSocket itself.

SIP is not changed: messages of one connection are sent on the other in order, text as text and
binary as binary. Each client has its own connection to the server, so Via, Contact and flow stay
correct. Pings, close handshakes and the keep-alives of RFC 5626 are not relayed (section 4.4.1:
keep-alives check the flow to the next hop, which is sipws).
"""

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import get_args

from websockets.frames import CloseCode

from sipws.address import Listener
from sipws.admission.admission import Admission
from sipws.bus import Bus
from sipws.errors import ConnectError, TransportError
from sipws.events import ErrorKind, Event, MessageReceived, MessageSent
from sipws.relay.close_codes import CloseReason, of_failure
from sipws.relay.forwarding import destination_for, offer_for
from sipws.relay.relay_legs import ClientLeg, Leg, Pair, UpstreamLeg
from sipws.sip_counts import SipCounts
from sipws.transport.descriptors import LOOK_INTERVAL
from sipws.transport.dialer import Dialer
from sipws.transport.flow import Flow
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.ws.destination import Destination
from sipws.ws.handshake import Refusal

log = logging.getLogger(__name__)


class Relay:
    """Relays messages between a server's clients and an upstream; an argument of `Server`.

    Example::

        async with Server(["wss:*:443"], relay=Relay("ws://127.0.0.1:5062"), tls=certificates):
            await asyncio.sleep(3600)

    Args:
        upstream: the server to relay to; see `sipws.relay.forwarding.destination_for` for its path.
        tls: the context for a ``wss`` upstream. Default: one that trusts the system's authorities
            and checks certificate and name.
        messages_told: whether messages on connections to the upstream are published too. Messages
            on connections of clients always are. False traces each message once.
        sip_counts: counts the SIP messages of the upstream. Default: nothing counts them.

    Raises:
        AddressError: the upstream does not parse.
    """

    def __init__(
        self,
        upstream: Destination | str,
        *,
        tls: ssl.SSLContext | None = None,
        messages_told: bool = True,
        sip_counts: SipCounts | None = None,
    ) -> None:
        self.upstream = Destination.parse(upstream) if isinstance(upstream, str) else upstream
        """The upstream, as configured."""
        self.reachable: bool | None = None
        """Whether the latest connect reached the upstream; None before the first."""
        self._tls = tls
        self._silent_until = 0.0
        self._messages_told = messages_told
        self._sip_counts = sip_counts
        self._dialer: Dialer | None = None
        self._context: FlowContext[Flow] | None = None
        self._monotonic: Callable[[], float] = time.monotonic
        # After a 503 with Retry-After no connect starts before this time.
        self._asked_until = -math.inf
        self._dials: set[asyncio.Task[None]] = set()

    def bind(self, context: FlowContext[Flow], wss_context: FlowContext[Flow]) -> None:
        """Take the contexts of the server's flows, which flows to the upstream share in part.

        Args:
            context: of flows over ``ws``.
            wss_context: of flows over ``wss``, whose limits a ``wss`` upstream has.

        Raises:
            TransportError: this relay has a server already.
        """
        if self._dialer is not None:
            raise TransportError("a relay is for one server; make another one for this server")
        if self.upstream.proto == "wss":
            context = wss_context
        own = self._context = FlowContext(
            bus=context.bus if self._messages_told else _without_messages(context.bus),
            handler=self.carry,
            limits=context.limits,
            registry=context.registry,
            clock=context.clock,
            monotonic=context.monotonic,
            deadlines=context.deadlines,
            admission=Admission(),
            sip_counts=self._sip_counts,
        )
        self._monotonic = context.monotonic
        self._dialer = Dialer(own, self._tls)

    def renew(self, context: FlowContext[Flow], wss_context: FlowContext[Flow]) -> None:
        """Take the limits of connections to the upstream that are made from now on.

        Args:
            context: of flows over ``ws``.
            wss_context: of flows over ``wss``, whose limits a ``wss`` upstream has.
        """
        if self._context is not None:
            limits = (wss_context if self.upstream.proto == "wss" else context).limits
            self._context = replace(self._context, limits=limits)
            self._dialer = Dialer(self._context, self._tls)

    def carry(self, flow: Flow, message: bytes) -> None:
        """Send a message to the other side: the handler of both legs."""
        # A cast would be a call.
        leg: Leg = flow  # type: ignore[assignment]
        leg.pair.carry(leg, message)

    def accept(
        self, listener: Listener, context: FlowContext[Flow], accepted: AcceptedSocket | None = None
    ) -> ClientLeg:
        """Make the flow of a client that has connected.

        Args:
            listener: the listener that it connected to.
            context: what all flows of the server share.
            accepted: what is known already, after TLS or a PROXY header; else None.
        """
        return ClientLeg(listener, context, accepted, dial=self._dial, refusal=self._refusal())

    def _refusal(self) -> Refusal | None:
        """Why clients are refused at once; None while the upstream accepts connects."""
        left = self._asked_until - self._monotonic()
        if left <= 0:
            return None
        return Refusal(
            ErrorKind.UPSTREAM_FAILED,
            "the upstream takes no connections for a while",
            HTTPStatus.SERVICE_UNAVAILABLE,
            (("Retry-After", str(math.ceil(left))),),
        )

    async def aclose(self) -> None:
        """Cancel connects in progress."""
        dials = list(self._dials)
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)

    def _dial(self, pair: Pair) -> "asyncio.Task[None]":
        if self._dialer is None:
            raise TransportError("a relay needs a server: Server(..., relay=...)")
        dial = asyncio.get_running_loop().create_task(self._connect(self._dialer, pair))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)
        return dial

    async def _connect(self, dialer: Dialer, pair: Pair) -> None:
        client = pair.client.connection
        listener, proto = client.listener, self.upstream.proto
        if listener.proto != proto:
            # Traces show the protocol of this connection, not that of the client's.
            listener = replace(listener, proto=proto)
        try:
            await dialer.connect(
                destination_for(self.upstream, client),
                offer_for(client, pair.subprotocols),
                listener,
                partial(UpstreamLeg, pair),
                client,
            )
        except ConnectError as exc:
            close = of_failure(exc)
            # A 429 may be about this one client; a 503 is about the server.
            if exc.status == HTTPStatus.SERVICE_UNAVAILABLE and exc.retry_after:
                self._asked_until = self._monotonic() + exc.retry_after
            # A server that refuses this one client is reachable for all others.
            self._note(None if close.code == CloseCode.POLICY_VIOLATION else exc)
            pair.failed(exc.detail, close)
        except Exception as exc:
            # After any error the client is closed: no connection to the upstream will come.
            log.exception("connecting to the upstream for %s failed", client.peer)
            close = CloseReason(CloseCode.INTERNAL_ERROR, "internal error")
            pair.failed(f"{type(exc).__name__}: {exc}", close)
        else:
            self._asked_until = -math.inf
            self._note(None)

    def _note(self, exc: ConnectError | None) -> None:
        """Log when the upstream goes down and comes back, instead of each failed connect."""
        if exc is not None and exc.kind is ErrorKind.OUT_OF_RESOURCES:
            # A lack on this machine is no failure of the upstream.
            if (now := time.monotonic()) >= self._silent_until:
                self._silent_until = now + LOOK_INTERVAL
                log.error(
                    "this machine cannot open more connections to %s: %s; clients that need one are"
                    " closed. %s",
                    self.upstream.shown,
                    exc.detail,
                    exc.remedy,
                )
            return
        before, self.reachable = self.reachable, exc is None
        if exc is not None and before is not False:
            log.warning(
                "no connection to the upstream %s (%s): %s; %s; clients are closed until there is"
                " one",
                self.upstream.shown,
                exc.kind,
                exc.detail,
                exc.remedy,
            )
        elif exc is None and before is False:
            log.info("there are connections to the upstream %s again", self.upstream.shown)


def _without_messages(bus: Bus) -> Bus:
    """A bus that passes all events except messages on to another bus."""
    own = Bus()
    for event_type in get_args(Event):
        if event_type not in (MessageReceived, MessageSent):
            own.hook(event_type).subscribe(bus.publish)
    return own
