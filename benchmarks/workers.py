"""What several workers are worth: ``python benchmarks/workers.py``.

`sipws run` with one worker and with two, asked in turns by one client process on the same machine,
which takes its share of the processors. Measured are answers a second and, of all processes of the
program, the processor time for each. Prints a Markdown table.
"""

import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import load

ROUNDS = 7
COUNT = 60_000
"""Exchanges a round."""

READY = re.compile(r"listening on ws:127\.0\.0\.1:(\d+).*control is on (\S+)/mi", re.DOTALL)


@contextmanager
def program(workers: int) -> Iterator[tuple[int, str]]:
    """A program that serves: its port, and its control interface."""
    words = ["--listen", "ws:127.0.0.1:0", "--control", "127.0.0.1:0", "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sipws", "run", "-c", "/dev/null", *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while not (found := READY.search(said)):
        said += process.stderr.readline()
    # What connections say is not to fill the pipe.
    reading = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield int(found[1]), found[2]
    finally:
        process.terminate()
        process.wait()
        reading.wait()


def cpu(control: str) -> float:
    """Seconds that all processes of a program have worked."""
    with urllib.request.urlopen(f"{control}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("process_cpu_seconds_total")
    )


def measure(workers: int) -> tuple[float, float]:
    """Answers a second, and microseconds of CPU for each."""
    with program(workers) as (port, control):
        client = load.Exchanges(port, 100, 8)
        client.run(COUNT // 10)
        before, begun = cpu(control), time.perf_counter()
        count = client.run(COUNT)
        lasted, used = time.perf_counter() - begun, cpu(control) - before
        client.close()
    return count / lasted, used / count * 1e6


def main() -> None:
    """Measure and print."""
    rounds = [{workers: measure(workers) for workers in (1, 2)} for _ in range(ROUNDS)]
    print("| workers | answers a second, median | best | CPU of an exchange, median, µs |")
    print("| --- | --- | --- | --- |")
    for workers in (1, 2):
        rates, costs = zip(*(figures[workers] for figures in rounds), strict=True)
        middle, cost = statistics.median(rates), statistics.median(costs)
        print(f"| {workers} | {middle:,.0f} | {max(rates):,.0f} | {cost:.1f} |")


if __name__ == "__main__":
    main()
