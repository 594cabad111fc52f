"""Checks that the package `hep` is that of sipws.

PyPI has another distribution with a top-level package ``hep``. Installed after sipws, it replaces
files of ours; uninstalled, it takes them along.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

PROGRAM: Final = "sipws"
"""The program that ends with the message alone. The program ``hep`` checks in `hep.cli`."""

REMEDY: Final = (
    "remove the other one and install sipws again: pip uninstall hep; pip install"
    " --force-reinstall --no-deps sipws"
)


def check() -> None:
    """Check that `hep` is ours.

    Raises:
        ImportError: it is another package, or there is none.
        SystemExit: so in the program ``sipws``, with status 2 after a message.
    """
    problem = _problem()
    if problem is None:
        return
    if sys.argv and Path(sys.argv[0]).name == PROGRAM:
        print(f"{PROGRAM}: {problem}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(problem)


def _problem() -> str | None:
    try:
        found = import_module("hep")
    except ImportError as exc:
        return f"the package hep of sipws cannot be imported ({exc}); {REMEDY}"
    if getattr(found, "__distribution__", None) == "sipws":
        return None
    place = found.__file__ or next(iter(found.__path__), "an unknown place")
    return f"the package hep in {place} is not that of sipws; {REMEDY}"
