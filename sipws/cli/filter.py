"""``sipws filter``: check a script, try connections, run a table of cases.

Scripts may be of others: what is printed has their control characters escaped.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from hep.cli.usage import DONE, FAILED, clipped
from sipws.address import Listener, split_host_port
from sipws.config.toml import load_toml
from sipws.errors import AddressError, ConfigurationError, Diagnostic, FilterRouteError
from sipws.printable import json_escaped, lines
from sipws.tracing.filter import Script, Socket, Subject
from sipws.tracing.filter.explain import Explanation, explain
from sipws.tracing.filter.format import formatted

_CONN: Final = "PEER_IP:PORT@LISTENER DEFINITION"
_ROUTE_HELP: Final = (
    "the filter route. Default: the only route of the script, or the trace_filter_route of an"
    " opensips.cfg"
)
_EXAMPLE: Final = "192.0.2.5:8000@ws:10.0.0.1:80 tag edge"


def add_parser(subparsers: Any) -> None:
    """Register the commands.

    Args:
        subparsers: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = subparsers.add_parser(
        "filter",
        help="check and try filter routes",
        description="Filter routes decide, once per connection, whether it is traced.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    check = actions.add_parser(
        "check",
        help="report errors of a script, and what is allowed but probably not intended",
        description="Report errors and warnings of a script or an opensips.cfg, as"
        " FILE:LINE:COLUMN: error|warning: text. Exit status 1 when OpenSIPS would refuse it.",
    )
    check.add_argument("script", type=Path, metavar="SCRIPT")
    check.add_argument("--route", metavar="NAME", help="the filter route that must be there")
    check.add_argument("--json", action="store_true", help="print one JSON object per diagnostic")
    check.set_defaults(run=_check)

    layout = actions.add_parser(
        "fmt",
        help="format a script: indentation and blank lines",
        description="Print a script with four blanks for each level. Only blanks at the ends of"
        " lines change, so comments stay.",
    )
    layout.add_argument("script", type=Path, metavar="SCRIPT")
    layout.add_argument("--write", action="store_true", help="change the file instead of printing")
    layout.add_argument(
        "--check", action="store_true", help="print nothing; exit status 1 if it would change"
    )
    layout.set_defaults(run=_format)

    evaluate = actions.add_parser(
        "eval",
        help="try connections",
        description="Decide about connections without a server: a line each, its first word"
        " traced or dropped.",
    )
    evaluate.add_argument("script", type=Path, metavar="SCRIPT")
    evaluate.add_argument("--route", metavar="NAME", help=_ROUTE_HELP)
    evaluate.add_argument(
        "--conn",
        required=True,
        action="append",
        metavar=f"'{_CONN}'",
        help=f"a connection, as in {_EXAMPLE!r}; may be repeated. is_myself() knows the listeners"
        " of all that are given",
    )
    _add_time(evaluate)
    evaluate.add_argument(
        "--explain", action="store_true", help="show the path through the script, with values"
    )
    evaluate.add_argument("--json", action="store_true", help="a JSON object a connection")
    evaluate.set_defaults(run=_evaluate)

    test = actions.add_parser(
        "test",
        help="run a table of connections and expected decisions",
        description="Run the cases of a TOML file: 'script' (a file beside it), 'route' unless the"
        " script names it, and [[case]] tables with 'conn', 'expect' (traced or dropped) and, if"
        " you like, 'name' and 'time'. Exit status 1 when one is decided differently.",
    )
    test.add_argument("cases", type=Path, metavar="CASES.toml")
    _add_time(test)
    test.add_argument("--json", action="store_true", help="a JSON object a case")
    test.set_defaults(run=run_cases)


def _add_time(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--time",
        type=_time,
        metavar="TIME",
        help="the time that $time(…) and $Ts show: ISO 8601, as in 2026-11-30T08:00, or seconds"
        " since 1970. Default: now",
    )


def _time(text: str) -> float:
    """Parse a time: ISO 8601, local unless it has a zone, or seconds since 1970."""
    try:
        seconds = float(text) if re.fullmatch("[0-9.]+", text) else _of_iso(text)
        time.localtime(seconds)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; write it as in 2026-11-30T08:00 or 1796025600"
        ) from None
    return seconds


def _of_iso(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as it is written on the command line."""

    written: str
    subject: Subject

    def at(self, now: float | None) -> Subject:
        """Its properties at a time; None reads the clock."""
        return replace(self.subject, now=now)

    @classmethod
    def parse(cls, text: str) -> "Connection":
        """Read ``PEER_IP:PORT@LISTENER DEFINITION``.

        Raises:
            AddressError: it is not written so.
        """
        peer, at, definition = text.partition("@")
        problem = f"connection {text!r}: it is written {_CONN!r}, as in {_EXAMPLE!r}"
        if not at:
            raise AddressError(problem)
        try:
            ip, port = split_host_port(peer.strip())
            listener = Listener.parse(definition)
        except AddressError as exc:
            raise AddressError(f"{problem}: {exc}") from None
        if port is None:
            raise AddressError(f"{problem}: {peer!r} has no port")
        for host in (ip, listener.host):
            if not re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:]+", host):
                raise AddressError(f"{problem}: {host!r} is not an address")
        return cls(
            text,
            Subject(
                si=ip,
                sp=port,
                socket_ip=listener.host,
                socket_port=listener.port,
                proto=listener.proto,
                tag=listener.tag,
                advertised_ip=listener.advertised_ip,
                advertised_port=listener.advertised_port,
            ),
        )


def _check(args: argparse.Namespace) -> int:
    refused = False
    passed_over: tuple[str, ...] = ()
    try:
        script = Script.load(args.script)
        passed_over = script.passed_over
        found = list(script.warnings)
        if script.is_cfg and not script.filters and args.route is None:
            raise ConfigurationError(
                f"script {args.script}: it names no trace_filter_route; name the route with --route"
                f" (routes there: {', '.join(script.routes) or 'none'})"
            )
        for route in [args.route] if args.route is not None else script.filters:
            missing = script.missing(route)
            if missing is not None:
                found.insert(0, missing)
            script.decider(route)
    except FilterRouteError as exc:
        found, refused = list(exc.diagnostics), True
    for diagnostic in found:
        _say(_json(asdict(diagnostic)) if args.json else str(diagnostic))
    if not args.json:
        if passed_over:
            _say(f"{args.script}: passed over {', '.join(passed_over)}")
        _say(f"{args.script}: {_summary(found, refused)}")
    return FAILED if refused else DONE


def _format(args: argparse.Namespace) -> int:
    # A script with errors is not changed.
    Script.load(args.script)
    written = args.script.read_bytes().decode()
    text = written.replace("\r\n", "\n")
    made = formatted(text)
    if args.check:
        return FAILED if made != text else DONE
    if args.write:
        line_end = "\r\n" if "\r\n" in written else "\n"
        if made != text:
            args.script.write_text(made, encoding="utf-8", newline=line_end)
    else:
        sys.stdout.write(lines(made) if sys.stdout.isatty() else made)
    return DONE


def _say(text: str, to: TextIO | None = None) -> None:
    """Print a text that may quote a script of others."""
    print(lines(text), file=to)


def _json(value: dict[str, Any]) -> str:
    return json_escaped(json.dumps(value, ensure_ascii=False))


def _summary(found: list[Diagnostic], refused: bool) -> str:
    if refused:
        return f"refused: {_count(len(found), 'error')}"
    return f"ok, {_count(len(found), 'warning')}" if found else "ok"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _evaluate(args: argparse.Namespace) -> int:
    connections = [Connection.parse(text) for text in args.conn]
    script = Script.load(args.script)
    routes = _routes_of(script, args.route, connections, f"script {args.script}", "--route")
    _say_missing(script, routes)
    own = _own(connections)
    for connection in connections:
        route = routes[connection.subject.proto]
        explanation = explain(script, route, connection.at(args.time), own)
        if args.json:
            _say(_as_json(connection, explanation))
        else:
            reason = _reason(script, route, explanation)
            _say(f"{_word(explanation)}  {connection.written}  {reason}")
            if args.explain:
                _say("\n".join(_path(explanation)))
    return DONE


def _routes_of(
    script: Script, named: str | None, connections: Iterable[Connection], source: str, option: str
) -> dict[str, str]:
    """The filter route of each protocol; a file may name one for ws and another for wss.

    Args:
        script: the script.
        named: the route that is asked for, if any.
        connections: those to decide on; only their protocols need a route.
        source: the file, for the error.
        option: where a route can be named, for the error.

    Raises:
        ConfigurationError: no route is asked for, and the file leaves it open, or names none for
            the protocol of a connection.
    """
    protocols = sorted({connection.subject.proto for connection in connections})
    if named is not None or not script.filters:
        return dict.fromkeys(protocols, _route_of(script, named, source, option))
    routes: dict[str, str] = {}
    for proto in protocols:
        route = script.filter_of(f"proto_{proto}")
        if route is None:
            raise ConfigurationError(
                f"{source}: it names no filter route for {proto}, so every {proto} connection is"
                f" traced. Name a route with {option} to try it"
            )
        routes[proto] = route
    return routes


def _say_missing(script: Script, routes: dict[str, str]) -> None:
    for route in sorted(set(routes.values())):
        if (missing := script.missing(route)) is not None:
            _say(str(missing), sys.stderr)


def _route_of(script: Script, named: str | None, source: str, option: str) -> str:
    """The filter route: the one that is asked for, or the only one that the file offers.

    Args:
        script: the script.
        named: the route that is asked for, if any.
        source: the file, for the error.
        option: where a route can be named, for the error.

    Raises:
        ConfigurationError: no route is asked for, and the file leaves it open.
    """
    if named is not None:
        return named
    offered = script.filters or (() if script.is_cfg else script.routes)
    if len(offered) == 1:
        return offered[0]
    listed = ", ".join(offered or script.routes) or "none"
    raise ConfigurationError(
        f"{source}: which route is the filter? Name it with {option} (routes there: {listed})"
    )


def _own(connections: Iterable[Connection]) -> list[Socket]:
    return [
        Socket(it.socket_ip, it.socket_port, it.proto, it.tag, it.advertised_ip, it.advertised_port)
        for it in (connection.subject for connection in connections)
    ]


def _word(explanation: Explanation) -> str:
    return "traced" if explanation.outcome.traced else "dropped"


def _reason(script: Script, route: str, explanation: Explanation) -> str:
    if explanation.outcome.stopped is not None:
        return f"(the script was stopped: {explanation.outcome.stopped})"
    step = explanation.decisive
    if step is None:
        there = script.missing(route) is None
        return "(the route came to its end)" if there else "(there is no such route)"
    return clipped(f"({step.filename}:{step.line}: {step.text})")


def _path(explanation: Explanation) -> list[str]:
    steps = [f"    {step}" for step in explanation.steps]
    steps += [f"    xlog {message}" for message in explanation.outcome.messages]
    return [clipped(step) for step in steps]


def _as_json(connection: Connection, explanation: Explanation) -> str:
    return _json(
        {
            "conn": connection.written,
            "decision": _word(explanation),
            "stopped": explanation.outcome.stopped,
            "messages": explanation.outcome.messages,
            "path": [asdict(step) for step in explanation.steps],
        }
    )


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    connection: Connection
    expected: str
    time: float | None


def run_cases(args: argparse.Namespace) -> int:
    """Run a table of cases; returns the exit status."""
    script, routes, cases = _table(args.cases, args.time)
    _say_missing(script, routes)
    own = _own(case.connection for case in cases)
    wrong = 0
    for case in cases:
        route = routes[case.connection.subject.proto]
        explanation = explain(script, route, case.connection.at(case.time), own)
        decision = _word(explanation)
        wrong += decision != case.expected
        if args.json:
            answer = {
                "name": case.name,
                "conn": case.connection.written,
                "expected": case.expected,
                "decision": decision,
                "ok": decision == case.expected,
            }
            _say(_json(answer))
        elif decision == case.expected:
            _say(f"ok    {case.name}")
        else:
            _say(f"WRONG {case.name}: {case.connection.written}")
            _say(f"    - expected {case.expected}")
            _say(f"    + {decision}  {_reason(script, route, explanation)}")
            _say("\n".join(_path(explanation)))
    if not args.json:
        _say(f"{args.cases}: {len(cases) - wrong} of {_count(len(cases), 'case')} as expected")
    return FAILED if wrong else DONE


def _table(path: Path, now: float | None) -> tuple[Script, dict[str, str], list[_Case]]:
    """Read a table of cases.

    Args:
        path: the file.
        now: the time of the cases that set none.

    Raises:
        ConfigurationError: it is not written as one, or its script cannot be used.
    """
    table = load_toml(path)
    if not isinstance(table.get("script"), str):
        raise ConfigurationError(f"cases {path}: 'script' is missing, or no text")
    if not isinstance(table.get("route", ""), str):
        raise ConfigurationError(f"cases {path}: 'route' is no text")
    if unknown := set(table) - {"script", "route", "time", "case"}:
        raise ConfigurationError(f"cases {path}: unknown {sorted(unknown)}")
    script = Script.load(path.parent / table["script"])
    time_there = _time_of(path, table)
    now = time_there if now is None else now
    written = table.get("case")
    if not isinstance(written, list) or not written:
        raise ConfigurationError(f"cases {path}: there is no [[case]]")
    cases = [_case(path, number, case, now) for number, case in enumerate(written, start=1)]
    source = f"cases {path}: 'route' is missing"
    connections = [case.connection for case in cases]
    return script, _routes_of(script, table.get("route"), connections, source, "'route'"), cases


def _time_of(path: Path, table: dict[str, Any], where: str = "") -> float | None:
    """The ``time`` of a table: a TOML date with a time, a text as for ``--time``, or seconds."""
    value = table.get("time")
    if value is None:
        return None
    try:
        return _time(value.isoformat() if isinstance(value, datetime) else str(value))
    except argparse.ArgumentTypeError as exc:
        raise ConfigurationError(f"cases {path}: {where}'time': {exc}") from None


def _case(path: Path, number: int, case: Any, now: float | None) -> _Case:
    if not isinstance(case, dict) or not isinstance(case.get("conn"), str):
        raise ConfigurationError(f"cases {path}: case {number} has no 'conn': {_CONN!r}")
    if case.get("expect") not in ("traced", "dropped"):
        raise ConfigurationError(
            f"cases {path}: case {number}: 'expect' is 'traced' or 'dropped',"
            f" not {case.get('expect')!r}"
        )
    if unknown := set(case) - {"conn", "expect", "name", "time"}:
        raise ConfigurationError(f"cases {path}: case {number}: unknown {sorted(unknown)}")
    try:
        connection = Connection.parse(case["conn"])
    except AddressError as exc:
        raise ConfigurationError(f"cases {path}: case {number}: {exc}") from None
    own_time = _time_of(path, case, f"case {number}: ")
    name = str(case.get("name", case["conn"]))
    return _Case(name, connection, case["expect"], now if own_time is None else own_time)
