"""``hep why``: say what became of a call, with its ladder."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from hep.cli import view_client
from hep.cli.usage import WrongInputError

NARROWEST: Final = 40
"""Columns of a ladder at least."""

WIDEST: Final = 1000
"""Columns at most."""

PIPE_WIDTH: Final = 100
"""Columns of a ladder that goes to a file or a pipe."""


def add_parser(commands: Any) -> None:
    """Add the subcommand ``why`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "why",
        help="say what became of a call, with its ladder",
        description="Say in one sentence what became of a call, and draw its ladder. It is searched"
        " in captures, in a store (--store), or in a running hep view (--url). Of several calls"
        " there is a table, and the latest one is drawn.",
        epilog="Exit status: 0 found, 1 nothing found, 2 wrong arguments.",
    )
    parser.add_argument(
        "text",
        metavar="CALL-ID|USER|NUMBER",
        help="Call-ID, user, user@host, number, IP address or branch, or a part of a Call-ID or"
        " user",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="pcap, pcapng or HEP; - for standard input"
    )
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="search the store that hep view --store DIR keeps"
    )
    view_client.add_arguments(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="draw all calls that are found")
    which.add_argument("--last", type=int, metavar="N", help="draw the latest N calls")
    which.add_argument("--number", type=int, metavar="N", help="draw call N of the table")
    parser.add_argument(
        "--messages", action="store_true", help="print the messages too, without credentials"
    )
    parser.add_argument(
        "--anonymous", action="store_true", help="replace users, numbers, hosts and addresses"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument(
        "--ascii", action="store_true", help="draw with ASCII; names keep their characters"
    )
    parser.add_argument(
        "--width",
        type=int,
        metavar="COLUMNS",
        help=f"{NARROWEST} to {WIDEST} (default: that of the terminal, otherwise {PIPE_WIDTH})",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep why`` with parsed arguments.

    Returns:
        the exit status: `FAILED` if nothing was found.

    Raises:
        WrongInputError: an argument is wrong, or the place to search cannot be read.
    """
    _check(args)
    if args.width is None:
        args.width = _columns()
    # It brings the store and the exports, which other subcommands do not wait for.
    from hep.cli.why_answer import answer

    return answer(args)


def _columns() -> int:
    """The width of the terminal, within what can be drawn."""
    if not sys.stdout.isatty():
        return PIPE_WIDTH
    return min(max(shutil.get_terminal_size((PIPE_WIDTH, 24)).columns, NARROWEST), WIDEST)


def _check(args: argparse.Namespace) -> None:
    if not args.text.strip():
        raise WrongInputError("name a call: its Call-ID, or a user or number of it")
    given = [
        name
        for name, is_given in (
            ("FILE", bool(args.files)),
            ("--store", args.store is not None),
            ("--url", args.url is not None),
        )
        if is_given
    ]
    if len(given) > 1:
        raise WrongInputError(f"{' and '.join(given)} exclude each other: name one place to search")
    for option, number in (("--last", args.last), ("--number", args.number)):
        if number is not None and number < 1:
            raise WrongInputError(f"{option} {number} is not a number of calls; use 1 or more")
    if args.width is not None and not NARROWEST <= args.width <= WIDEST:
        raise WrongInputError(f"--width {args.width} is not from {NARROWEST} to {WIDEST}")
