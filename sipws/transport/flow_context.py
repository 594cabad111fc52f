"""What the flows of a server, or of a client, share."""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from websockets.typing import Subprotocol

from sipws.address import Address
from sipws.admission.admission import Admission, AdmissionSlot
from sipws.bus import Bus
from sipws.events import MessageReceived, Superseded
from sipws.limits import Limits
from sipws.registry import Registered, Registry
from sipws.sip_counts import SipCounts
from sipws.transport.deadlines import Deadlines
from sipws.transport.descriptors import Watch
from sipws.transport.registrations import Registrations
from sipws.ws.handshake import SUBPROTOCOL, Refusal


class Probed(Registered, Protocol):
    """A connection that can be pinged: `sipws.transport.flow.Flow`, which imports this module."""

    def probe(self) -> None:
        """Ping the peer now."""


F = TypeVar("F", bound=Probed)


@dataclass(frozen=True, slots=True)
class FlowContext(Generic[F]):
    """What all flows of a server, or of a client, share.

    A server has one for ``ws`` and one for ``wss``. They differ in `limits` only.
    """

    bus: Bus
    """Takes the events."""

    handler: Callable[[F, bytes], object]
    """Called with each SIP message and the flow on which it arrived."""

    limits: Limits
    """Bounds for every connection."""

    registry: Registry[F]
    """The connections that are alive."""

    clock: Callable[[], float] = time.time
    """Seconds since the epoch, for the time of events."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds of a clock that is never set, for durations."""

    subprotocols: Sequence[Subprotocol] = (SUBPROTOCOL,)
    """A client must offer one of these; empty requires none."""

    admission: Admission = field(default_factory=Admission)
    """Decides which connections are accepted."""

    compression: bool = False
    """Whether permessage-deflate is accepted, or offered (RFC 7692)."""

    health_path: str | None = None
    """The path that health checks of load balancers request; None answers none."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    """The time limits of the connections' phases."""

    descriptors: Watch = field(default_factory=Watch)
    """Checks whether file descriptors are left."""

    registrations: Registrations | None = None
    """The connection that each phone registered on; None records none."""

    sip_counts: SipCounts | None = None
    """Counts the SIP messages that arrive; None counts none."""

    def __post_init__(self) -> None:
        handler: object = self.handler
        if not callable(handler):
            hint = ""
            if isinstance(handler, str) and ":" in handler:
                hint = "; a client gets its destination in connect() or send()"
            raise TypeError(
                f"the handler {handler!r} is not callable: a handler is a function that is called"
                f" with a flow and a message{hint}"
            )
        # An object with a method ``__call__`` is a handler too.
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            type(handler).__call__
        ):
            raise TypeError(
                f"{getattr(handler, '__qualname__', repr(handler))} is a coroutine function: a"
                " handler is called, not awaited; let a plain function start a task"
                " (asyncio.create_task), or put the message into a queue that a task reads"
            )

    def note_registration(self, register: MessageReceived) -> None:
        """Ping the connection that a phone has left, if it registered on another one before.

        Args:
            register: a REGISTER request.
        """
        if self.registrations is not None:
            connection = register.connection.id
            left = self.registrations.registered(connection, register.data)
            if left is not None:
                self.supersede(*left, register.time, connection)

    def supersede(self, left: int, instance: str, now: float, by: int) -> None:
        """Report that a phone registered on another connection, and ping the one that it left.

        Args:
            left: the id of the connection that the phone left.
            instance: the phone's ``+sip.instance``.
            now: the time, in seconds since the epoch.
            by: the id of the other connection.
        """
        if (flow := self.registry.get(left)) is not None:
            self.bus.publish(Superseded(flow.connection, now, instance, by))
            flow.probe()


class AcceptedSocket(NamedTuple):
    """What is known of a connection before its flow starts."""

    peer: Address
    """The client, as a trusted proxy names it."""

    started: float
    """When TCP was established, in seconds since the epoch."""

    started_monotonic: float
    """The same moment by `FlowContext.monotonic`."""

    slot: AdmissionSlot
    """Its place among the connections that are counted."""

    refusal: Refusal | None
    """Why the connection is refused; None if it is accepted."""
