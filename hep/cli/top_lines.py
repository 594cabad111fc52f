"""Prints finished calls, a line each, for pipes and files."""

import os
import select
import sys
from contextlib import suppress
from datetime import datetime
from typing import Final

from hep.cli.top_calls import Finished, Wanted, line
from hep.cli.top_feed import Changed, Ended, Feed, Lost, Whole
from hep.cli.usage import DONE, WrongInputError, print_error
from hep.cli.view_client import ViewClient

LOOK: Final = 1.0
"""Seconds between two looks whether the reader of the output has gone."""


def is_screen() -> bool:
    """Whether the output is a terminal that pictures can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def print_finished(client: ViewClient, wanted: Wanted) -> int:
    """Print calls as they finish, until Ctrl-C or until the reader of the output has gone.

    Args:
        client: of the viewer.
        wanted: which calls are printed.

    Returns:
        the exit status.

    Raises:
        WrongInputError: the viewer refuses, or cannot be reached at the start.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    feed = Feed(client, wanted, lambda: _write(wake))
    finished, has_begun = Finished(wanted), False
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    output = sys.stdout.fileno()
    # It reports POLLERR alone: that the reader has gone.
    poll.register(output, 0)
    feed.start()
    try:
        while True:
            for number, _ in poll.poll(LOOK * 1000):
                if number == output:
                    return DONE
                os.read(number, 4096)
            for news in feed.news():
                if isinstance(news, Ended):
                    raise WrongInputError(str(news))
                if isinstance(news, Lost):
                    print_error("hep", f"{news}; it is tried again")
                if isinstance(news, Whole | Changed):
                    calls = finished.of(news)
                    # What had finished before the start is known.
                    if has_begun:
                        today = datetime.now()
                        print("".join(f"{line(call, today)}\n" for call in calls), end="")
                        sys.stdout.flush()
                    has_begun = True
    finally:
        feed.stop()


def _write(number: int) -> None:
    # A pipe that is full wakes anyhow.
    with suppress(BlockingIOError):
        os.write(number, b"\0")
