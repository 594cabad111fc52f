"""Fuzz what reads frames: ``python tests/property/fuzz.py [SECONDS] [SEED]``.

Strings frames together, changes some bytes, cuts the stream anywhere and lets two sessions read it:
one as it is, and one that leaves every frame to the engine. Both must report, write and hold the
same after every read. The rounds alternate between servers' and clients' sessions. A failure is
printed with its seed.
"""

import itertools
import random
import sys
import time
from functools import partial

from sides import SIDES, Side, Ways, lying_header, nothing_by_chance, peer_frame, wide_frame

from sipws import Limits

LIMITS = Limits(request_size=1024, message_size=300, max_chunks=0)

LENGTHS = (0, 1, 2, 5, 123, 124, 125, 126, 127, 128, 250, 299, 300, 301, 302, 400)
"""Payloads around every border: of a header's forms, of a control frame, of the message limit."""

LIES = (0, 1, 125, 126, 127, 300, 301, 65_535, 65_536, 2**31, 2**63 - 1, 2**63, 2**64 - 1)
MASKS = (b"\0\0\0\0", b"\1\2\3\4", b"\x81\x82\x88\x89", b"\xff\xff\xff\xff")
CLOSES = (b"", b"\x03", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03\xed", b"\x0f\xa0ok")


def payload(side: Side, dice: random.Random) -> bytes:
    """Text, text that is cut, bytes, or a frame within a frame."""
    size = dice.choice(LENGTHS)
    match dice.randrange(5):
        case 0:
            return ("grüß € \U0001f600 " * 60).encode()[:size]
        case 1:
            return dice.randbytes(size)
        case 2:
            return peer_frame(side, dice.choice((1, 2, 8, 9)), b"inside", mask=dice.choice(MASKS))
        case _:
            return b"OPTIONS sip:a SIP/2.0\r\n"[:size] or b"\r\n\r\n"


def part(side: Side, dice: random.Random) -> bytes:
    """A frame; now and then a wrong one."""
    mask = dice.choice(MASKS)
    frame, data = partial(peer_frame, side, mask=mask), payload(side, dice)
    match dice.randrange(13):
        case 12:
            first, size = dice.choice((0x81, 0x82, 0x01, 0x80)), dice.choice((2, 8))
            return wide_frame(side, first, size, data, mask)
        case 0 | 1 | 2 | 3 | 4:
            return frame(dice.choice((1, 2)), data)
        case 5 | 6 | 7:
            return frame(dice.choice((0, 0, 1, 2)), data, dice.random() < 0.4)
        case 8:
            return frame(dice.choice((9, 10)), data[:125])
        case 9:
            return frame(8, dice.choice(CLOSES))
        case 10:
            return frame(dice.randrange(16), data, dice.random() < 0.7)
        case _:
            # One in five is masked as the other side's frames are.
            masked = side.peer_is_masked ^ (dice.random() < 0.2)
            first = dice.choice((0x81, 0x82, 0x01, 0x89))
            return lying_header(first, dice.choice(LIES), masked, mask)


def mutated(stream: bytes, dice: random.Random) -> bytes:
    """A stream with a few bytes changed."""
    changed = bytearray(stream)
    for _ in range(dice.choice((0, 0, 0, 1, 1, 3))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.choice((1, 2, 4, 6))]
            case 2:
                changed[at:at] = dice.randbytes(dice.choice((1, 2, 4, 6)))
            case _:
                changed[at : at + 2] = dice.choice(LENGTHS).to_bytes(2, "big")
    return bytes(changed)


def pieces(stream: bytes, dice: random.Random) -> list[bytes]:
    """A stream as reads: whole, in a few pieces, or byte by byte."""
    few = dice.choice((0, 1, 3, 10, len(stream)))
    edges = sorted({0, len(stream), *(dice.randrange(len(stream) + 1) for _ in range(few))})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def main() -> None:
    """Fuzz for a number of seconds (default 10) from a seed (default 0)."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        dice = random.Random(f"{seed}/{rounds}")
        side = SIDES[rounds % 2]
        parts = [part(side, dice) for _ in range(dice.randint(1, 8))]
        reads = pieces(mutated(b"".join(parts), dice), dice)
        try:
            Ways.of(side, LIMITS).agree_on_reads(reads)
        except Exception:
            print(f"seed {seed}, round {rounds}: {reads!r}", file=sys.stderr)
            raise
        rounds += 1
    print(f"{rounds} streams of frames in {seconds:g} s, read alike in both ways")


if __name__ == "__main__":
    with nothing_by_chance():
        main()
