"""Captures and files of HEP packets, read here and in a process of their own."""

import gzip
import os
import sys
import threading
from pathlib import Path

import pytest

import hep
from hep.errors import HepError
from hep.view.files import CaptureReading
from hep.view.model.record import Record, record_of
from hep.view.reader_process import MOST_BYTES, read, record_of_row, row_of

DATA = Path(__file__).parents[2] / "data"
PACKETS = sorted((DATA / "opensips-3.6.8/hep").glob("v3_*.bin"))[:40]


def whole(reading: CaptureReading) -> list[Record]:
    return [each for batch in read(reading, threading.Event()) for each in batch]


@pytest.fixture
def packets(tmp_path: Path) -> Path:
    path = tmp_path / "packets.hep"
    path.write_bytes(b"".join(each.read_bytes() for each in PACKETS))
    return path


def test_both_ways_give_the_same_records(packets: Path) -> None:
    here = [record_of(packet, 0.0) for packet in CaptureReading(str(packets)).read()]
    reading = CaptureReading(str(packets))
    assert whole(reading) == here
    assert len(here) == len(PACKETS)
    assert (reading.packets, reading.done, reading.problem) == (len(PACKETS), True, "")


def test_records_pass_through_rows_unchanged() -> None:
    for path in PACKETS:
        record = record_of(hep.decode(path.read_bytes()), 0.0)
        again = record_of_row(row_of(record))
        assert again == record
        assert again.kind is record.kind


def test_batches_of_large_packets_are_bounded_by_their_bytes(tmp_path: Path) -> None:
    large = hep.Packet(
        src_ip="10.0.0.1", src_port=5060, dst_ip="10.0.0.2", dst_port=5060, protocol_type=1,
        seconds=1_700_000_000, microseconds=0, payload=bytes(60_000),
    )  # fmt: skip
    path = tmp_path / "large.hep"
    path.write_bytes(hep.encode(large) * 400)
    batches = list(read(CaptureReading(str(path)), threading.Event()))
    assert sum(map(len, batches)) == 400
    assert max(map(len, batches)) <= MOST_BYTES // 60_000 + 1


def test_a_file_may_be_compressed(packets: Path) -> None:
    packed = packets.with_suffix(".gz")
    packed.write_bytes(gzip.compress(packets.read_bytes()))
    assert len(whole(CaptureReading(str(packed)))) == len(PACKETS)


def test_what_is_no_hep_is_counted(packets: Path) -> None:
    packets.write_bytes(b"rubbish" + packets.read_bytes() + b"HEP3\x00\x99cut")
    reading = CaptureReading(str(packets))
    assert len(whole(reading)) == len(PACKETS)
    assert reading.problem == "0 packets not decodable, 16 bytes that are not HEP"


def test_a_damaged_capture_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "calls.pcap"
    path.write_bytes(b"\xd4\xc3\xb2\xa1" + b"\xff" * 10)
    reading = CaptureReading(str(path))
    assert whole(reading) == []
    assert reading.done
    assert str(path) in reading.problem


def test_a_missing_file_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(HepError, match="cannot be read: No such file"):
        CaptureReading(str(tmp_path / "none.pcap"))


def test_a_live_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    stopped = threading.Event()
    reading = CaptureReading(str(pipe))
    batches = read(reading, stopped)
    found: list[Record] = []
    taking = threading.Thread(target=lambda: found.extend(next(batches)))
    taking.start()
    # Waits until the reader has opened it.
    writing = os.open(pipe, os.O_WRONLY)
    for number, path in enumerate(PACKETS[:3]):
        os.write(writing, path.read_bytes())
        if not number:
            taking.join(30)
        else:
            found += next(batches)
        assert found[-1] == record_of(hep.decode(path.read_bytes()), 0.0)
    stopped.set()
    assert list(batches) == []
    assert reading.problem == ""
    os.close(writing)


def test_a_reader_that_is_killed_is_told(packets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path(sys.executable)
    fake = packets.with_name("python")
    fake.write_text(f"#!{program}\nimport os\nos._exit(9)\n")
    fake.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(fake))
    reading = CaptureReading(str(packets))
    assert whole(reading) == []
    assert reading.problem == "the reading ended early (status 9)"
