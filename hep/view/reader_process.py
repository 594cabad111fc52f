"""Reads a file in a process of its own, which hands its packets over as records.

Reading a capture takes as much time as storing what it holds. Two processes use two processors, and
the page is answered meanwhile. Records pass through a pipe, in batches of `marshal`.
"""

import gc
import marshal
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final

from hep.view.files import CaptureReading
from hep.view.model.record import Kind, Record, Sip, record_of

MOST_AT_ONCE: Final = 4_096
"""Records of a batch."""

MOST_BYTES: Final = 8 << 20
"""Payload bytes of a batch, beyond which no record is added. Two processes hold it twice each."""

GATHER: Final = 0.05
"""Seconds for which the records of a live capture are gathered."""

_PAYLOAD: Final = 4
"""Place of the payload in a row."""

_LENGTH: Final = struct.Struct("!I")
_END: Final = 5.0

Row = tuple[Any, ...]


def row_of(record: Record) -> Row:
    """A record as values that `marshal` takes."""
    sip = record.sip
    return (
        record.at, int(record.kind), record.src, record.dst, record.payload,
        int(record.protocol_type), record.ip_protocol, record.capture_id, record.node,
        record.correlation,
        None if sip is None else (
            sip.call_id, sip.method, sip.status, sip.reason, sip.target, sip.cseq, sip.from_user,
            sip.from_host, sip.from_tag, sip.to_user, sip.to_host, sip.to_tag, sip.branch,
            sip.user_agent, sip.contact,
        ),
    )  # fmt: skip


def record_of_row(row: Row) -> Record:
    """A record of the values of `row_of`."""
    at, kind, src, dst, payload, protocol, ip_protocol, capture, node, correlation, sip = row
    return Record(
        at, _KINDS[kind], src, dst, payload, protocol, ip_protocol, capture, node, correlation, "",
        None if sip is None else Sip(*sip),
    )  # fmt: skip


_KINDS: Final = tuple(Kind)


def read(reading: CaptureReading, is_stopped: threading.Event) -> Iterator[list[Record]]:
    """Yield the records of a file in batches; blocks. Counts and faults are in ``reading``.

    Args:
        reading: the file.
        is_stopped: ends the reading when set.
    """
    process = subprocess.Popen(  # noqa: S603 - this interpreter, and a name as an argument
        [sys.executable, "-m", "hep.view.reader_process", reading.name],
        stdin=None if reading.is_standard_input else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    stopping = threading.Thread(target=_stop, args=(process, is_stopped), daemon=True)
    stopping.start()
    try:
        if process.stdout is not None:
            yield from _batches(reading, process.stdout)
        if not reading.done and not is_stopped.is_set():
            reading.problem = f"the reading ended early (status {process.wait(_END)})"
    finally:
        reading.done = True
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _batches(reading: CaptureReading, pipe: IO[bytes]) -> Iterator[list[Record]]:
    while len(head := pipe.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        batch = pipe.read(length)
        if len(batch) < length:
            return
        rows, done, problem = marshal.loads(batch)  # noqa: S302 - our own process wrote it
        reading.packets += len(rows)
        if rows:
            yield [record_of_row(row) for row in rows]
        reading.problem = problem
        reading.done = done


def _stop(process: subprocess.Popen[bytes], is_stopped: threading.Event) -> None:
    while process.poll() is None:
        if is_stopped.wait(GATHER):
            process.kill()
            return


class _Writer:
    """Writes batches, from the reading thread and from one that flushes in time."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._rows: list[Row] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, row: Row) -> None:
        with self._lock:
            self._rows.append(row)
            self._bytes += len(row[_PAYLOAD])
            if len(self._rows) >= MOST_AT_ONCE or self._bytes >= MOST_BYTES:
                self._write(done=False, problem="")

    def flush(self, *, done: bool = False, problem: str = "") -> None:
        with self._lock:
            if self._rows or done:
                self._write(done=done, problem=problem)

    def _write(self, *, done: bool, problem: str) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        batch = marshal.dumps((rows, done, problem))
        self._pipe.write(_LENGTH.pack(len(batch)) + batch)
        self._pipe.flush()


def main() -> int:
    """Read the file that the argument names, and write its records to the standard output."""
    # Ctrl-C goes to all processes of the terminal; the viewer ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It makes many values and no cycles.
    gc.disable()
    reading = CaptureReading(sys.argv[1])
    writer = _Writer(sys.stdout.buffer)

    def flush() -> None:
        while True:
            time.sleep(GATHER)
            writer.flush()

    threading.Thread(target=flush, daemon=True).start()
    try:
        for packet in reading.read():
            writer.add(row_of(record_of(packet, time.time())))
        writer.flush(done=True, problem=reading.problem)
    except BrokenPipeError:
        # The viewer has ended. What is buffered for it cannot be written either.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
