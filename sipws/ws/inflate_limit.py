"""Limits what the compressed messages of a connection inflate to per second. Pure.

80 compressed bytes can be a message of 64 KiB, so that the network does not limit the work.
"""

from sipws.limits import INFLATE_BURST


class InflateLimit:
    """Delays a connection whose messages inflate to more than the rate.

    Args:
        rate: bytes per second, above 0 (`sipws.limits.Limits.inflate_rate`).
    """

    __slots__ = ("_paid_at", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        # The moment by which the rate allows for all bytes so far.
        self._paid_at = 0.0

    def add(self, size: int, now: float) -> float:
        """Count the bytes of a frame.

        Args:
            size: bytes after decompression.
            now: the time of a monotonic clock, in seconds.

        Returns:
            seconds until the next frame may be taken; 0 for at once.
        """
        paid_at = max(self._paid_at, now) + size / self._rate
        self._paid_at = paid_at
        return max(0.0, paid_at - now - INFLATE_BURST)
