"""A client takes and makes plain messages by hand, and nothing shows that it does.

As `test_whole_messages.py`, from the other side: the same bytes, cut at the same places, go through
a session as it is and through one that leaves every frame to the engine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from sipws import Address, Destination, Limits, Listener
from sipws.events import Connection, ErrorKind, ErrorOccurred
from sipws.ws.client_handshake import Offer
from sipws.ws.client_session import ClientSession
from sipws.ws.frames import BINARY, TEXT, client_frame

LIMITS = Limits(message_size=300, max_chunks=0)
DESTINATION = Destination.parse("ws://10.0.0.1/")
CONNECTION = Connection(
    1, Listener("ws", "192.0.2.5", 1), Address("192.0.2.5", 1), Address("10.0.0.1", 80), 0.0,
    str(DESTINATION),
)  # fmt: skip
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPTED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
).encode()
MASK = b"\1\2\3\4"


@contextmanager
def nothing_by_chance() -> Iterator[None]:
    """One key and one mask for both ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("websockets.client.generate_key", lambda: KEY)
        patch.setattr("websockets.frames.secrets.token_bytes", lambda size: MASK)
        patch.setattr("sipws.ws.frames.urandom", lambda size: MASK)
        yield


@pytest.fixture(autouse=True, scope="module")
def _nothing_by_chance() -> Iterator[None]:
    with nothing_by_chance():
        yield


class EngineOnly(ClientSession):
    """The oracle: websockets reads and writes every frame."""

    __slots__ = ()
    use_fast_path: ClassVar[bool] = False


def frame(opcode: int, data: bytes, fin: bool = True) -> bytes:
    """A server's frame."""
    return Frame(Opcode(opcode), data, fin).serialize(mask=False)


def lying(first: int, length: int, masked: bool, rest: bytes) -> bytes:
    """A header that states one length in the widest form, before something of another."""
    return bytes([first, 0x7F | masked << 7]) + length.to_bytes(8, "big") + rest


good_text = st.text(max_size=40).map(str.encode)
# Lengths around every border: of the short header, of the message limit.
sized = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 299, 300, 301]).map(lambda n: b"x" * n)
frames_inside = st.builds(frame, st.sampled_from([1, 2, 8, 9]), st.binary(max_size=6))
payloads = good_text | st.binary(max_size=40) | sized | sized | frames_inside
whole = st.builds(frame, st.sampled_from([1, 2]), payloads)
fragments = st.builds(frame, st.sampled_from([0, 1, 2]), payloads, st.booleans())
control = st.builds(frame, st.sampled_from([9, 10]), st.binary(max_size=126))
closing = st.builds(
    frame,
    st.just(8),
    st.sampled_from([b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03", b"\x03\xed"]),
)
odd = st.builds(
    lambda first, second, rest: bytes([first, second]) + rest,
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=12),
)
wide = st.builds(
    lambda first, data: bytes([first, 126]) + len(data).to_bytes(2, "big") + data,
    st.sampled_from([0x81, 0x82, 0x89]),
    st.binary(max_size=20),
)
liars = st.builds(
    lying,
    st.sampled_from([0x81, 0x82, 0x89, 0xC1]),
    st.sampled_from([0, 5, 125, 126, 300, 301, 65536, 2**63 - 1, 2**63, 2**64 - 1]),
    st.booleans(),
    st.binary(max_size=12) | whole,
)
masked = st.builds(client_frame, st.sampled_from([TEXT, BINARY]), st.binary(max_size=20))
streams = st.lists(
    whole | whole | fragments | control | closing | odd | wide | liars | masked, max_size=8
).map(b"".join)


def start(kind: type[ClientSession]) -> ClientSession:
    session = kind(CONNECTION, LIMITS, DESTINATION, Offer(), monotonic=float)
    session.start(0.25)
    session.receive(ACCEPTED, 0.5)
    session.take_writes()
    return session


@pytest.fixture(scope="module")
def both(ways: Any) -> Callable[[], Any]:
    return lambda: ways(start(ClientSession), start(EngineOnly))


@given(stream=streams, cuts=st.lists(st.integers(0, 1500), max_size=12))
@example(stream=frame(1, frame(2, b"smuggled")), cuts=[1, 2, 3, 4])
@example(stream=frame(2, b"x" * 300) + frame(2, b"x" * 301), cuts=[])
@example(stream=frame(1, b"a") + frame(9, b"b") + frame(1, b"c"), cuts=[])
@example(stream=frame(1, b"a", False) + frame(1, b"b") + frame(0, b"c"), cuts=[])
@example(stream=frame(1, b"") + frame(2, b"a") + frame(2, b"ab"), cuts=[])
def test_no_difference_between_the_ways_wherever_reads_end(
    both: Callable[[], Any], stream: bytes, cuts: list[int]
) -> None:
    both().agree_on(stream, cuts)


@given(stream=streams)
def test_no_difference_between_the_ways_byte_by_byte(
    both: Callable[[], Any], stream: bytes
) -> None:
    both().agree_on_reads([stream[i : i + 1] for i in range(len(stream))])


@given(pieces=st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_no_difference_between_the_ways_on_any_bytes(
    both: Callable[[], Any], pieces: list[bytes]
) -> None:
    both().agree_on_reads(pieces)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["send", "ping", "message", "close", "take"]), payloads),
        max_size=10,
    )
)
@example(steps=[("send", b""), ("message", b"x" * 301), ("send", b"0")])
def test_no_difference_in_the_order_of_what_is_sent(
    both: Callable[[], Any], steps: list[tuple[str, bytes]]
) -> None:
    both().agree_on_steps(steps, frame)


@pytest.mark.parametrize("kind", [ClientSession, EngineOnly])
@given(
    st.sampled_from([0x81, 0x82, 0x01]),
    st.sampled_from([(2, 0), (2, 125), (8, 0), (8, 126), (8, 65_535), (8, 2**63), (8, 2**64 - 1)]),
)
def test_a_length_that_is_not_the_shortest_is_a_1002_as_soon_as_it_is_there(
    kind: type[ClientSession], first: int, length: tuple[int, int]
) -> None:
    session = start(kind)
    size, number = length
    header = bytes([first, 126 if size == 2 else 127]) + number.to_bytes(size, "big")
    [error] = session.receive(header, 1.0)
    assert isinstance(error, ErrorOccurred)
    assert error.kind is ErrorKind.PROTOCOL_ERROR
    [close], _ = session.take_writes()
    assert close == client_frame(0x88, (1002).to_bytes(2, "big") + error.detail.encode())


@given(
    data=st.binary(max_size=200) | st.sampled_from([b"x" * 65535, b"x" * 65536]), text=st.booleans()
)
def test_no_difference_in_a_frame(data: bytes, text: bool) -> None:
    opcode = Opcode.TEXT if text else Opcode.BINARY
    assert client_frame(TEXT if text else BINARY, data) == Frame(opcode, data).serialize(mask=True)
