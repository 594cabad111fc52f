"""``hep decode``: print the packets in files."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from hep.captures.capture_file import MAGICS, Frame
from hep.captures.extra import MissingExtraError
from hep.captures.finder import Finder
from hep.captures.pcap import Capture, losses, packet_of
from hep.captures.source import Source
from hep.cli import display, dump
from hep.cli.usage import DONE, FAILED, WrongInputError, print_error
from hep.codec import v3
from hep.codec.any_version import decode
from hep.codec.framing import Splitter
from hep.codec.packet import Packet
from hep.errors import HepDecodeError, HepError

_BLOCK: Final = 1 << 16
"""Bytes that are read at a time."""

_START: Final = 4096
"""Bytes by which the format of a file is recognized."""

_LONGEST: Final = 0xFFFF
"""Bytes of the longest packet."""

_LINK_TYPES: Final = (1, 101, 113, 276)
"""Link types that are tried for a frame in a dump: Ethernet, IP, Linux cooked captures."""

Decoded = Packet | HepError
"""A packet, or an error that takes the place of one."""


def add_parser(commands: Any) -> None:
    """Add the subcommand ``decode`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "decode",
        help="print the packets in files",
        description="Print the packets in files: HEPv3 packets one behind the other, or one of"
        " version 1 or 2, as bytes, as hexadecimal text, or as a dump of xxd, hexdump -C, tcpdump"
        " or Wireshark; or the SIP and HEP of a capture (pcap or pcapng). Any of them may be"
        " compressed with gzip. Exit status 1 if something cannot be decoded or is cut.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="file; - for standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a packet, a line each")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep decode`` with parsed arguments.

    Returns:
        the exit status: `DONE` if all was decoded, otherwise `FAILED`.

    Raises:
        WrongInputError: a file cannot be read, or scapy is missing.
    """
    status = DONE
    for name in args.files:
        try:
            source = Source(name)
        except HepError as exc:
            raise WrongInputError(str(exc)) from exc
        try:
            for each in _decoded(source):
                if isinstance(each, HepError):
                    # In the order of the packets, where both go to one place.
                    sys.stdout.flush()
                    print_error("hep", f"{name}: {each}")
                    status = FAILED
                else:
                    print(display.as_json_line(each) if args.json else display.describe(each))
                if source.is_live:
                    sys.stdout.flush()
        except MissingExtraError as exc:
            raise WrongInputError(str(exc)) from exc
        except HepError as exc:
            print_error("hep", str(exc))
            status = FAILED
        finally:
            source.close()
    return status


def _decoded(source: Source) -> Iterator[Decoded]:
    start = source.peek(4)
    if start in MAGICS:
        return _of_capture(source)
    if start[:4] in v3.MAGICS or start[:1] in (b"\x01", b"\x02"):
        return _of_bytes(source)
    start = source.peek(_START)
    if dump.is_dump(start):
        return _of_dump(source)
    return _of_digits(source) if dump.is_plain(start) else _of_bytes(source)


def _of_bytes(source: Source) -> Iterator[Decoded]:
    reader = _Reader()
    while data := source.read_some(_BLOCK):
        yield from reader.feed(data)
    yield from reader.finish()


def _of_digits(source: Source) -> Iterator[Decoded]:
    reader, digits = _Reader(), dump.PlainReader()
    try:
        while text := source.read_some(_BLOCK):
            yield from reader.feed(digits.feed(text))
        digits.finish()
    except HepError as exc:
        yield exc
    yield from reader.finish()


def _of_dump(source: Source) -> Iterator[Decoded]:
    rows, reader = dump.DumpReader(), _DumpedReader()
    try:
        while text := source.read_some(_BLOCK):
            for piece in rows.feed(text):
                yield from reader.feed(piece) if piece else reader.finish()
        for piece in rows.finish():
            yield from reader.feed(piece) if piece else reader.finish()
    except HepError as exc:
        yield from reader.finish()
        yield exc


def _of_capture(source: Source) -> Iterator[Decoded]:
    capture = Capture(source)
    try:
        for message in capture.messages():
            try:
                yield packet_of(message)
            except HepDecodeError as exc:
                yield HepError(f"frame {message.frame}: {exc}")
    except HepError as exc:
        yield HepError(str(exc).removeprefix(f"{source.name}: "))
    counters = capture.counters
    if not counters["sip"] + counters["hep"]:
        yield HepError(f"no SIP and no HEP in {counters['frames']} frames")
    if lost := losses(capture):
        yield HepError("lost: " + ", ".join(f"{n} {cause}" for cause, n in lost.most_common()))


class _Reader:
    """Decodes a sequence of packets of version 3, or one packet of version 1 or 2."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._start = b""
        self._tail = b""
        self._size = 0
        self._count = 0

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take bytes, cut anywhere."""
        self._size += len(data)
        if len(self._start) <= _LONGEST:
            self._start += data[: _LONGEST + 1 - len(self._start)]
        if self._is_old:
            return
        for each in self._splitter.feed(data):
            self._count += 1
            yield _decode(each)
        self._tail = (self._tail + data)[-_LONGEST:]

    def finish(self) -> Iterator[Decoded]:
        """End the sequence, and report what is no packet."""
        buffered, skipped = self._splitter.buffered, self._splitter.skipped
        if self._is_old or not (self._count or buffered):
            yield _decode(self._start)
            return
        if buffered:
            # The last packet lacks its end, unless it is no packet at all.
            yield _decode(self._tail[-buffered:])
        if skipped:
            yield HepDecodeError(f"{skipped} bytes of the file are not HEP", 0)

    @property
    def _is_old(self) -> bool:
        return self._start[:1] in (b"\x01", b"\x02")


class _DumpedReader:
    """Decodes the packets of a dump, each of which is HEP or a frame with SIP or HEP in it."""

    def __init__(self) -> None:
        self._reader = _Reader()
        self._frame = bytearray()

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take a part of a packet."""
        if len(self._frame) <= _LONGEST:
            self._frame += data
        if bytes(self._frame[:4]) in v3.MAGICS:
            yield from self._reader.feed(data)

    def finish(self) -> Iterator[Decoded]:
        """End a packet."""
        frame, reader = bytes(self._frame), self._reader
        self.__init__()  # type: ignore[misc]
        if frame[:4] in v3.MAGICS:
            yield from reader.finish()
        elif frame:
            decoded = _decode(frame)
            yield from _of_frame(frame) or [decoded] if isinstance(decoded, HepError) else [decoded]


def _of_frame(frame: bytes) -> list[Decoded]:
    for link_type in _LINK_TYPES:
        found = Finder().add(Frame(link_type, 0, 0, frame))
        packets: list[Decoded] = []
        for message in found:
            try:
                packet = packet_of(message)
            except HepDecodeError as exc:
                packets.append(exc)
                continue
            # A dump has no time.
            packets.append(
                packet if message.is_hep else replace(packet, seconds=None, microseconds=None)
            )
        if packets:
            return packets
    return []


def _decode(data: bytes) -> Decoded:
    try:
        return decode(data)
    except HepDecodeError as exc:
        return exc
