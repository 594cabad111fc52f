"""What the transport costs: ``python benchmarks/transport.py``.

Each server runs in a process of its own on one processor, the client on another. Measured is the
server's processor time by the system's count, whatever the server waits for, and its memory. All
traffic is on the loopback interface; it takes some minutes. Prints a Markdown table.

Kamailio takes part where it is installed (Debian: kamailio, kamailio-websocket-modules).
"""

import argparse
import os
import resource
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import load
from peers.servers import REQUEST_SIZE, Served, serve, websocket_module

ROUNDS = 8
"""The best counts: what disturbs a round only ever makes it dearer."""

SERVERS = {
    "sipws": "sipws",
    "engine": "sipws, every frame through the engine",
    "websockets": "websockets' asyncio API, canned reply",
    "bare": "bare uvloop protocol, canned bytes",
    "kamailio": "Kamailio, `sl_send_reply`",
}


def cost(served: Served, operation: Callable[[], int]) -> float:
    """Microseconds of the server's CPU for one of what ``operation`` does and counts."""
    before = served.cpu()
    count = operation()
    return (served.cpu() - before) / count * 1e6


def best(operations: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The best of several rounds; each round asks every server, so that they share the weather."""
    rounds = [{name: ask() for name, ask in operations.items()} for _ in range(ROUNDS)]
    return {name: min(figures[name] for figures in rounds) for name in operations}


def exchanges(servers: dict[str, Served], in_flight: int, count: int) -> dict[str, float]:
    """Microseconds of CPU for a request and its answer, over 20 connections."""
    clients = {name: load.Exchanges(one.port, 20, in_flight) for name, one in servers.items()}
    for client in clients.values():
        client.run(2000)
    figures = best(
        {
            name: partial(cost, one, partial(clients[name].run, count))
            for name, one in servers.items()
        }
    )
    for client in clients.values():
        client.close()
    return figures


def comings(
    servers: dict[str, Served], count: int, at_once: int = 1, *, ask: bool = False
) -> dict[str, float]:
    """Microseconds of CPU for a connection that comes, shakes hands, asks if told, and closes."""
    come_and_go = partial(load.come_and_go, count=count, at_once=at_once, ask=ask)
    for one in servers.values():
        come_and_go(one.port)
    return best(
        {name: partial(cost, one, partial(come_and_go, one.port)) for name, one in servers.items()}
    )


def idle(name: str, cpu: int, count: int) -> float:
    """KB of memory for a connection that is open and says nothing."""
    # A process that has worked has free memory to give to connections, so a new one is asked.
    with serve(name, cpu) as served:
        warm = list(load.hold(served.port, 100))
        load.settle()
        before = served.memory()
        held = list(load.hold(served.port, count))
        load.settle()
        used = served.memory() - before
        for one in warm + held:
            one.close()
    return used / count / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("servers", nargs="*", help=f"of {', '.join(SERVERS)}; all unless named")
    parser.add_argument("--count", type=int, default=5_000, help="exchanges a round")
    parser.add_argument("--idle", type=int, default=15_000, help="connections held")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = min(options.idle, hard - 300)
    names = options.servers or list(SERVERS)
    if "kamailio" in names and not has_kamailio():
        names.remove("kamailio")
    assert len(load.request(1)) == REQUEST_SIZE
    cpus = sorted(os.sched_getaffinity(0))
    load.pin(cpus[-1])
    print(f"| | {' | '.join(SERVERS[name] for name in names)} |\n| --- |{' --- |' * len(names)}")
    count = options.count
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serve(name, cpus[0])) for name in names}
        row("exchange, 20 connections, 8 in flight, µs", exchanges(servers, 8, count))
        row("exchange, 20 connections, 1 in flight, µs", exchanges(servers, 1, count))
        row("accept, handshake, close, µs", comings(servers, max(1, count // 50)))
        row("the same, 40 at a time, µs", comings(servers, max(40, count // 25), 40))
    row(f"one of {held:,} idle connections, KB", {n: idle(n, cpus[0], held) for n in names})


def has_kamailio() -> bool:
    """Whether Kamailio can take part; says so where it cannot."""
    if websocket_module() is None:
        print("Kamailio with its WebSocket module is not installed: left out", file=sys.stderr)
        return False
    return True


def row(what: str, figures: Mapping[str, float | None]) -> None:
    """Print a row of the table."""
    cells = ("" if figure is None else f"{figure:.1f}" for figure in figures.values())
    print(f"| {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
