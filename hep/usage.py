"""What the subcommands of ``hep`` share; the exit statuses are those of ``sipws`` too."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from hep.errors import HepIdError
from hep.framing import Splitter
from hep.hep_id import HepId

DONE: Final = 0
"""Exit status: it was done."""
FAILED: Final = 1
"""Exit status: the thing asked about failed."""
WRONG_INPUT: Final = 2
"""Exit status: what the user gave is wrong."""


def on_signals(stop: Callable[[], object]) -> None:
    """Call ``stop`` where Ctrl-C, or who ends the program otherwise, would end it at once.

    Needs a running event loop; another call takes the place of the one before.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


class WrongInputError(Exception):
    """What the user gave is wrong; the message says what and what to do."""


def packets_in(data: bytes) -> tuple[list[bytes], int]:
    """The packets that stand one behind the other in a file, and how many bytes are none.

    A file without a version 3 packet is taken for one of version 1 or 2.
    """
    splitter = Splitter()
    found = splitter.feed(data) if data[:1] not in (b"\x01", b"\x02") else []
    return (found, splitter.skipped) if found else ([data], 0)


def destination(text: str) -> HepId:
    """A destination from an argument.

    Raises:
        WrongInputError: it is not written as a HEP id.
    """
    try:
        return HepId.parse(text)
    except HepIdError as exc:
        raise WrongInputError(str(exc)) from exc
