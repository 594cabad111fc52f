"""Both sides of a connection, and two sessions of a side that must behave alike.

`Server` and `Client` are the sides. Each opens a session, as it is or with every frame left to the
engine, and makes the frames of its peer.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import pytest
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from sipws import Address, ConnectionClosedError, Destination, Limits, Listener
from sipws.events import Connection, Event, MessageReceived
from sipws.ws.client_handshake import Offer
from sipws.ws.client_session import ClientSession
from sipws.ws.server_session import ServerSession
from sipws.ws.session import Session

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The sample key of RFC 6455 section 1.3."""

MASK = b"\1\2\3\4"

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)
ACCEPTED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_key(KEY)}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
).encode()
DESTINATION = Destination.parse("ws://10.0.0.1/")

_SERVER = Address("10.0.0.1", 80)
_CLIENT = Address("192.0.2.5", 1)


class ServerByEngine(ServerSession):
    """The oracle: websockets reads and writes every frame, and answers every request."""

    __slots__ = ()
    use_fast_path: ClassVar[bool] = False


class ClientByEngine(ClientSession):
    """The oracle of a client."""

    __slots__ = ()
    use_fast_path: ClassVar[bool] = False


class Server:
    """A server's session, and what clients send to it."""

    name = "server"
    peer_is_masked = True
    handshake = UPGRADE
    connection = Connection(1, Listener("ws", *_SERVER), _SERVER, _CLIENT, 0.0)

    @classmethod
    def begin(cls, limits: Limits, *, by_engine: bool = False) -> Session:
        """A session that waits for its handshake."""
        kind = ServerByEngine if by_engine else ServerSession
        return kind(cls.connection, limits, monotonic=float)


class Client:
    """A client's session, and what servers send to it."""

    name = "client"
    peer_is_masked = False
    handshake = ACCEPTED
    connection = Connection(
        1, Listener("ws", *_CLIENT), _CLIENT, _SERVER, 0.0, str(DESTINATION)
    )  # fmt: skip

    @classmethod
    def begin(cls, limits: Limits, *, by_engine: bool = False) -> Session:
        """A session that waits for its handshake; its request is sent."""
        kind = ClientByEngine if by_engine else ClientSession
        session = kind(cls.connection, limits, DESTINATION, Offer(), monotonic=float)
        session.start(0.25)
        session.take_writes()
        return session


Side = type[Server] | type[Client]
SIDES: tuple[Side, ...] = (Server, Client)


def opened(side: Side, limits: Limits, *, by_engine: bool = False) -> Session:
    """A session of a side whose handshake is done."""
    session = side.begin(limits, by_engine=by_engine)
    session.receive(side.handshake, 0.5)
    session.take_writes()
    return session


def peer_frame(side: Side, opcode: int, data: bytes, fin: bool = True, mask: bytes = MASK) -> bytes:
    """A frame of the side's peer, of any opcode; only clients' frames have the mask."""
    if side.peer_is_masked:
        return _header(fin << 7 | opcode, len(data), 0x80) + mask + _masked(data, mask)
    return _header(fin << 7 | opcode, len(data), 0) + data


def wide_frame(side: Side, first: int, size: int, data: bytes, mask: bytes = MASK) -> bytes:
    """A frame of the side's peer whose length is in 2 or in 8 bytes, needed or not."""
    second = {2: 126, 8: 127}[size] | side.peer_is_masked << 7
    header = bytes([first, second]) + len(data).to_bytes(size, "big")
    return header + (mask + _masked(data, mask) if side.peer_is_masked else data)


def lying_header(first: int, length: int, masked: bool, rest: bytes) -> bytes:
    """A header that states one length in the widest form, before something of another."""
    return bytes([first, 0x7F | masked << 7]) + length.to_bytes(8, "big") + rest


def _header(first: int, length: int, masked: int) -> bytes:
    if length < 126:
        return bytes([first, masked | length])
    return bytes([first, masked | 126]) + length.to_bytes(2, "big")


def _masked(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def engine_frame(opcode: int, data: bytes, *, masked: bool, fin: bool = True) -> bytes:
    """A frame as websockets makes it."""
    return Frame(Opcode(opcode), data, fin).serialize(mask=masked)


def reads_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """A stream as reads that end at the cuts."""
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


@contextmanager
def nothing_by_chance() -> Iterator[None]:
    """One key and one mask for all sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("websockets.client.generate_key", lambda: KEY)
        patch.setattr("websockets.frames.secrets.token_bytes", lambda size: MASK)
        patch.setattr("sipws.ws.frames.urandom", lambda size: MASK)
        yield


def state(session: Session) -> tuple[object, ...]:
    """What a session reports and holds; equal for both ways."""
    return (
        session.phase,
        session.can_send,
        session.timeout,
        session.is_more,
        session.buffered,
        session.is_over,
        session.close_frames,
        session.traffic,
    )


def written(session: Session) -> tuple[bytes, bool]:
    writes, eof = session.take_writes()
    return b"".join(writes), eof


def answer(session: Session, events: list[Event]) -> None:
    """Echo every message, as an application does before the writes are taken."""
    for event in events:
        if isinstance(event, MessageReceived) and session.can_send:
            session.send(event.data, text=event.is_text)


@dataclass(frozen=True)
class Ways:
    """Two sessions of one side: as it is, and with every frame left to the engine."""

    fast: Session
    by_engine: Session
    longest: int
    """Bytes of the longest message that they accept."""

    @classmethod
    def of(cls, side: Side, limits: Limits) -> "Ways":
        """Both sessions of a side, their handshakes done."""
        slow = opened(side, limits, by_engine=True)
        return cls(opened(side, limits), slow, limits.message_size)

    def agree_on_reads(self, reads: list[bytes]) -> None:
        """Take these reads; both must report, write and hold the same after each."""
        for now, read in enumerate(reads, start=1):
            events = self.fast.receive(read, float(now))
            assert events == self.by_engine.receive(read, float(now))
            answer(self.fast, events)
            answer(self.by_engine, events)
            assert written(self.fast) == written(self.by_engine)
            assert state(self.fast) == state(self.by_engine)
            assert self.fast.buffered[0] <= self.longest + 14
        assert self.fast.receive_eof(99.0) == self.by_engine.receive_eof(99.0)

    def agree_on_steps(
        self, steps: list[tuple[str, bytes]], frame: Callable[[int, bytes], bytes]
    ) -> None:
        """Send, and receive what the peer frames so, in this order."""
        for step, data in steps:
            events = self._do(self.fast, step, data, frame)
            assert events == self._do(self.by_engine, step, data, frame)
        assert written(self.fast) == written(self.by_engine)
        assert state(self.fast) == state(self.by_engine)

    @staticmethod
    def _do(
        session: Session, step: str, data: bytes, frame: Callable[[int, bytes], bytes]
    ) -> object:
        match step:
            case "send":
                try:
                    session.send(data, text=data.isascii())
                except ConnectionClosedError as exc:
                    return str(exc)
            case "ping":
                return session.receive(frame(9, data[:125]), 1.0)
            case "message":
                return session.receive(frame(2, data), 1.0)
            case "close":
                return session.close(1.0, 1001, "away")
            case _:
                return written(session)
        return None
