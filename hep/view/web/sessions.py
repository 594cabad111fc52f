"""Sessions of browsers, and counts of wrong tokens. Pure: the time is an argument."""

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from typing import Final

LIFETIME: Final = 12 * 3600.0
"""Seconds that a session is valid for: a working day."""

MOST_SESSIONS: Final = 1000
"""Sessions at once. One more ends the oldest."""

MOST_FAILURES: Final = 10
"""Wrong tokens from one address within `WINDOW`; then it has to wait."""

WINDOW: Final = 60.0
"""Seconds for which a wrong token counts."""

MOST_ADDRESSES: Final = 4096
"""Addresses whose wrong tokens are counted. One more removes the one that failed first."""

MOST_FAILURES_IN_ALL: Final = 1000
"""Wrong tokens from all addresses within `WINDOW`: an attacker may have many addresses."""


class Sessions:
    """The sessions of browsers. Their ids are random, and only hashes of them are kept."""

    def __init__(self) -> None:
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def begin(self, now: float) -> str:
        """Begin a session.

        Args:
            now: seconds on a monotonic clock.

        Returns:
            its id, for the cookie.
        """
        self._forget(now)
        while len(self._ends) >= MOST_SESSIONS:
            self._ends.popitem(last=False)
        name = secrets.token_urlsafe(32)
        self._ends[_hash(name)] = now + LIFETIME
        return name

    def is_valid(self, name: str, now: float) -> bool:
        """Whether a session goes on.

        Args:
            name: its id, as a browser sends it.
            now: seconds on a monotonic clock.
        """
        end = self._ends.get(_hash(name))
        return end is not None and now < end

    def end(self, name: str) -> None:
        """End a session.

        Args:
            name: its id, as a browser sends it.
        """
        self._ends.pop(_hash(name), None)

    def _forget(self, now: float) -> None:
        # All last as long, so that they end in the order of their begin.
        while self._ends and next(iter(self._ends.values())) <= now:
            self._ends.popitem(last=False)


def _hash(name: str) -> bytes:
    # A look-up takes a time that depends on the bytes; those of a hash say nothing of the id.
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()


class Failures:
    """Wrong tokens by address."""

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=MOST_FAILURES_IN_ALL)

    def wait(self, address: str, now: float) -> float:
        """Return the seconds for which no token of an address is checked; 0 if it may try.

        Args:
            address: of the client.
            now: seconds on a monotonic clock.
        """
        waits = [0.0]
        for times, most in (
            (self._by_address.get(address, deque()), MOST_FAILURES),
            (self._all, MOST_FAILURES_IN_ALL),
        ):
            if len(times) >= most:
                waits.append(times[0] + WINDOW - now)
        return max(waits)

    def add(self, address: str, now: float) -> None:
        """Count a wrong token.

        Args:
            address: of the client.
            now: seconds on a monotonic clock.
        """
        if address not in self._by_address and len(self._by_address) >= MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        self._by_address.setdefault(address, deque(maxlen=MOST_FAILURES)).append(now)
        self._all.append(now)


def is_token(given: str, token: str) -> bool:
    """Whether a client knows the token, in a time that does not depend on what it gives.

    Args:
        given: what the client sends.
        token: the token.
    """
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
