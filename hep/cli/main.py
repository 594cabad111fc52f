"""The command ``hep``.

Exit status: 0 done, 1 the thing asked about failed, 2 the user's input was wrong.
"""

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from hep.cli import decode, doctor, listen, replay, send, top, view, why
from hep.cli.usage import CommandParser, WrongInputError, run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``hep``.

    Args:
        argv: the arguments without the program's name; None for those of the process.

    Returns:
        the exit status.
    """
    return run_command(_parser(), argv, WrongInputError)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="hep", description="Send, receive and read HEP, the Homer Encapsulation Protocol."
    )
    parser.add_argument("--version", action="version", version=f"hep {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listen.add_parser(commands)
    decode.add_parser(commands)
    send.add_parser(commands)
    replay.add_parser(commands)
    doctor.add_parser(commands)
    view.add_parser(commands, _version())
    why.add_parser(commands)
    top.add_parser(commands)
    return parser


def _version() -> str:
    try:
        return version("sipws")
    except PackageNotFoundError:
        return "from a source tree"
