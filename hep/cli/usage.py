"""What all subcommands of ``hep`` and ``sipws`` share: arguments, errors, exit status."""

import argparse
import asyncio
import errno
import os
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from hep.codec.chunks import ProtocolType
from hep.codec.framing import Splitter
from hep.errors import HepIdError
from hep.hep_id import HepId

DONE: Final = 0
"""Exit status: success."""
FAILED: Final = 1
"""Exit status: the check or the operation failed."""
WRONG_INPUT: Final = 2
"""Exit status: the user's input is wrong."""

LONGEST_LINE: Final = 1000
"""Characters of a line of an error message; the middle of a longer line is cut out."""

MOST_LINES: Final = 200
"""Lines of an error message; further lines are only counted."""

UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write to a file or a disk that is full or broken."""


def open_standard_streams() -> None:
    """Open the null device for standard streams that are closed.

    Otherwise the next file or socket gets the number of such a stream, and Python has no stream
    object. Characters that the encoding of standard output does not have are escaped.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            # The file descriptor stays open until the end of the process.
            stream = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="backslashreplace")


def auth_key(given: str | None) -> bytes | None:
    """The authenticate key of ``--auth``, as packets must have it; None if any packet will do.

    Args:
        given: the value of the option. Arguments that are not UTF-8 are passed on byte by byte.

    Raises:
        WrongInputError: it is empty, which every packet without a key would meet.
    """
    if given == "":
        raise WrongInputError(
            "--auth is empty, so that any packet would do: give a key, or omit it"
        )
    return None if given is None else given.encode(errors="surrogateescape")


def clipped(message: str) -> str:
    """Shorten a message to `MOST_LINES` lines of `LONGEST_LINE` characters each."""
    lines = message.split("\n")
    half = LONGEST_LINE // 2
    kept = [
        line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"
        for line in lines[:MOST_LINES]
    ]
    if len(lines) > MOST_LINES:
        kept.append(f"… and {len(lines) - MOST_LINES} lines more")
    return "\n".join(kept)


def readable(message: str) -> str:
    """Escape the characters of a message that act on a terminal or are invisible.

    Tabs and ends of lines are kept. A message quotes files and packets of others.
    """
    if message.isprintable():
        return message
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in message
    )


def print_error(program: str, message: str) -> None:
    """Print an error to standard error, shortened and escaped; never raises.

    Args:
        program: its name, which begins the message.
        message: the error; several lines are allowed.
    """
    try:
        print(f"{program}: {readable(clipped(message))}", file=sys.stderr, flush=True)
    except OSError:
        # There is no other place for it. The exit status still says that the command failed.
        _abandon(sys.stderr)


class CommandParser(argparse.ArgumentParser):
    """A parser of arguments that does not hide that its output cannot be written.

    The parser of the standard library ignores an error of ``--help`` and ``--version``.
    """

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


def run_command(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, wrong: type[Exception]
) -> int:
    """Run a command, from its arguments to its exit status.

    Args:
        parser: of the arguments. It sets ``run``, a function that takes the parsed arguments and
            returns the exit status, None for `DONE`. Its ``prog`` begins error messages.
        argv: the arguments without the program's name; None for those of the process.
        wrong: the exception for input of the user that is wrong.

    Returns:
        the exit status: `WRONG_INPUT` after ``wrong``, `FAILED` if the output cannot be written,
        `DONE` after Ctrl-C or if the reader of the output has closed it.
    """
    open_standard_streams()
    program = parser.prog
    try:
        status = _run(parser, argv)
        # An error of the flush at the end of Python would be a traceback, or ignored.
        sys.stdout.flush()
    except wrong as exc:
        print_error(program, str(exc))
        return WRONG_INPUT
    except KeyboardInterrupt:
        return DONE
    except BrokenPipeError:
        _abandon(sys.stdout)
        return DONE
    except OSError as exc:
        if exc.errno not in UNWRITABLE:
            raise
        print_error(program, f"the output cannot be written: {exc.strerror}")
        _abandon(sys.stdout)
        return FAILED
    return status


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    try:
        args = parser.parse_args(argv)
    except SystemExit as exc:
        # After --help and --version, or after a message that an argument is wrong.
        return exc.code if isinstance(exc.code, int) else DONE
    return args.run(args) or DONE


def _abandon(stream: TextIO) -> None:
    """Drop what is buffered for a stream; otherwise the flush at the end of Python fails again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def on_signals(stop: Callable[[], object]) -> None:
    """Call ``stop`` on SIGINT and SIGTERM; needs a running event loop.

    A further call replaces the function of the one before.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


class WrongInputError(Exception):
    """The user's input is wrong; the message names the value and the remedy."""


def packets_in(data: bytes) -> tuple[list[bytes], int]:
    """Split a file into HEP packets.

    Returns:
        the packets, and the number of bytes between them that are not HEP. A file without a packet
        of version 3 is returned as one packet of version 1 or 2. The last packet may lack its end.
    """
    splitter = Splitter()
    found = splitter.feed(data) if data[:1] not in (b"\x01", b"\x02") else []
    if not found:
        return [data], 0
    if splitter.buffered:
        # The last packet lacks its end. It is no packet, which its reader reports.
        found.append(data[-splitter.buffered :])
    return found, splitter.skipped


def server_tls(option: str, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Load the certificate of a TLS listener.

    Args:
        option: the argument that asks for TLS, for messages.
        certificate: the file of ``--tls-certificate``; None if the argument is missing.
        key: the file of ``--tls-key``; None if the certificate's file has the key.

    Raises:
        WrongInputError: there is no certificate, or it cannot be loaded.
    """
    if certificate is None:
        raise WrongInputError(f"{option} needs --tls-certificate FILE")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as exc:
        files = " and ".join(filter(None, (certificate, key)))
        raise WrongInputError(
            f"{files}: not a certificate with its private key: {exc.strerror or exc}"
        ) from exc
    return context


def secret(option: str, file: str | None, variable: str) -> str | None:
    """A token from a file, or from an environment variable; None without both.

    A token is no argument: everybody on the machine can read those.

    Args:
        option: the argument with the file, for messages.
        file: its value; ``-`` is the standard input, None if the argument is missing.
        variable: the environment variable.

    Raises:
        WrongInputError: the file cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(variable) or None
    try:
        text = sys.stdin.readline() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise WrongInputError(f"{option} {file}: cannot be read: {why}") from exc
    if not text.strip():
        raise WrongInputError(f"{option} {file} is empty: write a token into it")
    return text.strip()


def protocol_type(text: str) -> int | None:
    """Read a HEP protocol type from an argument: a name in any case, or a number.

    Returns:
        the number, 0 to 255; None if the argument is neither.
    """
    try:
        return ProtocolType[text.upper().replace("-", "_")]
    except KeyError:
        pass
    try:
        number = int(text, 0)
    except ValueError:
        return None
    return number if 0 <= number <= 0xFF else None


def destination(text: str) -> HepId:
    """Read a destination from an argument.

    Raises:
        WrongInputError: it is not a HEP id, ``host[:port][;transport=…][;version=…]``.
    """
    try:
        return HepId.parse(text)
    except HepIdError as exc:
        raise WrongInputError(str(exc)) from exc
