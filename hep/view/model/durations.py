"""Spans of time as one says them. Pure."""

from typing import Final

SECOND: Final = 1_000_000
"""Microseconds."""


def spoken(microseconds: int) -> str:
    """A span of time in one or two units: ``0.3 s``, ``41 s``, ``3 min 2 s``, ``1 h 2 min``.

    Args:
        microseconds: the span; a negative one, of clocks that differ, counts as 0.
    """
    if microseconds < SECOND:
        return f"{max(microseconds, 0) // 100_000 / 10:g} s"
    seconds = microseconds // SECOND
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return _joined(minutes, "min", seconds, "s")
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return _joined(hours, "h", minutes, "min")
    days, hours = divmod(hours, 24)
    return _joined(days, "d", hours, "h")


def _joined(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"
