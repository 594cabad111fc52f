"""Listeners on which more than HTTP comes in: a PROXY header, or TLS, or both.

asyncio's own servers neither tell of a TLS handshake that failed nor let anything be read in front
of it. A gate therefore accepts its connections itself: it counts each before anything is spent on
it, reads the PROXY header and no byte more, has the event loop do the TLS, and hands what is left
to a `Flow`. What fails on the way is published like any other handshake.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from sipws.address import Address, Listener, address_of_socket
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
"""Connections that the system keeps until they are accepted. After an outage all phones come at
once, and who finds no room tries again a second later, or three."""

AT_ONCE: Final = 128
"""Connections that are accepted at one go."""

OUT_OF_FILES: Final = 1.0
"""Seconds until the next try when a connection cannot be accepted, as with asyncio's servers: most
often there are no file descriptors left, and trying at once would only burn time."""

HELLO_CHECK: Final = b"HAPROXYSSLCHK\n"
"""What stands in the ClientHello of HAProxy's ``option ssl-hello-chk``, which is content with an
alert: it offers SSL 3.0 alone."""

HELLO: Final = 256
"""Bytes of a ClientHello that are looked at for that: such a check has some 80."""

MakeFlow = Callable[[Listener, FlowContext[Flow], AcceptedSocket | None], Flow]
"""Makes the flow of a connection that has come in; see `Flow`."""


class PreHandshake:
    """Accepts connections and takes each to the point where a flow can begin.

    `Limits.handshake_timeout` bounds the PROXY header and TLS together; the upgrade request has the
    same time again.

    Args:
        listener: the definition, with the real port.
        context: what all flows of the server share.
        proxied: whether trusted peers begin with a PROXY header.
        tls: gives the context to begin TLS with; without it there is no TLS.
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

    def serve(self, listening: socket.socket) -> None:
        """Accept what comes in on a socket that is bound; the gate closes it at its end."""
        listening.listen(BACKLOG)
        listening.setblocking(False)
        self._listening.append(listening)
        self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Stop accepting, and drop what has not become a flow yet."""
        for listening in self._listening:
            self._loop.remove_reader(listening)
            listening.close()
        self._listening.clear()
        for task in self._arriving:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until what `close` drops is gone."""
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _accept(self, listening: socket.socket) -> None:
        """Accept what has come, up to `AT_ONCE`: a flood leaves others their turn."""
        for _ in range(AT_ONCE):
            try:
                connected, peer = listening.accept()
                connected.setblocking(False)
                self._arrive(connected, address_of_socket(peer))
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # The peer was gone before it was looked at.
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
        """Count a connection, before anything is spent on it."""
        context = self._context
        started, started_monotonic = context.clock(), context.monotonic()
        slot = context.admission.enter(peer.ip, started_monotonic)
        arrival = _Arrival(connected, peer, started, started_monotonic, slot)
        if slot.refusal is not None and not self._is_told(slot, slot.refusal):
            self._drop(arrival, slot.refusal)
            return
        task = self._loop.create_task(self._take(arrival))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _is_told(self, slot: AdmissionSlot, refusal: Refusal) -> bool:
        """Whether a connection that is refused is answered in HTTP."""
        if refusal.kind in _UNANSWERED:
            return False
        if self._tls is None or refusal.kind is ErrorKind.SHUTTING_DOWN:
            # Who comes while the server ends hears where it stands over TLS too: that is no flood,
            # and a client that is only dropped comes back at once.
            return slot.told
        # Over TLS an answer would cost the very handshake that is to be saved.
        return False

    async def _take(self, arrival: "_Arrival") -> None:
        """Read the PROXY header, do the TLS handshake, and hand over to a flow."""
        deadline = self._loop.time() + self._context.limits.handshake_timeout
        try:
            refusal = await self._read_header(arrival, deadline)
            if refusal is None or refusal.kind not in _UNANSWERED:
                refusal = arrival.slot.refusal or refusal
            if refusal is not None and not self._is_told(arrival.slot, refusal):
                self._drop(arrival, refusal)
                return
            flow = self._make_flow(
                self._listener,
                self._context,
                AcceptedSocket(
                    arrival.peer, arrival.started, arrival.started_monotonic, arrival.slot, refusal
                ),
            )
            # Until a peer speaks it costs no TLS, which takes more memory than all else of it.
            hello = b"" if self._tls is None else await self._first_bytes(arrival, deadline)
            arrival.is_hello_check = HELLO_CHECK in hello
            # From here on a transport has the socket, and closes it also when TLS fails.
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
                reason = failure_reason(exc, self._context.limits.handshake_timeout)
                self._fail(arrival, ErrorKind.TLS_FAILURE, reason)
        except asyncio.CancelledError:
            self._fail(arrival, ErrorKind.HANDSHAKE_ABORTED, "server shutdown")
            raise
        finally:
            # Whatever went wrong: who did not become a flow does not stay.
            self._fail(arrival, ErrorKind.HANDSHAKE_ABORTED, "the connection cannot be served")

    async def _first_bytes(self, arrival: "_Arrival", deadline: float) -> bytes:
        """Wait until there is something to read, and look at it without taking it.

        Raises:
            _Left: the peer ended the connection first.
            ConnectionAbortedError: nothing came in time.
        """
        connected = arrival.socket
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    # Nearly always a ClientHello comes a round trip later, or is there already.
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
        """Do the TLS handshake; the flow begins behind it."""
        with alerted(connected):
            await self._loop.connect_accepted_socket(
                lambda: flow,
                connected,
                ssl=tls,
                # Zero would be refused, and what little is left is spent on failing.
                ssl_handshake_timeout=max(deadline - self._loop.time(), 0.001),
                # A peer that does not end TLS in turn would else keep its socket for 30 s.
                ssl_shutdown_timeout=self._context.limits.close_timeout,
            )

    async def _read_header(self, arrival: "_Arrival", deadline: float) -> Refusal | None:
        """Find out who is behind a trusted proxy; returns why it is not let in."""
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
        """Read the header and not a byte more: what follows may be TLS."""
        received, connected = arrival.received, arrival.socket
        while isinstance(header := read_proxy_header(received), NeedMore):
            data = await self._loop.sock_recv(connected, header.at_least)
            if not data and not received:
                raise _Left("the peer left before its PROXY header")
            if not data:
                return ProxyError("the connection ended within its PROXY header")
            received += data
            # Most often all of it is there, so that one look saves many small reads.
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
        """Close a connection without a word, and publish that it came and went."""
        # A header that was right is no part of what went wrong behind it.
        received = bytes(arrival.received) if refusal.kind is ErrorKind.PROXY_HEADER else b""
        self._end(arrival, lambda session, now: session.drop(refusal, now, received))

    def _leave(self, arrival: "_Arrival", probe: Probe, detail: str) -> None:
        """Close a connection that was no attempt to connect."""
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


class _Left(Exception):  # noqa: N818 - no error of anybody
    """The peer ended a connection on which it had said nothing."""


class _Arrival:
    """A connection that is not yet a flow."""

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
"""What is wrong before HTTP can be spoken is not answered in HTTP."""
