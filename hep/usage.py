"""What the subcommands of ``hep`` share."""

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
