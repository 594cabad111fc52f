"""Fuzz what reads HEP: ``python tests/hep/fuzz.py [SECONDS] [SEED]``.

Mutates packets recorded from others and lets each be decoded, encoded again, shown, examined, and
split out of a stream. A packet may be refused (`HepDecodeError`) and nothing else; what decodes
must encode to something that decodes to the same. What fails is printed with its seed.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import hep
from hep.cli import display
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
    while go_on(rounds):
        dice = random.Random(f"{seed}/{rounds}")
        data = mutated(dice.choice(packets), packets, dice)
        try:
            whole += attempt(data, dice)
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
