"""A flow that is kept alive: pings, what comes of them, and idle connections.

`sipws.liveness` knows what is due and `sipws.keeper` when to look; here it is done.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from sipws.events import ErrorKind
from sipws.liveness import Finding, Liveness
from sipws.phase import OPEN
from sipws.session import Session
from sipws.surroundings import Surroundings

KEEP_ALIVE: Final = b"\r\n\r\n"
"""The ping of RFC 5626 section 3.5.1, sent as a message of its own."""

KEEP_ALIVE_ANSWER: Final = b"\r\n"
"""The pong to it."""


class KeptAlive(asyncio.Protocol, ABC):
    """What a flow does about a peer that says nothing."""

    __slots__ = ("_liveness", "_session", "_shared")

    # Set by the flow: for a call that only sets them a connection that comes and goes would pay
    # 0.7 % more.
    _shared: Surroundings
    _session: Session
    _liveness: Liveness | None

    def probe(self) -> None:
        """Ping the peer now; it is dropped when nothing of it comes in time (`look_after`)."""
        now = asyncio.get_running_loop().time()
        self._act_on(self._liveness_now(now).ask(now, self._session.traffic[2]))

    def look_after(self, now: float) -> None:
        """Ping a quiet peer, drop one that is gone, close one that is idle (`sipws.keeper`).

        Args:
            now: the time of the event loop.
        """
        if self._session.phase is OPEN:
            messages_in, _, bytes_in, _ = self._session.traffic
            self._act_on(self._liveness_now(now).look(now, bytes_in, messages_in, self._is_read))

    def _liveness_now(self, now: float) -> Liveness:
        if self._liveness is None:
            self._liveness = Liveness(self._shared.limits.intervals, now)
        return self._liveness

    def _act_on(self, finding: Finding) -> None:
        match finding:
            case Finding.ASK:
                self._session.ping()
                self._flush()
            case Finding.GONE:
                waited = self._shared.limits.intervals.patience
                self.abort(ErrorKind.PING_TIMEOUT, f"no answer to a ping within {waited:g} s")
            case Finding.IDLE:
                self.close(1000, f"idle for {self._shared.limits.intervals.idle:g} s")

    # What a flow has for it.

    @abstractmethod
    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake."""

    @abstractmethod
    def abort(self, kind: ErrorKind, detail: str) -> None:
        """Drop the connection at once."""

    @property
    @abstractmethod
    def _is_read(self) -> bool:
        """Whether what the peer sends is read now: where it is not, nothing is held against it."""

    @abstractmethod
    def _flush(self) -> None:
        """Write what the session has to say."""
