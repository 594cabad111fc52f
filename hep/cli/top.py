"""``hep top``: the live list of calls in a terminal."""

import argparse
import re
from importlib.util import find_spec
from typing import Any, Final, get_args

from hep.cli import view_client
from hep.cli.usage import WrongInputError
from hep.view.model.summary import CallKind, Outcome

INTERVAL: Final = 0.5
"""Seconds between two pictures. The viewer sends changes four times a second."""

SHORTEST: Final = 0.1
LONGEST: Final = 60.0

_is_code: Final = re.compile(r"[1-6](?:[0-9]{2}|xx)", re.IGNORECASE | re.ASCII).fullmatch


def add_parser(commands: Any) -> None:
    """Add the subcommand ``top`` to the parser of ``hep``."""
    parser = commands.add_parser(
        "top",
        help="show the live list of calls in the terminal",
        description="Show the calls of a running hep view as they come, until q or Ctrl-C. If the"
        " output is not a terminal: print each call on a line when it has finished.",
    )
    view_client.add_arguments(parser)
    parser.add_argument(
        "--interval",
        type=float,
        default=INTERVAL,
        metavar="SECONDS",
        help=f"time between two pictures, {SHORTEST:g} to {LONGEST:g} (default: {INTERVAL:g})",
    )
    parser.add_argument("--user", default="", help="only calls of users with this in user@host")
    parser.add_argument(
        "--code", default="", help="only calls with this status code, such as 486 or 4xx"
    )
    parser.add_argument(
        "--outcome",
        action="append",
        default=[],
        choices=get_args(Outcome),
        help="only calls that went like this; may be repeated",
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=get_args(CallKind),
        help="only calls, registrations, and so on; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run ``hep top`` with parsed arguments.

    Returns:
        the exit status.

    Raises:
        WrongInputError: an argument is wrong, the viewer cannot be reached, or Rich is missing.
    """
    if not SHORTEST <= args.interval <= LONGEST:
        raise WrongInputError(
            f"--interval {args.interval:g} is not from {SHORTEST:g} to {LONGEST:g} seconds"
        )
    if args.code and not _is_code(args.code):
        raise WrongInputError(
            f"--code {args.code!r} is no status code: write 486, or 4xx for that class"
        )
    client = view_client.from_arguments(args)
    # It brings values that other subcommands do not wait for.
    from hep.cli.top_calls import Wanted
    from hep.cli.top_lines import is_screen, print_finished

    wanted = Wanted(args.user, args.code, tuple(args.outcome), tuple(args.kind))
    if not is_screen():
        return print_finished(client, wanted)
    if find_spec("rich") is None:
        raise WrongInputError(
            "hep top needs Rich, which is not installed: pip install 'sipws[view]'; with its output"
            " in a pipe it needs nothing"
        )
    from hep.cli.top_screen import show

    return show(client, wanted, args.interval)
