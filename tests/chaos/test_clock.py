"""The system's clock is set back by an hour while a phone is connected."""

import asyncio
import json
import re
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from time import time
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin, Subprotocol

import hep

PAGE = Origin("https://phone.example.com")

Until = Callable[[Callable[[], object]], Awaitable[None]]

HOUR = 3600

SETTABLE = f"""
import signal, sys, time

told, back = time.time, 0

def set_back(*ignored):
    global back
    back = {HOUR}
    print("the clock is set back", file=sys.stderr, flush=True)

time.time = lambda: told() - back
signal.signal(signal.SIGUSR2, set_back)

from sipws.cli.main import main
sys.exit(main())
"""
"""``sipws``, on a clock that SIGUSR2 sets back."""

NETWORK, LOG = 0x59, 0x64


class Running:
    """``sipws run`` on that clock, traced to here and steered from here."""

    def __init__(self, process: asyncio.subprocess.Process, control: int) -> None:
        self._process = process
        self._control = f"http://127.0.0.1:{control}"

    async def line_with(self, text: str) -> str:
        """The next line of its log that has this."""
        assert self._process.stderr is not None
        async with asyncio.timeout(20):
            async for line in self._process.stderr:
                if text in line.decode():
                    return line.decode()
        raise AssertionError(f"it ended without {text!r}")

    async def set_back(self) -> None:
        self._process.send_signal(signal.SIGUSR2)
        await self.line_with("the clock is set back")

    async def ask(self, method: str) -> Any:
        """What MI answers to a command."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
        return json.loads(await self._fetch("/mi", body))["result"]

    async def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        found = re.search(rf"^{name} (\S+)$", await self._fetch("/metrics"), re.MULTILINE)
        assert found is not None
        return float(found[1])

    async def _fetch(self, path: str, body: bytes | None = None) -> str:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._control + path, body, headers)

        def fetch() -> str:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return str(reply.read().decode())

        return await asyncio.to_thread(fetch)


@pytest.fixture
def packets() -> list[hep.Packet]:
    """What has been traced."""
    return []


@pytest.fixture
async def running(packets: list[hep.Packet], free_port: int) -> AsyncIterator[Running]:
    async with hep.Collector(lambda packet, _: packets.append(packet), udp="127.0.0.1:0") as here:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SETTABLE, "run", "--listen", "ws:127.0.0.1:0",
            "--control", f"127.0.0.1:{free_port}", "--trace-on", "--trace-sip",
            "--trace-destination", f"127.0.0.1:{here.udp_address[1]};transport=udp",
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Running(process, free_port)
        finally:
            process.kill()
            await process.communicate()


def payloads_of(packets: list[hep.Packet], event: str) -> list[dict[str, str]]:
    told = [json.loads(packet.payload) for packet in packets if packet.protocol_type == NETWORK]
    return [payload for payload in told if payload["Event"] == event]


async def test_ages_and_the_order_of_what_is_traced_do_not_follow_a_clock_that_is_set_back(
    running: Running, packets: list[hep.Packet], until: Until, options: Callable[[int], str]
) -> None:
    listening = await running.line_with("listening on ws:")
    url = f"ws://127.0.0.1:{listening.split(':')[-1].strip()}/"
    begun = time()
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE) as phone:
        await phone.send(options(1))
        await phone.recv()
        await running.set_back()
        await phone.send(options(2))
        await phone.recv()
        [listed] = (await running.ask("tcp:list"))["Connections"]
        uptime = await running.ask("uptime")
    # Accepted, four messages, closed, and a line for each call.
    await until(lambda: len(packets) == 8)
    before = packets.copy()
    async with connect(url, subprotocols=[Subprotocol("sip")], origin=PAGE):
        await until(lambda: len(packets) > len(before))
    lasted = time() - begun

    # What is asked for while it lasts, and what is told at its end.
    assert 0 <= listed["Age"] <= lasted
    assert int(uptime["Up time"].split()[0]) < HOUR / 2
    assert 0 < await running.metric("sipws_connection_duration_seconds_total") <= lasted
    [closed] = payloads_of(before, "CLOSED")
    lines = [packet.payload.decode() for packet in before if packet.protocol_type == LOG]
    ages = [closed["Duration"], *(line.split(" after ")[1].split()[0] for line in lines)]
    assert len(ages) == 3
    assert all(0 <= float(age) <= lasted for age in ages)
    times = [packet.seconds * 1_000_000 + packet.microseconds for packet in before]
    assert all(later > earlier for earlier, later in pairwise(times))
    # Who comes after it is traced at the time that the clock shows.
    assert abs(time() - HOUR - packets[len(before)].seconds) < HOUR / 2
