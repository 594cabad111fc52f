"""Instructions of the program alone: ``python benchmarks/instructions.py``.

No sockets and no clock: valgrind (a Debian package) counts the instructions that the processor
executes for an operation, which are the same whatever else the machine does. It shows what a change
is worth where times differ by more from hour to hour. Prints a Markdown table; takes two minutes.

``--check`` compares with what ``instructions.json`` holds and exits with 1 when a row has grown by
more than 5 %. ``--record COMMIT`` counts the code of a commit and writes that file.
"""

import argparse
import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers.budget import TOLERANCE, Budget, compare, differences, this_build

ROOT = Path(__file__).parents[1]
RECORDED = Path(__file__).with_suffix(".json")
PACKAGES = ("sipws", "hep")

FEW, MANY = 200, 1000
"""How many messages or connections two processes take: what else a process does is in both."""

BOTH = "relayed"
"""What is in the names of rows where two classes of flows take turns."""

LAYOUTS = 3
"""How often memory is laid out in another way for those rows; the least count is taken. There
Python looks methods up in a table of 4,096 places, and names that share one cost up to 4 % of a
message: which names do depends on where they are in memory, and so on every line of every module.
Other rows differ by 0.3 % from layout to layout."""

TRACED = ", traced"


async def _do(name: str, count: int) -> None:
    from peers.operations import ROWS

    row = ROWS[name.removesuffix(TRACED)]
    do = row.begin(name.endswith(TRACED))
    for _ in range(count // row.size):
        do()
    # Its end is not part of the operation.
    os._exit(0)


def _each_in_a_process(names: Sequence[str], layout: int) -> None:
    """Do operations, each so often in a process of its own; prints its id, name and how often."""
    # What is made later has other places in memory.
    before = ["." * length for length in range(1, 100) for _ in range(layout * 37)]
    # Modules are loaded once for all rows: valgrind takes seconds for that.
    import peers.operations as counted

    # No collection of garbage looks at what was there before.
    gc.collect()
    gc.freeze()
    for name in names:
        row = counted.ROWS[name.removesuffix(TRACED)]
        for often in (FEW, MANY):
            count = often // row.cost // row.size * row.size
            if not (pid := os.fork()):
                asyncio.run(_do(name, count))
            if os.waitpid(pid, 0)[1]:
                raise SystemExit(f"{name} failed")
            print(f"{pid}\t{count}\t{name}", flush=True)
    del before


def _count_of(names: Sequence[str], layout: int, code: Path) -> dict[str, int]:
    """Instructions of each of those operations, by valgrind."""
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        sys.executable, __file__, "--layout", str(layout), "--in-processes", *names,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(code)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise CountingError(run.stderr)
    spent = {
        pid: int(count.replace(",", ""))
        for pid, count in re.findall(r"==(\d+)== I +refs: +([\d,]+)", run.stderr)
    }
    lines = [line.split("\t") for line in run.stdout.splitlines()]
    counts = {}
    for (few_pid, few, name), (many_pid, many, _) in zip(lines[::2], lines[1::2], strict=True):
        counts[name] = (spent[many_pid] - spent[few_pid]) // (int(many) - int(few))
    return counts


class CountingError(Exception):
    """The operations cannot be done with this code, or not be counted."""


def count(code: Path = ROOT, only: str = "") -> dict[str, int]:
    """Instructions by row.

    Args:
        code: the folder of the packages that are counted.
        only: a part of the names of the rows that are wanted.

    Raises:
        CountingError: it did not work; the message is what was printed.
    """
    listed = subprocess.run(
        [sys.executable, __file__, "--rows"],
        env={**os.environ, "PYTHONPATH": str(code)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        raise CountingError(listed.stderr)
    *names, found = listed.stdout.splitlines()
    if Path(found) != code / "sipws":
        raise CountingError(f"the packages of {code} were to be counted, not {found}")
    names = [name for name in names if only in name.removesuffix(TRACED)]
    processes = min(os.cpu_count() or 1, 8)
    shares = [share for start in range(processes) if (share := names[start::processes])]
    tasks = [(share, 0) for share in shares]
    for layout in range(1, LAYOUTS):
        tasks += [(again, layout) for share in shares if (again := [n for n in share if BOTH in n])]
    counts: dict[str, int] = dict.fromkeys(names, sys.maxsize)
    with ThreadPoolExecutor(processes) as pool:
        for counted in pool.map(lambda task: _count_of(*task, code), tasks):
            for name, value in counted.items():
                counts[name] = min(counts[name], value)
    return counts


@contextmanager
def _code_of(commit: str) -> Iterator[Path]:
    """The packages as they were at a commit, in a folder of their own."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, *PACKAGES], capture_output=True, check=False
    )
    if archive.returncode:
        raise CountingError(archive.stderr.decode())
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(fileobj=BytesIO(archive.stdout)) as tar,
    ):
        tar.extractall(folder, filter="data")
        yield Path(folder).resolve()


def _rows() -> list[str]:
    from peers.operations import ROWS

    return [row + suffix for row in ROWS for suffix in ("", TRACED)]


def _print_table(counts: Mapping[str, int]) -> None:
    from peers.operations import ROWS

    print("| what | instructions | with tracing |\n| --- | --- | --- |")
    for name, row in ROWS.items():
        if name in counts:
            print(f"| {row.meaning} | {counts[name]:,} | {counts[name + TRACED]:,} |")


def _check(only: str) -> int:
    """Compare with what was recorded; returns the exit code."""
    recorded = Budget.read(RECORDED)
    values, told = recorded.rows, f"recorded at {recorded.commit}"
    if others := differences(recorded.build, this_build()):
        print("counts of another build cannot be compared with:", *others, sep="\n  ")
        print(f"so the code of {recorded.commit} is counted with this build as well")
        try:
            with _code_of(recorded.commit) as code:
                values, told = count(code, only), f"of {recorded.commit} with this build"
        except CountingError as exc:
            print(f"NOT COMPARED: the code of {recorded.commit} cannot be counted here:\n{exc}")
            return 0
    values = {row: value for row, value in values.items() if only in row.removesuffix(TRACED)}
    verdict = compare(values, count(only=only))
    for headline, lines in (
        (f"grown by more than {TOLERANCE:.0%} over what was {told}", verdict.grown),
        ("not recorded; run 'python benchmarks/instructions.py --record'", verdict.unknown),
        ("recorded, but counted no more", verdict.missing),
        ("cheaper; record it, so that it stays so", verdict.shrunk),
    ):
        if lines:
            print(f"{headline}:", *lines, sep="\n  ")
    print("furthest off:", verdict.largest)
    print("the budget is", "kept" if verdict.holds else "exceeded")
    return 0 if verdict.holds else 1


def _record(commit: str) -> None:
    resolved = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", commit],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with _code_of(commit) as code:
        counts = count(code)
    Budget(resolved.stdout.strip(), this_build(), counts).write(RECORDED)
    _print_table(counts)


def main() -> int:
    """Measure, and print, compare or record; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 when a row has grown")
    parser.add_argument(
        "--record", nargs="?", const="HEAD", metavar="COMMIT", help="count a commit, and keep it"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds this")
    # What it calls itself with.
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--layout", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--in-processes", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rows:
        import sipws

        print(*_rows(), Path(sipws.__file__).parent, sep="\n")
    elif args.in_processes:
        _each_in_a_process(args.in_processes, args.layout)
    elif shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing is counted", file=sys.stderr)
        return 1 if args.check or args.record else 0
    elif args.check:
        return _check(args.only)
    elif args.record:
        _record(args.record)
    else:
        _print_table(count(only=args.only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
