"""Instructions of the program alone: ``python benchmarks/instructions.py``.

No sockets and no clock: valgrind (a Debian package) counts the instructions that the processor
executes for an operation, which are the same whatever else the machine does. It shows what a change
is worth where times differ by more from hour to hour. Prints a Markdown table; takes a minute.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parent))

from peers import load

import hep
from sipws import responder
from sipws.address import Listener
from sipws.bus import Bus
from sipws.deferred import DeferredBus, Gathering
from sipws.flow import Flow
from sipws.limits import Limits
from sipws.registry import Registry
from sipws.surroundings import Surroundings
from sipws.tracing.tracer import Tracer, TraceSettings

FEW, MANY = 200, 1000
"""How often an operation is done in two runs: what else a process does is in both."""

IN_FLIGHT = 8
LISTENER = Listener.parse("ws:127.0.0.1:8080")

OPERATIONS = {
    "exchange": "a message taken and answered with a 200, 8 in a read",
    "single": "the same, 1 in a read",
    "connection": "a connection: accept, handshake, close",
}


class _Transport:
    """A connection that takes everything and says nothing."""

    closing = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 50000) if name in ("peername", "sockname") else default

    def write(self, data: bytes) -> None:
        """Let it go."""

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


def _trace(bus: Bus) -> Callable[[], object]:
    """Trace every event and message into a queue; returns what works off all that waits."""
    deferred = DeferredBus(bus)
    outbox = hep.Outbox()
    packets = Gathering(
        deferred, lambda gathered: outbox.put_all(gathered, sum(map(len, gathered)))
    )
    Tracer(deferred, packets.put, TraceSettings(trace_sip=True))

    def work_off() -> None:
        deferred.flush()
        while outbox.take(1 << 16):
            outbox.done()

    return work_off


async def _do(operation: str, traced: bool, count: int) -> None:
    bus = Bus()
    shared: Surroundings = Surroundings(bus, responder.answer, Limits(), Registry())
    afterwards = _trace(bus) if traced else (lambda: None)

    def connect() -> Flow:
        flow = Flow(LISTENER, shared)
        flow.connection_made(cast("asyncio.Transport", _Transport()))
        flow.data_received(load.UPGRADE)
        return flow

    if operation == "connection":
        for _ in range(count):
            flow = connect()
            flow.data_received(load.CLOSE)
            flow.connection_lost(None)
            afterwards()
    else:
        in_a_read = IN_FLIGHT if operation == "exchange" else 1
        read = b"".join(load.request(number) for number in range(in_a_read))
        flow = connect()
        for _ in range(count // in_a_read):
            flow.data_received(read)
            afterwards()
    # Its end is no part of the operation.
    os._exit(0)


def _counted(operation: str, traced: bool, count: int) -> int:
    """Instructions of a process that does an operation so often."""
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        sys.executable, __file__, operation, str(int(traced)), str(count),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = re.search(r"I +refs: +([\d,]+)", run.stderr)
    assert found is not None, run.stderr
    return int(found[1].replace(",", ""))


def main() -> None:
    """Measure and print."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing is counted", file=sys.stderr)
        return
    print("| what | instructions | with tracing |\n| --- | --- | --- |")
    for operation, meaning in OPERATIONS.items():
        counts = [
            (_counted(operation, traced, MANY) - _counted(operation, traced, FEW)) // (MANY - FEW)
            for traced in (False, True)
        ]
        print(f"| {meaning} | {counts[0]:,} | {counts[1]:,} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(_do(sys.argv[1], sys.argv[2] == "1", int(sys.argv[3])))
    else:
        main()
