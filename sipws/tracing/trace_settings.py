"""How a tracer chooses connections, and writes events and messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sipws.events import Connection
from sipws.masking.handshakes import Masking
from sipws.masking.sip_messages import Scope
from sipws.tracing.messages import MessageRules
from sipws.tracing.packets import PacketSettings
from sipws.tracing.payloads import Keys

CALL_LOGS: Final = 16
"""Calls per connection that get log lines: a phone has a call or two, a registration and some
subscriptions at a time. A peer that carries the calls of many users has its network events."""


class Verdict(NamedTuple):
    """The decision of a filter about a connection."""

    traced: bool
    remark: str = ""
    """A remark on the decision, which goes into the connection's first packet."""


Decide = Callable[[Connection], Verdict]
"""A filter: whether a connection is traced (OpenSIPS ``trace_filter_route``)."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """How events are written."""

    packets: PacketSettings = field(default_factory=PacketSettings)
    homer5: bool = False
    """Payloads as colon-joined text rather than as JSON (OpenSIPS ``homer5_on``)."""
    homer5_delimiter: str = ":"
    masking: Masking | None = field(default_factory=Masking)
    """Removes the credentials of handshakes from traces; None keeps them."""
    mask_sip: Scope = "tokens"
    """Which credentials of SIP messages are removed from traces."""
    trace_events: bool = True
    """Whether connection events are traced."""
    trace_sip: bool = False
    """Whether SIP messages are traced too."""
    messages: MessageRules = field(default_factory=MessageRules)
    """Which SIP messages."""
    call_logs: int = CALL_LOGS
    """How many of the latest calls on a connection get a log line about its errors and its end.
    Homer 7 shows the line in the call. Needs ``trace_sip`` and HEP version 3: nothing in the others
    distinguishes a line from SIP. 0 for none."""
    keys: Keys = "underscore"
    """How the names of JSON members are written that OpenSIPS does not send."""
