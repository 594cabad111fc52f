"""File descriptors: how many there may be, how many connections that is, and when none is left.

A connection needs a descriptor, a relayed one needs two. A process without free descriptors cannot
accept, reach its upstream or a collector, or open a file.
"""

import asyncio
import errno
import logging
import os
import resource
import time
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

RESERVE: Final = 256
"""Descriptors that are not for connections: listeners, collectors, files, the control interface and
its 64 connections, 64 refused peers that get an answer, the resolver of names."""

LOOK_INTERVAL: Final = 1.0
"""Seconds between two checks for free descriptors, and so between two log entries."""

OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
"""Error numbers for a process, or a machine, without free descriptors."""


def raise_limit() -> int:
    """Raise the limit on descriptors to the highest that the process may have.

    The soft limit is 1024 on most systems, for programs that use ``select``; the hard one is
    what the administrator allows.

    Returns:
        the limit afterwards.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a hard limit that they do not grant.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    """The number of descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def connections_within(descriptors: int, *, relayed: bool) -> int:
    """How many connections fit into a number of descriptors.

    Args:
        descriptors: the number that the process may have.
        relayed: whether each connection has a second one, to an upstream.
    """
    # With very few descriptors connections still get a quarter. More would leave none for the
    # control interface while 64 peers are being refused.
    room = max(descriptors - RESERVE, descriptors // 4)
    return max(1, room // 2 if relayed else room)


def are_left() -> bool:
    """Whether a descriptor is free."""
    try:
        found = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        return exc.errno not in OUT_OF_DESCRIPTORS
    os.close(found)
    return True


class Watch:
    """Checks every second whether descriptors are left, and logs it.

    Event loops do not report that they cannot accept: uvloop accepts and drops the connection.

    Args:
        interval: seconds between two checks.
    """

    def __init__(self, interval: float = LOOK_INTERVAL) -> None:
        self.exhausted = 0
        """How often none was left, at an accept or at a check."""
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._were_left = True
        self._silent_until = 0.0

    def start(self) -> None:
        """Start the checks; needs a running event loop."""
        if self._timer is None:
            self._wait()

    def close(self) -> None:
        """Stop the checks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def _look(self) -> None:
        self.look()
        self._wait()

    def look(self) -> None:
        """Check whether file descriptors are left."""
        if not are_left():
            self.note()
        elif not self._were_left:
            self._were_left = True
            log.info("there are file descriptors again: connections are accepted")

    def note(self) -> None:
        """Count a descriptor that was needed and not free; logged once in an interval."""
        self.exhausted += 1
        self._were_left = False
        if (now := time.monotonic()) < self._silent_until:
            return
        # A timer of the loop may come some milliseconds early or late.
        self._silent_until = now + self._interval * 0.9
        log.error(
            "no file descriptor is left (this process may have %d): new connections are dropped,"
            " and no upstream, collector or file can be opened; lower max_connections, or raise the"
            " limit (LimitNOFILE= in systemd)",
            limit(),
        )
