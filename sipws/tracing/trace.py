"""One trace while it runs: from the events of a bus to one collector, or to a group of them.

`sipws.tracing.pipeline.Pipeline` holds one for users of the library, and
`sipws.service.traces.Traces` several for the program.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import Final

import hep
from hep.sending.groups import Group
from hep.sending.senders import REFUSED
from sipws.address import PROTOCOLS, Address, Proto
from sipws.deferred_bus import DeferredBus, Gathering
from sipws.errors import ConfigurationError
from sipws.tracing.destinations import Destinations, Distribution
from sipws.tracing.losses import Losses
from sipws.tracing.messages import Select
from sipws.tracing.tracer import Decide, Tracer, TraceSettings

log = logging.getLogger(__name__)

FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the last packets have to leave at the end."""

LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks at what was lost, and at whether a peer has gone."""

OpenSender = Callable[[hep.HepId, hep.SenderSettings], hep.Sender]
"""Opens a sender; raises HepSpoolError where its spool cannot be used."""

_GROUPS: Final[dict[Distribution, Callable[..., Group]]] = {
    "duplicate": hep.Duplicate,
    "failover": hep.Failover,
    "balanced": hep.Balanced,
}


class Trace:
    """A tracer, the senders that its packets go to, and the reports of what these lost.

    It runs once, from `start` to `aclose`.

    Args:
        bus: source of the events. Several traces may share one.
        destinations: the collectors.
        settings: how events are written.
        decide: the filter; without one, every connection is traced.
        select: which SIP messages are traced, in addition to ``settings``.
        on: whether tracing is on at the start, or the protocols for which it is.
        protocols: the protocols that are traced at all.
        name: what metrics and commands call it.
        open_sender: opens the sender to a destination.
    """

    tracer: Tracer
    """Set by `start`."""

    def __init__(
        self,
        bus: DeferredBus,
        destinations: Destinations,
        settings: TraceSettings,
        *,
        decide: Decide | None = None,
        select: Select | None = None,
        on: bool | Collection[Proto] = True,
        protocols: Collection[Proto] = PROTOCOLS,
        name: str = "",
        open_sender: OpenSender = hep.open_sender,
    ) -> None:
        self.name = name
        self.destinations = destinations
        self.senders: tuple[hep.Sender, ...] = ()
        """One for each destination, once started."""
        self._bus = bus
        self._settings = settings
        self._decide = decide
        self._select = select
        self._on = on
        self._protocols = protocols
        self._open_sender = open_sender
        self._group: hep.Sender | Group | None = None
        self._packets: Gathering[bytes] | None = None
        self._losses: tuple[Losses, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start tracing. Needs a running event loop; connecting goes on in the background.

        Raises:
            ConfigurationError: a spool directory cannot be used. `aclose` then closes the senders
                that were opened.
        """
        destinations = self.destinations
        try:
            for hep_id, settings in zip(destinations.hep_ids, destinations.senders, strict=True):
                self.senders += (self._open_sender(hep_id, settings),)
        except hep.HepSpoolError as exc:
            raise ConfigurationError(str(exc)) from exc
        # A group of one would cost a call for each packet.
        one, *others = self.senders
        group = _GROUPS[destinations.distribution](*self.senders) if others else one
        self._group = group
        self._packets = Gathering(self._bus, group.send_all)
        self.tracer = Tracer(
            self._bus,
            self._packets.put,
            self._settings,
            decide=self._decide,
            select=self._select,
            on=self._on,
            protocols=self._protocols,
        )
        now = time.time()
        self._losses = tuple(Losses(sender.counters, now) for sender in self.senders)
        self._look_later()

    def renew(self, settings: TraceSettings, decide: Decide | None) -> None:
        """Use another filter for new connections, and other settings for all events from now on.

        Args:
            settings: how events are written.
            decide: the filter.
        """
        if settings != self._settings:
            self.tracer.renew(settings)
            self._settings = settings
        self.tracer.decide = decide

    @property
    def peer_has_gone(self) -> bool:
        """Whether a collector was reached and is not any more, or never was."""
        return any(sender.failures or sender.counters.dropped[REFUSED] for sender in self.senders)

    def look(self, now: float) -> None:
        """Log what the senders lost, and report it to each collector that is back.

        Runs by itself once a second.

        Args:
            now: the time, in seconds since the epoch.
        """
        each = list(zip(self.destinations.hep_ids, self.senders, self._losses, strict=True))
        for hep_id, _, losses in each:
            if (text := losses.warning(now)) is not None:
                log.warning("%s: %s", hep_id, text)
        if not self.tracer.on:
            # Switched off, nothing is sent. Losses are reported when tracing is on again.
            return
        for hep_id, sender, losses in each:
            if (loss := losses.look(now, reachable=sender.connected)) is not None:
                log.warning("%s: %s", hep_id, loss)
                # To this collector alone: the others of a group may have missed nothing.
                self.tracer.report_loss(loss, _address(hep_id), now, sender.send)

    def stop(self) -> None:
        """Stop tracing; queued packets are still sent. A second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._packets is not None:
            self.tracer.close()
            self._packets.close()
            self._packets = None

    async def aclose(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Stop tracing, send the queued packets, and close the senders.

        Args:
            timeout: seconds that sending may take; what is left then is spooled, or dropped and
                counted.
        """
        self.stop()
        if self._group is not None:
            await self._group.aclose(timeout)
        else:
            # A sender could not be opened.
            await asyncio.gather(*(sender.aclose(timeout) for sender in self.senders))

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._look_later()
        self.look(time.time())


def _address(destination: hep.HepId) -> Address:
    """The address of a collector; ``0.0.0.0`` where only its host name is known."""
    try:
        ip_address(destination.host)
    except ValueError:
        return Address("0.0.0.0", destination.port)
    return Address(destination.host, destination.port)
