"""SIP messages by method and by status code."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipws import Listener
from sipws.address import Address
from sipws.bus import Bus
from sipws.events import Connection, MessageReceived
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.sip_counts import METHODS, OTHER, STATUSES, SipCounts
from sipws.transport.flow import Flow
from sipws.transport.flow_context import FlowContext
from sipws.transport.registrations import Registrations

CONNECTION = Connection(
    1, Listener.parse("ws:127.0.0.1:8080"), Address("127.0.0.1", 8080), Address("127.0.0.1", 1), 0.0
)


def counted(*messages: bytes) -> tuple[dict[str, int], dict[str, int]]:
    """What a flow counts of messages that arrive: requests and responses."""
    counts = SipCounts()
    context = FlowContext(
        Bus(), lambda flow, message: None, Limits(), Registry(), sip_counts=counts
    )
    flow = Flow(CONNECTION.listener, context)
    for message in messages:
        flow._deliver(MessageReceived(CONNECTION, 0.0, message, True))
    return dict(+counts.requests), dict(+counts.responses)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "uri", ["sip:bob@b.example", "sips:b", "tel:+1", "urn:service:sos", "im:b"]
)
def test_a_request_counts_under_its_method(method: str, uri: str) -> None:
    request = f"{method} {uri} SIP/2.0\r\nCall-ID: 1\r\n\r\n".encode()
    assert counted(request, request) == ({method: 2}, {})
    # RFC 3261 section 7.5: line ends before the start line are ignored.
    assert counted(b"\r\n\r\n" + request) == ({method: 1}, {})


@pytest.mark.parametrize(
    "method", ["FOO", "SERVICE", "SUBSCRIBES", "invite", "INVITES", "A", "PING"]
)
def test_any_other_method_is_one_series(method: str) -> None:
    request = f"{method} im:bob@b.example SIP/2.0\r\nCall-ID: 1\r\n\r\n".encode()
    assert counted(request) == ({OTHER: 1}, {})


@pytest.mark.parametrize("status", range(100, 700))
def test_a_response_counts_under_its_status(status: int) -> None:
    name = str(status) if status in STATUSES else f"{status // 100}xx"
    for line in ("SIP/2.0 {} Because\r\n", "SIP/2.0 {}\r\n", "sip/2.0 {} Because\r\n"):
        assert counted(line.format(status).encode() + b"Call-ID: 1\r\n\r\n") == ({}, {name: 1})


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\r\n",
        b"S",
        b"hello",
        b"SIP/2.0",
        b"SIP/2.0 700 No\r\n",
        b"SIP/2.0 099 No\r\n",
        b"SIP/2.0 20 No\r\n",
        b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b",
        b"\xff" * 20,
        "Ünïcode sip:b SIP/2.0\r\n".encode(),
    ],
)
def test_what_is_no_sip_is_not_counted(message: bytes) -> None:
    assert counted(message) == ({}, {})


def test_a_registration_is_noted_also_behind_line_ends() -> None:
    """A flow looks at the first byte of a message once, for counting and for registrations."""
    noted: list[bytes] = []

    class Noting(Registrations):
        def registered(self, connection_id: int, message: bytes) -> None:
            noted.append(message)

    context = FlowContext(
        Bus(), lambda flow, message: None, Limits(), Registry(), registrations=Noting()
    )
    flow = Flow(CONNECTION.listener, context)
    registers = [lead + b"REGISTER sip:b SIP/2.0\r\n\r\n" for lead in (b"", b"\r\n", b"\n\n")]
    others = [b"REGISTERS sip:b SIP/2.0\r\n\r\n", b"REFER sip:b SIP/2.0\r\n\r\n"]
    for message in (*registers, *others):
        flow._deliver(MessageReceived(CONNECTION, 0.0, message, True))
    assert noted == registers


@given(st.lists(st.binary(max_size=40) | st.builds(
    lambda start, rest: start + rest,
    st.sampled_from([b"SIP/2.0 ", b"SUBSCRIBE ", b"S", b"SIP/2.0 4", b"INVITE ", b"\r\n"]),
    st.binary(max_size=20),
), max_size=20))  # fmt: skip
@example([b"SIP/2.0 \xff\xff\xff"])
def test_no_message_makes_the_tables_grow_or_raises(messages: list[bytes]) -> None:
    counts = SipCounts()

    def shape() -> tuple[int, list[list[int]]]:
        return len(counts.methods), [[len(row) for row in rows] for rows in counts.statuses]

    before = shape()
    context = FlowContext(
        Bus(), lambda flow, message: None, Limits(), Registry(), sip_counts=counts
    )
    flow = Flow(CONNECTION.listener, context)
    errors: list[object] = []
    context.bus.error_occurred.subscribe(errors.append)
    for message in messages:
        if message != b"\r\n\r\n":
            flow._deliver(MessageReceived(CONNECTION, 0.0, message, True))
    assert not errors
    assert shape() == before
    assert counts.requests.total() + counts.responses.total() <= len(messages)


def test_the_names_are_those_of_iana() -> None:
    assert len(METHODS) == len(set(METHODS)) == 14
    assert list(STATUSES) == sorted(set(STATUSES))
    assert all(re.fullmatch("[1-6][0-9][0-9]", str(status)) for status in STATUSES)
