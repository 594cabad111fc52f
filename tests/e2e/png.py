"""Makes a PNG smaller: at most 256 colours, in a palette."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256
FREQUENT = 64
"""Colours of the palette that are only the most frequent ones."""


def with_palette(png: bytes) -> bytes:
    """A picture with a palette; its most frequent colours stay as they are.

    Args:
        png: a picture of 8 bits a channel, RGB or RGBA, not interlaced, as browsers write it.
    """
    width, height, pixels = _pixels(png)
    counts = Counter(pixels)
    palette = [colour for colour, _ in counts.most_common(FREQUENT)]
    # How far each colour is from the palette, and which colour there is the nearest.
    near = {each: min((_distance(p, each), n) for n, p in enumerate(palette)) for each in counts}
    while len(palette) < min(COLOURS, len(counts)):
        # The one that would be missed most: a small green dot as much as many shades of grey.
        added = max(counts, key=lambda each: near[each][0] ** 2 * counts[each])
        palette.append(added)
        for each, (distance, _) in near.items():
            if (closer := _distance(added, each)) < distance:
                near[each] = closer, len(palette) - 1
    index = {colour: number for colour, (_, number) in near.items()}
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        rows += bytes(index[pixel] for pixel in pixels[y * width : (y + 1) * width])
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return SIGNATURE + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", head),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(bytes(rows), 9)),
            (b"IEND", b""),
        )
    )


def _distance(one: bytes, other: bytes) -> int:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def _pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and the colours of all pixels (PNG specification, section 9)."""
    chunks = list(_chunks(png))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, interlaced) == (8, 0)
    assert kind in (2, 6)
    step = 3 if kind == 2 else 4
    data = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    before = bytearray(width * step)
    found: list[bytes] = []
    for y in range(height):
        at = y * (width * step + 1)
        kind, line = data[at], bytearray(data[at + 1 : at + 1 + width * step])
        if kind == 1:
            for x in range(step, len(line)):
                line[x] = (line[x] + line[x - step]) & 0xFF
        elif kind == 2:
            line = bytearray((a + b) & 0xFF for a, b in zip(line, before, strict=True))
        elif kind in (3, 4):
            for x in range(len(line)):
                left = line[x - step] if x >= step else 0
                above, corner = before[x], before[x - step] if x >= step else 0
                if kind == 3:
                    guess = (left + above) // 2
                else:
                    p = left + above - corner
                    guess = min((abs(p - each), n, each)
                                for n, each in enumerate((left, above, corner)))[2]  # fmt: skip
                line[x] = (line[x] + guess) & 0xFF
        found += [bytes(line[x : x + 3]) for x in range(0, len(line), step)]
        before = line
    return width, height, found
