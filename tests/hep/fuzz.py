"""Fuzz what reads HEP and captures: ``python tests/hep/fuzz.py [SECONDS] [SEED]``.

Mutates packets recorded from others and lets each be decoded, encoded again, shown, examined, and
split out of a stream. A packet may be refused (`HepDecodeError`) and nothing else; what decodes
must encode to something that decodes to the same. Frames, streams, dumps and files with such
packets and with SIP over WebSocket are mutated too. What fails is printed with its seed.
"""

import json
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import hep
from hep.captures import links, wire
from hep.captures.capture_file import Frame
from hep.captures.finder import Finder
from hep.captures.pcap import Capture, packet_of
from hep.captures.streams import Connection, StreamReader
from hep.cli import display
from hep.cli.dump import DumpReader, PlainReader
from hep.cli.lint import PROFILES, lint

DATA = Path(__file__).parents[1] / "data"

LONGEST_STREAM = 200_000
"""Bytes of a stream that must not be held back: three packets of the greatest length."""

LENGTHS = (0, 1, 5, 6, 7, 8, 9, 10, 255, 256, 65_507, 65_535)


def mutated(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """A packet with a few things changed."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.choice((1, 2, 6, 40))]
            case 2:
                changed[at:at] = dice.randbytes(dice.choice((1, 2, 6, 40)))
            case 3:
                # Lengths that lie: of the packet, or of what may be a chunk.
                changed[at : at + 2] = dice.choice(LENGTHS).to_bytes(2, "big")
            case 4:
                other = dice.choice(others)
                start = dice.randrange(len(other))
                changed[at:at] = other[start : start + dice.choice((6, 10, 100))]
            case _:
                changed[at:at] = changed[at : at + 60]
    return bytes(changed)


def attempt(data: bytes, dice: random.Random) -> bool:
    """Read what may be a packet; returns whether it is one."""
    splitter = hep.Splitter()
    cut = dice.randrange(len(data) + 1)
    for packet in splitter.feed(data[:cut]) + splitter.feed(data[cut:]):
        assert len(packet) <= 0xFFFF
    try:
        packet = hep.decode(data)
    except hep.HepDecodeError as refused:
        str(refused)
        return False
    display.line(packet, colour=True)
    display.describe(packet)
    json.dumps(display.as_json(packet))
    for profile in PROFILES:
        lint(data, profile)
    if packet.src_ip is None or packet.dst_ip is None:
        return True
    again = hep.encode(packet)
    if packet.version == 3:
        # In the others, zero bytes at the end of a payload are taken for OpenSIPS' surplus.
        assert hep.decode(again) == packet, "it reads otherwise when it was written anew"
    return True


SIP = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 3\r\n\r\nabc"

STREAMS = (
    SIP * 3,
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\xba\0\0\0\0" + SIP + b"\x8a\x80abcd",
    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n\x01\x0a" + SIP[:10] + b"\x80\x30" + SIP[10:],
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + SIP,
    b"\x17\x03\x03\0\x05hello",
)
"""Streams that are mutated beside HEP."""

FILES_EVERY = 20
"""Rounds of which one reads a file, which takes longer."""


def attempt_streams(data: bytes, dice: random.Random) -> None:
    """Read what may be a stream, a frame or a dump."""
    reader = StreamReader(Connection(), Counter())
    at = 0
    while at < len(data):
        size = dice.choice((1, 7, 100, 1460))
        reader.feed(data[at : at + size])
        assert reader.size <= LONGEST_STREAM
        at += size
        if dice.random() < 0.05:
            reader.lose()
    finder = Finder()
    packet = wire.udp_frame(
        bytes(4), bytes(4), 5060, dice.choice((*links.TUNNELS_BY_PORT, 5)), data
    )
    protocol = dice.choice((6, 17, 132, *links.TUNNELS))
    for frame in (data, packet, packet[:23] + bytes([protocol]) + packet[24:]):
        for message in finder.add(Frame(dice.choice((1, *links.LINKS)), 0, 0, frame)):
            with suppress(hep.HepDecodeError):
                display.line(packet_of(message), columns=dice.randint(1, 90), encoding="ascii")
    finder.finish()
    text = b"".join(
        b"%08x  %s  |x|\n" % (row, data[row : row + 16].hex(" ").encode())
        for row in range(0, min(len(data), 200), 16)
    )
    for dump in (text, mutated(text or b"0", [SIP], dice)):
        rows = DumpReader()
        with suppress(hep.HepError):
            pieces = [*rows.feed(dump[:100]), *rows.feed(dump[100:]), *rows.finish()]
            assert sum(map(len, pieces)) <= len(dump) + 65_536 * dump.count(b"*")
        with suppress(hep.HepError):
            assert len(PlainReader().feed(dump)) <= len(dump)


def attempt_file(data: bytes, dice: random.Random, folder: Path) -> None:
    """Read a mutated capture file."""
    packet = wire.udp_frame(bytes(4), bytes(4), 5060, 9060, data[:1000])
    size = struct.pack("<II", len(packet), len(packet))
    if dice.random() < 0.5:
        content = b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(12) + b"\1\0\0\0"
        content += (bytes(8) + size + packet) * 2
    else:
        padded = packet + bytes(-len(packet) % 4)
        length = struct.pack("<I", len(padded) + 32)
        content = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
        content += struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20)
        content += (b"\6\0\0\0" + length + bytes(12) + size + padded + length) * 2
    path = folder / "capture"
    path.write_bytes(mutated(content, [data], dice))
    with suppress(hep.HepError), Capture(path) as capture:
        for timestamp, _ in capture.packets():
            assert 0 <= timestamp < 2**32


def run(seed: int, go_on: Callable[[int], bool]) -> tuple[int, int]:
    """Fuzz as long as wanted.

    Args:
        seed: of the dice.
        go_on: asked before each round, with its number.

    Returns:
        the number of rounds, and in how many of them there was a packet.
    """
    packets = [path.read_bytes() for path in sorted(DATA.rglob("*.bin"))]
    rounds = whole = 0
    with tempfile.TemporaryDirectory() as folder:
        while go_on(rounds):
            dice = random.Random(f"{seed}/{rounds}")
            data = mutated(dice.choice(packets), packets, dice)
            stream = mutated(dice.choice((*STREAMS, data)) * dice.choice((1, 2)), packets, dice)
            try:
                whole += attempt(data, dice)
                attempt_streams(stream, dice)
                if rounds % FILES_EVERY == 0:
                    attempt_file(data, dice, Path(folder))
            except Exception:
                print(f"seed {seed}, round {rounds}: {data.hex()}", file=sys.stderr)
                raise
            rounds += 1
    return rounds, whole


def main() -> None:
    """Fuzz for a while: 10 seconds with seed 0 unless told otherwise."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    end = time.monotonic() + seconds
    rounds, whole = run(seed, lambda _: time.monotonic() < end)
    print(f"{rounds} packets in {seconds:g} s, {whole} of them readable: none did anything else")


if __name__ == "__main__":
    main()
