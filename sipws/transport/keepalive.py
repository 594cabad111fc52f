"""A flow that is kept alive: pings, what comes of them, and idle connections.

`sipws.liveness` knows what is due and `sipws.transport.ping_scheduler` when to look; here it is
done.
"""

import asyncio
from abc import abstractmethod
from typing import Final

from sipws.events import ErrorKind
from sipws.liveness import Finding, Liveness
from sipws.transport.flow_control import FlowControl
from sipws.ws.phase import OPEN

KEEP_ALIVE: Final = b"\r\n\r\n"
"""The ping of RFC 5626 section 3.5.1, sent as a message of its own."""

KEEP_ALIVE_ANSWER: Final = b"\r\n"
"""The pong to it."""


class KeptAlive(FlowControl):
    """What a flow does about a peer that says nothing."""

    __slots__ = ("_liveness",)

    # Set by the flow.
    _liveness: Liveness | None

    def probe(self) -> None:
        """Ping the peer now; it is dropped when nothing of it comes in time (`look_after`)."""
        now = asyncio.get_running_loop().time()
        self._act_on(self._liveness_now(now).ask(now, self._session.traffic[2]))

    def look_after(self, now: float) -> None:
        """Ping a quiet peer, drop one that is gone, close one that is idle.

        Args:
            now: the time of the event loop.
        """
        if self._session.phase is OPEN:
            messages_in, _, bytes_in, _ = self._session.traffic
            # What the peer is to say may be behind what waits.
            is_read = self._is_read and not self._session.is_more
            self._act_on(self._liveness_now(now).look(now, bytes_in, messages_in, is_read))

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
