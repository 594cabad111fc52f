"""Which values are too long for an index of PostgreSQL. Pure.

heplify-server creates an index on ``sid`` and one on the correlation id in ``protocol_header``. A
row whose value does not fit into an index is refused. PostgreSQL compresses a long value first.
Its result is estimated here: what is found too long is too long, and some values that are too long
are not found.
"""

import zlib
from typing import Final

LONGEST: Final = 2_692
"""Bytes of a value in an index row: 2,704 (PostgreSQL's limit for B-trees) without headers."""

_WORTHWHILE: Final = 0.75
"""PostgreSQL stores a value uncompressed unless it becomes this much shorter."""

_FIRST: Final = 1_024
"""PostgreSQL gives up unless something repeats within these first bytes."""

_UNREPEATED: Final = 0.99
"""Size to which text without repetitions is compressed, of its own size."""


def is_too_long(value: bytes) -> bool:
    """Whether a value certainly does not fit into an index row."""
    if len(value) <= LONGEST:
        return False
    size = _compressed(value)
    start = value[:_FIRST]
    return size > min(LONGEST, _WORTHWHILE * len(value)) or _compressed(start) > _UNREPEATED * len(
        start
    )


def _compressed(value: bytes) -> int:
    """The size with repetitions written as references, and all else as it is.

    That is how PostgreSQL compresses. Deflate without codes of its own takes a little less.
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=zlib.Z_FIXED)
    return len(deflate.compress(value) + deflate.flush())
