"""What the subcommands of ``hep`` share; the exit statuses are those of ``sipws`` too."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from hep.codec.framing import Splitter
from hep.errors import HepIdError
from hep.hep_id import HepId

DONE: Final = 0
"""Exit status: it was done."""
FAILED: Final = 1
"""Exit status: the thing asked about failed."""
WRONG_INPUT: Final = 2
"""Exit status: what the user gave is wrong."""


LONGEST_LINE: Final = 1000
"""Characters of a line of a message: a longer value would bury what is said of it."""

MOST_LINES: Final = 200
"""Lines of a message."""

UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""How the system says that output cannot be written, other than by a broken pipe."""


def open_standard_streams() -> None:
    """Put the null device in the place of standard streams that are closed.

    Otherwise the next file or socket that is opened takes their number, and Python has no stream.
    What cannot be written in the encoding of the terminal is escaped.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            # It is open until the end, and its number stays taken.
            stream = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="backslashreplace")


def clipped(message: str) -> str:
    """A message that a person can read, however long the values in it are."""
    lines = message.split("\n")
    half = LONGEST_LINE // 2
    told = [
        line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"
        for line in lines[:MOST_LINES]
    ]
    if len(lines) > MOST_LINES:
        told.append(f"… and {len(lines) - MOST_LINES} lines more")
    return "\n".join(told)


def exit_status(program: str, run: Callable[[], int | None], wrong: type[Exception]) -> int:
    """Run a command, and turn how it ends into an exit status.

    Args:
        program: its name, for messages.
        run: carries it out; returns the status, nothing for `DONE`.
        wrong: the error of what the user gave.
    """
    try:
        status = run() or DONE
        # Here, and not at the end of Python, where an error is a traceback.
        sys.stdout.flush()
    except wrong as exc:
        print(f"{program}: {clipped(str(exc))}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return DONE
    except BrokenPipeError:
        # Whoever read our output has had enough.
        abandon_output()
        return DONE
    except OSError as exc:
        if exc.errno not in UNWRITABLE:
            raise
        print(f"{program}: the output cannot be written: {exc.strerror}", file=sys.stderr)
        abandon_output()
        return FAILED
    return status


def abandon_output() -> None:
    """Drop what is buffered for standard output: it would fail once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
