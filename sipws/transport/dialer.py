"""From a destination to an open connection: name, TCP, TLS and opening handshake."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from sipws.address import Address, Listener, address_of_socket
from sipws.errors import ConnectError
from sipws.events import (
    ConnectFailed,
    Connection,
    ConnectStarted,
    ErrorKind,
    HandshakeFailed,
)
from sipws.request import status_of
from sipws.transport.client_flow import ClientFlow
from sipws.transport.flow import Flow
from sipws.transport.flow_context import FlowContext
from sipws.transport.happy_eyeballs import (
    DialError,
    Tried,
    ends_of,
    open_socket,
    resolve,
    tls_failure,
    unreachable,
)
from sipws.transport.tls import client_context
from sipws.transport.tls_alerts import alerted
from sipws.ws.client_handshake import Offer, location_of, retry_after_of
from sipws.ws.destination import Destination

UNKNOWN: Final = "0.0.0.0"
"""An unknown address, as systems write it; ``::`` beside an IPv6 address."""

REMEDIES: Final = {
    ErrorKind.NAME_NOT_FOUND: "check the name, and that this machine can resolve it",
    ErrorKind.CONNECT_REFUSED: "check the port, and that the server is running",
    ErrorKind.CONNECT_TIMEOUT: "check address and firewalls, or allow more"
    " (Limits.connect_timeout)",
    ErrorKind.UNREACHABLE: "check address, routes and firewalls",
    ErrorKind.OUT_OF_RESOURCES: "raise the limit on file descriptors, or the system's range of"
    " ports",
    ErrorKind.CONNECT_CANCELLED: "connect again if the connection is still needed",
    ErrorKind.TLS_FAILURE: "check that the port speaks TLS and that the certificate is for this"
    " host; if an authority of your own issued it, name that in sipws.tls.client_context",
    ErrorKind.HANDSHAKE_REFUSED: "check the path, and whether the server wants credentials or an"
    " Origin",
    ErrorKind.HANDSHAKE_TIMEOUT: "check that a WebSocket server listens there (over TLS: wss)",
    ErrorKind.HANDSHAKE_ABORTED: "check that a WebSocket server listens there (over TLS: wss)",
    ErrorKind.BAD_REPLY: "check that a SIP over WebSocket server (RFC 7118) listens there",
}
"""The remedy for each failure of a connect."""


MakeFlow = Callable[
    [Connection, Destination, Offer, FlowContext[Flow], Listener | None], ClientFlow
]
"""Makes the flow of a connection before it is opened; see `ClientFlow`."""


class Dialer:
    """Opens connections, a new one for each call, and publishes what happens.

    Args:
        context: what their flows share.
        tls: the context for ``wss`` destinations. Default: one that trusts the system's authorities
            and checks certificate and name.
    """

    def __init__(self, context: FlowContext[Flow], tls: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._tls = tls

    async def connect(
        self,
        where: Destination,
        offer: Offer,
        listener: Listener | None = None,
        make_flow: MakeFlow = ClientFlow,
        client: Connection | None = None,
    ) -> ClientFlow:
        """Open a connection. Cancelling this drops it.

        Args:
            where: the destination.
            offer: the contents of the upgrade request.
            listener: the listener that it is opened for; None for the local address of the socket.
            make_flow: makes its flow.
            client: the connection of the client that is relayed; None without one.

        Raises:
            ConnectError: the connect failed, which is also published.
        """
        flow = await self._dial(where, offer, listener, make_flow, client)
        try:
            failed = await flow.answered
        except asyncio.CancelledError:
            flow.cancel()
            raise
        if failed is not None:
            raise refused_error(where, failed, self._context.clock())
        return flow

    async def _dial(
        self,
        where: Destination,
        offer: Offer,
        listener: Listener | None,
        make_flow: MakeFlow,
        client: Connection | None,
    ) -> ClientFlow:
        """Set up TCP and TLS, and publish a failure."""
        context = self._context
        attempt = Connection(
            id=context.registry.next_id(),
            listener=listener or Listener(where.proto, "*", 0),
            local=_unknown_beside(where.host),
            peer=Address(where.host if where.is_address else UNKNOWN, where.port),
            started=context.clock(),
            destination=where.shown,
            started_monotonic=context.monotonic(),
            relayed_with=client.id if client else None,
            client=client.peer if client else None,
        )
        context.bus.publish(ConnectStarted(attempt, attempt.started))
        flow = make_flow(attempt, where, offer, context, listener)
        tried: Tried = []
        try:
            await self._set_up(where, flow, tried)
        except DialError as exc:
            # An established connection publishes its own end.
            if not flow.made:
                self._publish_failure(attempt, exc)
            raise connect_error(where, exc.kind, exc.detail) from exc.__cause__
        except asyncio.CancelledError:
            if not flow.made:
                kind, detail = ErrorKind.CONNECT_CANCELLED, "the connect was cancelled"
                self._publish_failure(attempt, DialError(kind, detail, *ends_of(tried)))
            raise
        return flow

    async def _set_up(self, where: Destination, flow: ClientFlow, tried: Tried) -> None:
        if where.proto == "wss" and self._tls is None:
            # Reading the system's authorities takes a tenth of a second, once.
            self._tls = await asyncio.to_thread(client_context)
        limit = self._context.limits.connect_timeout
        waiting_for = f"the address of {where.host!r}"
        try:
            async with asyncio.timeout(limit):
                candidates = await resolve(where)
                peer = address_of_socket(candidates[0][1])
                waiting_for = f"TCP with {peer}"
                sock = await open_socket(candidates, tried)
                local = address_of_socket(sock.getsockname())
                with suppress(OSError):
                    peer = address_of_socket(sock.getpeername())
                waiting_for = f"TLS with {peer}"
                await self._start(where, flow, sock, peer, local)
        except TimeoutError as exc:
            detail = f"{limit:g} s were not enough for {waiting_for}"
            raise DialError(ErrorKind.CONNECT_TIMEOUT, detail, *ends_of(tried)) from exc

    async def _start(
        self,
        where: Destination,
        flow: ClientFlow,
        sock: socket.socket,
        peer: Address,
        local: Address,
    ) -> None:
        context = name = shutdown_timeout = None
        if where.proto == "wss":
            context, name = self._tls, where.host.rstrip(".")
            # By default asyncio waits 30 s for a server that does not end TLS.
            shutdown_timeout = self._context.limits.close_timeout
        with alerted(sock):
            starting = asyncio.ensure_future(
                asyncio.get_running_loop().create_connection(
                    lambda: flow,
                    sock=sock,
                    ssl=context,
                    server_hostname=name,
                    ssl_shutdown_timeout=shutdown_timeout,
                )
            )
        try:
            # uvloop's must not be cancelled between the protocol's `connection_made` and its own
            # end: the protocol would never get `connection_lost`.
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            flow.cancel()
            if not flow.made:
                starting.cancel()
            raise
        except OSError as exc:
            if context is None:
                raise unreachable(exc, peer, local) from exc
            raise tls_failure(exc, peer, local) from exc

    def _publish_failure(self, attempt: Connection, exc: DialError) -> None:
        peer = exc.peer or attempt.peer
        failed = replace(attempt, local=exc.local or _unknown_beside(peer.ip), peer=peer)
        bus, now = self._context.bus, self._context.clock()
        bus.publish(ConnectFailed(failed, now, exc.kind, exc.detail))


def _unknown_beside(host: str) -> Address:
    # A HEP packet has one address family.
    return Address("::" if ":" in host else UNKNOWN, 0)


def refused_error(where: Destination, failed: HandshakeFailed, now: float) -> ConnectError:
    """The error for a handshake that failed.

    Args:
        where: the destination.
        failed: the event of the failure.
        now: the time, in seconds since the epoch.
    """
    reply, status = failed.reply, status_of(failed.reply)
    remedy = REMEDIES.get(failed.kind, "see the events on the bus")
    retry_after = None
    if failed.kind is ErrorKind.HANDSHAKE_REFUSED:
        retry_after = retry_after_of(reply, now)
        if location_of(reply) is not None:
            remedy = "connect there if you trust it: a redirect is not followed"
        elif retry_after:
            remedy = f"connect again in {retry_after:.0f} s, as the server asks (Retry-After)"
    return ConnectError(
        where.shown,
        failed.kind,
        failed.detail,
        remedy,
        status=status,
        reply=reply,
        retry_after=retry_after,
    )


def connect_error(where: Destination, kind: ErrorKind, detail: str) -> ConnectError:
    """The error for a failed connect, with its remedy.

    Args:
        where: the destination.
        kind: the kind of failure.
        detail: the reason, for people.
    """
    remedy = REMEDIES.get(kind, "see the events on the bus")
    return ConnectError(where.shown, kind, detail, remedy)
