"""A SIP over WebSocket server: listeners, their connections, and an orderly shutdown."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, Self

from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from sipws.address import Address, Listener
from sipws.admission.admission import Admission, Rules
from sipws.bus import Bus
from sipws.errors import ConfigurationError, ConnectionClosedError
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.sip_counts import SipCounts
from sipws.transport.flow import Flow, Handler
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.transport.listening import cannot_listen, open_sockets
from sipws.transport.ping_scheduler import PingScheduler
from sipws.transport.pre_handshake import BACKLOG, MakeFlow, PreHandshake
from sipws.transport.registrations import Phone, Registrations
from sipws.transport.shutdown import orderly_end
from sipws.transport.tls import Certificates
from sipws.ws.handshake import SUBPROTOCOL

SHUTDOWN: Final = "server shutdown"
"""The close reason of a server that shuts down."""


class MessageRelay(Protocol):
    """An object that relays messages to another server: `sipws.relay.relay.Relay` is one."""

    def bind(self, context: FlowContext[Flow], wss_context: FlowContext[Flow]) -> None:
        """Take the contexts of the server's flows; called once, by the server.

        Args:
            context: of flows over ``ws``.
            wss_context: of flows over ``wss``.
        """

    def accept(
        self, listener: Listener, context: FlowContext[Flow], accepted: AcceptedSocket | None = None
    ) -> Flow:
        """Make the flow of a client that has connected.

        Args:
            listener: the listener that it connected to.
            context: what all flows of the server with its protocol share.
            accepted: what is known already, after TLS or a PROXY header; else None.
        """

    def carry(self, flow: Flow, message: bytes) -> None:
        """Send a message to the other side: the handler of the server's flows."""

    def renew(self, context: FlowContext[Flow], wss_context: FlowContext[Flow]) -> None:
        """Take the contexts of flows that are made from now on; see `bind`."""

    async def aclose(self) -> None:
        """Cancel connects in progress."""


class Server:
    """Accepts connections on listeners and hands each SIP message to a handler.

    Example::

        def answer(flow: Flow, message: bytes) -> None:
            print(flow.connection.peer, message)

        async with Server(["ws:127.0.0.1:8080"], answer) as server:
            await server.serve_forever()

    Args:
        listeners: a list of definitions, as text or parsed.
        handler: called with the flow and the message, for each message except keep-alives. It must
            not block. An exception is logged and published as `ErrorOccurred`.
        relay: relays messages to another server, instead of a handler.
        bus: takes the events. Default: a bus of its own.
        limits: the bounds of each connection, and the intervals of pings.
        wss_limits: the bounds of each connection over ``wss``. Default: ``limits``. The intervals
            of pings are always those of ``limits``.
        rules: which connections are accepted. Default: all. `sipws.transport.descriptors` computes
            a `Rules.max_connections` that leaves file descriptors for everything else.
        wss_rules: the checks of upgrade requests over ``wss``. Default: ``rules``.
        tls: the certificates of ``wss`` listeners, or one context for all of them; see
            `sipws.transport.tls.server_context`.
        subprotocols: a client must offer one of these, which are in order of preference. Empty
            requires none, for tests with plain WebSocket messages.
        compression: whether permessage-deflate is accepted (RFC 7692). A message that inflates
            beyond `Limits.message_size` closes its connection with 1009.
        health_path: the path for health checks of load balancers. A plain GET, HEAD or OPTIONS gets
            200, or 503 while the server shuts down. None answers none. Health checks are not
            published as handshakes (`sipws.events.Probe`).
        sip_counts: counts the SIP messages of the clients. Default: nothing counts them, which
            saves about 1,500 instructions a message.
        inherited: bound sockets by listener, each with its listener's port. A listener without any
            opens its own.

    Raises:
        AddressError: a listener definition does not parse.
        TypeError: the listeners are not a list of definitions; or the handler cannot be called, or
            is a coroutine function, which would never run.
    """

    def __init__(
        self,
        listeners: Sequence[Listener | str],
        handler: Handler = lambda flow, message: None,
        *,
        relay: MessageRelay | None = None,
        bus: Bus | None = None,
        limits: Limits | None = None,
        wss_limits: Limits | None = None,
        rules: Rules | None = None,
        wss_rules: Rules | None = None,
        tls: Certificates | ssl.SSLContext | None = None,
        subprotocols: Sequence[str] = (SUBPROTOCOL,),
        compression: bool = False,
        health_path: str | None = None,
        sip_counts: SipCounts | None = None,
        inherited: Mapping[Listener, Sequence[socket.socket]] | None = None,
    ) -> None:
        self.listeners = _parsed(listeners)
        """As configured; once started, with the real ports."""
        self.bus = bus or Bus()
        self.flows: Registry[Flow] = Registry()
        """The connections that are alive."""
        self.admission = Admission(rules, wss_rules)
        """Counts the connections, and the refused ones."""
        self.registrations = Registrations()
        """The connection that each phone registered on."""
        self._relay = relay
        self._make_flow: MakeFlow = Flow if relay is None else relay.accept
        self._context = FlowContext(
            self.bus,
            handler if relay is None else relay.carry,
            limits or Limits(),
            self.flows,
            subprotocols=tuple(map(Subprotocol, subprotocols)),
            admission=self.admission,
            compression=compression,
            health_path=health_path,
            registrations=self.registrations,
            sip_counts=sip_counts,
        )
        self._wss_context = _over_wss(self._context, wss_limits)
        if relay is not None:
            relay.bind(self._context, self._wss_context)
        self._ping_scheduler = PingScheduler(self.flows, self._context.limits.intervals)
        self._pre_handshakes: list[PreHandshake] = []
        self._tls = tls
        self._inherited = inherited or {}
        self._servers: list[asyncio.Server] = []
        # Set unless the server is started.
        self._closed = asyncio.Event()
        self._closed.set()

    @property
    def out_of_descriptors(self) -> int:
        """How often no file descriptor was left, at an accept or at the check once a second."""
        return self._context.descriptors.exhausted

    async def start(self) -> None:
        """Listen on all listeners.

        Raises:
            ConfigurationError: there is a ``wss`` listener and no certificate.
            TransportError: an address cannot be listened on; the message says which and why.
        """
        if self._tls is None and (wss := [x for x in self.listeners if x.proto == "wss"]):
            raise ConfigurationError(f"listener {wss[0]} needs a TLS certificate, and none is set")
        # A closed server may be started again.
        self.admission.draining = None
        self._closed.clear()
        try:
            for index, listener in enumerate(self.listeners):
                self.listeners[index] = await self._listen(listener)
        except BaseException:
            # After a cancellation too no listener stays open.
            await self.aclose(grace=0)
            raise
        self._ping_scheduler.start()
        self._context.descriptors.start()

    def renew(
        self,
        *,
        limits: Limits,
        wss_limits: Limits | None = None,
        rules: Rules,
        wss_rules: Rules | None = None,
        compression: bool = False,
        health_path: str | None = None,
    ) -> None:
        """Replace what holds for new connections. Open ones keep theirs, and the counts go on.

        A connection whose upgrade request has not come whole is checked by the new rules.

        Args:
            limits: as for a new server, like all that follow.
            wss_limits: of connections over ``wss``.
            rules: which connections are accepted; `Rules.proxy_protocol` is that of the start.
            wss_rules: the checks over ``wss``.
            compression: whether permessage-deflate is accepted.
            health_path: the path for health checks.
        """
        self.admission.renew(rules, wss_rules)
        self._context = replace(
            self._context, limits=limits, compression=compression, health_path=health_path
        )
        self._wss_context = _over_wss(self._context, wss_limits)
        for pre_handshake in self._pre_handshakes:
            is_wss = pre_handshake.proto == "wss"
            pre_handshake.renew(self._wss_context if is_wss else self._context)
        if self._relay is not None:
            self._relay.renew(self._context, self._wss_context)
        self._ping_scheduler.renew(limits.intervals)
        self._context.deadlines.forget_unused()

    async def serve_forever(self, grace: float = 5.0, spread: float = 0.0) -> None:
        """Serve until this call is cancelled, or until `aclose` is called elsewhere.

        It starts a server that is not started. In a program with `asyncio.run`, Ctrl-C cancels it.

        Args:
            grace: for `aclose`, which a cancellation calls.
            spread: for `aclose`, too.

        Returns:
            when another task has closed the server.

        Raises:
            asyncio.CancelledError: it was cancelled. All connections are closed then.
            ConfigurationError, TransportError: see `start`.
        """
        if self._closed.is_set():
            await self.start()
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            await self.aclose(grace, spread)
            raise

    async def aclose(self, grace: float = 5.0, spread: float = 0.0) -> None:
        """Refuse new handshakes with 503, close every open connection with 1001, stop listening.

        Args:
            grace: seconds that peers have to complete the closing handshake. Connections that are
                left then are dropped.
            spread: seconds over which connections are closed, evenly. Phones connect again at once,
                and this keeps them from reaching another server all at the same time.

        Cancelling it drops all connections at once. A second call has no effect.
        """
        self.admission.draining = spread + grace
        if (refusal := self.admission.ending) is not None:
            for flow in self.flows:
                flow.turn_away(refusal)
        try:
            async with orderly_end(self._context, CloseCode.GOING_AWAY, SHUTDOWN, grace):
                try:
                    await self._ping_scheduler.aclose()
                    await self._close_spread(spread)
                finally:
                    await self._stop_listening()
        finally:
            self._closed.set()

    async def _stop_listening(self) -> None:
        self._context.descriptors.close()
        for server in self._servers:
            server.close()
        for pre_handshake in self._pre_handshakes:
            pre_handshake.close()
        pre_handshakes, self._pre_handshakes, self._servers = self._pre_handshakes, [], []
        try:
            for pre_handshake in pre_handshakes:
                await pre_handshake.wait_closed()
        finally:
            if self._relay is not None:
                await self._relay.aclose()

    async def _close_spread(self, spread: float) -> None:
        """Close the open connections evenly over a time, in seconds."""
        flows = [flow for flow in self.flows if flow.is_open]
        if not spread or not flows:
            return
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, flow in enumerate(flows):
            pause = started + spread * number / len(flows) - loop.time()
            # Timers have a resolution of a millisecond.
            if pause > 0.001:
                await asyncio.sleep(pause)
            flow.close(CloseCode.GOING_AWAY, SHUTDOWN)

    def send(self, target: int | str, message: bytes, *, text: bool | None = None) -> None:
        """Send one SIP message on a connection.

        Args:
            target: a connection's id, or a flow token (`Flow.token`).
            message: the whole message.
            text: as text or as binary; see `Flow.send`.

        Raises:
            ConnectionClosedError: there is no such connection, or it is closing. The answer to a
                request for such a flow is 430 (RFC 5626 section 5.3).
        """
        flow = self.flows.get(target) if isinstance(target, int) else self.flows.by_token(target)
        if flow is None:
            raise ConnectionClosedError(f"no connection is alive by the name {target!r}")
        flow.send(message, text=text)

    def supersede(self, phone: Phone, by: int) -> None:
        """Report that a phone registered in another process, and ping the connection that it left.

        Args:
            phone: the phone, as `Registrations.news` gives it.
            by: the id of its connection there.
        """
        if (left := self.registrations.left(phone)) is not None:
            self._context.supersede(left, phone[1], self._context.clock(), by)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def _listen(self, listener: Listener) -> Listener:
        """Open one listener.

        Returns:
            the listener with its port.
        """
        # The flows carry the real port, which is known when the socket is bound.
        bound, sockets = listener, self._inherited.get(listener)
        if not sockets:
            bound, [sockets] = await open_sockets(listener)
        try:
            for listening in sockets:
                listening.listen(BACKLOG)
                listening.setblocking(False)
        except OSError as exc:
            # Another program bound the same port, and listened first.
            for listening in sockets:
                listening.close()
            raise cannot_listen(str(listener), exc) from exc
        tls, context = None, self._context
        if listener.proto == "wss":
            tls, context = self._tls, self._wss_context
        proxied = self.admission.rules.expects_proxy_header(listener)
        if tls is not None or proxied:
            pre_handshake = PreHandshake(
                bound, context, proxied=proxied, tls=_contexts(tls), make_flow=self._make_flow
            )
            self._pre_handshakes.append(pre_handshake)
            for listening in sockets:
                pre_handshake.serve(listening)
            return bound
        # Noted before the next await, so that `aclose` closes them.
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_server(
                lambda: self._make_flow(bound, self._context, None),
                sock=listening,
                backlog=BACKLOG,
                start_serving=False,
            )
            for listening in sockets
        ]
        self._servers += servers
        for server in servers:
            await server.start_serving()
        return bound


def _over_wss(context: FlowContext[Flow], limits: Limits | None) -> FlowContext[Flow]:
    """The context of flows over ``wss``.

    Args:
        context: that of flows over ``ws``.
        limits: of flows over ``wss``; None for those of ``ws``. The intervals of pings are the
            same for both.
    """
    if limits is None:
        return context
    return replace(context, limits=replace(limits, intervals=context.limits.intervals))


def _parsed(listeners: Sequence[Listener | str]) -> list[Listener]:
    """The listeners of a server, parsed.

    Raises:
        AddressError: a definition does not parse.
        TypeError: this is not a list of definitions.
    """
    if isinstance(listeners, str | bytes | Listener):
        shown = str(listeners) if isinstance(listeners, Listener) else listeners
        raise TypeError(
            f"the listeners of a server are a list, and {shown!r} is one listener;"
            f" write Server([{shown!r}], ...)"
        )
    for listener in listeners:
        if not isinstance(listener, str | Listener):
            raise TypeError(
                f"{listener!r} is not a listener: use a text such as 'ws:127.0.0.1:8080',"
                " or a sipws.Listener"
            )
    return [Listener.parse(each) if isinstance(each, str) else each for each in listeners]


def _contexts(tls: Certificates | ssl.SSLContext | None) -> Callable[[], ssl.SSLContext] | None:
    """The function that returns the context of each TLS handshake; None without TLS."""
    if tls is None:
        return None
    if isinstance(tls, Certificates):
        return lambda: tls.context
    return lambda: tls


def reachable_address(listener: Listener) -> Address:
    """The address at which a client on this machine reaches a listener."""
    host = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    return Address(host, listener.port)
