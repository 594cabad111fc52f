"""What both commands share: errors that act on no terminal, and the exit status."""

import argparse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hep.cli.usage import (
    CommandParser,
    WrongInputError,
    auth_key,
    print_error,
    readable,
    run_command,
)


@given(st.text())
def test_a_message_holds_nothing_that_acts_on_a_terminal(text: str) -> None:
    assert readable(text).replace("\n", "").replace("\t", "").isprintable()


@given(st.text().filter(str.isprintable))
def test_a_message_that_can_be_printed_is_unchanged(text: str) -> None:
    assert readable(text) == text


def test_an_error_is_escaped_and_begins_with_the_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_error("hep", "a\x1b[2J\u202e: wrong\n  second line")
    assert capsys.readouterr().err == "hep: a\\x1b[2J\\u202e: wrong\n  second line\n"


def fails(error: BaseException) -> Any:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "status", "message"),
    [
        (lambda args: None, 0, ""),
        (lambda args: 1, 1, ""),
        (fails(WrongInputError("x is wrong")), 2, "tool: x is wrong\n"),
        (fails(KeyboardInterrupt()), 0, ""),
    ],
)
def test_how_a_command_ends_is_its_status(
    run: Any, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = CommandParser(prog="tool")
    parser.set_defaults(run=run)
    assert run_command(parser, [], WrongInputError) == status
    assert capsys.readouterr().err == message


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--nonsense", 2)])
def test_arguments_end_with_a_status_too(
    argument: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = CommandParser(prog="tool")
    parser.add_subparsers().add_parser("part")
    assert run_command(parser, [argument], WrongInputError) == status
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: tool") == (status == 0)
    assert printed.err.startswith("usage: tool") == (status == 2)


def test_other_errors_are_bugs_and_are_raised() -> None:
    parser = CommandParser(prog="tool")
    parser.set_defaults(run=fails(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run_command(parser, [], WrongInputError)


def test_an_empty_authenticate_key_does_not_let_all_packets_in() -> None:
    with pytest.raises(WrongInputError, match="--auth is empty"):
        auth_key("")
    assert (auth_key(None), auth_key("k\udcff")) == (None, b"k\xff")
