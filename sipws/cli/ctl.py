"""``sipws ctl``: control and inspect a running sipws, from a terminal or a script."""

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any, Final

from hep.cli.usage import DONE, FAILED, print_error
from sipws.control import client as ctl_client
from sipws.control.mi import MiError
from sipws.errors import ConfigurationError
from sipws.printable import lines

TOKEN: Final = "SIPWS_CONTROL_TOKEN"  # noqa: S105 - the name of the variable that holds it
"""Environment variable with the token. Other users of the machine can see arguments."""

_COLUMNS: Final = (
    "ID",
    "PEER",
    "LISTENER",
    "STATE",
    "AGE",
    "MESSAGES IN",
    "OUT",
    "BYTES IN",
    "OUT",
)
_LEFT: Final = 4
"""Columns with text, from the left; the others hold numbers."""

_PACKETS: Final = ("Offered", "Sent", "Bounced", "Dropped", "Queued")
"""Counters of a trace."""


def add_parser(subparsers: Any) -> None:
    """Register the command.

    Args:
        subparsers: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = subparsers.add_parser(
        "ctl",
        help="control a running sipws",
        description="Control a running sipws through its control interface. Exit status: 0 done,"
        " 1 refused, 2 no answer or wrong input.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-u",
        "--url",
        default=ctl_client.URL,
        help="control interface, http(s)://HOST:PORT or unix:PATH (default: %(default)s)",
    )
    where.add_argument(
        "--control",
        metavar="ADDRESS",
        help="control interface as for 'sipws run --control': HOST:PORT or unix:PATH",
    )
    parser.add_argument("--token", help=f"its token, if it has one (default: ${TOKEN})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    json_too = argparse.ArgumentParser(add_help=False)
    json_too.add_argument("--json", action="store_true", help="print the answer as JSON")

    def command(name: str, summary: str, run: Any) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(
            name, help=summary, description=f"{summary.capitalize()}.", parents=[json_too]
        )
        added.set_defaults(run=run)
        return added

    trace = command("trace", "show whether tracing is on, or turn it on or off", _trace)
    trace.add_argument("mode", nargs="?", choices=("on", "off"))
    trace.add_argument(
        "--only", choices=("ws", "wss"), help="connections of this protocol (default: both)"
    )
    command("traces", "list the trace destinations, their packets and last errors", _traces)
    command("connections", "list the open connections", _connections)
    close = command("close", "close a connection with a close frame", _close)
    close.add_argument("connection", metavar="ID", help="its id, or its peer's IP:PORT")
    close.add_argument("--code", type=int, default=1000, help="close code (default: %(default)s)")
    close.add_argument(
        "--reason",
        default="closed by the operator",
        help="at most 123 bytes for the peer to read (default: %(default)r)",
    )
    stats = command("stats", "show statistics", _stats)
    stats.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a statistic, or a group as in 'ws:' (default: all)",
    )
    command("reload", "read filter route and certificates again", _reload)


def _trace(args: argparse.Namespace) -> int:
    params = {} if args.mode is None else {"trace_mode": args.mode}
    chosen = ("ws", "wss") if args.only is None else (args.only,)
    return _ask(args, tuple(f"{proto}_trace" for proto in chosen), params)


def _traces(args: argparse.Namespace) -> int:
    return _ask(args, "trace_list", {}, _destinations)


def _connections(args: argparse.Namespace) -> int:
    return _ask(args, "list_tcp_conns", {}, _table)


def _close(args: argparse.Namespace) -> int:
    params = {"ipport": args.connection, "code": args.code, "reason": args.reason}
    return _ask(args, "tcp:close", params)


def _stats(args: argparse.Namespace) -> int:
    return _ask(args, "get_statistics", {"statistics": args.names or ["all"]}, _statistics)


def _reload(args: argparse.Namespace) -> int:
    return _ask(args, "reload", {})


def _lines(answer: Any) -> str:
    if isinstance(answer, dict):
        return "\n".join(f"{name}: {value}" for name, value in answer.items())
    return str(answer)


def _ask(
    args: argparse.Namespace,
    methods: str | tuple[str, ...],
    params: dict[str, Any],
    written: Any = _lines,
) -> int:
    """Ask for a method, or for several ones with the same parameters, and print the answer."""
    token = args.token or os.environ.get(TOKEN)
    url = args.url if args.control is None else ctl_client.url_of(args.control)
    answer: Any = None
    for method in (methods,) if isinstance(methods, str) else methods:
        try:
            given = ctl_client.ask(url, method, params, token if token and token.strip() else None)
        except MiError as exc:
            print_error("sipws", f"{method}: {exc}")
            return FAILED
        both = isinstance(answer, dict) and isinstance(given, dict)
        answer = {**answer, **given} if both else given
    if args.json:
        # It quotes what peers sent. ASCII JSON escapes all control characters but DEL.
        print(json.dumps(answer, indent=2).replace("\x7f", r"\u007f"))
        return DONE
    try:
        text = written(answer)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"{url}: the answer to {method} is not one of a control interface of sipws"
        ) from exc
    print(lines(text))
    return DONE


def _statistics(answer: dict[str, Any]) -> str:
    return _aligned([(name, str(number)) for name, number in answer.items()], left=1)


def _destinations(answer: dict[str, Any]) -> str:
    listed = answer["Traces"]
    if not listed:
        return "no traces"
    titles = ("ID", "DESTINATION", "STATE", *map(str.upper, _PACKETS))
    rows = [
        (
            str(each["ID"]),
            str(each["URI"]),
            str(each["State"]),
            *(str(each[name]) for name in _PACKETS),
        )
        for each in listed
    ]
    errors = [f"last error: {each['Last error']}" for each in listed if "Last error" in each]
    return "\n".join([_aligned([titles, *rows], left=3), *errors])


def _table(answer: dict[str, Any]) -> str:
    listed = answer["Connections"]
    if not listed:
        return "no connections"
    rows = [
        (
            str(each["ID"]),
            str(each["Remote"]),
            _listener_or_destination(each),
            str(each["Phase"]),
            age(each["Age"]),
            *(
                str(each[f"{what} {way}"])
                for what in ("Messages", "Bytes")
                for way in ("in", "out")
            ),
        )
        for each in listed
    ]
    return _aligned([_COLUMNS, *rows], left=_LEFT)


def _listener_or_destination(connection: dict[str, Any]) -> str:
    """The listener of a connection; the destination of one that sipws opened."""
    destination = connection.get("Destination")
    return f"to {destination}" if destination else str(connection["Listener"])


def _aligned(rows: Sequence[tuple[str, ...]], left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        table.append("  ".join(cells).rstrip())
    return "\n".join(table)


def age(seconds: float) -> str:
    """Write a duration in its two largest units: ``42s``, ``3m07s``, ``5h02m``, ``12d04h``."""
    whole = int(seconds)
    for size, unit, smaller, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller:02}{small_unit}"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"
