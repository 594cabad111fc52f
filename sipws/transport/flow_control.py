"""When a flow is read, and when what was read is handled: no peer has more than its turn.

Reading stops while the peer does not take what it is sent (`sipws.transport.write_timeout`), behind
a read that is large, and behind one that holds more frames than are handled in a turn of the event
loop: the rest of those waits for the next turns, and so does an end of the connection that comes
meanwhile.
"""

import asyncio
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from sipws.events import ErrorKind, Event
from sipws.limits import LARGE_READ
from sipws.transport.flow_context import FlowContext
from sipws.transport.write_timeout import SlowPeer, is_reset
from sipws.ws.session import Session


class FlowControl(asyncio.Protocol, ABC):
    """How fast a flow goes."""

    __slots__ = (
        "_lost",
        "_receiving",
        "_session",
        "_shared",
        "_slice_awaited",
        "_stalled",
        "_transport",
    )

    # Set by the flow: for a call that only sets them a connection that comes and goes would pay
    # 0.7 % more.
    _shared: FlowContext
    _session: Session
    _transport: asyncio.Transport
    _stalled: SlowPeer | None
    _receiving: bool
    _slice_awaited: bool
    _lost: tuple[Exception | None] | None
    """How the connection ended, while what was read before that waits."""

    @property
    def is_stalled(self) -> bool:
        """Whether the peer does not keep up (`sipws.transport.write_timeout`); it is not read."""
        return self._stalled is not None

    async def drain(self) -> None:
        """Wait until the peer keeps up; returns at once where it does.

        Answers need no such care, as a peer that does not keep up is not read. Whoever sends much
        of his own is to await this between messages: nothing else bounds what waits.

        Raises:
            ConnectionClosedError: the connection is closing or closed.
        """
        while self._stalled is not None:
            await self._stalled.wait()
        if self._transport.is_closing():
            # Nothing stalls any more: who only sends and drains would leave the event loop no turn
            # to tell of the end.
            await asyncio.sleep(0)
        self._session.check_open()

    # For asyncio.

    def data_received(self, data: bytes) -> None:
        """Feed the session."""
        self._receiving = True
        try:
            self._act(self._session.receive(data, self._shared.clock()))
        finally:
            self._receiving = False
        self._flush()
        if self._session.is_more or len(data) >= LARGE_READ:
            if not self._transport.is_closing():
                self._transport.pause_reading()
            self._await_slice()

    def eof_received(self) -> bool:
        """End the session; asyncio closes the socket when what is written has gone out."""
        # While frames wait nothing is read, but TLS may have seen the end already: then that of
        # the connection is behind it.
        if not self._session.is_more:
            self._act(self._session.receive_eof(self._shared.clock()))
            if self._transport.get_write_buffer_size():
                self._limit_rest()
        return False

    def pause_writing(self) -> None:
        """Start the clock of `Limits.send_timeout`: the peer does not keep up.

        Reading stops too, so that a peer cannot make us queue answers that it does not take.
        """
        self._transport.pause_reading()
        timeout = self._shared.limits.send_timeout
        self._stalled = SlowPeer(self._transport, timeout, self._send_timed_out)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._end_stall()
        if self._is_read:
            self._read_on()

    # Between the two.

    @property
    def _is_read(self) -> bool:
        """Whether nothing is in the way of what the peer sends."""
        return self._stalled is None

    def _read_on(self) -> None:
        """Take what is left of the last read in turns of its own, or else read again."""
        if self._session.is_more:
            self._await_slice()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def _await_slice(self) -> None:
        if not self._slice_awaited:
            self._slice_awaited = True
            loop = asyncio.get_running_loop()
            if pause := self._session.pause:
                loop.call_later(pause, self._take_turn)
            else:
                loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._slice_awaited = False
        if not self._is_read:
            # Whoever is in the way calls `_read_on` when he is no more.
            return
        if self._session.is_more:
            try:
                self._process_backlog()
            except BaseException:
                # Event loops drop a connection whose `data_received` raises, and here they do not.
                self._transport.abort()
                self._await_slice()
                raise
        if self._session.is_more:
            self._await_slice()
        elif self._lost is not None:
            (exc,), self._lost = self._lost, None
            self.connection_lost(exc)
        elif self._is_read:
            self._read_on()

    def _process_backlog(self) -> None:
        if self._lost is None and is_reset(self._transport):
            # While it is not read nobody else notices.
            detail = os.strerror(errno.ECONNRESET)
            self._act(self._session.receive_reset(self._shared.clock(), detail))
            self._transport.abort()
            return
        self._receiving = True
        try:
            self._act(self._session.process_backlog(self._shared.clock()))
        finally:
            self._receiving = False
        if self._transport.is_closing():
            # Nothing goes out any more, and event loops complain of who tries.
            self._session.take_writes()
            return
        if self._is_read and not self._session.is_more:
            # Before a close: while reading is paused, asyncio does not close a connection with TLS
            # of which the peer has ended TCP.
            self._transport.resume_reading()
        self._flush()

    def _end_behind_rest(self, exc: Exception | None) -> None:
        """What was read comes before the end of the connection; `connection_lost` waits for it."""
        self._lost = (exc,)
        self._await_slice()

    def _send_timed_out(self) -> None:
        milliseconds = self._shared.limits.send_timeout * 1000
        self.abort(ErrorKind.SEND_TIMEOUT, f"the peer took no bytes for {milliseconds:g} ms")
        self._end_stall()

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.end()
            self._stalled = None

    # What a flow has for it.

    @abstractmethod
    def abort(self, kind: ErrorKind, detail: str) -> None:
        """Drop the connection at once."""

    @abstractmethod
    def _act(self, events: Sequence[Event]) -> None:
        """Tell what happened."""

    @abstractmethod
    def _flush(self) -> None:
        """Write what the session has to say."""

    @abstractmethod
    def _limit_rest(self) -> None:
        """The peer has said all, and is yet to take what is left for it."""
