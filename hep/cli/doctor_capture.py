"""``hep doctor --capture``: examine the HEP in a file."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from hep.cli.doctor_report import Examination
from hep.cli.usage import DONE, FAILED, WrongInputError, packets_in
from hep.codec.any_version import decode
from hep.errors import HepDecodeError, HepError
from hep.homer.fate import whole_days

CAPTURES: Final = (".pcap", ".pcapng", ".cap", ".gz")
"""Suffixes of capture files. A file with another suffix is a sequence of HEP packets."""


class Found(NamedTuple):
    """A packet of a file."""

    number: int
    """Number of the frame or packet, from 1."""
    transport: str
    """``udp`` or ``tcp``."""
    data: bytes
    """The packet."""
    arrival: float | None
    """Capture time of its frame in seconds since the epoch; None if the file has none."""


@dataclass(slots=True)
class OldTimes:
    """Counts packets that Homer 7 would lose if they were sent again with their own times."""

    now: float
    """The time in seconds since the epoch."""
    count: int = 0
    """Packets whose time has no partition now."""
    oldest: float = 0.0
    """The earliest of their times."""

    def add(self, data: bytes) -> None:
        """Count a packet."""
        try:
            packet = decode(data)
        except HepDecodeError:
            return
        if not packet.seconds:
            return
        start, end = whole_days(self.now)
        if not start <= packet.seconds - self.now < end:
            self.oldest = min(self.oldest or packet.seconds, packet.seconds)
            self.count += 1

    def remark(self, total: int) -> str:
        """The count in words, for users."""
        since = datetime.fromtimestamp(self.oldest, UTC)
        return (
            f"The times of {self.count} of {total} packets are outside of yesterday to tomorrow,"
            f" from {since:%Y-%m-%d} on. If hep replay sends them, Homer 7 loses them with their"
            " batches. --now counts that as lost."
        )


def examine(name: str, examination: Examination, as_now: bool, as_json: bool, paint: bool) -> int:
    """Examine a file and print the report.

    Args:
        name: the file.
        examination: counts the findings.
        as_now: whether the packets arrive now. Otherwise they arrive at the times of their frames,
            and those of a file without frames at their own times.
        as_json: whether to print for programs.
        paint: whether to use colours.

    Returns:
        the exit status.

    Raises:
        WrongInputError: the file cannot be read.
    """
    now = time.time()
    old = OldTimes(now)
    try:
        for number, transport, data, arrival in _packets(Path(name)):
            examination.add(data, transport, number, now if as_now else arrival)
            old.add(data)
    except (HepError, OSError) as exc:
        raise WrongInputError(f"{name}: {getattr(exc, 'strerror', None) or exc}") from exc
    total = examination.total
    if not as_json:
        print(f"{name}: {total or 'no'} HEP packet{'s' * (total != 1)}")
    if total or as_json:
        examination.print_report(as_json, paint)
    if old.count and not as_now:
        if as_json:
            print(json.dumps({"packets": old.count, "outside_of_partitions": True}))
        else:
            print(f"\n{old.remark(total)}")
    return FAILED if examination.has_losses or not total else DONE


def _packets(path: Path) -> Iterator[Found]:
    if path.suffix in CAPTURES:
        from hep.captures.pcap import Capture  # scapy is slow to import

        with Capture(path) as capture:
            for each in capture.messages():
                if each.is_hep:
                    arrival = each.seconds + each.microseconds / 1_000_000
                    yield Found(each.frame, each.transport, each.data, arrival)
        return
    found, skipped = packets_in(path.read_bytes())
    for number, packet in enumerate(found, 1):
        yield Found(number, "udp", packet, None)
    if skipped:
        print(f"{path}: {skipped} bytes are not HEP", file=sys.stderr)
