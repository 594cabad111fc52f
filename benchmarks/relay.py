"""What relaying costs: ``python benchmarks/relay.py``.

As `transport.py` measures it, with the same client: processor time of a process that relays to a
server which answers, for an OPTIONS and its answer and for a connection with one of them. The
server works on the client's processor and is not counted. nginx, which passes bytes on without a
look at frames, takes part where it is installed (Debian: nginx-light). Prints a Markdown table.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import load
from peers.servers import Served, serve
from tracing import sink
from transport import comings, exchanges, row

SERVERS = {
    "relay": "sipws relaying",
    "relay-traced": "traced over TCP, each message once",
    "nginx": "nginx, `proxy_pass`",
}

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/1;
    proxy_temp_path {folder}/2;
    fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4;
    scgi_temp_path {folder}/5;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


@contextmanager
def nginx(upstream: int, cpu: int) -> Iterator[Served]:
    """Nginx in one process, on one processor."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
        with subprocess.Popen(
            ["nginx", "-e", f"{folder}/error.log", "-c", str(config)],
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        ) as child:
            try:
                for _ in range(100):
                    with socket.socket() as probe:
                        if probe.connect_ex(("127.0.0.1", port)) == 0:
                            break
                    time.sleep(0.1)
                yield Served(port, child.pid)
            finally:
                child.terminate()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5_000, help="exchanges a round")
    count = parser.parse_args().count
    cpus = sorted(os.sched_getaffinity(0))
    if shutil.which("nginx") is None:
        SERVERS.pop("nginx")
        print("nginx is not installed: left out", file=sys.stderr)
    with ExitStack() as stack:
        os.environ["HEP_PORT"] = str(stack.enter_context(sink()))
        load.pin(cpus[-1])
        upstream = stack.enter_context(serve("sipws", cpus[-1])).port
        os.environ["UPSTREAM_PORT"] = str(upstream)
        servers = {
            name: stack.enter_context(
                nginx(upstream, cpus[0]) if name == "nginx" else serve(name, cpus[0])
            )
            for name in SERVERS
        }
        print(f"| | {' | '.join(SERVERS.values())} |\n| --- |{' --- |' * len(SERVERS)}")
        row("exchange, 20 connections, 8 in flight, µs", exchanges(servers, 8, count))
        row("exchange, 20 connections, 1 in flight, µs", exchanges(servers, 1, count))
        for what, at_once in (
            ("accept, handshake, one exchange, close, µs", 1),
            ("the same, 40 at a time, µs", 40),
        ):
            row(what, comings(servers, max(at_once, count // 25), at_once, ask=True))


if __name__ == "__main__":
    main()
