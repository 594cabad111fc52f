"""Connections whose peers send the worst, through a real tracer: the packets that leave."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

import hep
from sipws import Address, Bus, Listener
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectFailed,
    Connection,
    ConnectionOpened,
    ConnectStarted,
    ErrorKind,
    ErrorOccurred,
    HandshakeFailed,
    MessageReceived,
    MessageSent,
    Side,
    Superseded,
)
from sipws.tracing.losses import Loss
from sipws.tracing.messages import MessageRules
from sipws.tracing.packets import PacketSettings
from sipws.tracing.tracer import Tracer, TraceSettings, Verdict

EVIL = [
    "\0", "\x01", "\x1b[2J", "\x7f", "\x85", "\x9b31m", "\u2028", "\u202e", "\ufeff", "\ufffe",
    "\ud800", "\udc80", "\udc00\ud800", "\ud83d\ude00", "\U000e0041", "\r", "\n", "\r\n ", "\t",
    "\\", "\\u0000", "\\ud800", "\\x00", '"', "'", "%b", "%s", "{", "}", "é", "😀", "a", " ", "NaN",
]  # fmt: skip
"""Texts that some reader or writer takes for something else."""

texts = st.lists(
    st.sampled_from(EVIL) | st.characters() | st.characters(categories=["Cs", "Cc"]), max_size=12
).map("".join)
raw = st.one_of(
    texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    texts.map(lambda text: text.encode("utf-16-le", "surrogatepass")),
    st.binary(max_size=40),
    st.sampled_from([b"\xc3", b"\xed\xa0\x80", b"\xff" * 300, b"\0" * 300, b"\xf4\x90\x80\x80"]),
)

Act = Callable[[Connection, float], Any]
"""Makes an event of a connection and a time."""


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    agent, name = draw(raw), draw(raw)
    return b"GET /" + name + b" HTTP/1.1\r\nUser-Agent: " + agent + b"\r\nHost: a\r\n\r\n"


@st.composite
def sip(draw: st.DrawFn) -> bytes:
    """SIP whose parts are hostile; much of it is broken."""
    method = draw(st.sampled_from([b"INVITE", b"REGISTER", b"OPTIONS", b"GO"]))
    start = draw(
        st.sampled_from([method + b" sip:bob@example.com SIP/2.0", b"SIP/2.0 200 OK", b"\xff"])
    )
    call_id = draw(raw) + draw(st.sampled_from([b"", b"-call@example.com", b"x" * 300]))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    lines = [
        start,
        b"From: <sip:" + draw(raw) + b"@example.com>;tag=" + draw(raw),
        draw(st.sampled_from([b"Call-ID: ", b"i: ", b"Call-ID:" + end + b" "])) + call_id,
        b"User-Agent: " + draw(raw),
        b"CSeq: 1 " + method,
        b"",
        draw(raw),
    ]
    return end.join(lines)


messages = sip() | raw
kinds = st.sampled_from(list(ErrorKind))

acts: st.SearchStrategy[Act] = st.one_of(
    st.tuples(requests(), raw).map(lambda each: lambda at, now: Accepted(at, now, *each)),
    st.tuples(requests(), raw, texts).map(lambda each: lambda at, now: Connected(at, now, *each)),
    st.tuples(requests(), raw, kinds, texts).map(
        lambda each: lambda at, now: HandshakeFailed(at, now, *each)
    ),
    st.tuples(kinds, texts, raw, st.none() | raw.filter(bool)).map(
        lambda each: lambda at, now: ErrorOccurred(at, now, *each)
    ),
    st.tuples(kinds, texts).map(lambda each: lambda at, now: ConnectFailed(at, now, *each)),
    texts.map(lambda text: lambda at, now: Superseded(at, now, text, 7)),
    messages.map(lambda data: lambda at, now: MessageReceived(at, now, data, True)),
    messages.map(lambda data: lambda at, now: MessageSent(at, now, data, False)),
)


@dataclass
class Life:
    """What happens on a connection, between its start and its end."""

    destination: str | None
    acts: list[Act]
    code: int
    reason: str
    remark: str


lives = st.lists(
    st.builds(
        Life,
        destination=st.none() | texts.map(lambda text: f"ws://a/{text}"),
        acts=st.lists(acts, max_size=6),
        code=st.sampled_from([1000, 1002, 1006, 4000]),
        reason=texts,
        remark=st.just("") | texts,
    ),
    min_size=1,
    max_size=8,
)


def packets_of(lives: list[Life], settings: TraceSettings) -> list[bytes]:
    """The packets of connections, as the tracer sends them; the last reports a loss."""
    sent: list[bytes] = []
    bus = Bus()
    remarks = {number: life.remark for number, life in enumerate(lives)}
    tracer = Tracer(
        bus, sent.append, settings, decide=lambda about: Verdict(True, remarks[about.id])
    )
    now = time.time()
    for number, life in enumerate(lives):
        at = Connection(
            number, Listener("ws", "10.0.0.1", 80), Address("10.0.0.1", 80),
            Address("192.0.2.5", 50123), now, destination=life.destination,
        )  # fmt: skip
        if life.destination is None:
            bus.publish(ConnectionOpened(at, now))
        else:
            bus.publish(ConnectStarted(at, now))
        for act in life.acts:
            bus.publish(act(at, now))
        bus.publish(
            Closed(
                at, now, life.code, life.reason, Side.PEER, True, True, 1.0, 1, 1, 1, 1
            )
        )  # fmt: skip
    loss = Loss(Counter({"queue-full": 1}), now - 1, now, lives[0].reason)
    tracer.report_loss(loss, Address("127.0.0.1", 9060), now, sent.append)
    return sent


settings = st.builds(
    TraceSettings,
    packets=st.builds(PacketSettings, auth_key=st.sampled_from([None, b"secret"])),
    trace_sip=st.just(True),
    mask_sip=st.sampled_from(["tokens", "all", "none"]),
    keys=st.sampled_from(["underscore", "hyphen"]),
    messages=st.sampled_from(
        [
            MessageRules(),
            MessageRules(correlate_by="connection"),
            MessageRules(correlation_headers=("User-Agent",)),
        ]
    ),
)


def network_events(sent: list[bytes]) -> list[hep.Packet]:
    """The packets among them whose payload is JSON."""
    packets = map(hep.decode, sent)
    return [each for each in packets if each.protocol_type == hep.ProtocolType.NET]
