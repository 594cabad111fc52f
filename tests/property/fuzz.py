"""Fuzz what reads frames: ``python tests/property/fuzz.py [SECONDS] [SEED]``.

Strings frames together, changes some bytes, cuts the stream anywhere and lets a session read it
twice: as it is, and with every frame left to the engine. Both must tell, write and hold the same
after every read. Clients' frames go to a server's session and servers' to a client's, in turn. What
fails is printed with its seed.
"""

import itertools
import random
import sys
import time
from collections.abc import Callable

import test_servers_messages as of_servers
import test_whole_messages as of_clients
from conftest import Ways
from test_whole_messages import frame, lying

from sipws.ws.client_session import ClientSession
from sipws.ws.server_session import ServerSession

LENGTHS = (0, 1, 2, 5, 123, 124, 125, 126, 127, 128, 250, 299, 300, 301, 302, 400)
"""Payloads around every border: of a header's forms, of a control frame, of the message limit."""

LIES = (0, 1, 125, 126, 127, 300, 301, 65_535, 65_536, 2**31, 2**63 - 1, 2**63, 2**64 - 1)
MASKS = (b"\0\0\0\0", b"\1\2\3\4", b"\x81\x82\x88\x89", b"\xff\xff\xff\xff")
CLOSES = (b"", b"\x03", b"\x03\xe8", b"\x03\xe9bye", b"\x03\xe8\xff", b"\x03\xed", b"\x0f\xa0ok")


def unmasked(opcode: int, data: bytes, fin: bool = True, mask: bytes = b"") -> bytes:
    """A server's frame, of any opcode."""
    length = len(data)
    if length < 126:
        return bytes([fin << 7 | opcode, length]) + data
    return bytes([fin << 7 | opcode, 126]) + length.to_bytes(2, "big") + data


def payload(dice: random.Random) -> bytes:
    """Text, text that is cut, bytes, or frames that stand where they are none."""
    size = dice.choice(LENGTHS)
    match dice.randrange(5):
        case 0:
            return ("grüß € \U0001f600 " * 60).encode()[:size]
        case 1:
            return dice.randbytes(size)
        case 2:
            return frame(dice.choice((1, 2, 8, 9)), b"inside", mask=dice.choice(MASKS))
        case _:
            return b"OPTIONS sip:a SIP/2.0\r\n"[:size] or b"\r\n\r\n"


def wide(dice: random.Random, likely_masked: float) -> bytes:
    """A frame whose length has more bytes than it needs, or just as many."""
    data, size = payload(dice), dice.choice((2, 8))
    masked = dice.random() < likely_masked
    header = bytes([dice.choice((0x81, 0x82, 0x01, 0x80)), {2: 126, 8: 127}[size] | masked << 7])
    return header + len(data).to_bytes(size, "big") + (b"\0\0\0\0" if masked else b"") + data


def part(dice: random.Random, frame: Callable[..., bytes], likely_masked: float) -> bytes:
    """A frame; now and then one that nobody should send."""
    mask = dice.choice(MASKS)
    match dice.randrange(13):
        case 12:
            return wide(dice, likely_masked)
        case 0 | 1 | 2 | 3 | 4:
            return frame(dice.choice((1, 2)), payload(dice), mask=mask)
        case 5 | 6 | 7:
            return frame(dice.choice((0, 0, 1, 2)), payload(dice), dice.random() < 0.4, mask)
        case 8:
            return frame(dice.choice((9, 10)), payload(dice)[:125], mask=mask)
        case 9:
            return frame(8, dice.choice(CLOSES), mask=mask)
        case 10:
            return frame(dice.randrange(16), payload(dice), dice.random() < 0.7, mask)
        case _:
            masked = dice.random() < likely_masked
            return lying(dice.choice((0x81, 0x82, 0x01, 0x89)), dice.choice(LIES), masked, mask)


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
    """Fuzz for a while: 10 seconds with seed 0 unless told otherwise."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        dice = random.Random(f"{seed}/{rounds}")
        if rounds % 2:
            fast, by_engine = map(of_servers.start, (ClientSession, of_servers.EngineOnly))
            kind = unmasked, 0.2
        else:
            fast, by_engine = map(of_clients.start, (ServerSession, of_clients.EngineOnly))
            kind = frame, 0.8
        parts = [part(dice, *kind) for _ in range(dice.randint(1, 8))]
        reads = pieces(mutated(b"".join(parts), dice), dice)
        try:
            Ways(fast, by_engine).agree_on_reads(reads)
        except Exception:
            print(f"seed {seed}, round {rounds}: {reads!r}", file=sys.stderr)
            raise
        rounds += 1
    print(f"{rounds} streams of frames in {seconds:g} s, read alike in both ways")


if __name__ == "__main__":
    with of_servers.nothing_by_chance():
        main()
