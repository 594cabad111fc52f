"""Two sessions that are to be alike: one as it is, and one that leaves all frames to the engine."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sipws import ConnectionClosedError
from sipws.events import Event, MessageReceived
from sipws.ws.session import Session


def state(session: Session) -> tuple[object, ...]:
    """What a session would tell or hold on to, the two ways alike."""
    return (
        session.phase,
        session.can_send,
        session.timeout,
        bytes(session._received),
        len(session._assembly),
        # Not the engine itself, which to ask for would be to make.
        session._eof_sent,
        session._is_midway,
        session._clean,
        session.is_over,
        session.close_frames,
        session.traffic,
    )


def written(session: Session) -> tuple[bytes, bool]:
    writes, eof = session.take_writes()
    return b"".join(writes), eof


def answer(session: Session, events: list[Event]) -> None:
    """Echo every message, as an application would before the writes are taken."""
    for event in events:
        if isinstance(event, MessageReceived) and session.can_send:
            session.send(event.data, text=event.is_text)


@dataclass(frozen=True)
class Ways:
    """Both sessions, their handshakes done."""

    fast: Session
    by_engine: Session

    def agree_on(self, stream: bytes, cuts: list[int]) -> None:
        """Take a stream that is cut into reads; whatever comes of it must be the same."""
        edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        self.agree_on_reads([stream[a:b] for a, b in itertools.pairwise(edges)])

    def agree_on_reads(self, reads: list[bytes]) -> None:
        for now, read in enumerate(reads, start=1):
            events = self.fast.receive(read, float(now))
            assert events == self.by_engine.receive(read, float(now))
            answer(self.fast, events)
            answer(self.by_engine, events)
            assert written(self.fast) == written(self.by_engine)
            assert state(self.fast) == state(self.by_engine)
            limit = self.fast._limits.message_size
            assert len(self.fast._received) <= limit + 14
        assert self.fast.receive_eof(99.0) == self.by_engine.receive_eof(99.0)

    def agree_on_steps(
        self, steps: list[tuple[str, bytes]], frame: Callable[[int, bytes], bytes]
    ) -> None:
        """Send, and receive what the peer frames so, in this order."""
        for step, data in steps:
            told = self._do(self.fast, step, data, frame)
            assert told == self._do(self.by_engine, step, data, frame)
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


@pytest.fixture(scope="session")
def ways() -> type[Ways]:
    """Both ways of a session: ``ways(session, one_with_an_engine_only).agree_on(stream, cuts)``."""
    return Ways
