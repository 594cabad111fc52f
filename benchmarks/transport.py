"""What the transport costs: ``python benchmarks/transport.py``.

Each server runs in a process of its own on one processor, the client on another. Measured is the
server's processor time by the system's count, whatever the server waits for, and its memory. All
traffic is on the loopback interface; it takes about a minute. Prints a Markdown table.

Kamailio takes part where it is installed (Debian: kamailio, kamailio-websocket-modules).
"""

import argparse
import os
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import load
from peers.servers import Served, serve, websocket_module

ROUNDS = 5
"""The best counts: what disturbs a round only ever makes it dearer."""

SERVERS = {
    "sipws": "sipws",
    "engine": "sipws, every frame through the engine",
    "websockets": "websockets' asyncio API, canned reply",
    "kamailio": "Kamailio, `sl_send_reply`",
}


def exchanges(served: Served, connections: int, in_flight: int, seconds: float) -> float:
    """Microseconds of the server's CPU for a request and its answer."""
    client = load.Exchanges(served.port, connections, in_flight)
    client.run(2000)
    count = int(seconds / ROUNDS / 15e-6)
    best = min(_cost(served, lambda: client.run(count)) for _ in range(ROUNDS))
    client.close()
    return best * 1e6


def _cost(served: Served, operation: object) -> float:
    before = served.cpu()
    count = operation()  # type: ignore[operator]
    return (served.cpu() - before) / count


def comings(served: Served, count: int) -> float:
    """Microseconds of the server's CPU for a connection that comes, shakes hands and closes."""

    def operation() -> int:
        load.come_and_go(served.port, count)
        load.settle()
        return count

    operation()
    return min(_cost(served, operation) for _ in range(ROUNDS)) * 1e6


def idle(served: Served, count: int) -> float:
    """Bytes of the server's memory for a connection that is open and says nothing."""
    warm = list(load.hold(served.port, 100))
    load.settle()
    before = served.memory()
    held = list(load.hold(served.port, count))
    load.settle()
    used = (served.memory() - before) / count
    for one in warm + held:
        one.close()
    load.settle()
    return used


def measure(name: str, cpu: int, seconds: float, held: int) -> list[str]:
    """One row."""
    with serve(name, cpu) as served:
        busy = exchanges(served, 20, 8, seconds)
        single = exchanges(served, 20, 1, seconds)
        coming = comings(served, 200)
    # A process that has worked has free memory to give to connections, so a new one is asked.
    with serve(name, cpu) as served:
        memory = idle(served, held)
    return [SERVERS[name], f"{busy:.1f}", f"{single:.1f}", f"{coming:.0f}", f"{memory / 1024:.1f}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("servers", nargs="*", help=f"of {', '.join(SERVERS)}; all unless named")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each exchange figure")
    parser.add_argument("--idle", type=int, default=15_000, help="connections held")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = min(options.idle, hard - 300)
    names = options.servers or list(SERVERS)
    if websocket_module() is None and "kamailio" in names:
        print("Kamailio with its WebSocket module is not installed: left out", file=sys.stderr)
        names.remove("kamailio")
    cpus = sorted(os.sched_getaffinity(0))
    load.pin(cpus[-1])
    header = [
        "server",
        "exchange, 20 connections, 8 in flight, µs",
        "1 in flight, µs",
        "accept, handshake, close, µs",
        f"one of {held:,} idle connections, KB",
    ]
    print(f"| {' | '.join(header)} |\n| --- |{' --- |' * (len(header) - 1)}")
    for name in names:
        print(f"| {' | '.join(measure(name, cpus[0], options.seconds, held))} |", flush=True)


if __name__ == "__main__":
    main()
