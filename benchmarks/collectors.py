"""What collectors that are not well cost: ``python benchmarks/collectors.py``.

As `tracing.py`, with every message and event traced to a collector that takes everything, to one
that is not there, to one that reads slowly, to one that never reads and to one that never accepts:
processor time of an OPTIONS and its answer, and how long the answer takes, half of them and all but
one in a hundred. Prints a Markdown table.

A collector that takes each datagram wakes up for each, on the processor that the client needs to
see its answer. How long SIP waits for UDP is told by the one that never reads.
"""

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import load
from peers.servers import Served, serve
from tracing import sink
from transport import ROUNDS, exchanges

TRANSPORTS = ("udp", "tcp")

BAD = """
import socket, sys, time
deaf = sys.argv[1] == "deaf"
sock = socket.create_server(("127.0.0.1", 0), backlog=0 if deaf else 100)
# The one that may wait to be accepted; of any other the SYN is dropped.
waiting = socket.create_connection(sock.getsockname()) if deaf else None
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
print(sock.getsockname()[1], flush=True)
taken = []
while deaf:
    time.sleep(1)
while True:
    taken.append(sock.accept()[0])
    while sys.argv[1] == "slow":
        taken[-1].recv(100)
        time.sleep(0.1)
"""
"""A TCP collector that reads 1,000 bytes a second, or nothing at all, or does not even accept."""


@contextmanager
def bad(how: str) -> Iterator[int]:
    """A collector that is not well; yields its port."""
    command = [sys.executable, "-c", BAD, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.kill()


def latency(servers: dict[str, Served], count: int) -> dict[str, tuple[float, float]]:
    """Microseconds that half of the answers take, and all but one in a hundred; the best rounds."""
    clients = {name: load.connect(one.port) for name, one in servers.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, client in clients.items():
            times = sorted(load.latencies(client, count))
            found[name].append((times[count // 2] * 1e6, times[count * 99 // 100] * 1e6))
    for client in clients.values():
        client.close()
    return {
        name: (min(half for half, _ in each), min(most for _, most in each))
        for name, each in found.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5_000, help="exchanges a round")
    count = parser.parse_args().count
    cpus = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        up = stack.enter_context(sink())
        unread = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        unread.bind(("127.0.0.1", 0))
        never, slow, deaf = (stack.enter_context(bad(how)) for how in ("never", "slow", "deaf"))
        load.pin(cpus[-1])
        servers = {"no tracing": stack.enter_context(serve("sipws", cpus[0]))}
        for what, port, transports in (
            ("there", up, TRANSPORTS),
            # Nobody has this port; it needs a privilege to listen on.
            ("not there", 1, TRANSPORTS),
            ("never reads", unread.getsockname()[1], ("udp",)),
            ("reads 1,000 bytes a second", slow, ("tcp",)),
            ("never reads", never, ("tcp",)),
            ("never accepts", deaf, ("tcp",)),
        ):
            os.environ["HEP_PORT"] = str(port)
            for transport in transports:
                served = stack.enter_context(serve(f"traced-{transport}", cpus[0]))
                servers[f"{transport.upper()}, {what}"] = served
        cpu = exchanges(servers, 8, count)
        waited = latency(servers, max(100, count // 5))
    print("| collector | CPU of an exchange, µs | answered after, µs | 99 in 100, µs |")
    print("| --- | --- | --- | --- |")
    for name in servers:
        half, most = waited[name]
        print(f"| {name} | {cpu[name]:.1f} | {half:.0f} | {most:.0f} |")


if __name__ == "__main__":
    main()
