"""``sipws homer``: put mapping, dashboard and lookups into Homer 7, or write them to files."""

import argparse
import getpass
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, get_args

from hep.cli.usage import DONE, FAILED, print_error
from sipws.errors import ConfigurationError, SipwsError
from sipws.homer import api, files
from sipws.homer.difference import difference
from sipws.homer.plan import Plan, Step, plan_install, plan_remove, summary
from sipws.printable import lines, on_one_line

PASSWORD: Final = "SIPWS_HOMER_PASSWORD"  # noqa: S105 - the name of the variable that holds it
"""Environment variable with the password. Other users of the machine can see arguments."""

_COLOURS: Final = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
_PLAIN: Final = "\x1b[0m"

_INSTALL: Final = """\
Put the mapping of network events, a dashboard and the lookups between calls, registrations and
connections into Homer 7, through the API of homer-app 1.5. What is there already is compared
first: a second run changes nothing. Only fields, lookups and widgets of sipws are changed; they
have the key "sipws". Only an administrator of Homer can change mappings. The dashboard belongs to
the user.

The password is read from --password-file, from the environment variable SIPWS_HOMER_PASSWORD, or
is asked for on a terminal."""

_STATUS: Final = """\
Exit status: 0 installed, removed or unchanged, and after --dry-run; 1 homer-app refused or failed
(the message says what was done); 2 no homer-app, wrong user or password, or wrong input."""


def add_parser(subparsers: Any) -> None:
    """Register the commands.

    Args:
        subparsers: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = subparsers.add_parser(
        "homer",
        help="prepare Homer 7: search fields, dashboard, links between calls and connections",
        description="Prepare Homer 7 for the packets of sipws: search fields, a dashboard, and"
        " lookups that lead from a call to its WebSocket connection and back.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    install = actions.add_parser(
        "install",
        help="put mapping, dashboard and lookups into homer-app, or take them out",
        description=_INSTALL,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    install.add_argument(
        "--url", default=api.URL, help="of homer-app, as in a browser (default: %(default)s)"
    )
    install.add_argument("--user", required=True, help="an administrator of Homer")
    install.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file whose first line is the password"
    )
    install.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="certificates to trust, PEM (default: those of the system)",
    )
    install.add_argument(
        "--sip-correlation",
        choices=get_args(files.SipCorrelation),
        default="connection",
        help="the value of the setting trace_sip_correlation of sipws, for which the lookups are"
        " (default: %(default)s)",
    )
    install.add_argument(
        "--dry-run", action="store_true", help="show what would be changed, and change nothing"
    )
    install.add_argument(
        "--remove", action="store_true", help="take out what was installed, and nothing else"
    )
    install.set_defaults(run=_install)

    written = actions.add_parser(
        "files",
        help="write the files out, to load them manually",
        description="Write mapping, dashboard and lookups into a directory, to load them manually."
        " Existing files of the same names are replaced.",
    )
    written.add_argument("directory", type=Path, metavar="DIRECTORY")
    written.set_defaults(run=_files)


def _files(args: argparse.Namespace) -> int:
    try:
        for path in files.write(args.directory):
            print(lines(str(path)))
    except OSError as exc:
        raise ConfigurationError(
            f"{exc.filename or args.directory}: cannot be written ({exc.strerror})"
        ) from exc
    return DONE


def _install(args: argparse.Namespace) -> int:
    if not args.user.strip():
        raise ConfigurationError("--user is empty; name an administrator of Homer")
    homer = api.HomerApp(args.url, args.ca)
    password = _password(args.password_file)
    if homer.sends_in_clear:
        _warn([f"{homer.url} has no TLS: the password crosses the network in clear"])
    try:
        homer.log_in(args.user, password)
        plan = _plan(homer, args)
    except api.HomerError as exc:
        print_error("sipws", f"{exc}; nothing was changed")
        return FAILED
    _warn(plan.warnings)
    if args.dry_run:
        _show(plan)
        return DONE
    if homer.is_admin is False and any(step.kind == "mapping" for step in plan.changes):
        raise ConfigurationError(
            f"user {args.user!r} is not an administrator of Homer, and only administrators change"
            " mappings; nothing was changed"
        )
    if not _carry_out(homer, plan) or not _verify(homer, args, plan):
        return FAILED
    if not plan.changes:
        print("nothing to change")
    elif not args.remove:
        print("Reload Homer's page in the browser.")
    if not args.remove:
        print(f'sipws must run with trace_sip_correlation = "{args.sip_correlation}" in [tracing].')
    return DONE


def _plan(homer: api.HomerApp, args: argparse.Namespace) -> Plan:
    make = plan_remove if args.remove else plan_install
    return make(homer.existing(), files.wanted(args.sip_correlation))


def _carry_out(homer: api.HomerApp, plan: Plan) -> bool:
    """Do all steps of a plan until one fails, and report it; return whether all were done."""
    done: list[Step] = []
    for step in plan.steps:
        if step.action != "unchanged":
            try:
                homer.carry_out(step)
            except SipwsError as exc:
                left = [each for each in plan.changes if each not in done]
                print_error(
                    "sipws",
                    f"{step.name}: {exc}\ndone: {_names(done)}\nnot done: {_names(left)}\n"
                    "Run the command again to do the rest.",
                )
                return False
            done.append(step)
        _say(step)
    return True


def _verify(homer: api.HomerApp, args: argparse.Namespace, plan: Plan) -> bool:
    """Whether homer-app has what was sent; if not, report it."""
    if not plan.changes:
        return True
    try:
        left = _plan(homer, args).changes
    except SipwsError as exc:
        print_error("sipws", f"all was sent, but it cannot be verified: {exc}")
        return False
    if left:
        print_error("sipws", f"homer-app accepted, but did not keep: {_names(left)}")
    return not left


def _show(plan: Plan) -> None:
    """Print what would be changed."""
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for step in plan.steps:
        _say(step, "" if step.action == "unchanged" else "would be ")
    for step in plan.changes:
        print()
        for line in difference(step):
            start = _COLOURS.get(line[:1], "") if coloured else ""
            print(f"{start}{on_one_line(line)}{_PLAIN if start else ''}")
    if plan.changes:
        print()
    print("nothing to change" if not plan.changes else "nothing was changed (--dry-run)")


def _say(step: Step, would_be: str = "") -> None:
    print(lines(f"{step.name}: {would_be}{summary(step)}"))


def _names(steps: Iterable[Step]) -> str:
    return ", ".join(step.name for step in steps) or "nothing"


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print_error("sipws", f"warning: {warning}")


def _password(file: Path | None) -> str:
    """Find the password.

    Raises:
        ConfigurationError: there is none.
    """
    if file is not None:
        try:
            password = file.read_text("utf-8").split("\n", 1)[0]
        except (OSError, UnicodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not UTF-8"
            raise ConfigurationError(f"--password-file {file}: {reason}") from exc
        where = f"--password-file {file}"
    elif PASSWORD in os.environ:
        password, where = os.environ[PASSWORD], PASSWORD
    elif sys.stdin.isatty():
        try:
            password, where = getpass.getpass("Homer password: "), "the password"
        except EOFError:
            raise ConfigurationError("no password was entered") from None
    else:
        raise ConfigurationError(
            f"no password: give --password-file, set {PASSWORD}, or run the command on a terminal"
        )
    if not password:
        raise ConfigurationError(f"{where} is empty")
    return password
