"""Reads captures and files of HEP packets for the viewer, in a thread each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hep.captures.capture_file import MAGICS
from hep.captures.extra import require_scapy
from hep.captures.pcap import Capture, losses
from hep.captures.source import STANDARD_INPUT, Source
from hep.codec.any_version import decode
from hep.codec.framing import Splitter
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepError

_BLOCK: Final = 1 << 16
"""Bytes of a file of HEP packets that are read at a time."""

_LONGEST: Final = 1 << 16
"""Bytes of a packet of version 1 or 2, which is a file of its own."""


@dataclass(slots=True)
class CaptureReading:
    """A file that is read, or was; another thread may look at it.

    Args:
        name: of the file; ``-`` is the standard input.

    Raises:
        HepError: the file cannot be opened.
    """

    name: str
    """Of the file."""
    packets: int = 0
    """Packets found so far."""
    done: bool = False
    """Whether its end was reached."""
    problem: str = ""
    """What was not read, and why."""

    def __post_init__(self) -> None:
        if self.is_standard_input or Path(self.name).is_fifo():
            # Opening it waits for the other end, and takes what comes first.
            return
        # A name that is wrong is an error at the start, not a row on a page.
        source = Source(self.name)
        try:
            if not source.is_live and source.peek(4) in MAGICS:
                require_scapy("reading a capture file")
        finally:
            source.close()

    @property
    def is_standard_input(self) -> bool:
        """Whether it is the standard input."""
        return self.name == STANDARD_INPUT

    def read(self) -> Iterator[Packet]:
        """Yield the packets; blocks. Damage ends it, and is in ``problem``."""
        try:
            source = Source(self.name)
            try:
                for packet in self._packets(source):
                    self.packets += 1
                    yield packet
            finally:
                source.close()
        except HepError as exc:
            self.problem = str(exc)
        finally:
            self.done = True

    def _packets(self, source: Source) -> Iterator[Packet]:
        if source.peek(4) in MAGICS:
            return self._of_capture(source)
        return self._of_bytes(source)

    def _of_capture(self, source: Source) -> Iterator[Packet]:
        capture = Capture(source)
        try:
            for captured in capture.packets():
                yield captured.packet
        finally:
            lost = losses(capture)
            self.problem = ", ".join(f"{count} {what}" for what, count in lost.items())

    def _of_bytes(self, source: Source) -> Iterator[Packet]:
        bad = 0
        splitter = Splitter()
        is_one = source.peek(1) in (b"\x01", b"\x02")
        for piece in [source.read(_LONGEST)] if is_one else _split(source, splitter):
            try:
                yield decode(piece)
            except HepDecodeError:
                bad += 1
        skipped = splitter.skipped + splitter.buffered
        if bad or skipped:
            self.problem = f"{bad} packets not decodable, {skipped} bytes that are not HEP"


def _split(source: Source, splitter: Splitter) -> Iterator[bytes]:
    while data := source.read_some(_BLOCK):
        yield from splitter.split(data)
