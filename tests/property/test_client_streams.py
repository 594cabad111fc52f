"""Any bytes from a server, cut anywhere: a client tells the same story and raises nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from sipws import Address, Destination, Limits, Listener
from sipws.events import (
    Closed,
    Connected,
    Connection,
    ConnectionEvent,
    HandshakeFailed,
    MessageReceived,
)
from sipws.ws.client_handshake import LONGEST_BODY, LONGEST_REPLY, Offer
from sipws.ws.client_session import ClientSession
from sipws.ws.phase import Phase

LIMITS = Limits(message_size=256, max_chunks=0)
DESTINATION = Destination.parse("ws://10.0.0.1/")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
).encode()
STARTS = [
    *(GOOD, GOOD, GOOD, b""),
    GOOD.replace(b"sip", b"chat"),
    GOOD.replace(b"Upgrade: websocket\r\n", b""),
    GOOD.replace(b"\r\n", b"\n"),
    b"HTTP/1.1 101 Switching Protocols\r\nno header\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nwrong",
    b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
]


@pytest.fixture(autouse=True, scope="module")
def one_key() -> object:
    """RFC 6455's sample key for every connection, so that an answer can be right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("websockets.client.generate_key", lambda: KEY)
        yield


def session() -> ClientSession:
    connection = Connection(
        1, Listener("ws", "192.0.2.5", 1), Address("192.0.2.5", 1), Address("10.0.0.1", 80), 0.0,
        str(DESTINATION),
    )  # fmt: skip
    one = ClientSession(connection, LIMITS, DESTINATION, Offer())
    one.start(0.5)
    one.take_writes()
    return one


def frames() -> st.SearchStrategy[bytes]:
    """Frames as a server may send them, good and bad."""
    return st.builds(
        lambda opcode, data, fin, mask: Frame(opcode, data, fin).serialize(mask=mask),
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
        st.binary(max_size=100) | st.text(max_size=50).map(str.encode),
        st.just(True) | st.booleans(),
        st.sampled_from([False, False, False, True]),
    ) | st.sampled_from(
        [b"\x89\x01?", b"\x88\x00", b"\x88\x02\x03\xe8", b"\x88\x01\x03", b"\x00\xff\x80"]
    )


STREAMS = st.builds(
    lambda start, parts: start + b"".join(parts),
    st.sampled_from(STARTS),
    st.lists(frames() | st.binary(max_size=20), max_size=6),
)


def story(pieces: list[bytes]) -> list[ConnectionEvent]:
    """What a session tells when it is fed a stream in these pieces."""
    one = session()
    events: list[ConnectionEvent] = []
    for piece in pieces:
        events += one.receive(piece, 1.0)
        one.take_writes()
        assert len(one._received) <= LONGEST_REPLY + LONGEST_BODY
        assert len(one._assembly) <= LIMITS.message_size
    events += one.receive_eof(2.0)
    assert one.phase is Phase.CLOSED
    return events


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 600), max_size=8))
def test_where_a_servers_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    whole = story([stream])
    parts = story([stream[a:b] for a, b in itertools.pairwise(edges)])
    assert [type(event) for event in parts] == [type(event) for event in whole]
    for kind, name in ((MessageReceived, "data"), (Connected, "reply"), (HandshakeFailed, "kind")):
        assert [getattr(e, name) for e in parts if isinstance(e, kind)] == [
            getattr(e, name) for e in whole if isinstance(e, kind)
        ]


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_no_bytes_of_a_server_make_a_session_raise(pieces: list[bytes]) -> None:
    for start in ([], [GOOD], [b"HTTP/1.1 "], [b"HTTP/1.1 101 X\r\n"], [b"HTTP/1.1 403 X\r\n\r\n"]):
        events = story([*start, *pieces])
        assert isinstance(events[-1], Closed)
        ends = [event for event in events if isinstance(event, Connected | HandshakeFailed)]
        assert len(ends) == 1, "a handshake succeeds or fails, and does so once"
        assert sum(isinstance(event, Closed) for event in events) == 1
