"""What comes before HTTP on a connection: a PROXY header, a TLS handshake, or both.

asyncio's own servers neither report a failed TLS handshake nor allow to read anything before it. A
`PreHandshake` therefore accepts connections itself. It counts each before it spends anything on it,
reads the PROXY header and no byte more, has the event loop do TLS, and passes the connection to a
`Flow`. A failure is published like any other failed handshake.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from sipws.address import Address, Listener, Proto, address_of_socket
from sipws.admission.admission import AdmissionSlot
from sipws.admission.proxy_headers import (
    LONGEST_V2,
    NeedMore,
    ProxyError,
    ProxyHeader,
    read_proxy_header,
)
from sipws.events import Connection, ConnectionOpened, ErrorKind, Event, Probe
from sipws.transport.descriptors import OUT_OF_DESCRIPTORS
from sipws.transport.flow import Flow
from sipws.transport.flow_context import AcceptedSocket, FlowContext
from sipws.transport.tls import failure_reason
from sipws.transport.tls_alerts import alerted
from sipws.ws.handshake import Refusal
from sipws.ws.server_session import ServerSession

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
"""Connections that the system queues until they are accepted. After an outage all phones connect at
once. A phone that finds the queue full tries again one to three seconds later."""

AT_ONCE: Final = 128
"""Connections that are accepted in one slice of the event loop."""

OUT_OF_FILES: Final = 1.0
"""Seconds until the next try when a connection cannot be accepted, as in asyncio's servers. Mostly
no file descriptors are left, and trying at once would only use processor time."""

HELLO_CHECK: Final = b"HAPROXYSSLCHK\n"
"""Part of the ClientHello of HAProxy's ``option ssl-hello-chk``. It offers SSL 3.0 only, and an
alert is enough for it."""

HELLO: Final = 256
"""Bytes of a ClientHello that are searched for it: such a check has about 80."""

MakeFlow = Callable[[Listener, FlowContext[Flow], AcceptedSocket | None], Flow]
"""Makes the flow of an accepted connection; see `Flow`."""


class PreHandshake:
    """Accepts connections and prepares each for its flow.

    `Limits.handshake_timeout` limits the PROXY header and TLS together, unless TLS has a limit of
    its own (`Limits.tls_handshake_timeout`). The upgrade request has the same time after that.

    Args:
        listener: the definition, with the real port.
        context: what all flows of the server share.
        proxied: whether trusted peers send a PROXY header first.
        tls: returns the context for a TLS handshake; None for a listener without TLS.
        make_flow: makes the flow of a connection.
    """

    def __init__(
        self,
        listener: Listener,
        context: FlowContext[Flow],
        *,
        proxied: bool,
        tls: Callable[[], ssl.SSLContext] | None,
        make_flow: MakeFlow = Flow,
    ) -> None:
        self._listener = listener
        self._context = context
        self._proxied = proxied
        self._tls = tls
        self._make_flow = make_flow
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()

    @property
    def proto(self) -> Proto:
        """The protocol of the listener."""
        return self._listener.proto

    def renew(self, context: FlowContext[Flow]) -> None:
        """Replace what flows share from now on."""
        self._context = context

    def serve(self, listening: socket.socket) -> None:
        """Accept connections on a bound socket, which `close` closes."""
        listening.listen(BACKLOG)
        listening.setblocking(False)
        self._listening.append(listening)
        self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Stop accepting, and drop connections without a flow yet."""
        for listening in self._listening:
            self._loop.remove_reader(listening)
            listening.close()
        self._listening.clear()
        for task in self._arriving:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the connections that `close` drops are gone."""
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _accept(self, listening: socket.socket) -> None:
        """Accept up to `AT_ONCE` connections: a flood must not hold up the event loop."""
        for _ in range(AT_ONCE):
            try:
                connected, peer = listening.accept()
                connected.setblocking(False)
                self._arrive(connected, address_of_socket(peer))
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # The peer left before it was accepted.
                continue
            except OSError as exc:
                if exc.errno in OUT_OF_DESCRIPTORS:
                    self._context.descriptors.note()
                else:
                    log.error("no connection can be accepted on %s: %s", self._listener, exc)
                self._loop.remove_reader(listening)
                self._loop.call_later(OUT_OF_FILES, self._resume, listening)
                return

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)

    def _arrive(self, connected: socket.socket, peer: Address) -> None:
        """Count a connection, before it costs anything else."""
        context = self._context
        started, started_monotonic = context.clock(), context.monotonic()
        slot = context.admission.enter(peer.ip, started_monotonic)
        arrival = _Arrival(connected, peer, started, started_monotonic, slot)
        if slot.refusal is not None and not self._is_answered(slot, slot.refusal):
            self._drop(arrival, slot.refusal)
            return
        task = self._loop.create_task(self._take(arrival))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _is_answered(self, slot: AdmissionSlot, refusal: Refusal) -> bool:
        """Whether a connection that is refused is answered in HTTP."""
        if refusal.kind in _UNANSWERED:
            return False
        if self._tls is None or refusal.kind is ErrorKind.SHUTTING_DOWN:
            # During a shutdown a client gets its 503 over TLS too: a client that is only dropped
            # connects again at once.
            return slot.is_answered
        # Over TLS an answer would cost the handshake that the refusal saves.
        return False

    async def _take(self, arrival: "_Arrival") -> None:
        """Read the PROXY header, do the TLS handshake, and start the flow."""
        deadline = self._loop.time() + self._context.limits.handshake_timeout
        try:
            refusal = await self._read_header(arrival, deadline)
            if refusal is None or refusal.kind not in _UNANSWERED:
                refusal = arrival.slot.refusal or refusal
            if refusal is not None and not self._is_answered(arrival.slot, refusal):
                self._drop(arrival, refusal)
                return
            flow = self._make_flow(
                self._listener,
                self._context,
                AcceptedSocket(
                    arrival.peer, arrival.started, arrival.started_monotonic, arrival.slot, refusal
                ),
            )
            if (own_limit := self._context.limits.tls_handshake_timeout) is not None:
                deadline = self._loop.time() + own_limit
            # TLS takes most of the memory of a connection: it starts with the first byte.
            hello = b"" if self._tls is None else await self._first_bytes(arrival, deadline)
            arrival.is_hello_check = HELLO_CHECK in hello
            # From here on a transport owns the socket, and closes it also when TLS fails.
            arrival.has_transport = True
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: flow, arrival.socket)
            else:
                await self._shake_hands(arrival.socket, flow, self._tls(), deadline)
        except _Left as exc:
            self._leave(arrival, Probe.TCP, str(exc))
        except OSError as exc:
            if self._tls is None:
                self._fail(arrival, ErrorKind.HANDSHAKE_ABORTED, str(exc))
            elif arrival.is_hello_check:
                self._leave(arrival, Probe.TLS, "a balancer's check of TLS")
            else:
                limits = self._context.limits
                limit = limits.tls_handshake_timeout or limits.handshake_timeout
                reason = failure_reason(exc, limit)
                self._fail(arrival, ErrorKind.TLS_FAILURE, reason)
        except asyncio.CancelledError:
            self._fail(arrival, ErrorKind.HANDSHAKE_ABORTED, "server shutdown")
            raise
        finally:
            # After any other error: a connection without a flow is dropped.
            self._fail(arrival, ErrorKind.HANDSHAKE_ABORTED, "the connection cannot be served")

    async def _first_bytes(self, arrival: "_Arrival", deadline: float) -> bytes:
        """Wait for the first bytes, and return them without reading them.

        Raises:
            _Left: the peer ended the connection first.
            ConnectionAbortedError: nothing arrived in time.
        """
        connected = arrival.socket
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    # Mostly the ClientHello has arrived already, or comes a round trip later.
                    with suppress(BlockingIOError, InterruptedError):
                        if ahead := connected.recv(HELLO, socket.MSG_PEEK):
                            return ahead
                        raise _Left("the peer left before its TLS handshake")
                    await self._readable(connected)
        except TimeoutError as exc:
            raise ConnectionAbortedError("no TLS handshake in time") from exc
        except ConnectionError as exc:
            raise _Left(f"the peer left before its TLS handshake: {exc}") from exc

    async def _readable(self, connected: socket.socket) -> None:
        decided = asyncio.Event()
        self._loop.add_reader(connected, decided.set)
        try:
            await decided.wait()
        finally:
            self._loop.remove_reader(connected)

    async def _shake_hands(
        self, connected: socket.socket, flow: Flow, tls: ssl.SSLContext, deadline: float
    ) -> None:
        """Do the TLS handshake; the flow starts after it."""
        with alerted(connected):
            await self._loop.connect_accepted_socket(
                lambda: flow,
                connected,
                ssl=tls,
                # asyncio rejects zero.
                ssl_handshake_timeout=max(deadline - self._loop.time(), 0.001),
                # Otherwise a peer that does not end TLS would keep its socket for 30 s.
                ssl_shutdown_timeout=self._context.limits.close_timeout,
            )

    async def _read_header(self, arrival: "_Arrival", deadline: float) -> Refusal | None:
        """Read the client's address from a trusted proxy's header.

        Returns:
            why the connection is refused; None if it is accepted.
        """
        admission = self._context.admission
        if not self._proxied or arrival.peer.ip not in admission.rules.trusted_proxies:
            return None
        try:
            async with asyncio.timeout_at(deadline):
                header = await self._header(arrival)
        except TimeoutError:
            limit = self._context.limits.handshake_timeout
            header = ProxyError(f"no complete PROXY header within {limit:g} s")
        except OSError as exc:
            if not arrival.received:
                raise _Left(f"the peer left before its PROXY header: {exc}") from exc
            header = ProxyError(f"the connection broke within its PROXY header: {exc}")
        refusal = None
        if isinstance(header, ProxyError):
            refusal = Refusal(ErrorKind.PROXY_HEADER, header.reason)
        elif header.source is not None:
            arrival.peer = header.source
            refusal = arrival.slot.claim(header.source.ip, self._context.monotonic())
        if refusal is not None:
            admission.refused[refusal.kind] += 1
        return refusal

    async def _header(self, arrival: "_Arrival") -> ProxyHeader | ProxyError:
        """Read the PROXY header and not a byte more: TLS may follow."""
        received, connected = arrival.received, arrival.socket
        while isinstance(header := read_proxy_header(received), NeedMore):
            data = await self._loop.sock_recv(connected, header.at_least)
            if not data and not received:
                raise _Left("the peer left before its PROXY header")
            if not data:
                return ProxyError("the connection ended within its PROXY header")
            received += data
            # Mostly all of it has arrived: one peek replaces many small reads.
            with suppress(BlockingIOError, InterruptedError):
                ahead = connected.recv(LONGEST_V2, socket.MSG_PEEK)
                header = read_proxy_header(received + ahead)
                if isinstance(header, ProxyHeader):
                    received += connected.recv(header.length - len(received))
        return header

    def _fail(self, arrival: "_Arrival", kind: ErrorKind, detail: str) -> None:
        if not arrival.slot.used and not arrival.slot.released:
            self._context.admission.refused[kind] += 1
            self._drop(arrival, Refusal(kind, detail))

    def _drop(self, arrival: "_Arrival", refusal: Refusal) -> None:
        """Close a connection without an answer, and publish that it was refused."""
        # A valid header is not part of a later failure.
        received = bytes(arrival.received) if refusal.kind is ErrorKind.PROXY_HEADER else b""
        self._end(arrival, lambda session, now: session.drop(refusal, now, received))

    def _leave(self, arrival: "_Arrival", probe: Probe, detail: str) -> None:
        """Close a connection of a health check, or one on which nothing was sent."""
        if not arrival.slot.used:
            self._end(arrival, lambda session, now: session.leave(probe, detail, now))

    def _end(
        self, arrival: "_Arrival", end: Callable[[ServerSession, float], Sequence[Event]]
    ) -> None:
        context, now = self._context, self._context.clock()
        connection_id = context.registry.next_id()
        connection = Connection(
            connection_id,
            self._listener,
            arrival.local,
            arrival.peer,
            arrival.started,
            started_monotonic=arrival.started_monotonic,
        )
        context.bus.publish(ConnectionOpened(connection, now))
        session = ServerSession(connection, context.limits, monotonic=context.monotonic)
        for event in end(session, now):
            context.bus.publish(event)
        if not arrival.has_transport:
            arrival.socket.close()
        arrival.slot.release()


class _Left(Exception):  # noqa: N818 - this is no error
    """The peer ended a connection on which it had sent nothing."""


class _Arrival:
    """A connection without a flow yet."""

    __slots__ = (
        "has_transport",
        "is_hello_check",
        "local",
        "peer",
        "received",
        "slot",
        "socket",
        "started",
        "started_monotonic",
    )  # fmt: skip

    def __init__(
        self,
        connected: socket.socket,
        peer: Address,
        started: float,
        started_monotonic: float,
        slot: AdmissionSlot,
    ) -> None:
        self.socket = connected
        self.local = address_of_socket(connected.getsockname())
        self.peer = peer
        self.started = started
        self.started_monotonic = started_monotonic
        self.slot = slot
        self.received = bytearray()
        self.has_transport = False
        self.is_hello_check = False


_UNANSWERED: Final = (ErrorKind.PROXY_HEADER,)
"""Failures before HTTP, which get no answer in HTTP."""
