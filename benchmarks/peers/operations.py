"""What is counted by ``instructions.py``: operations of the program without sockets.

Messages and upgrade requests are those that real clients sent (``tests/data``). No two in a row are
alike: branch, Call-ID and tag are another's each time, as a phone has them.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import cast, get_args

from peers import load
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

import hep
from sipws.address import Address, Listener
from sipws.admission.admission import Admission
from sipws.bus import Bus
from sipws.deferred_bus import DeferredBus, Gathering
from sipws.events import Connection, Event, MessageReceived, MessageSent
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.relay.relay import Relay
from sipws.relay.relay_legs import ClientLeg, Pair, UpstreamLeg
from sipws.service import responder
from sipws.sip_counts import SipCounts
from sipws.tracing.tracer import Tracer, TraceSettings
from sipws.transport.flow import Flow
from sipws.transport.flow_context import FlowContext
from sipws.transport.registrations import Registrations
from sipws.ws.client_handshake import Offer
from sipws.ws.destination import Destination

DATA = Path(__file__).parents[2] / "tests" / "data"
LISTENER = Listener.parse("ws:127.0.0.1:8080")
PEER = ("127.0.0.1", 50000)
UPSTREAM = Destination.parse("ws://127.0.0.1:5062/")

VARIANTS = 64
"""Variants of a message that take turns; of each in a mix there are fewer."""

Operation = Callable[[], None]


class Transport:
    """A connection that takes everything and says nothing."""

    closing = False
    written = b""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Both ends."""
        return PEER if name in ("peername", "sockname") else default

    def write(self, data: bytes) -> None:
        """Let go what was written before."""
        self.written = data

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closing

    def close(self) -> None:
        """Close it."""
        self.closing = True

    def can_write_eof(self) -> bool:
        """As TCP."""
        return True

    def write_eof(self) -> None:
        """Let it go."""

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""


class Program:
    """What a server has, its answers made by the responder or by an upstream.

    Args:
        traced: whether every event and message is traced, into a queue.
        relayed: whether there is an upstream.
    """

    def __init__(self, *, traced: bool = False, relayed: bool = False) -> None:
        self.bus = Bus()
        self.afterwards: Operation = _trace(self.bus) if traced else (lambda: None)
        # Each message is told, and traced, once.
        relay = Relay(UPSTREAM, messages_told=False)
        self.relayed = relayed
        self.shared = FlowContext(
            self.bus,
            relay.carry if relayed else responder.answer,
            Limits(),
            Registry(),
            registrations=Registrations(),
            # As where a control interface shows metrics.
            sip_counts=SipCounts() if relayed else None,
        )
        self._to_upstream = replace(
            self.shared,
            bus=_without_messages(self.bus),
            admission=Admission(),
            registrations=None,
            sip_counts=SipCounts(),
        )

    def connect(self, upgrade: bytes) -> Flow:
        """A connection whose handshake is done; with an upstream's behind it where there is one."""
        flow: Flow
        if self.relayed:
            flow = ClientLeg(LISTENER, self.shared, dial=self._dial)
        else:
            flow = Flow(LISTENER, self.shared)
        flow.connection_made(cast("asyncio.Transport", Transport()))
        flow.data_received(upgrade)
        if self.relayed:
            self._open_upstream(cast("ClientLeg", flow).pair)
        return flow

    def _dial(self, pair: Pair) -> "asyncio.Task[None]":
        # Nobody waits for it, and only its being there is looked at.
        return cast("asyncio.Task[None]", asyncio.get_running_loop().create_future())

    def _open_upstream(self, pair: Pair) -> None:
        attempt = Connection(
            id=self.shared.registry.next_id(),
            listener=LISTENER,
            local=Address("0.0.0.0", 0),
            peer=Address(*PEER),
            started=self.shared.clock(),
            destination="ws://127.0.0.1:5062/",
        )
        leg = UpstreamLeg(pair, attempt, UPSTREAM, Offer(), self._to_upstream, LISTENER)
        transport = Transport()
        leg.connection_made(cast("asyncio.Transport", transport))
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", transport.written)
        assert key is not None
        leg.data_received(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key[1].decode()).encode() + b"\r\n"
            b"Sec-WebSocket-Protocol: sip\r\n\r\n"
        )
        assert pair.upstream is leg


def _trace(bus: Bus) -> Operation:
    """Trace every event and message into a queue; returns what works off all that waits."""
    deferred = DeferredBus(bus)
    outbox = hep.Outbox()
    packets = Gathering(
        deferred, lambda gathered: outbox.put_all(gathered, sum(map(len, gathered)))
    )
    Tracer(deferred, packets.put, TraceSettings(trace_sip=True))

    def work_off() -> None:
        deferred.flush()
        while outbox.take(1 << 16):
            outbox.done()

    return work_off


def _without_messages(bus: Bus) -> Bus:
    """As a relay has it for its connections to the upstream, where messages are traced once."""
    own = Bus()
    for event_type in get_args(Event):
        if event_type not in (MessageReceived, MessageSent):
            own.hook(event_type).subscribe(bus.publish)
    return own


# Messages.


def recorded(name: str) -> bytes:
    """A message as a client sent it."""
    return (DATA / "messages" / f"{name}.sip").read_bytes()


def handshake(name: str) -> bytes:
    """An upgrade request as a client sent it."""
    return (DATA / "handshakes" / f"{name}.txt").read_bytes()


def variants(message: bytes, count: int) -> list[bytes]:
    """A message with so many branches, Call-IDs and tags of its caller."""
    patterns = (
        rb";branch=([^;\s]+)",
        rb"(?m)^(?:Call-ID|i): (\S+)",
        rb"(?m)^(?:From|f): .*;tag=([^;\s]+)",
    )
    values = [match[1] for pattern in patterns if (match := re.search(pattern, message))]
    made = []
    for number in range(count):
        one = message
        for value in values:
            one = one.replace(value, value[:-4] + b"%04d" % number)
        made.append(one)
    return made


def from_first(message: bytes) -> bytes:
    """From before To and Max-Forwards last but one, as Kamailio and many a phone write it."""
    head = re.sub(rb"(?m)^Max-Forwards: \d+\r\n", b"", message)
    head = re.sub(rb"(?m)^(To: .*\r\n)(From: .*\r\n)", rb"\2\1", head)
    return head.replace(b"\r\nContent-Length: ", b"\r\nMax-Forwards: 70\r\nContent-Length: ")


def compact(message: bytes) -> bytes:
    """Header names of one letter (RFC 3261 section 7.3.3), which save a phone bytes."""
    for name, letter in (
        (b"Via", b"v"), (b"To", b"t"), (b"From", b"f"), (b"Call-ID", b"i"), (b"Contact", b"m"),
        (b"Supported", b"k"), (b"Content-Type", b"c"), (b"Content-Length", b"l"),
    ):  # fmt: skip
        message = message.replace(b"\r\n" + name + b": ", b"\r\n" + letter + b": ")
    return message


def _frame(message: bytes, *, mask: bool = True, text: bool = True) -> bytes:
    return Frame(Opcode.TEXT if text else Opcode.BINARY, message).serialize(mask=mask)


JSSIP_OPTIONS = recorded("chromium-jssip-options")

MESSAGES = {
    "REGISTER, JsSIP": recorded("chromium-jssip-register"),
    "REGISTER, SIP.js": recorded("chromium-sipjs-register"),
    "REGISTER, baresip": recorded("baresip-register"),
    "OPTIONS, JsSIP": JSSIP_OPTIONS,
    "OPTIONS, SIP.js": recorded("chromium-sipjs-options"),
    "OPTIONS, From first": from_first(JSSIP_OPTIONS),
    "OPTIONS, compact": compact(JSSIP_OPTIONS),
    "INVITE, JsSIP": recorded("chromium-jssip-invite"),
    "INVITE, SIP.js": recorded("chromium-sipjs-invite"),
    "180, JsSIP": recorded("chromium-jssip-invite-180"),
    "200 with SDP, JsSIP": recorded("chromium-jssip-invite-200"),
    "200 with SDP, SIP.js": recorded("chromium-sipjs-invite-200"),
    "ACK, JsSIP": recorded("chromium-jssip-ack"),
    "MESSAGE, JsSIP": recorded("chromium-jssip-message"),
    "MESSAGE, SIP.js": recorded("chromium-sipjs-message"),
    "BYE, JsSIP": recorded("chromium-jssip-bye"),
    "BYE, SIP.js": recorded("chromium-sipjs-bye"),
}
"""What phones send, one of each kind."""

BINARY = {"REGISTER, baresip"}
"""What comes in binary frames."""

MIX = tuple(MESSAGES)
"""Each kind as often as any other."""

HANDSHAKES = {
    "Chromium": "chromium156-jssip-httppage-ws",
    "Firefox": "firefox153-jssip-httppage-ws",
    "JsSIP in Node": "jssip-node20-wspkg-ws",
    "baresip": "baresip4-libre4.10-ws",
}

# Operations.


@dataclass(frozen=True)
class Row:
    """An operation that is counted."""

    meaning: str
    begin: Callable[[bool], Operation]
    """Makes what is counted, traced or not."""

    size: int = 1
    """What one call of it does: so many messages, or one connection."""

    cost: int = 1
    """How many others it takes as long as: it is done that much less often."""


def _messages(names: tuple[str, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Frames of messages in turn, for ever, each with what an upstream answers in a frame."""
    count = -(-VARIANTS // len(names))
    made = {name: variants(MESSAGES[name], count) for name in names}
    frames = []
    for number in range(count):
        for name in names:
            message = made[name][number]
            answer = responder.respond(message, Address(*PEER))
            frames.append(
                (
                    _frame(message, text=name not in BINARY),
                    _frame(answer, mask=False) if answer else b"",
                )
            )
    return cycle(frames)


def _answered(*names: str) -> Callable[[bool], Operation]:
    def begin(traced: bool) -> Operation:
        program = Program(traced=traced)
        flow = program.connect(load.UPGRADE)
        frames, receive, afterwards = _messages(names), flow.data_received, program.afterwards

        def do() -> None:
            for _ in names:
                receive(next(frames)[0])
                afterwards()

        return do

    return begin


def _relayed(traced: bool) -> Operation:
    program = Program(traced=traced, relayed=True)
    client = cast("ClientLeg", program.connect(load.UPGRADE))
    upstream = client.pair.upstream
    assert upstream is not None
    frames, afterwards = _messages(MIX), program.afterwards

    def do() -> None:
        for _ in MIX:
            request, answer = next(frames)
            client.data_received(request)
            afterwards()
            if answer:
                upstream.data_received(answer)
                afterwards()

    return do


def _in_a_read(count: int) -> Callable[[bool], Operation]:
    def begin(traced: bool) -> Operation:
        program = Program(traced=traced)
        read = b"".join(load.request(number) for number in range(count))
        flow = program.connect(load.UPGRADE)

        def do() -> None:
            flow.data_received(read)
            program.afterwards()

        return do

    return begin


def _connection(upgrade: bytes, *, relayed: bool = False) -> Callable[[bool], Operation]:
    def begin(traced: bool) -> Operation:
        program = Program(traced=traced, relayed=relayed)

        def do() -> None:
            flow = program.connect(upgrade)
            upstream = cast("ClientLeg", flow).pair.upstream if relayed else None
            flow.data_received(load.CLOSE)
            flow.connection_lost(None)
            if upstream is not None:
                upstream.data_received(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False))
                upstream.connection_lost(None)
            program.afterwards()

        return do

    return begin


ROWS = {
    "exchange": Row("an OPTIONS taken and answered with a 200, 8 in a read", _in_a_read(8), 8),
    "single": Row("the same, 1 in a read", _in_a_read(1)),
    **{name: Row(f"{name}, 1 in a read", _answered(name)) for name in MESSAGES},
    "mix": Row("a message of the mix", _answered(*MIX), len(MIX)),
    "mix relayed": Row("a message of the mix relayed, and its answer", _relayed, len(MIX)),
    "connection": Row("a connection: accept, handshake, close", _connection(load.UPGRADE)),
    **{
        f"connection, {name}": Row(f"a connection of {name}", _connection(handshake(file)))
        for name, file in HANDSHAKES.items()
    },
    "connection relayed": Row(
        "a connection relayed, and that to the upstream",
        _connection(load.UPGRADE, relayed=True),
        cost=8,
    ),
}
"""What is counted, by name."""
