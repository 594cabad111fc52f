"""What the flows of a server, or of a client, share."""

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from websockets.typing import Subprotocol

from sipws.address import Address
from sipws.admission.admission import Admission, AdmissionSlot
from sipws.bus import Bus
from sipws.events import Superseded
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.transport.deadlines import Deadlines
from sipws.transport.descriptors import Watch
from sipws.transport.registrations import Registrations
from sipws.ws.handshake import SUBPROTOCOL, Refusal

if TYPE_CHECKING:
    from sipws.transport.flow import Flow

Handler = Callable[["Flow", bytes], object]
"""The application's end: called with each SIP message and the flow it came in on."""


@dataclass(frozen=True, slots=True)
class FlowContext:
    """What all flows of a server share."""

    bus: Bus
    handler: Handler
    limits: Limits
    registry: "Registry[Flow]"
    clock: Callable[[], float] = time.time
    """Seconds since the epoch: when something happened."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds since some moment in the past, whatever is done to the clock: how long it took."""
    subprotocols: Sequence[Subprotocol] = (SUBPROTOCOL,)
    """Of which a client must offer one; empty asks for none."""

    admission: Admission = field(default_factory=Admission)
    """Who is let in."""

    compression: bool = False
    """Whether permessage-deflate is accepted, or offered (RFC 7692)."""

    health_path: str | None = None
    """What a balancer asks for to see that the server is there; None for nothing."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    """How long each phase of theirs may still last."""

    descriptors: Watch = field(default_factory=Watch)
    """Whether file descriptors are left."""

    registrations: Registrations | None = None
    """Which connection each phone registered on; None looks for none."""

    def __post_init__(self) -> None:
        if inspect.iscoroutinefunction(self.handler):
            raise TypeError(
                f"{self.handler.__qualname__} is a coroutine function: a handler is called, not"
                " awaited; let it start a task, or put the message into a queue"
            )

    def supersede(self, left: int, instance: str, now: float, by: int) -> None:
        """A phone has registered on another connection: the one that it left is told and asked.

        Args:
            left: the id of that one.
            instance: the phone's ``+sip.instance``.
            now: the time, in seconds since the epoch.
            by: the id of the other connection.
        """
        if (flow := self.registry.get(left)) is not None:
            self.bus.publish(Superseded(flow.connection, now, instance, by))
            flow.probe()


class AcceptedSocket(NamedTuple):
    """What is known of a connection before its flow begins."""

    peer: Address
    started: float
    """When TCP stood, in seconds since the epoch."""
    started_monotonic: float
    """The same moment on the clock that nobody sets."""
    slot: AdmissionSlot
    """Its place among the connections that are counted."""
    refusal: Refusal | None
    """Why it is not let in."""
