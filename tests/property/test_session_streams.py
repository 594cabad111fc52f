"""Any bytes, cut anywhere: a session tells the same story, raises nothing and holds little."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from sipws import Address, Limits, Listener
from sipws.events import Closed, Connection, ConnectionEvent, MessageReceived
from sipws.ws.phase import Phase
from sipws.ws.server_session import ServerSession

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
LIMITS = Limits(request_size=1024, message_size=256, max_chunks=0)


def session() -> ServerSession:
    listener = Listener("ws", "10.0.0.1", 80)
    address = Address("192.0.2.5", 1)
    return ServerSession(Connection(1, listener, Address("10.0.0.1", 80), address, 0.0), LIMITS)


def frames() -> st.SearchStrategy[bytes]:
    """Frames as a client may send them, good and bad."""
    good = st.builds(
        lambda opcode, data, fin: Frame(opcode, data, fin).serialize(mask=True),
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
        st.binary(max_size=100) | st.text(max_size=50).map(str.encode),
        st.booleans(),
    )
    control = st.builds(
        lambda opcode, data: Frame(opcode, data).serialize(mask=True),
        st.sampled_from([Opcode.PING, Opcode.PONG]),
        st.binary(max_size=125),
    )
    close = st.sampled_from([b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03"]).map(
        lambda data: b"\x88" + bytes([0x80 | len(data)]) + bytes(4) + data
    )
    return good | control | close | st.binary(max_size=20)


STREAMS = st.builds(
    lambda start, parts: start + b"".join(parts),
    st.sampled_from([UPGRADE, UPGRADE, UPGRADE, b"GET / HTTP/1.1\r\n\r\n", b""]),
    st.lists(frames(), max_size=6),
)


def story(cuts: list[bytes]) -> tuple[list[ConnectionEvent], bytes]:
    """What a session tells and writes when it is fed a stream in these pieces."""
    one = session()
    events: list[ConnectionEvent] = []
    written = b""
    for piece in cuts:
        events += one.receive(piece, 1.0)
        writes, _ = one.take_writes()
        written += b"".join(writes)
        assert len(one._received) <= LIMITS.request_size
        assert len(one._assembly) <= LIMITS.message_size
    events += one.receive_eof(2.0)
    assert one.phase is Phase.CLOSED
    return events, written


def without_dates(data: bytes) -> bytes:
    return b"\r\n".join(line for line in data.split(b"\r\n") if not line.startswith(b"Date:"))


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 1500), max_size=8))
def test_where_a_stream_is_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    whole, written = story([stream])
    parts, written_in_parts = story(pieces)
    assert [type(event) for event in parts] == [type(event) for event in whole]
    assert [e.data for e in parts if isinstance(e, MessageReceived)] == [
        e.data for e in whole if isinstance(e, MessageReceived)
    ]
    assert without_dates(written_in_parts) == without_dates(written)


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_no_bytes_make_a_session_raise(pieces: list[bytes]) -> None:
    for start in ([], [UPGRADE]):
        events, _ = story([*start, *pieces])
        assert isinstance(events[-1], Closed)
        assert sum(isinstance(event, Closed) for event in events) == 1
