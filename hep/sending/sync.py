"""A sender for programs without asyncio.

It has a thread of its own with an event loop, in which a `hep.sending.senders.Sender` works::

    with hep.SyncSender("10.0.0.2:9060") as sender:
        sender.send(packet)
"""

import asyncio
import atexit
import os
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, Final, Self, TypeVar

from hep.codec.packet import Packet
from hep.hep_id import HepId
from hep.sending.counts import Counts
from hep.sending.senders import Sender, SenderSettings
from hep.sending.settings import destination_of

T = TypeVar("T")

CLOSE_TIMEOUT: Final = 2.0
"""Default seconds that the queued packets have to leave when the sender is closed."""

_POLL: Final = 0.1
"""Seconds between two looks whether the thread has ended, while another thread waits for it."""

_GRACE: Final = 5.0
"""Seconds in addition, in which the thread writes the spool and ends."""


class SyncSender:
    """Sends packets to one collector, from any thread of a program without asyncio.

    - `send` and `send_all` queue packets and never wait for the network or the disk.
    - ``counters`` and ``connected`` report the state.
    - `drained` waits until the queue is empty.
    - `close` sends the queued packets and ends the thread. ``with`` calls it, and so does the end
      of the program.

    The queue has the limits of ``SenderSettings``; packets beyond it are dropped and counted, or go
    to the spool.

    A child of ``os.fork()`` has no thread that sends: there `send` raises. Open the sender after
    the fork, in each child, with a spool directory of its own. A child that is forked while the
    sender has a spool keeps the spool locked as long as it lives.

    Args:
        destination: the collector: a `HepId`, or its text such as ``10.0.0.2:9060`` or
            ``10.0.0.2;transport=udp``.
        settings: limits and options. Default: `SenderSettings`.

    Raises:
        HepIdError: the text is not a HEP id.
        HepSpoolError: the spool directory in the settings cannot be used.
        TypeError: an argument has the wrong type.
    """

    def __init__(self, destination: HepId | str, settings: SenderSettings | None = None) -> None:
        self.destination = destination_of(destination)
        self._settings = SenderSettings() if settings is None else settings
        self._process = os.getpid()
        self._closing_lock = Lock()
        self._closed = False
        self._timeout = CLOSE_TIMEOUT
        self._done = Event()
        self._asked: set[asyncio.Task[Any]] = set()
        opened: Future[tuple[asyncio.AbstractEventLoop, Sender, asyncio.Event]] = Future()
        # A daemon: the end of the program closes it, and must not wait for it before that.
        thread = Thread(
            target=self._run, args=(opened,), name=f"hep {self.destination}", daemon=True
        )
        thread.start()
        self._loop, self._sender, self._closing = opened.result()
        self._at_exit = _closer(weakref.ref(self))
        atexit.register(self._at_exit)

    def send(self, packet: bytes | Packet) -> None:
        """Queue a packet for sending; see `Sender.send`. Returns at once.

        Raises:
            HepEncodeError: a value of a `Packet` does not fit its chunk.
            RuntimeError: this process was forked after the sender was opened.
            TypeError: it is neither bytes nor a `Packet`.
        """
        self._check_process()
        self._sender.send(packet)

    def send_all(self, packets: Sequence[bytes | Packet]) -> None:
        """Queue packets in order, with the result of one `send` each. Returns at once.

        Raises:
            HepEncodeError, RuntimeError, TypeError: as for `send`; no packet is queued then.
        """
        self._check_process()
        self._sender.send_all(packets)

    @property
    def counters(self) -> Counts:
        """The counters of packets at this moment; all packets of earlier calls are in them."""
        self._check_process()

        async def read() -> Counts:
            self._sender.flush()
            return Counts.of([self._sender.counters])

        return self._ask(read) or Counts.of([self._sender.counters])

    @property
    def connected(self) -> bool:
        """Whether the sender is connected. UDP is connected once the name is resolved."""
        return self._sender.connected

    @property
    def last_error(self) -> str | None:
        """Reason of the last failure of the connection; None before the first one."""
        return self._sender.last_error

    def drained(self, timeout: float | None = None) -> bool:
        """Wait until all queued packets have been sent, or the sender is closed.

        Args:
            timeout: seconds, from 0. Default: no limit.

        Returns:
            whether no packet is queued.
        """
        self._check_process()

        async def wait() -> None:
            self._sender.flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._sender.drained()

        self._ask(wait)
        return not self._sender.counters.queued

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Send the queued packets, then close. May be called again, and from any thread.

        Args:
            timeout: time limit for sending in seconds, from 0. After that, packets that are still
                queued are dropped and counted, or kept in the spool if there is one.
        """
        self._check_process()
        with self._closing_lock:
            if not self._closed:
                self._closed = True
                self._timeout = timeout
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._closing.set)
        self._done.wait(timeout + _GRACE)
        atexit.unregister(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "this process was forked after the SyncSender was opened, and has no thread that"
                " sends; open one after the fork"
            )

    def _ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Run a coroutine in the thread of the sender; None if that has ended."""
        answer: Future[T] = Future()

        def settle(task: asyncio.Task[T]) -> None:
            if (exc := task.exception()) is not None:
                answer.set_exception(exc)
            else:
                answer.set_result(task.result())

        def begin() -> None:
            task = self._loop.create_task(question())
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
            task.add_done_callback(settle)

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(begin)
        while not self._done.is_set():
            with suppress(TimeoutError):
                return answer.result(_POLL)
        return answer.result() if answer.done() else None

    def _run(self, opened: "Future[Any]") -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._serve(opened))
        finally:
            # Unlike asyncio.run this does not wait for threads: at the end of the program there
            # may be none.
            loop.close()
            self._done.set()

    async def _serve(self, opened: "Future[Any]") -> None:
        closing = asyncio.Event()
        try:
            sender = Sender(self.destination, self._settings)
        except BaseException as exc:
            opened.set_exception(exc)
            return
        opened.set_result((asyncio.get_running_loop(), sender, closing))
        await closing.wait()
        await sender.aclose(self._timeout)
        while self._asked:
            await asyncio.wait(self._asked)


def _closer(of: "weakref.ref[SyncSender]") -> Callable[[], None]:
    """What closes a sender at the end of the program that opened it."""

    def close() -> None:
        sender = of()
        if sender is not None and sender._process == os.getpid():
            sender.close()

    return close
