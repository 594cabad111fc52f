"""A collector on another host, and a network between the two that is cut for real.

The other host is a network namespace, at the other end of a pair of virtual cards.
"""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from sipws.service.app import Application

pytestmark = pytest.mark.e2e

Run = Callable[..., Awaitable[Application]]
MakePhone = Callable[[Application], Any]
Until = Callable[[Callable[[], object]], Awaitable[None]]

NOBODY = "02:00:00:00:00:01"
"""A card that does not exist."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """Two hosts: this one, and one that only a collector is on."""

    def __init__(self) -> None:
        pid = os.getpid()
        self._name = f"sipws{pid}"
        # Of the addresses for benchmarks (RFC 2544), so that two runs do not meet.
        net = f"198.{18 + pid // 256 % 2}.{pid % 256}"
        self._here, self.there, self._net = f"{net}.1", f"{net}.2", f"{net}.0/30"
        self._card = f"sipws{pid}"
        self.prefix = ("ip", "netns", "exec", self._name)

    def build(self) -> None:
        ip("netns", "add", self._name)
        ip("link", "add", self._card, "type", "veth", "peer", "name", "there", "netns", self._name)
        ip("address", "add", f"{self._here}/30", "dev", self._card)
        ip("-n", self._name, "address", "add", f"{self.there}/30", "dev", "there")
        ip("-n", self._name, "link", "set", "there", "up")
        ip("link", "set", self._card, "up")
        # While the card is down nothing goes to the way out of this machine instead.
        ip("route", "add", "unreachable", self._net, "metric", "4096")
        command = ["ip", "-n", self._name, "-o", "link", "show", "there"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self._address = shown.partition("link/ether ")[2].split()[0]
        self.mend()

    def remove(self) -> None:
        for words in (
            ("route", "del", "unreachable", self._net),
            ("link", "del", self._card),
            ("netns", "del", self._name),
        ):
            with suppress(subprocess.CalledProcessError):
                ip(*words)

    def swallow(self) -> None:
        """Everything that is sent is lost, and nobody is told: not of data, not of a SYN."""
        self._send_to(NOBODY)

    def mend(self) -> None:
        """All is well."""
        ip("link", "set", self._card, "up")
        self._send_to(self._address)

    def unplug(self) -> None:
        """The card is down: the system says so to whoever sends."""
        ip("link", "set", self._card, "down")

    def _send_to(self, address: str) -> None:
        neighbour = ("lladdr", address, "nud", "permanent", "dev", self._card)
        ip("neighbour", "replace", self.there, *neighbour)


@pytest.fixture
def network(find: Any) -> Iterator[Network]:
    find.program("ip", remedy="install iproute2")
    network = Network()
    try:
        try:
            network.build()
        except subprocess.CalledProcessError as exc:
            find.not_allowed("a network of its own", exc.stderr)
        yield network
    finally:
        network.remove()


async def test_a_silent_cut_that_ends_loses_nothing_over_tcp(
    run: Run, phone: MakePhone, listener: Any, until: Until, network: Network
) -> None:
    async with listener(f"{network.there}:9060", prefix=network.prefix) as collector:
        application = await run(9060, host=network.there)
        caller = phone(application)
        await caller.ask(50)
        await until(lambda: len(collector.calls) == 100)
        network.swallow()
        await caller.ask(200)
        assert len(collector.calls) == 100
        network.mend()
        await caller.ask(50)
        await until(lambda: len(collector.calls) >= 600)
        assert application.traces.senders[0].failures == 0
    assert caller.answered == 300
    assert collector.calls == [call for call in range(300) for _ in range(2)]


async def test_packets_that_are_swallowed_over_udp_are_lost_and_nobody_knows(
    run: Run, phone: MakePhone, listener: Any, until: Until, network: Network
) -> None:
    address = f"{network.there}:9060"
    async with listener(address, "udp", prefix=network.prefix) as collector:
        application = await run(9060, "udp", network.there)
        [sender] = application.traces.senders
        caller = phone(application)
        await caller.ask(20)
        await until(lambda: len(collector.calls) == 40)
        network.swallow()
        await caller.ask(100)
        await until(lambda: not sender.counters.queued)
        network.mend()
        await caller.ask(20)
        await until(lambda: len(collector.calls) >= 80)
    assert caller.answered == 140
    assert collector.calls == [call for call in (*range(20), *range(120, 140)) for _ in range(2)]
    # The system took them: no more is known over UDP.
    assert sender.counters.sent == sender.counters.offered == 280


async def test_a_connection_that_dies_in_the_cut_takes_along_what_the_system_had(
    run: Run, phone: MakePhone, listener: Any, until: Until, network: Network
) -> None:
    address = f"{network.there}:9060"
    application = await run(9060, host=network.there)
    [sender] = application.traces.senders
    caller = phone(application)
    async with listener(address, prefix=network.prefix) as first:
        await until(lambda: sender.connected)
        await caller.ask(20)
        await until(lambda: len(first.calls) == 40)
        network.swallow()
        await caller.ask(30)
        await until(lambda: not sender.counters.queued)
    # The collector was killed, and with it the connection.
    await until(lambda: not sender.connected)
    await caller.ask(100)
    assert sender.counters.queued == 200
    network.mend()
    async with listener(address, prefix=network.prefix) as second:
        await until(lambda: len(second.calls) >= 200)
    assert caller.answered == 150
    assert first.calls == [call for call in range(20) for _ in range(2)]
    # In order, nothing twice; what was on its way then counts as sent.
    assert second.calls == [call for call in range(50, 150) for _ in range(2)]
    assert sender.counters.sent == sender.counters.offered == 300


async def test_a_collector_whose_syns_are_swallowed_holds_nobody_up_and_is_told(
    run: Run, phone: MakePhone, listener: Any, until: Until, network: Network
) -> None:
    async with listener(f"{network.there}:9060", prefix=network.prefix) as collector:
        network.swallow()
        application = await run(
            9060, host=network.there, hep_queue_packets=20, hep_connect_timeout=100
        )
        [sender] = application.traces.senders
        caller = phone(application)
        await caller.ask(100)
        await until(lambda: sender.failures > 1)
        assert sender.last_error == "no answer within 0.1 s"
        assert caller.answered == 100
        assert sender.counters.dropped == {"queue-full": 180}
        network.mend()
        await until(lambda: collector.lost)
    # The latest were kept, in order; the others are told of.
    assert collector.calls == [call for call in range(90, 100) for _ in range(2)]
    assert collector.lost[0].startswith("180 packets lost from ")
    assert ": 180 queue-full; most of 127.0.0.1:" in collector.lost[0]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_card_that_is_unplugged_holds_nobody_up(
    run: Run, phone: MakePhone, listener: Any, until: Until, network: Network, transport: str
) -> None:
    address = f"{network.there}:9060"
    async with listener(address, transport, prefix=network.prefix) as collector:
        application = await run(9060, transport, network.there, hep_connect_timeout=200)
        [sender] = application.traces.senders
        caller = phone(application)
        await caller.ask(50)
        await until(lambda: len(collector.calls) == 100)
        network.unplug()
        await caller.ask(200)
        assert caller.answered == 250
        # What the system would not take waits.
        assert sender.counters.queued > (0 if transport == "tcp" else 300)
        network.mend()
        await until(lambda: sender.connected and not sender.counters.queued)
        # Over UDP what comes all at once may find no room there.
        async with asyncio.timeout(20):
            while collector.calls[-1] < 250:
                await caller.ask(1)
                await asyncio.sleep(0.1)
    assert collector.calls == sorted(collector.calls)
    caller.check()
    if transport == "tcp":
        # The connection outlived it.
        assert collector.calls[:500] == [call for call in range(250) for _ in range(2)]
    else:
        # The system took all of it in the end.
        assert sender.counters.sent == sender.counters.offered == 2 * caller.asked
