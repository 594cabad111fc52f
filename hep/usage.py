"""What the subcommands of ``hep`` share."""

from typing import Final

from hep.errors import HepIdError
from hep.hep_id import HepId

DONE: Final = 0
"""Exit status: it was done."""
FAILED: Final = 1
"""Exit status: the thing asked about failed."""
WRONG_INPUT: Final = 2
"""Exit status: what the user gave is wrong."""


class WrongInputError(Exception):
    """What the user gave is wrong; the message says what and what to do."""


def destination(text: str) -> HepId:
    """A destination from an argument.

    Raises:
        WrongInputError: it is not written as a HEP id.
    """
    try:
        return HepId.parse(text)
    except HepIdError as exc:
        raise WrongInputError(str(exc)) from exc
