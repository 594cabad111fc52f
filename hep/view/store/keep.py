"""How long packets are kept, by age and by size. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from hep.errors import HepError

MOST_PACKETS: Final = 500_000
"""Packets of a segment. Its indices fit into the cache of the writer then."""

PARTS: Final = 16
"""Parts of the age or the size that is kept: removing a segment frees one of them."""

SHORTEST: Final = 60
"""Seconds that a segment has at least, unless its size ends it."""

SMALLEST: Final = 4 << 20
"""Bytes that a segment has at least."""

LARGEST: Final = 1 << 30
"""Bytes that a segment has at most."""

IN_MEMORY: Final = 256 << 20
"""Bytes that are kept in memory by default."""

ON_DISK: Final = 10 << 30
"""Bytes that are kept on disk by default."""

_UNITS: Final = {
    "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800,
    "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_AGES: Final = "smhdw"
_is_keep: Final = re.compile(r"([0-9]{1,12})\s*([a-z]+)", re.IGNORECASE).fullmatch


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept; the oldest segment beyond it is removed."""

    seconds: int | None = None
    """Age in seconds, from 1; None for any."""
    bytes: int | None = None
    """Size in bytes, from `SMALLEST`; None for any."""

    @property
    def segment_seconds(self) -> float:
        """Seconds after which a segment ends."""
        return max(SHORTEST, self.seconds / PARTS) if self.seconds is not None else float("inf")

    @property
    def segment_bytes(self) -> int:
        """Bytes after which a segment ends."""
        if self.bytes is None:
            return LARGEST
        return min(LARGEST, max(SMALLEST // 4, self.bytes // PARTS))


def parse_keep(texts: list[str], default_bytes: int) -> Keep:
    """Read what ``--keep`` says: ``24h``, ``2GB``, or one of each.

    Args:
        texts: one or two limits.
        default_bytes: the size that is kept if none is given.

    Raises:
        HepError: a text is no limit, or there are two of a kind.
    """
    seconds: int | None = None
    size: int | None = None
    for text in texts:
        match = _is_keep(text.strip())
        unit = match[2].lower() if match else ""
        if match is None or unit not in _UNITS or int(match[1]) == 0:
            raise HepError(
                f"--keep {text!r} is neither an age nor a size: write 30m, 24h, 7d, 500MB or 2GB"
            )
        amount = int(match[1]) * _UNITS[unit]
        if unit in _AGES:
            if seconds is not None:
                raise HepError(
                    f"--keep {text!r}: there is an age already; give one age and one size"
                )
            seconds = amount
        else:
            if size is not None:
                raise HepError(
                    f"--keep {text!r}: there is a size already; give one age and one size"
                )
            if amount < SMALLEST:
                raise HepError(f"--keep {text!r} is too little: keep 4MB or more")
            size = amount
    return Keep(seconds, size if size is not None else default_bytes)
