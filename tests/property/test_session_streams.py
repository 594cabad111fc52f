"""Any bytes, cut anywhere: a session reports the same events, raises nothing and holds little.

Each test runs with a server's session and with a client's.
"""

from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from sipws import Limits
from sipws.events import (
    Accepted,
    Closed,
    Connected,
    ConnectionEvent,
    HandshakeFailed,
    MessageReceived,
)
from sipws.ws.client_handshake import LONGEST_BODY, LONGEST_REPLY
from sipws.ws.phase import Phase
from tests.property.sides import (
    ACCEPTED,
    SIDES,
    UPGRADE,
    Client,
    Server,
    Side,
    engine_frame,
    nothing_by_chance,
    reads_of,
)

LIMITS = Limits(request_size=1024, message_size=256, max_chunks=0)

STARTS: Final[dict[Side, list[bytes]]] = {
    Server: [UPGRADE, UPGRADE, UPGRADE, b"GET / HTTP/1.1\r\n\r\n", b""],
    Client: [
        *(ACCEPTED, ACCEPTED, ACCEPTED, b""),
        ACCEPTED.replace(b"sip", b"chat"),
        ACCEPTED.replace(b"Upgrade: websocket\r\n", b""),
        ACCEPTED.replace(b"\r\n", b"\n"),
        b"HTTP/1.1 101 Switching Protocols\r\nno header\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nwrong",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
    ],
}
"""What a peer may send first; a successful handshake more often than others."""

BEGINNINGS: Final[dict[Side, list[list[bytes]]]] = {
    Server: [[], [UPGRADE]],
    Client: [[], [ACCEPTED], [b"HTTP/1.1 "], [b"HTTP/1.1 101 X\r\n"], [b"HTTP/1.1 403 X\r\n\r\n"]],
}
"""Reads that come before arbitrary bytes."""

LONGEST_HANDSHAKE: Final[dict[Side, int]] = {
    Server: LIMITS.request_size,
    Client: LONGEST_REPLY + LONGEST_BODY,
}

side_by_side = pytest.mark.parametrize("side", SIDES, ids=lambda side: side.name)


@pytest.fixture(autouse=True, scope="module")
def _nothing_by_chance() -> Iterator[None]:
    with nothing_by_chance():
        yield


def frames_of(side: Side) -> st.SearchStrategy[bytes]:
    """Frames as a peer may send them, good and bad."""
    masked = st.sampled_from([side.peer_is_masked] * 3 + [not side.peer_is_masked])
    good = st.builds(
        lambda opcode, data, fin, masked: engine_frame(opcode, data, masked=masked, fin=fin),
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
        st.binary(max_size=100) | st.text(max_size=50).map(str.encode),
        st.just(True) | st.booleans(),
        masked,
    )
    control = st.builds(
        lambda opcode, data: engine_frame(opcode, data, masked=side.peer_is_masked),
        st.sampled_from([Opcode.PING, Opcode.PONG]),
        st.binary(max_size=125),
    )
    close = st.sampled_from([b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03"]).map(
        lambda data: engine_frame(Opcode.CLOSE, data, masked=side.peer_is_masked)
    )
    return good | control | close | st.just(b"\x00\xff\x80") | st.binary(max_size=20)


STREAMS = {
    side: st.builds(
        lambda start, parts: start + b"".join(parts),
        st.sampled_from(STARTS[side]),
        st.lists(frames_of(side), max_size=6),
    )
    for side in SIDES
}


def story(side: Side, reads: list[bytes]) -> tuple[list[ConnectionEvent], bytes]:
    """What a session reports and writes when it gets these reads."""
    session = side.begin(LIMITS)
    events: list[ConnectionEvent] = []
    written = b""
    for read in reads:
        events += session.receive(read, 1.0)
        writes, _ = session.take_writes()
        written += b"".join(writes)
        received, in_fragments = session.buffered
        assert received <= LONGEST_HANDSHAKE[side]
        assert in_fragments <= LIMITS.message_size
    events += session.receive_eof(2.0)
    assert session.phase is Phase.CLOSED
    return events, written


def without_dates(data: bytes) -> bytes:
    return b"\r\n".join(line for line in data.split(b"\r\n") if not line.startswith(b"Date:"))


@side_by_side
@given(st.data(), st.lists(st.integers(0, 1500), max_size=8))
def test_where_a_stream_is_cut_makes_no_difference(
    side: Side, data: st.DataObject, cuts: list[int]
) -> None:
    stream = data.draw(STREAMS[side])
    whole, written = story(side, [stream])
    parts, written_in_parts = story(side, reads_of(stream, cuts))
    assert [type(event) for event in parts] == [type(event) for event in whole]
    for kind, name in ((MessageReceived, "data"), (Connected, "reply"), (HandshakeFailed, "kind")):
        assert [getattr(e, name) for e in parts if isinstance(e, kind)] == [
            getattr(e, name) for e in whole if isinstance(e, kind)
        ]
    assert without_dates(written_in_parts) == without_dates(written)


@side_by_side
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_no_bytes_make_a_session_raise(side: Side, reads: list[bytes]) -> None:
    for beginning in BEGINNINGS[side]:
        events, _ = story(side, [*beginning, *reads])
        assert isinstance(events[-1], Closed)
        assert sum(isinstance(event, Closed) for event in events) == 1
        ends = [e for e in events if isinstance(e, Accepted | Connected | HandshakeFailed)]
        # A server's peer that sent nothing attempted no handshake.
        assert len(ends) == 1 or (side is Server and not ends and not any(reads))
