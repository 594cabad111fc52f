"""Logging of the program: one line an entry on standard error, as text or as JSON.

The library itself only calls `logging.getLogger`; the program does the rest. ``extra`` of an entry
becomes fields of its JSON. Texts from peers are escaped here, for all modules and libraries; see
`sipws.printable`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from sipws.errors import ConfigurationError
from sipws.printable import json_escaped, on_one_line

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

TEXT: Final = "%(asctime)s %(levelname)-7s %(message)s"
OF_WORKER: Final = "%(asctime)s %(levelname)-7s worker %(worker)d: %(message)s"

PACKAGES: Final = ("sipws", "hep")
"""The packages whose entries are written from the level of the program on."""

LEVELS: Final = {-3: 60, -2: 50, -1: 40, 0: 35, 1: 30, 2: 25, 3: 20, 4: 10}
"""OpenSIPS' levels, from alert (-3) to debug (4), as levels of `logging` (dprint.h)."""

_NO_FIELDS: Final = {*vars(logging.makeLogRecord({})), "message", "asctime"}
"""The attributes of every entry: all others were given as ``extra``."""


class JsonLines(logging.Formatter):
    """Writes an entry as one JSON object on one line.

    ``time`` (ISO 8601, UTC, milliseconds), ``level``, ``logger`` and ``message`` are always there;
    fields of the entry follow, and ``exception`` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format an entry as one line of JSON."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: x for name, x in vars(record).items() if name not in _NO_FIELDS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json_escaped(json.dumps(line, ensure_ascii=False, default=str))


class TextLines(logging.Formatter):
    """Writes an entry as text: one line, and further lines of it indented below.

    No text from a peer starts an entry of its own, or acts on a terminal. The lines of a traceback
    are kept, and those that show a mistake in a file of the operator.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format an entry as text, further lines indented."""
        first, *more = super().format(record).split("\n")
        return "\n    ".join(map(on_one_line, [first, *more]))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging has it
        """The first line."""
        text = super().formatMessage(record)
        args = record.args if isinstance(record.args, tuple) else ()
        if any(isinstance(each, ConfigurationError) for each in args):
            return text
        return on_one_line(text)


class _Handler(logging.StreamHandler[Any]):
    """Our handler, distinguishable from those of the application."""


def setup(
    level: Level = "info",
    format: Format = "text",  # noqa: A002 - as configured
    worker: int | None = None,
) -> None:
    """Write log entries to standard error; called again, it replaces what it set up before.

    Args:
        level: lowest level that is written.
        format: of the entries.
        worker: number of this process among several; each entry shows it.
    """
    handler = _Handler(sys.stderr)
    text = TEXT if worker is None else OF_WORKER
    handler.setFormatter(JsonLines() if format == "json" else TextLines(text))
    if worker is not None:
        handler.addFilter(partial(_mark, worker))
    root = logging.getLogger()
    for earlier in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    _set_level(level.upper())
    # The engine reports the opening and closing of each connection; the bus does that already.
    logging.getLogger("sipws.engine").setLevel(logging.WARNING)


def opensips_level() -> int:
    """The lowest level that is written, as OpenSIPS counts levels."""
    level = logging.getLogger(PACKAGES[0]).getEffectiveLevel()
    return max((number for number, each in LEVELS.items() if each >= level), default=min(LEVELS))


def set_opensips_level(number: int) -> None:
    """Change the lowest level that is written.

    Args:
        number: as OpenSIPS counts levels; one beyond `LEVELS` stands for the nearest of them.
    """
    _set_level(LEVELS[min(max(number, min(LEVELS)), max(LEVELS))])


def _set_level(level: str | int) -> None:
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)


def _mark(worker: int, record: logging.LogRecord) -> bool:
    record.worker = worker
    return True
