"""The tracer: from the events of the bus to packets for a sender.

A connection that opens while tracing is on is a candidate. Before the first packet about it the
filter decides, once. Packets of connections that pass go to the sender, which never blocks.
Switched off, the tracer sends nothing and runs no filter. Switched on again, it goes on with the
connections chosen before; those opened in between are never traced. ``ws`` and ``wss`` are switched
apart.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import Any, Final

from hep import HepEncodeError
from hep.codec.correlation import LONGEST_ID, call_of, identifier
from hep.sip import LINE_ENDS, call_id
from sipws.address import PROTOCOLS, Address, Proto
from sipws.bus import Bus
from sipws.events import (
    Closed,
    ConnectFailed,
    Connection,
    ConnectionEvent,
    ConnectionOpened,
    ConnectStarted,
    ErrorOccurred,
    MessageReceived,
    MessageSent,
)
from sipws.masking.sip_messages import BEFORE_Z, masker, may_hold_sip
from sipws.tracing.losses import Loss
from sipws.tracing.messages import (
    LONGEST_INDEXED,
    SECOND,
    STATUS,
    VERSION,
    Select,
    correlator,
    has_second,
    is_message,
    selector,
    usual,
    what_is_broken,
    what_loses_others,
)
from sipws.tracing.packets import ConnectionPackets, report
from sipws.tracing.paused import Paused
from sipws.tracing.payloads import (
    PAYLOADS,
    Part,
    Parts,
    as_log_lines,
    broken_sip,
    legs,
    lost,
    named_calls,
    no_sip,
)
from sipws.tracing.trace_settings import CALL_LOGS as CALL_LOGS
from sipws.tracing.trace_settings import Decide as Decide
from sipws.tracing.trace_settings import TraceSettings as TraceSettings
from sipws.tracing.trace_settings import Verdict as Verdict
from sipws.tracing.writer import Writer

log = logging.getLogger(__name__)


Encode = Callable[[float, bytes, Any], bytes]
"""Encodes a packet from a time, a payload and a correlation id."""

_TO_VALUE: Final = len(SECOND) + 1

NOT_ENCODED: Final = "not-encoded"
"""The cause of a packet dropped because a value fits no chunk, such as an invalid address."""

LONG: Final = 1024
"""Bytes up to which head and body of a message are searched together: finding the end of the head
would cost more than it saves."""

LOG_INTERVAL: Final = 1.0
"""Seconds between two log lines about cut or dropped packets: a peer can cause any number."""

BROKEN_ALL: Final = 10
"""Broken SIP messages of a connection of which each gets an event of its own."""

BROKEN_EVERY: Final = 100
"""Of the broken messages after these, one in this many gets an event. The message itself is traced
too: an event for each would double the packets that a peer can cause."""


class _Untraced(Enum):
    """The state of a connection without packets."""

    CANDIDATE = "the filter has not been asked about it"
    EXCLUDED = "the filter dropped it"


TRACED: Final = Verdict(True)
CANDIDATE: Final = _Untraced.CANDIDATE
EXCLUDED: Final = _Untraced.EXCLUDED


class Tracer:
    """Turns the events of a bus into HEP packets.

    Args:
        bus: source of the events.
        send: takes an encoded packet; must neither block nor raise (`hep.Sender.send`).
        settings: how events are written.
        decide: the filter; without one, every connection is traced.
        select: which messages are traced, in addition to ``settings``.
        on: whether tracing is on at the start (OpenSIPS ``trace_on``), or the protocols for which
            it is.
        protocols: the protocols that are traced at all; `switch` changes nothing for others.

    Raises:
        HepEncodeError: a value of ``settings.packets`` does not fit its chunk.
    """

    def __init__(
        self,
        bus: Bus,
        send: Callable[[bytes], object],
        settings: TraceSettings,
        *,
        decide: Decide | None = None,
        select: Select | None = None,
        on: bool | Collection[Proto] = True,
        protocols: Collection[Proto] = PROTOCOLS,
    ) -> None:
        self.offered = 0
        """Packets offered to the sender."""
        self.counters: Counter[str] = Counter()
        """Connections ``traced`` and ``excluded`` by the filter, decisions that ``failed`` or were
        ``remarked`` on, messages ``left_out`` by the settings, ``no_sip`` (traced as events) or
        ``broken_sip`` (traced as messages and events) or ``withheld`` (traced as events, because
        a collector would lose those of others with them), and messages ``too_long`` for HEP, whose
        end is cut off."""
        self.dropped: Counter[str] = Counter()
        """Packets that could not be encoded, by cause."""
        self._bus = bus
        self._send = send
        self._select = select
        self._next_log = -math.inf
        self._set(settings)
        self.decide = decide
        """The filter. It may be replaced at any time; earlier decisions stay."""
        self._remarks: dict[int, str] = {}
        self._protocols = frozenset(protocols)
        self._on: frozenset[Proto] = frozenset()
        # A connection that is missing here was opened while tracing was off.
        self._traces: dict[int, ConnectionPackets | _Untraced] = {}
        # Connections of protocols that are switched off are not among these: a message of them
        # costs nothing more.
        self._paused = Paused(self._traces)
        # The start of a connect waits for its outcome: addresses are known only then. The filter
        # decides on them, and the packet carries them.
        self._starts: dict[int, ConnectStarted] = {}
        self._forgets = False
        at_start = (PROTOCOLS if on else ()) if isinstance(on, bool) else on
        self._switch_to(self._protocols.intersection(at_start))

    def _set(self, settings: TraceSettings) -> None:
        """Take settings while no event is subscribed to."""
        self._room = settings.packets.room()
        self._settings = settings
        self._room_for_sip = settings.packets.quick_room_for_sip()
        self._writer = Writer.of(settings)
        self._mask = masker(settings.mask_sip)
        # Requests have credentials (RFC 3261 section 20, table 2). Responses have only
        # Authentication-Info, which is not a token.
        self._masks_requests = settings.mask_sip == "tokens"
        selects = (self._select, selector(settings.messages))
        self._selects = [each for each in selects if each is not None]
        self._correlate = correlator(settings.messages)
        self._call_logs = settings.call_logs
        self._logs_calls = (
            settings.trace_sip and settings.call_logs > 0 and settings.packets.version == 3
        )

    def renew(self, settings: TraceSettings) -> None:
        """Write the events from now on by other settings, those of open connections too.

        Args:
            settings: how events are written; the version of HEP is the one before.

        Raises:
            HepEncodeError: a value of ``settings.packets`` does not fit its chunk.
        """
        settings.packets.room()
        on = self._on
        # The settings decide what is subscribed to. Events until now are written by the old ones.
        self._switch_to(frozenset())
        self._set(settings)
        for state in self._paused.states:
            if isinstance(state, ConnectionPackets):
                state.renew(settings.packets)
        self._switch_to(on)

    @property
    def on(self) -> bool:
        """Whether tracing is on, for one protocol at least."""
        return bool(self._on)

    def switch(self, *, on: bool, proto: Proto | None = None) -> None:
        """Turn tracing on or off; takes effect with the next event.

        Args:
            on: whether it is on from now on.
            proto: the protocol for which it is switched (OpenSIPS ``ws_trace``, ``wss_trace``);
                None for both.
        """
        chosen = self._protocols if proto is None else self._protocols & {proto}
        self._switch_to(self._on | chosen if on else self._on - chosen)

    def _switch_to(self, on: frozenset[Proto]) -> None:
        """Turn tracing on for these protocols, and off for all others."""
        if on == self._on:
            return
        subscriptions = list(self._subscriptions())
        if self._on:
            # Unsubscribing from a `DeferredBus` delivers the events published until now.
            for event_type, subscriber in subscriptions:
                self._bus.hook(event_type).unsubscribe(subscriber)
        self._on = on
        self._paused.divide(on)
        # Off, the tracer is not subscribed: the SIP path then costs one test of an empty hook.
        if on:
            for event_type, subscriber in subscriptions:
                self._bus.hook(event_type).subscribe(subscriber)
        self._listen_for_ends(last=True)

    def close(self) -> None:
        """Unsubscribe the tracer from the bus for good."""
        self.switch(on=False)
        self._traces.clear()
        self._paused.clear()
        self._starts.clear()
        self._listen_for_ends()

    def adopt(self, connection: Connection) -> None:
        """Trace a connection that was opened before the tracer, if the filter passes it."""
        if connection.id not in self._traces:
            self._note(connection)
        self._listen_for_ends()

    def _note(self, connection: Connection) -> bool:
        """Note a new connection; returns whether tracing is on for its protocol."""
        proto = connection.listener.proto
        if proto not in self._on:
            return False
        self._traces[connection.id] = CANDIDATE
        if proto == "wss":
            self._paused.wss.add(connection.id)
        return True

    @property
    def remembered(self) -> int:
        """Entries kept about connections: none once all connections are gone."""
        return len(self._traces) + len(self._paused) + len(self._remarks) + len(self._starts)

    @property
    def suspended(self) -> list[str]:
        """Event types that the bus withholds for a while because the tracer raised on them."""
        ours = (each for each in self._bus.suspended if getattr(each[1], "__self__", None) is self)
        return [event_type.__name__ for event_type, _ in ours]

    def _listen_for_ends(self, *, last: bool = False) -> None:
        """Subscribe to the ends of connections while any is remembered.

        Args:
            last: whether to move to the end of the subscribers.
        """
        # Also while off, or connections that close meanwhile would stay here for ever. With no
        # connection remembered, off costs nothing.
        needed = bool(self._on or self._traces or len(self._paused))
        if needed is self._forgets and not last:
            return
        self._forgets = needed
        for hook in (self._bus.closed, self._bus.connect_failed):
            # After the subscriber that reports the end, and apart from it: if that one raises, the
            # connection is forgotten all the same.
            hook.unsubscribe(self._forget)
            if needed:
                hook.subscribe(self._forget)

    def report_loss(
        self, loss: Loss, destination: Address, time: float, send: Callable[[bytes], object]
    ) -> None:
        """Report to a collector what it did not get.

        Args:
            loss: the lost packets.
            destination: the collector; ``0.0.0.0`` where only its name is known.
            time: in seconds since the epoch.
            send: sends to this collector alone.
        """
        self.offered += 1
        send(report(self._settings.packets, destination, time, self._writer.parts(lost(loss))))

    def _subscriptions(self) -> Iterator[tuple[type[Any], Callable[[Any], None]]]:
        yield ConnectStarted, self._connect_started
        yield ConnectionOpened, self._opened
        if self._settings.trace_events:
            for event_type in PAYLOADS:
                if event_type is Closed:
                    yield Closed, self._closed
                elif event_type is not ConnectStarted:
                    yield event_type, self._network_event
        if self._settings.trace_sip:
            yield MessageReceived, self._message
            yield MessageSent, self._message

    # Subscribers.

    def _opened(self, event: ConnectionOpened) -> None:
        self._note(event.connection)

    def _connect_started(self, event: ConnectStarted) -> None:
        if self._note(event.connection):
            self._starts[event.connection.id] = event

    def _closed(self, event: Closed) -> None:
        # A health check every second from each balancer would bury the ends of connections.
        if event.probe is None:
            self._network_event(event)

    def _forget(self, event: ConnectFailed | Closed) -> None:
        self._traces.pop(event.connection.id, None)
        self._paused.forget(event.connection.id)
        self._remarks.pop(event.connection.id, None)
        self._starts.pop(event.connection.id, None)
        if not self._on:
            self._listen_for_ends()

    def _network_event(self, event: ConnectionEvent) -> None:
        if (packets := self._packets_of(event.connection)) is not None:
            if self._starts and (start := self._starts.pop(event.connection.id, None)):
                self._send_event(packets, start)
            self._send_event(packets, event)
            if not self._logs_calls or not isinstance(event, ErrorOccurred | Closed):
                return
            calls: Iterable[bytes] = packets.calls
            named = event.call_id if isinstance(event, ErrorOccurred) else None
            named = named and identifier(named)
            if named is not None and named not in packets.calls:
                # The message that the error concerns never came whole.
                calls = (*packets.calls, named)
            if calls:
                written = as_log_lines(self._writer.masked(event), calls)
                for call, line in zip(calls, written, strict=True):
                    self._offer(event.connection, packets.log_line, event.time, line, call)

    def _send_event(self, packets: ConnectionPackets, event: ConnectionEvent) -> None:
        more = self._more(event.connection)
        if packets.calls and isinstance(event, Closed):
            calls = named_calls(packets.calls)
            more += (("Call_IDs", self._writer.masked_text(event.connection, calls)),)
        payload = self._writer.event(event, more)
        self._offer(event.connection, packets.network_event, event.time, payload)

    def _message(self, event: MessageReceived | MessageSent) -> None:
        # What a message costs is here: nothing of it is another method's that need not be.
        packets = self._traces.get(event.connection.id)
        if type(packets) is not ConnectionPackets:
            packets = self._packets_of(event.connection)
            if packets is None:
                return
        message = event.data
        incoming = type(event) is MessageReceived
        match = usual(message)
        group = match.lastindex if match is not None else None
        searched = message
        if match is not None and len(message) > LONG:
            # A body has no headers, and may be long.
            head = message.find(b"\r\n\r\n", match.end())
            if head >= 0 and not may_hold_sip(message, head):
                searched = message[:head]
            if not 0 <= head <= LONGEST_INDEXED:
                # A line of such a head may be too long for a collector.
                match = None
        # What peers send is looked at for a second Call-ID too. A byte is compared in a third of
        # the time that bytes take; 83 is the S of SIP/2.0. To partition costs half of what to find
        # does.
        answers = False
        if (
            match is None
            or group is None
            or not (
                (answers := (first := message[0]) == 83 and message[:8] == STATUS)
                or (
                    65 <= first <= 90
                    and (line := message.partition(b"\r\n")[0])[-8:] == VERSION
                    and line.count(b" ") > 1
                )
            )
            or (
                incoming
                and len(searched.rpartition(SECOND)[0])
                != (match.start(group) - _TO_VALUE if group <= 2 else 0)
            )
            or (group > 2 and has_second(message, match))
        ):
            # Line ends in front of the start line are ignored (RFC 3261 section 7.5).
            message = message.lstrip(LINE_ENDS)
            if not self._is_sip(event, packets, message):
                return
            searched = message
            found = call_of(message)
        else:
            found = match[group]
            if len(found) > LONGEST_ID:
                found = identifier(found)
        for select in self._selects:
            if not select(message, found):
                self.counters["left_out"] += 1
                return
        # Most messages are of the call that the one before was of.
        if found != packets.latest_call and found is not None and self._call_logs:
            packets.latest_call = found
            calls = packets.calls
            # Taken out and put back in, it is the latest.
            calls.pop(found, None)
            calls[found] = None
            if len(calls) > self._call_logs:
                del calls[next(iter(calls))]
        if self._correlate is not None:
            found = self._correlate(message, found, packets.correlation_id)
        if self._mask is not None and not (answers and self._masks_requests):
            # Headers with credentials have a z, as has the branch: in most messages no other. One
            # letter is looked for at a tenth of what a call that looks for a name costs. Masked, a
            # message may be longer, so it is cut afterwards.
            before, _, behind = searched.partition(b"z")
            if (
                0x7A in behind
                or 0x5A in searched
                or (before and before[-1] in BEFORE_Z)
                or not self._masks_requests
            ):
                message = self._mask(message)
        if len(message) > self._room_for_sip:
            room = self._settings.packets.room_for_sip(message)
            if len(message) > room:
                message = self._cut(event.connection, message, room)
        try:
            packet = packets.message(incoming, event.time, message, found)
        except HepEncodeError as exc:
            self._drop(event.connection, exc)
            return
        self.offered += 1
        self._send(packet)

    def _is_sip(
        self, event: MessageReceived | MessageSent, packets: ConnectionPackets, message: bytes
    ) -> bool:
        """Examine an unusual message, and report what a collector drops or misfiles.

        Args:
            event: with the message as it came.
            packets: of its connection.
            message: without the line ends in front of it.
        """
        if not message:
            # It was a keep-alive.
            return False
        if not is_message(message):
            self.counters["no_sip"] += 1
            if self._settings.trace_events:
                quoted = partial(self._writer.quoted, event.connection)
                self._send_parts(packets, event, no_sip(event, quoted))
            return False
        withheld = what_loses_others(message)
        why = withheld or what_is_broken(message)
        if why and all(select(message, call_of(message)) for select in self._selects):
            self.counters["withheld" if withheld else "broken_sip"] += 1
            self._tell_broken(packets, event, message, why)
        return not withheld

    def _tell_broken(
        self,
        packets: ConnectionPackets,
        event: MessageReceived | MessageSent,
        message: bytes,
        why: str,
    ) -> None:
        """Report a message that a collector drops, misfiles or cannot take, unless too many came.

        Args:
            packets: of its connection.
            event: with the message as it came.
            message: without the line ends in front of it.
            why: what is wrong with it.
        """
        packets.broken += 1
        is_reported = packets.broken <= BROKEN_ALL or packets.broken % BROKEN_EVERY == 0
        if is_reported and self._settings.trace_events:
            quoted = partial(self._writer.quoted, event.connection)
            self._send_parts(packets, event, broken_sip(event, why, call_id(message), quoted))

    def _send_parts(self, packets: ConnectionPackets, event: ConnectionEvent, parts: Parts) -> None:
        payload = self._writer.parts(parts, self._more(event.connection))
        self._offer(event.connection, packets.network_event, event.time, payload)

    # Decisions.

    def _packets_of(self, connection: Connection) -> ConnectionPackets | None:
        """Return the packets of a connection; None if it is not traced."""
        trace = self._traces.get(connection.id)
        if isinstance(trace, ConnectionPackets):
            return trace
        if trace is not CANDIDATE:
            return None
        verdict = self._ask(connection)
        if not verdict.traced:
            self.counters["excluded"] += 1
            self._traces[connection.id] = EXCLUDED
            return None
        self.counters["traced"] += 1
        if remark := self._writer.masked_text(connection, verdict.remark):
            self.counters["remarked"] += 1
            self._remarks[connection.id] = remark
            log.warning("trace filter on %s: %s", connection.peer, remark)
        packets = ConnectionPackets(connection, self._settings.packets)
        self._traces[connection.id] = packets
        return packets

    def _more(self, connection: Connection) -> tuple[Part, ...]:
        """The parts that any event of a connection may have: the filter's remark, the other leg."""
        if self._remarks and (remark := self._remarks.pop(connection.id, "")):
            # In the first packet alone.
            return (("Filter_Remark", remark), *legs(connection))
        return legs(connection)

    def _ask(self, connection: Connection) -> Verdict:
        if self.decide is None:
            return TRACED
        try:
            return self.decide(connection)
        except Exception as exc:
            # A filter that fails excludes nothing: a trace too many is better than a blind spot.
            self.counters["failed"] += 1
            log.exception("the trace filter failed on %s", connection.peer)
            return Verdict(True, f"the filter failed ({type(exc).__name__}: {exc})")

    def _offer(
        self,
        connection: Connection,
        encode: Encode,
        time: float,
        payload: bytes,
        correlation_id: bytes | None = None,
    ) -> None:
        """Encode a packet about a connection, and send it.

        Args:
            connection: the connection.
            encode: encodes the packet.
            time: in seconds since the epoch.
            payload: of any length.
            correlation_id: by default the connection's id.
        """
        if len(payload) > self._room:
            payload = self._cut(connection, payload, self._room)
        try:
            packet = encode(time, payload, correlation_id)
        except HepEncodeError as exc:
            self._drop(connection, exc)
            return
        self.offered += 1
        self._send(packet)

    def _cut(self, connection: Connection, payload: bytes, room: int) -> bytes:
        """Cut a payload that is longer than the room in a packet."""
        self.counters["too_long"] += 1
        if self._is_to_log():
            log.warning(
                "a payload of %d bytes on the connection of %s is traced without its end: a HEP"
                " packet takes %d", len(payload), connection.peer, room,
            )  # fmt: skip
        return payload[:room]

    def _drop(self, connection: Connection, exc: HepEncodeError) -> None:
        """Count a packet that cannot be encoded."""
        self.dropped[NOT_ENCODED] += 1
        if self._is_to_log():
            log.warning("a packet about %s cannot be made: %s", connection.peer, exc)

    def _is_to_log(self) -> bool:
        if (now := time.monotonic()) < self._next_log:
            return False
        self._next_log = now + LOG_INTERVAL
        return True
