"""What tracing costs: ``python benchmarks/tracing.py``.

As `transport.py` measures it, with the same client: processor time of the server's process for an
OPTIONS and its answer, and for a connection that comes and goes, without tracing, with tracing
loaded and switched off, and with every message and event traced over UDP and over TCP to a process
that throws it away; and the least that two packets over UDP cost, with a fixed id and no queue, of
messages alone. Prints a Markdown table.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import load
from peers.servers import serve
from transport import comings, exchanges, has_kamailio, row

SERVERS = {
    "sipws": "no tracing",
    "traced-off": "loaded, off",
    "traced-udp": "two packets over UDP",
    "traced-tcp": "two packets over TCP",
    "traced-least": "an encoder and `socket.send`, no more",
    "kamailio": "Kamailio, no tracing",
    "kamailio-traced": "Kamailio, two packets over UDP (siptrace)",
}

SINK = """
import os, selectors, socket
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
while True:
    tcp = socket.create_server(("127.0.0.1", 0))
    try:
        udp.bind(tcp.getsockname())
        break
    except OSError:
        tcp.close()
print(tcp.getsockname()[1], flush=True)
ready = selectors.DefaultSelector()
ready.register(udp, selectors.EVENT_READ)
ready.register(tcp, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        if key.fileobj is tcp:
            ready.register(tcp.accept()[0], selectors.EVENT_READ)
        elif not key.fileobj.recv(1 << 20):
            ready.unregister(key.fileobj)
"""
"""Takes what comes, over UDP and TCP on one port, on the client's processor: a collector is another
machine's work, and no server's."""


@contextmanager
def sink() -> Iterator[int]:
    """A collector that keeps nothing; yields its port."""
    with subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5_000, help="exchanges a round")
    count = parser.parse_args().count
    if not has_kamailio():
        SERVERS.pop("kamailio")
        SERVERS.pop("kamailio-traced")
    cpus = sorted(os.sched_getaffinity(0))
    with sink() as port, ExitStack() as stack:
        os.environ["HEP_PORT"] = str(port)
        load.pin(cpus[-1])
        print(f"| | {' | '.join(SERVERS.values())} |\n| --- |{' --- |' * len(SERVERS)}")
        servers = {name: stack.enter_context(serve(name, cpus[0])) for name in SERVERS}
        row("exchange, 20 connections, 8 in flight, µs", exchanges(servers, 8, count))
        # One of them traces no connections.
        others = {name: one for name, one in servers.items() if name != "traced-least"}
        for what, at_once in (
            ("accept, handshake, close, µs", 1),
            ("the same, 40 at a time, µs", 40),
        ):
            found = comings(others, max(at_once, count // 25), at_once)
            row(what, {name: found.get(name) for name in servers})


if __name__ == "__main__":
    main()
