"""What reading a capture costs: ``python benchmarks/captures.py [MEGABYTES]``.

Writes captures of that size (30 MB by default) to a temporary directory and reads each in a process
of its own. Prints processor time and the largest amount of memory.
"""

import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hep.captures import wire

HEADER: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, wire.ETHERNET)
SIP: Final = (
    b"OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK%d\r\n"
    b"Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\n"
    b"Call-ID: %d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
STREAMS: Final = 100
READ: Final = """
import resource, sys, time
from hep.captures.pcap import Capture
began = time.process_time()
with Capture(sys.argv[1]) as capture:
    found = sum(1 for _ in capture.packets())
took = time.process_time() - began
frames = capture.counters["frames"]
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(f"{frames} frames, {found} messages: {took:.1f} s, {took / frames * 1e6:.1f} us a frame,"
      f" {memory} MB")
"""


def udp(payload: bytes) -> bytes:
    """A frame with a datagram."""
    return wire.udp_frame(bytes(4), bytes(4), 5060, 5060, payload)


class Streams:
    """Makes frames of several TCP streams."""

    def __init__(self) -> None:
        self._next = [1] * STREAMS

    def frame(self, number: int, payload: bytes) -> bytes:
        """The next segment of one of the streams."""
        stream = number % STREAMS
        header = struct.pack(
            "!HHIIBBHHH",
            40_000 + stream,
            8080,
            self._next[stream] % 2**32,
            1,
            0x50,
            0x18,
            65_535,
            0,
            0,
        )
        self._next[stream] += len(payload)
        frame = bytearray(udp(bytes(12) + payload))
        frame[23] = wire.TCP
        frame[34:54] = header
        return bytes(frame)


def masked(payload: bytes) -> bytes:
    """A WebSocket frame of a client."""
    return b"\x81\xfe" + struct.pack("!H", len(payload)) + bytes(4) + payload


def kinds() -> dict[str, Callable[[int], bytes]]:
    """Functions that make the frames of a capture, by the name of its kind."""
    dice, streams = random.Random(1), Streams()
    rtp, noise = dice.randbytes(171), dice.randbytes(1 << 20)

    def binary(number: int) -> bytes:
        at = number * 7919 % (len(noise) - 1400)
        return streams.frame(number, noise[at : at + 1400])

    return {
        "RTP with 2 % SIP": lambda n: udp(SIP % (n, n)) if n % 50 == 0 else udp(b"\x80" + rtp),
        "SIP over UDP": lambda n: udp(SIP % (n, n)),
        "SIP over WebSocket": lambda n: streams.frame(n, masked(SIP % (n, n))),
        "other TCP": binary,
    }


def main() -> None:
    """Measure a capture of each kind."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 30) * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for name, make in kinds().items():
            path = Path(folder) / "x.pcap"
            with path.open("wb") as out:
                out.write(HEADER)
                number = 0
                while out.tell() < size:
                    frame = make(number)
                    length = len(frame)
                    out.write(struct.pack("<IIII", 1_700_000_000, number % 10**6, length, length))
                    out.write(frame)
                    number += 1
            print(f"{name:20}", end="", flush=True)
            subprocess.run([sys.executable, "-c", READ, os.fspath(path)], check=True)


if __name__ == "__main__":
    main()
