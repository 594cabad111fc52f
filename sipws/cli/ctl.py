"""``sipws ctl``: control and inspect a running sipws, from a terminal or a script."""

import argparse
import json
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from hep.cli.usage import DONE, FAILED, print_error
from sipws.config.settings import Config
from sipws.config.toml import load_toml
from sipws.control import client as ctl_client
from sipws.control.mi import BAD_VALUE, MiError, Params
from sipws.errors import ConfigurationError
from sipws.printable import lines

TOKEN: Final = "SIPWS_CONTROL_TOKEN"  # noqa: S105 - the name of the variable that holds it
"""Environment variable with the token. Other users of the machine can see arguments."""

URL: Final = "SIPWS_CONTROL_URL"
"""Environment variable with the URL of the control interface."""

LISTS: Final = {"statistics", "filter"}
"""The parameters of MI methods that are lists; ``mi`` makes one of a single value too."""

STATISTICS: Final = {"get_statistics", "statistics:get", "list_statistics", "reset_statistics"}
"""The MI methods whose parameters in order are one list."""

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
        description="Control a running sipws through its control interface. Without an address it"
        f" asks ${URL}, or else {ctl_client.URL}. Exit status: 0 done, 1 refused, 2 no answer or"
        " wrong input.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-u",
        "--url",
        help="control interface, http(s)://HOST:PORT or unix:PATH",
    )
    where.add_argument(
        "--control",
        metavar="ADDRESS",
        help="control interface as for 'sipws run --control': HOST:PORT or unix:PATH",
    )
    where.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        help="TOML file with control.listen and control.token, as for 'sipws run'",
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
    which = trace.add_mutually_exclusive_group()
    which.add_argument(
        "--only", choices=("ws", "wss"), help="connections of this protocol (default: both)"
    )
    which.add_argument("--id", help="the trace of the configuration with this name (see traces)")
    command("traces", "list the trace destinations, their packets and last errors", _traces)
    start = command("trace-start", "start a trace to a further destination", _trace_start)
    start.add_argument("id", metavar="ID", help="name of the new trace")
    start.add_argument("uri", metavar="URI", help="hep:HOST:PORT[;transport=tcp][;version=3]")
    start.add_argument(
        "filter", nargs="*", metavar="FILTER", help="caller=USER[@HOST], callee=…, ip=ADDRESS"
    )
    command("trace-stop", "end a trace that was started", _trace_stop).add_argument(
        "id", metavar="ID", help="its name"
    )
    connections = command("connections", "list the open connections", _connections)
    connections.add_argument("--only", choices=("ws", "wss"), help="those of this protocol")
    close = command("close", "close a connection with a close frame", _close)
    close.add_argument("connection", metavar="ID", help="its id, or its peer's IP:PORT")
    close.add_argument("--code", type=int, default=1000, help="close code (default: %(default)s)")
    close.add_argument(
        "--reason",
        default="closed by the operator",
        help="at most 123 bytes for the peer to read (default: %(default)r)",
    )
    stats = command("stats", "show statistics", _stats)
    stats.add_argument("--kinds", action="store_true", help="show whether they only grow")
    stats.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a statistic, or a group as in 'ws:' (default: all)",
    )
    reset = command("reset-stats", "count statistics from zero again", _reset)
    reset.add_argument("names", nargs="*", metavar="NAME", help="a statistic (default: all)")
    reload = command("reload", "read filter route and certificates again", _reload)
    reload.add_argument(
        "what", nargs="?", choices=tuple(RELOADS), default="all", help="(default: %(default)s)"
    )
    command("certificates", "list the certificates of wss listeners", _certificates)
    level = command("log-level", "show or set the log level", _log_level)
    level.add_argument("level", nargs="?", choices=tuple(LEVELS))
    level.add_argument("--pid", type=int, help="process that changes its level (default: all)")
    xlog = command("xlog-level", "show or set which messages of xlog are logged", _xlog_level)
    xlog.add_argument("level", nargs="?", choices=tuple(LEVELS))
    for name, method, summary in PLAIN:
        command(name, summary, partial(_plain, method))
    methods = command("methods", "list MI methods, or describe one", _methods)
    methods.add_argument("method", nargs="?", metavar="METHOD")
    mi = command("mi", "call an MI method and print its result as JSON", _mi)
    mi.add_argument("method", metavar="METHOD", help="see methods")
    mi.add_argument(
        "params",
        nargs="*",
        metavar="NAME=VALUE",
        help="a parameter; a NAME that is repeated makes a list. Or values without names, in order",
    )


RELOADS: Final = {"all": "reload", "filter": "reload_routes", "certificates": "tls_reload"}
"""What can be read again, and the MI methods that do it."""

LEVELS: Final = {
    "alert": -3, "critical": -2, "error": -1, "warning": 1, "notice": 2, "info": 3, "debug": 4,
}  # fmt: skip
"""The levels of logs, as OpenSIPS numbers them."""

PLAIN: Final = (
    ("version", "version", "show name and version"),
    ("uptime", "uptime", "show since when it runs"),
    ("processes", "ps", "list its processes"),
    ("arguments", "arg", "show the arguments that it was started with"),
    ("directory", "pwd", "show its working directory"),
)
"""Commands that only show the answer of a method: command, method, summary."""


def _trace(args: argparse.Namespace) -> int:
    if args.id is not None:
        mode = {} if args.mode is None else {"mode": args.mode}
        return _ask(args, "trace", {"id": args.id, **mode}, _states)
    params = {} if args.mode is None else {"trace_mode": args.mode}
    chosen = ("ws", "wss") if args.only is None else (args.only,)
    return _ask(args, tuple(f"{proto}_trace" for proto in chosen), params)


def _traces(args: argparse.Namespace) -> int:
    return _ask(args, "trace_list", {}, _destinations)


def _trace_start(args: argparse.Namespace) -> int:
    more = {"filter": args.filter} if args.filter else {}
    return _ask(args, "trace_start", {"id": args.id, "uri": args.uri, **more})


def _trace_stop(args: argparse.Namespace) -> int:
    return _ask(args, "trace_stop", {"id": args.id})


def _connections(args: argparse.Namespace) -> int:
    params = {} if args.only is None else {"proto": args.only}
    return _ask(args, "list_tcp_conns", params, _table)


def _close(args: argparse.Namespace) -> int:
    params = {"ipport": args.connection, "code": args.code, "reason": args.reason}
    return _ask(args, "tcp:close", params)


def _stats(args: argparse.Namespace) -> int:
    if args.kinds:
        params = {"statistics": args.names} if args.names else {}
        return _ask(args, "list_statistics", params, _statistics)
    return _ask(args, "get_statistics", {"statistics": args.names or ["all"]}, _statistics)


def _reset(args: argparse.Namespace) -> int:
    if args.names:
        return _ask(args, "reset_statistics", {"statistics": args.names})
    return _ask(args, "reset_all_statistics", {})


def _reload(args: argparse.Namespace) -> int:
    return _ask(args, RELOADS[args.what], {})


def _certificates(args: argparse.Namespace) -> int:
    return _ask(args, "tls_list", {}, _domains)


def _log_level(args: argparse.Namespace) -> int:
    if args.level is None:
        if args.pid is not None:
            raise ConfigurationError("--pid needs a level")
        return _ask(args, "log_level", {}, _levels)
    pid = {} if args.pid is None else {"pid": args.pid}
    return _ask(args, "log_level", {"level": LEVELS[args.level], **pid}, lambda answer: "OK")


def _xlog_level(args: argparse.Namespace) -> int:
    if args.level is None:
        return _ask(args, "xlog_level", {}, lambda answer: _word(answer["xLog Level"]))
    return _ask(args, "xlog_level", {"level": LEVELS[args.level]}, lambda answer: "OK")


def _plain(method: str, args: argparse.Namespace) -> int:
    return _ask(args, method, {})


def _methods(args: argparse.Namespace) -> int:
    if args.method is None:
        return _ask(args, "which", {})
    return _ask(args, "help", {"mi_cmd": args.method})


def _mi(args: argparse.Namespace) -> int:
    args.json = True
    return _ask(args, args.method, params_of(args.method, args.params))


def params_of(method: str, words: Sequence[str]) -> Params:
    """Make the parameters of an MI method from the words of a command line.

    Args:
        method: its name.
        words: ``NAME=VALUE`` each, or values in order. A name that is repeated makes a list.

    Raises:
        ConfigurationError: only some of the words have names.
    """
    if method in STATISTICS and words and not words[0].startswith("statistics="):
        return {"statistics": list(words)}
    if not all("=" in word for word in words):
        if any(_NAMED.match(word) for word in words):
            raise ConfigurationError(
                f"{method}: some parameters have names and some have none; name all or none"
            )
        return list(words)
    params: dict[str, Any] = {}
    for name, _, value in (word.partition("=") for word in words):
        if name not in params:
            params[name] = [value] if name in LISTS else value
        elif isinstance(params[name], list):
            params[name].append(value)
        else:
            params[name] = [params[name], value]
    return params


_NAMED: Final = re.compile(r"[A-Za-z_]+=")


def _lines(answer: Any) -> str:
    if isinstance(answer, dict):
        rows = []
        for name, value in answer.items():
            if isinstance(value, list):
                rows += ["  ".join(f"{key} {x}" for key, x in each.items()) for each in value]
            else:
                rows.append(f"{name}: {value}")
        return "\n".join(rows)
    return "\n".join(map(str, answer)) if isinstance(answer, list) else str(answer)


def _where(args: argparse.Namespace) -> tuple[str, str | None]:
    """The URL and the token of the control interface."""
    token = args.token or os.environ.get(TOKEN)
    if args.config is not None:
        path: Path = args.config
        control = Config.of({"control": load_toml(path).get("control", {})}, str(path)).control
        if control.address is None:
            raise ConfigurationError(
                f"{path}: control.listen is not set; set it, or give the address with --control"
            )
        return ctl_client.url_of_listener(control.address), args.token or control.secret or token
    if args.control is not None:
        return ctl_client.url_of(args.control), token
    return args.url or os.environ.get(URL) or ctl_client.URL, token


def _ask(
    args: argparse.Namespace,
    methods: str | tuple[str, ...],
    params: Params,
    written: Callable[[Any], str] = _lines,
) -> int:
    """Ask for a method, or for several ones with the same parameters, and print the answer."""
    url, token = _where(args)
    answer: Any = None
    for method in (methods,) if isinstance(methods, str) else methods:
        try:
            given = ctl_client.ask(url, method, params, token if token and token.strip() else None)
        except MiError as exc:
            more = f": {exc.data}" if exc.data else ""
            if exc.code == BAD_VALUE:
                # OpenSIPS says no more of a trace that does not exist.
                more = "; 'sipws ctl traces' lists the traces"
            print_error("sipws", f"{method}: {exc}{more}")
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
    if not answer:
        return "no such statistics; 'sipws ctl stats' lists all"
    return _aligned([(name, str(number)) for name, number in answer.items()], left=1)


def _levels(answer: dict[str, Any]) -> str:
    rows = [
        (str(each["PID"]), str(each["Type"]), _word(each["Log level"]))
        for each in answer["Processes"]
    ]
    return _aligned([("PID", "TYPE", "LOG LEVEL"), *rows], left=3)


def _word(level: int) -> str:
    """The name of a log level."""
    return next((name for name, number in LEVELS.items() if number == level), str(level))


def _states(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    return "\n".join(
        f"{each['name']} to {each['uri']}: {each['state']}" for each in answer["trace destinations"]
    )


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


def _domains(answer: dict[str, Any]) -> str:
    rows = [
        (" ".join(each["SIP DOMAIN FILTERS"]), str(each["CERT_FILE"]), str(each["PKEY_FILE"]))
        for each in answer["Domains"]
    ]
    if not rows:
        return "no certificates"
    return _aligned([("SERVER NAMES", "CERTIFICATE", "KEY"), *rows], left=3)


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
