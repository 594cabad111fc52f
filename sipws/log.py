"""Logging of the program: one line an entry, on standard error.

The library itself only calls `logging.getLogger` and leaves the rest to the program.
"""

import logging
import sys


def setup(level: int = logging.INFO) -> None:
    """Write log entries of sipws to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("sipws").setLevel(level)
    logging.getLogger("hep").setLevel(level)
    # The engine reports the opening and closing of each connection; the bus does that already.
    logging.getLogger("sipws.engine").setLevel(logging.WARNING)
