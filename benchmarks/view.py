"""What the viewer needs: storing, finding, memory, and the time until its page is there.

Packets are made of the messages that Chromium with JsSIP sent in a real call: each call has its own
Call-ID, tags, branches, users and addresses, and 200 calls run at a time. They are a file of HEP
packets, which goes through what ``hep view FILE`` does with it: decode, read, store.

Beside it, in the same run: bare ``executemany`` of the same rows into the same tables, without
decoding anything. Both begin where the store has as many packets as ``--packets`` says.

    python benchmarks/view.py --packets 1000000
"""

import argparse
import gc
import itertools
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import hep
from hep.cli.view import COLLECT_AFTER, SWITCH_INTERVAL
from hep.view.files import CaptureReading
from hep.view.intake import Intake
from hep.view.reader_process import read
from hep.view.store.keep import Keep
from hep.view.store.query import CallFilter
from hep.view.store.segment import WRITER_CACHE
from hep.view.store.store import Store

MESSAGES = Path(__file__).parents[1] / "tests/data/messages"
FLOW = ("invite", "invite-100", "invite-180", "invite-200", "ack", "bye", "bye-200")
AT_A_TIME = 200
"""Calls whose messages come mixed."""
MEASURED = 200_000
"""Packets of the part that is timed."""
START = 1_796_000_000


def flows() -> list[bytes]:
    """The messages of the recorded call, in order."""
    return [(MESSAGES / f"chromium-jssip-{name}.sip").read_bytes() for name in FLOW]


def packets(first: int, count: int) -> Iterator[bytes]:
    """HEP packets of calls, from a call's number on."""
    templates = flows()
    call_id = re.search(rb"Call-ID: (\S+)", templates[0])[1]
    branch = re.compile(rb"z9hG4bK[0-9a-z]+")
    tags = [re.search(rb"From:[^\n]*tag=(\S+)", templates[0])[1],
            re.search(rb"To:[^\n]*tag=(\S+)", templates[3])[1]]  # fmt: skip
    made = 0
    numbers = itertools.count(first)
    while made < count:
        group = list(itertools.islice(numbers, AT_A_TIME))
        for step, template in enumerate(templates):
            for number in group:
                mark = b"%08x" % number
                message = template.replace(call_id, call_id[:8] + mark)
                message = branch.sub(b"z9hG4bK%b%d" % (mark, step > 3), message)
                message = message.replace(tags[0], b"f" + mark).replace(tags[1], b"t" + mark)
                message = message.replace(b"alice", b"user%d" % (number % 5000))
                phone = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
                ends = (phone, 1024 + number % 60000), ("10.255.0.1", 8080)
                (src, src_port), (dst, dst_port) = ends if step in (0, 4, 5) else ends[::-1]
                yield hep.encode(
                    hep.Packet(
                        src_ip=src, src_port=src_port, dst_ip=dst, dst_port=dst_port,
                        seconds=START + number // 100, microseconds=step * 1000,
                        payload=message, correlation_id=call_id[:8] + mark, capture_id=2001,
                    )
                )  # fmt: skip
                made += 1
                if made == count:
                    return


def store_all(store: Store, path: Path, *, beside: bool = True) -> tuple[float, float]:
    """Store a file as ``hep view`` does; returns seconds, and seconds of processor time.

    Args:
        store: where to.
        path: a file of HEP packets.
        beside: whether another process reads it, as of files; without, all is done in this one, as
            with packets that come from the network.
    """
    intake, stop = Intake(store), threading.Event()
    reading = CaptureReading(str(path))
    began, cpu = time.perf_counter(), sum(os.times()[:4])
    if beside:
        intake.store_all(read(reading, stop))
    else:
        for packet in reading.read():
            while not intake.receive(packet):
                time.sleep(0.01)
    intake.close()
    store.overflowed = 0
    return time.perf_counter() - began, sum(os.times()[:4]) - cpu


def bare(folder: Path, store: Store, count: int) -> float:
    """Write the latest rows of a store again, with executemany alone; returns seconds."""
    source = store._segments[0]
    rows = {}
    with source.reading() as database:
        low = max(0, source.packets - count)
        rows["packets"] = database.execute(
            "SELECT * FROM packets WHERE id > ? ORDER BY id", (low,)
        ).fetchall()
        calls = {row[3] for row in rows["packets"]}
        first = min(calls)
        rows["calls"] = database.execute("SELECT * FROM calls WHERE id >= ?", (first,)).fetchall()
        rows["terms"] = database.execute(
            "SELECT * FROM terms WHERE thing >= ?", (2 * first,)
        ).fetchall()
        random.Random(1).shuffle(rows["terms"])
    # Beside as many rows as the store's segment has, in a copy of it without these.
    path = folder / "bare.sqlite"
    with source.reading() as database:
        copy = sqlite3.connect(path, isolation_level=None)
        database.backup(copy)
    copy.execute("DELETE FROM packets WHERE id > ?", (low,))
    copy.execute("DELETE FROM calls WHERE id >= ?", (first,))
    copy.execute("DELETE FROM terms WHERE thing >= ?", (2 * first,))
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 4000",
                   f"cache_size = {WRITER_CACHE}"):  # fmt: skip
        copy.execute(f"PRAGMA {pragma}")
    batches = -(-len(rows["packets"]) // 4096)
    began = time.perf_counter()
    for number in range(batches):
        copy.execute("BEGIN")
        for table, all_rows in rows.items():
            size = len(all_rows)
            part = all_rows[size * number // batches : size * (number + 1) // batches]
            if part:
                places = ", ".join("?" * len(part[0]))
                copy.executemany(f"INSERT INTO {table} VALUES ({places})", part)
        copy.execute("COMMIT")
    seconds = time.perf_counter() - began
    copy.close()
    path.unlink()
    return seconds / len(rows["packets"])


def lookups(store: Store, calls: int) -> None:
    """Print what questions cost, the median of 20 and the worst."""
    for name, ask in (
        ("a call by its Call-ID", lambda n: store.call(f"f5rctdht{n:08x}")),
        ("its packets", lambda n: store.records_of_call(f"f5rctdht{n:08x}")),
        ("a search for an address", lambda n: store.search(
            f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}")),
        ("a search for a branch", lambda n: store.search(f"z9hG4bK{n:08x}0")),
        ("a search for a user", lambda n: store.search(f"user{n % 5000}")),
        ("the first page of the list", lambda n: store.calls(CallFilter(), 200)),
        ("calls of one user, by a part", lambda n: store.calls(
            CallFilter(user=f"ser{n % 5000}@"), 50)),
    ):  # fmt: skip
        took = []
        for number in random.Random(1).sample(range(calls), min(calls, 20)):
            began = time.perf_counter()
            found = ask(number)
            took.append(time.perf_counter() - began)
            assert found, (name, number)
        took.sort()
        print(f"  {name}: {took[len(took) // 2] * 1e3:.1f} ms, at most {took[-1] * 1e3:.1f} ms")


def memory() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def start_page(folder: Path) -> None:
    """Time from the command to the first rows that a browser can show."""
    began = time.perf_counter()
    program = subprocess.Popen(
        [sys.executable, "-m", "hep.cli", "view", "--child", "--http", "127.0.0.1:0",
         "--tcp", "127.0.0.1:0", "--store", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdout is not None
    where = json.loads(program.stdout.readline())["http"]
    for path in ("", "api/v1/status", "api/v1/calls"):
        urllib.request.urlopen(where + path).read()
    print(f"the page with rows, from the command on: {time.perf_counter() - began:.2f} s")
    with open(f"/proc/{program.pid}/statm") as file:
        pages = int(file.read().split()[1])
    print(f"memory of that process: {pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB")
    program.communicate()


def main() -> None:
    """Fill a store, and measure."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*COLLECT_AFTER)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packets", type=int, default=500_000, help="packets in the store")
    parser.add_argument("--folder", type=Path, help="where the store is made")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        store = Store(folder / "store", Keep())
        done = call = 0
        path = folder / "packets.hep"
        while done < args.packets:
            count = min(MEASURED, args.packets - done)
            path.write_bytes(b"".join(packets(call, count)))
            # A group's last calls may be cut: the next packets are of other calls.
            call += -(-count // (len(FLOW) * AT_A_TIME)) * AT_A_TIME
            ours, cpu = store_all(store, path)
            done += count
        status = store.status()
        assert status.stored == args.packets
        assert not status.dropped
        print(f"{status.packets} packets in {status.segments} segments, {status.bytes / 1e9:.2f} GB"
              f" ({status.bytes / status.packets:.0f} bytes a packet)")  # fmt: skip
        plain = bare(folder, store, min(MEASURED, store._segments[0].packets))
        each = ours / count
        print(f"storing the last {count}: {1 / each:.0f} packets a second,"
              f" {each * 1e6:.1f} us a packet"
              f" ({cpu / count * 1e6:.1f} us of processor time)")  # fmt: skip
        print(f"bare executemany of the same rows: {1 / plain:.0f} packets a second;"
              f" ratio {plain / each:.2f}")  # fmt: skip
        path.write_bytes(b"".join(packets(call, count)))
        alone, cpu = store_all(store, path, beside=False)
        print(f"in one process, as packets from the network: {count / alone:.0f} packets a second,"
              f" {cpu / count * 1e6:.1f} us of processor time;"
              f" ratio {plain / alone * count:.2f}")  # fmt: skip
        print(f"memory of this process: {memory():.0f} MB, most of it for the comparison")
        print("finding:")
        lookups(store, call - AT_A_TIME)
        store.close()
        start_page(folder / "store")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
