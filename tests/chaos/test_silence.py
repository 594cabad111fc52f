"""A collector that is gone without a word: no FIN, no reset, whatever is sent to it is swallowed.

The system is told to throw away what comes to the collector's sockets, as a firewall does that has
forgotten a connection. Neither end is told, and nobody has to be root for it.
"""

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import hep
from sipws.service.app import Application

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux' own")

Run = Callable[..., Awaitable[Application]]
MakePhone = Callable[[Application], Any]
Until = Callable[[Callable[[], object]], Awaitable[None]]

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A filter of one instruction: return 0, which is to keep no byte of a packet."""


class Swallowing:
    """A collector, and the network in front of it."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._collector = hep.Collector(
            lambda packet, _: self.calls.append(int(packet.correlation_id or b"0")),
            tcp="127.0.0.1:0",
        )

    async def __aenter__(self) -> "Swallowing":
        await self._collector.start()
        self.port = self._collector.tcp_address[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._collector.aclose()

    @property
    def accepted(self) -> int:
        return self._collector.counters["accepted"]

    def swallow(self) -> None:
        """Nothing arrives any more: no data, no SYN."""
        program = struct.pack("HP", 1, ctypes.addressof(NOTHING))
        for end in (*self._listening(), *self._connections()):
            self._set(end, SO_ATTACH_FILTER, program)

    def mend(self) -> None:
        """Whoever connects anew is heard; of the connections that were nobody knows any more."""
        for end in self._listening():
            self._set(end, SO_DETACH_FILTER, bytes(4))

    def _listening(self) -> list[int]:
        return [end.fileno() for end in self._collector._servers["tcp"].sockets]

    def _connections(self) -> list[int]:
        ends = self._collector._connections
        return [end.get_extra_info("socket").fileno() for end in ends]

    @staticmethod
    def _set(end: int, option: int, value: bytes) -> None:
        with socket.socket(fileno=os.dup(end)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, option, value)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes 30 s takes 3."""
    monkeypatch.setattr("hep.sending.links.KEEP_ALIVE", 3)


async def until_silence(
    collector: Swallowing, run: Run, phone: MakePhone, until: Until
) -> tuple[hep.Sender, Any]:
    """Traces of a phone arrive, and then nothing does; returns their sender, and the phone."""
    application = await run(collector.port)
    [sender] = application.traces.senders
    await until(lambda: sender.connected)
    caller = phone(application)
    await caller.ask(20)
    await until(lambda: len(collector.calls) == 40)
    collector.swallow()
    return sender, caller


async def test_a_connection_whose_data_is_swallowed_is_given_up_and_made_anew(
    run: Run, phone: MakePhone, until: Until
) -> None:
    async with Swallowing() as collector:
        sender, caller = await until_silence(collector, run, phone, until)
        await caller.ask(30)
        await until(lambda: not sender.counters.queued)
        assert sender.connected
        await until(lambda: not sender.connected)
        assert sender.last_error == os.strerror(errno.ETIMEDOUT)
        # The SYN of the next try is swallowed too, and what comes meanwhile waits.
        await caller.ask(100)
        assert (sender.connected, sender.counters.queued) == (False, 200)
        assert collector.accepted == 1
        collector.mend()
        await until(lambda: len(collector.calls) >= 240)
        assert (sender.failures, sender.reconnects, collector.accepted) == (1, 1, 2)
    assert caller.answered == 150
    # In order, nothing twice; what the system had taken by then counts as sent.
    assert collector.calls == [call for call in (*range(20), *range(50, 150)) for _ in range(2)]
    assert sender.counters.sent == sender.counters.offered == 300
    caller.check()


async def test_a_connection_that_dies_while_it_is_idle_takes_nothing_along(
    run: Run, phone: MakePhone, until: Until
) -> None:
    async with Swallowing() as collector:
        sender, caller = await until_silence(collector, run, phone, until)
        # Nobody sends anything: the system asks by itself.
        await until(lambda: not sender.connected)
        assert sender.last_error == os.strerror(errno.ETIMEDOUT)
        await caller.ask(50)
        collector.mend()
        await until(lambda: len(collector.calls) >= 140)
        assert (sender.failures, sender.reconnects, collector.accepted) == (1, 1, 2)
    assert collector.calls == [call for call in range(70) for _ in range(2)]
    assert sender.counters.sent == sender.counters.offered == 140
    caller.check()
