"""What is remembered of handshakes and closes like one before shows in no payload.

Handshakes that differ in what may change, and in what makes them unlike, go through one writer. The
payload of each must be what masking and writing that handshake alone would make of it.
"""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipws import Address, Listener
from sipws.events import Accepted, Closed, Connected, Connection, Side
from sipws.masking.handshakes import Masking
from sipws.tracing import writer
from sipws.tracing.payloads import PAYLOADS
from sipws.tracing.writer import Writer

CONNECTIONS = [
    Connection(1, Listener(proto, "10.0.0.1", 80), Address("10.0.0.1", 80), Address("::1", 1), 0.0)
    for proto in ("ws", "wss")
]
KEYS = [
    "dGhlIHNhbXBsZSBub25jZQ==",
    "AAAAAAAAAAAAAAAAAAAAAA==",
    "eyJhbGciOiJFUzI1NiJ9AA==",
    "AAAAAAAAAAAAAAAAAtoken==",
]
KEYS += ["AAAAAAAAAAAtoken==AAAAAA", "token", "", '"quoted"quoted"quoted"q=', "dGhl\xff" * 5]
ACCEPTS = ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", "x", "token=" * 5]
DATES = ["Thu, 26 Nov 2026 01:02:03 GMT", "Fri, 27 Nov 2026 23:59:59 GMT", "today"]
DATES += ["https://a:hunter22@b.example/", "x?access_token=hunter2222222"]
UNUSUAL_DATES = {
    "a token": "eyJhbGciOiJIUzI1NiIsInR5cCI6I",
    "a password": "sip:alice:hunter22hunter22hun",
    # Where this stands, it stands a little earlier too.
    "a name": "Date: " * 4 + "Date:",
}
DATES += UNUSUAL_DATES.values()
# What stands behind a key, a date and an accept.
BEHIND = ["\r\n"] * 8 + ["\r\n token=folded\r\n", "; a=b\r\n", "hunter22\r\n", "\n", "", " \r\n"]
NAMES = ["Sec-WebSocket-Key: "] * 6 + ["sec-websocket-key: ", "X: a\r\nSec-WebSocket-Key: ", ""]
MORE = [
    "",
    "",
    "Origin: https://a.example\r\n",
    "Cookie: sid=hunter22\r\n",
    "X: é\r\n",
    "X: \xff\r\n",
]
MORE += [
    f"X: {KEYS[0]}\r\n",
    f"X: {DATES[0]}\r\n",
    "Sec-WebSocket-Protocol: sip, token.hunter22\r\n",
]
MASKINGS = [Masking, lambda: None, lambda: Masking(["date", "sec-websocket-*"], ["*"])]


@st.composite
def handshakes(draw: st.DrawFn) -> Accepted | Connected:
    """A handshake as nearly all are, with some things changed."""

    def one(among: list[str]) -> str:
        return draw(st.sampled_from(among))

    request = (
        f"GET {one(['/', '/', '/?token=hunter22'])} HTTP/1.1\r\nHost: sip.example.com\r\n"
        f"{one(MORE)}{one(NAMES)}{one(KEYS)}{one(BEHIND)}{one(MORE)}\r\n"
    )
    reply = (
        f"HTTP/1.1 101 Switching Protocols\r\n{one(['', '', 'Server: x' + chr(13) + chr(10)])}"
        f"Date: {one(DATES)}{one(BEHIND)}"
        f"Upgrade: websocket\r\nSec-WebSocket-Accept: {one(ACCEPTS)}{one(BEHIND)}{one(MORE)}\r\n"
    )
    connection = draw(st.sampled_from(CONNECTIONS))
    encoding = one(["utf-8", "latin-1"])
    raw = request.encode(encoding), reply.encode(encoding)
    if draw(st.booleans()):
        return Accepted(connection, 0.0, *raw)
    return Connected(connection, 0.0, *raw, "sip")


WRITERS = [
    (Writer(masking(), homer5=homer5), masking())
    for masking, homer5 in product(MASKINGS, (False, True))
]
"""They live as long as the test, so that each handshake comes after many others."""


@given(event=handshakes())
def test_remembering_handshakes_makes_no_difference(event: Accepted | Connected) -> None:
    for remembers, masking in WRITERS:
        masked = masking.event(event) if masking else event
        # The second time, it is like one before.
        for _ in range(2):
            assert remembers.event(event) == remembers.parts(PAYLOADS[type(event)](masked))
            more = (("Relayed_With", "17"), ("Filter_Remark", KEYS[0]))
            parts = PAYLOADS[type(event)](masked)
            assert remembers.event(event, more) == remembers.parts(parts, more)


@given(
    connection=st.sampled_from(CONNECTIONS),
    code=st.sampled_from([1000, 1001, 1005, 1006, 4999]),
    reason=st.sampled_from(["", "", "gone", "100%", "sid=hunter22"]),
    closed_by=st.sampled_from(Side),
    clean=st.booleans(),
    duration=st.floats(0, 1e9) | st.integers(0, 1 << 40),
    numbers=st.lists(st.integers(0, 1 << 60), min_size=4, max_size=4),
)
def test_remembering_closes_makes_no_difference(
    connection: Connection,
    code: int,
    reason: str,
    closed_by: Side,
    clean: bool,
    duration: float,
    numbers: list[int],
) -> None:
    event = Closed(connection, 0.0, code, reason, closed_by, clean, True, duration, *numbers)
    for remembers, masking in WRITERS:
        masked = masking.event(event) if masking else event
        for _ in range(2):
            assert remembers.event(event) == remembers.parts(PAYLOADS[Closed](masked))
            more = (("Call_IDs", f"{reason} %s 100%"),)
            assert remembers.event(event, more) == remembers.parts(PAYLOADS[Closed](masked), more)


@pytest.mark.parametrize("unusual", UNUSUAL_DATES.values(), ids=UNUSUAL_DATES)
def test_what_is_as_long_as_a_date_and_is_none_is_not_taken_for_one(unusual: str) -> None:
    request = f"GET / HTTP/1.1\r\nSec-WebSocket-Key: {KEYS[0]}\r\n\r\n".encode()

    def connected(date: str) -> Connected:
        reply = f"HTTP/1.1 101 x\r\nDate: {date}\r\nSec-WebSocket-Accept: {ACCEPTS[0]}\r\n\r\n"
        return Connected(CONNECTIONS[0], 0.0, request, reply.encode(), "sip")

    for dates in ((DATES[0], unusual), (unusual, DATES[0])):
        first, second = map(connected, dates)
        one = Writer(Masking())
        one.event(first)
        assert one.event(second) == Writer(Masking()).event(second)


def test_so_many_handshakes_are_remembered_and_none_with_credentials(monkeypatch) -> None:
    monkeypatch.setattr(writer, "REMEMBERED", 10)
    one = Writer(Masking())
    reply = f"HTTP/1.1 101 x\r\nDate: {DATES[0]}\r\nSec-WebSocket-Accept: {ACCEPTS[0]}\r\n\r\n"
    for number in range(100):
        for more in ("", "Cookie: sid=hunter22\r\n"):
            request = f"GET / HTTP/1.1\r\nX: {number}\r\n{more}Sec-WebSocket-Key: {KEYS[0]}\r\n\r\n"
            one.event(Accepted(CONNECTIONS[0], 0.0, request.encode(), reply.encode()))
    assert 0 < len(one._templates) <= 10
    assert b"hunter22" not in repr(one._templates).encode()
