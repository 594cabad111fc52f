"""Tests of handlers without a network, and of traces without Homer.

A `MemoryFlow` is the flow that a handler gets; it keeps what the handler sends::

    flow = MemoryFlow(answer)
    flow.receive(b"OPTIONS sip:example.com SIP/2.0…")
    assert flow.responses[0].status == 200

A `HepRecorder` is a HEP collector on loopback; it keeps the packets that it receives.
"""

import asyncio
from itertools import count
from typing import Any, Final, Literal, Self

from websockets.exceptions import ProtocolError
from websockets.frames import Close

import hep
from sipws.address import Address, Listener, split_host_port
from sipws.bus import Bus
from sipws.errors import ConnectionClosedError, TransportError
from sipws.events import Connection, ErrorKind
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.sip import LINE_ENDS, Request, Response, parse
from sipws.transport.flow import KEEP_ALIVE, KEEP_ALIVE_ANSWER, Flow, Handler
from sipws.transport.flow_context import FlowContext
from sipws.ws.phase import CLOSED, CLOSING, OPEN, Phase

__all__ = ["HepRecorder", "MemoryFlow"]

LONGEST_REASON: Final = 123
"""Bytes of a close reason: a control frame has 125, and two are the code (RFC 6455 section 5.5)."""

WAIT: Final = 5.0
"""Seconds that `HepRecorder.wait_for` waits by default: a packet on loopback takes milliseconds."""

_ids: Final = count(1)


class MemoryFlow(Flow):
    """A flow without a connection, for tests of a handler. It needs no event loop.

    Args:
        handler: the handler that `receive` calls. Default: none.
        peer: address of the client, ``IP:PORT``.
        listener: definition of the listener that it connected to. Its host is the local address.

    Raises:
        AddressError: an address does not parse.
        TypeError: the handler cannot be called, or is a coroutine function.
    """

    __slots__ = ("_connection", "_phase", "_received", "closed", "sent")

    def __init__(
        self,
        handler: Handler = lambda flow, message: None,
        *,
        peer: str = "192.0.2.5:50123",
        listener: str = "ws:192.0.2.1:80",
    ) -> None:
        parsed = Listener.parse(listener)
        super().__init__(parsed, FlowContext(Bus(), handler, Limits(), Registry()))
        host, port = split_host_port(peer)
        self._connection = Connection(
            next(_ids), parsed, parsed.address, Address(host, port or 0), self._context.clock()
        )
        self._phase: Phase = OPEN
        self._received = (0, 0)
        self.sent: list[bytes] = []
        """The messages that were sent, in order."""
        self.closed: tuple[int, str] | None = None
        """Code and reason of the first `close`; 1006 and the detail of an `abort`."""

    def receive(self, message: bytes) -> None:
        """Pass a message of the client to the handler, which a keep-alive does not reach.

        An exception of the handler is raised here. A server logs it and goes on.

        Raises:
            ConnectionClosedError: the handler has closed the flow.
        """
        self._check_open()
        self._received = self._received[0] + 1, self._received[1] + len(message)
        if message == KEEP_ALIVE:
            self.sent.append(KEEP_ALIVE_ANSWER)
        elif message.strip(LINE_ENDS):
            self._context.handler(self, message)

    @property
    def responses(self) -> list[Response]:
        """The responses among the sent messages, in order."""
        return [each for each in map(parse, self.sent) if isinstance(each, Response)]

    @property
    def requests(self) -> list[Request]:
        """The requests among the sent messages, in order."""
        return [each for each in map(parse, self.sent) if isinstance(each, Request)]

    @property
    def connection(self) -> Connection:
        """The connection's identity, with the addresses that the flow was made with."""
        return self._connection

    @property
    def phase(self) -> Phase:
        """Open, until `close` or `abort` is called."""
        return self._phase

    @property
    def traffic(self) -> tuple[int, int, int, int]:
        """Messages in and out, bytes in and out, until now."""
        messages, size = self._received
        return messages, len(self.sent), size, sum(map(len, self.sent))

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """None: there is no TLS."""
        return None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._phase is OPEN

    @property
    def is_reading(self) -> bool:
        """Whether messages are received."""
        return self._phase is OPEN

    @property
    def unsent_bytes(self) -> int:
        """0: what is sent is taken at once."""
        return 0

    def send(self, message: bytes, *, text: bool | None = None) -> None:
        """Keep a message in `sent`.

        Args:
            message: the whole message.
            text: as for `Flow.send`.

        Raises:
            ConnectionClosedError: the flow is closed.
            UnicodeDecodeError: ``text`` is true and the message is not UTF-8. A peer would end the
                connection with 1007.
        """
        self._check_open()
        if text:
            message.decode()
        self.sent.append(message)

    async def drain(self) -> None:
        """Return at once.

        Raises:
            ConnectionClosedError: the flow is closed.
        """
        self._check_open()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Note code and reason in `closed`; see `Flow.close`.

        Raises:
            TransportError: the code or the reason may not be sent.
        """
        try:
            Close(code, reason).check()
        except ProtocolError as exc:
            raise TransportError(f"close code {code} with reason {reason!r}: {exc}") from exc
        if len(reason.encode()) > LONGEST_REASON:
            raise TransportError(f"close reason {reason!r} has more than {LONGEST_REASON} bytes")
        if self._phase is OPEN:
            self._phase, self.closed = CLOSING, (code, reason)

    def abort(self, kind: ErrorKind, detail: str) -> None:
        """Note 1006 and the detail in `closed`, unless the flow is closed already."""
        self.closed = self.closed or (1006, detail)
        self._phase = CLOSED

    def _check_open(self) -> None:
        if self._phase is not OPEN:
            raise ConnectionClosedError(
                f"connection {self._connection.id} with {self._connection.peer} is"
                f" {self._phase.name.lower()}: nothing can be sent or received on it"
            )


class HepRecorder:
    """A HEP collector on a free port of loopback that keeps the packets that it receives.

    Example::

        async with HepRecorder() as recorder:
            async with Pipeline(recorder.destination) as trace:
                ...
            packets = await recorder.wait_for(2)

    Args:
        transport: ``tcp`` or ``udp``, which may lose packets of a burst.
        auth_key: authenticate key that packets must have; by default none.
    """

    def __init__(
        self, transport: Literal["tcp", "udp"] = "tcp", *, auth_key: bytes | None = None
    ) -> None:
        if transport not in ("tcp", "udp"):
            raise ValueError(f"transport {transport!r} is not one of tcp and udp")
        self.packets: list[hep.Packet] = []
        """The packets that were received, in order."""
        self._transport = transport
        self._arrived = asyncio.Event()
        where: dict[str, Any] = {transport: "127.0.0.1:0"}
        self._collector = hep.Collector(self._keep, auth_key=auth_key, **where)

    @property
    def destination(self) -> hep.HepId:
        """The recorder as a destination of a sender or of a pipeline."""
        is_tcp = self._transport == "tcp"
        ip, port = self._collector.tcp_address if is_tcp else self._collector.udp_address
        return hep.HepId.parse(f"{ip}:{port};transport={self._transport}")

    @property
    def payloads(self) -> list[bytes]:
        """The payloads of the packets, in order."""
        return [packet.payload for packet in self.packets]

    async def wait_for(self, count: int, seconds: float = WAIT) -> list[hep.Packet]:
        """Wait until so many packets have been received in total, and return all of them.

        Raises:
            TimeoutError: fewer have been received in that time; the message says how many.
        """
        try:
            async with asyncio.timeout(seconds):
                while len(self.packets) < count:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(
                f"{len(self.packets)} of {count} packets were received within {seconds:g} s"
            ) from None
        return list(self.packets)

    def _keep(self, packet: hep.Packet, source: hep.Source) -> None:
        self.packets.append(packet)
        self._arrived.set()

    async def __aenter__(self) -> Self:
        await self._collector.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._collector.aclose()


def __dir__() -> list[str]:
    return sorted(__all__)
